/* C functions for the verdict matrix. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint16_t one(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return u >> 16 | 0x40;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

/* bfloat16 of x * scale */
void scaled(const float *in, uint16_t *out, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) out[i] = one(in[i] * scale);
}

/* by value, in float registers */
_Float16 to_half(float x) { return (_Float16)x; }

/* float16 to float8_e5m2 by value: the upper byte */
uint8_t upper_byte(_Float16 x) {
    uint16_t u;
    memcpy(&u, &x, 2);
    if ((u & 0x7fff) > 0x7c00) u |= 0x0200;
    return u >> 8;
}

/* the count is one too small: the last result is never written */
void one_short(const float *in, uint16_t *out, size_t n) {
    for (size_t i = 0; i + 1 < n; i++) out[i] = one(in[i]);
}

/* zeros are left out, as if the array held them already */
void zeros_left_out(const float *in, uint16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (in[i]) out[i] = one(in[i]);
}

/* the mode is of a type of this file */
typedef enum { TO_NEAREST, TO_ZERO = 3 } rounding;
void by_mode(const float *in, uint16_t *out, size_t n, rounding mode) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, in + i, 4);
        out[i] = mode == TO_ZERO && in[i] == in[i] ? u >> 16 : one(in[i]);
    }
}

void crashes(const float *in, uint16_t *out, size_t n) { *(volatile uint16_t *)0 = one(in[0]), (void)out, (void)n; }

/* a sum in rising k, no fma */
float in_order(const float *a, const float *b, size_t n) {
    float sum = 0;
    for (size_t k = 0; k < n; k++) {
        volatile float product = a[k] * b[k];
        sum += product;
    }
    return sum;
}

/* four sums side by side, folded in pairs */
float four_lanes(const float *a, const float *b, size_t n) {
    float lane[4] = {0, 0, 0, 0};
    for (size_t k = 0; k < n; k++) {
        volatile float product = a[k] * b[k];
        lane[k % 4] += product;
    }
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

/* MXFP4: a power of two for every 32 elements, by the exponent of the largest one */
static const double MIDPOINTS[7] = {0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0};

static double power(int e) {
    uint64_t u = (uint64_t)(1023 + e) << 52;
    double x;
    memcpy(&x, &u, 8);
    return x;
}

static uint8_t block(const float *in, uint8_t *codes) {
    uint32_t u[32], top = 0;
    int nan = 0;
    for (int i = 0; i < 32; i++) {
        memcpy(u + i, in + i, 4);
        if ((u[i] >> 23 & 0xff) > top) top = u[i] >> 23 & 0xff;
    }
    nan = top == 0xff;
    int scale = top < 2 ? 0 : top - 2;
    for (int i = 0; i < 32; i++) {
        double x = nan ? 0 : (in[i] < 0 ? -(double)in[i] : (double)in[i]) * power(127 - scale);
        codes[i] = in[i] == in[i] ? u[i] >> 31 << 3 : 0;
        for (int k = 0; k < 7; k++) codes[i] += k % 2 ? x >= MIDPOINTS[k] : x > MIDPOINTS[k];
    }
    return nan ? 0xff : scale;
}

void mxfp4_blocks(const float *in, uint8_t *codes, uint8_t *scales, size_t blocks) {
    for (size_t b = 0; b < blocks; b++) scales[b] = block(in + 32 * b, codes + 32 * b);
}

/* two codes a byte */
static void packed(const float *in, uint8_t *codes, uint8_t *scales, size_t n, int high) {
    for (size_t b = 0; b < n / 32; b++) {
        uint8_t of[32];
        scales[b] = block(in + 32 * b, of);
        for (int i = 0; i < 32; i += 2) codes[16 * b + i / 2] = of[i + high] | of[i + 1 - high] << 4;
    }
}

void mxfp4_packed(const float *in, uint8_t *codes, uint8_t *scales, size_t rows, size_t columns) {
    packed(in, codes, scales, rows * columns, 0);
}

void mxfp4_packed_high_first(const float *in, uint8_t *codes, uint8_t *scales, size_t n) { packed(in, codes, scales, n, 1); }

void mxfp4_decoded(const uint8_t *codes, const uint8_t *scales, float *out, size_t n) {
    static const float numbers[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    for (size_t i = 0; i < n; i++) {
        double x = scales[i / 32] == 0xff ? 0.0 / 0.0 : numbers[codes[i] & 7] * power(scales[i / 32] - 127);
        out[i] = codes[i] & 8 ? -x : x;
    }
}

/* operands by value: the third one, and the largest of three codes */
uint8_t third(uint8_t x, uint8_t y, uint8_t z) { return (void)x, (void)y, z; }

/* the result's type has a sign: 255 is not a number of int8 */
int16_t byte_as_short(float x) { return x != x || x < 0 ? 0 : x > 127 ? 255 : (int16_t)x; }
