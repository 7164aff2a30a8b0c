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
