/* Log-softmax and its gradient. exp and log use the same operations as mpsim/kernels/elementary.py. */
#include "layers/layers.h"
#include <math.h>

static inline double double_of(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* No branches, so that loops over it become vector code. */
static inline float exp32(float argument) {
    const double shifter = 0x1.8p+52, x = argument;
    const int large = x > 0x1.62e42fefa39efp+9, small = x < -0x1.74910d52d3051p+9;
    const double t = (large | small | (x != x)) ? 0.0 : x;
    const double shifted = t * 0x1.71547652b82fep+0 + shifter; /* its low bits are n */
    const double n = shifted - shifter;
    const double r = (t - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    double p = 0x1.6124613a86d09p-33;
    p = p * r + 0x1.1eed8eff8d898p-29;
    p = p * r + 0x1.ae64567f544e4p-26;
    p = p * r + 0x1.27e4fb7789f5cp-22;
    p = p * r + 0x1.71de3a556c734p-19;
    p = p * r + 0x1.a01a01a01a01ap-16;
    p = p * r + 0x1.a01a01a01a01ap-13;
    p = p * r + 0x1.6c16c16c16c17p-10;
    p = p * r + 0x1.1111111111111p-7;
    p = p * r + 0x1.5555555555555p-5;
    p = p * r + 0x1.5555555555555p-3;
    p = p * r + 0x1.0p-1;
    p = p * r + 0x1.0p+0;
    p = p * r + 0x1.0p+0;
    const uint64_t whole = bits_of(shifted) - bits_of(shifter);    /* n, modulo 2^64 */
    const uint64_t half = ((whole + 2048) >> 1) - 1024;            /* floor(n / 2) */
    const double result = (p * double_of((half + 1023) << 52)) * double_of((whole - half + 1023) << 52);
    return (float)(x != x ? x : large ? (double)INFINITY : small ? 0.0 : result);
}

static inline float log32(float argument) {
    const double x = argument;
    if (!(x > 0.0 && x < (double)INFINITY)) return x == 0.0 ? -INFINITY : x < 0.0 ? NAN : argument;
    const uint64_t bits = bits_of(x); /* a float32 is never subnormal in float64 */
    double f = double_of((bits & 0xfffffffffffff) | 0x3fe0000000000000), k = (double)((int64_t)(bits >> 52) - 1022);
    if (f < 0x1.6a09e667f3bcdp-1) {
        f = 2.0 * f;
        k = k - 1.0;
    }
    const double s = (f - 1.0) / (f + 1.0), z = s * s;
    double p = 0x1.642c8590b2164p-4;
    p = p * z + 0x1.8618618618618p-4;
    p = p * z + 0x1.af286bca1af28p-4;
    p = p * z + 0x1.e1e1e1e1e1e1ep-4;
    p = p * z + 0x1.1111111111111p-3;
    p = p * z + 0x1.3b13b13b13b14p-3;
    p = p * z + 0x1.745d1745d1746p-3;
    p = p * z + 0x1.c71c71c71c71cp-3;
    p = p * z + 0x1.2492492492492p-2;
    p = p * z + 0x1.999999999999ap-2;
    p = p * z + 0x1.5555555555555p-1;
    return (float)(k * 0x1.62e42fefa3800p-1 + ((2.0 * s + (s * z) * p) + k * 0x1.ef35793c76730p-45));
}

/* Returns the first largest element, or the first NaN if there is one. */
static inline float first_largest(const float *x, int64_t n) {
    float largest = x[0];
    for (int64_t i = 1; i < n; i++)
        if (x[i] > largest || (x[i] != x[i] && largest == largest)) largest = x[i];
    return largest;
}

void KERNEL(log_softmax)(const float *x, int64_t rows, int64_t columns, float *y, int threads) {
    EACH(row, rows, rows * columns) {
        const float *in = x + row * columns;
        float *out = y + row * columns, largest = first_largest(in, columns);
        for (int64_t c = 0; c < columns; c++) out[c] = exp32(in[c] - largest);
        float logarithm = log32(vector_sum(out, columns));
        for (int64_t c = 0; c < columns; c++) out[c] = (in[c] - largest) - logarithm;
    }
}

void KERNEL(log_softmax_gradient)(const float *gy, const float *y, int64_t rows, int64_t columns, float *gx,
                                  int threads) {
    EACH(row, rows, rows * columns) {
        float sum = vector_sum(gy + row * columns, columns);
        for (int64_t i = row * columns; i < (row + 1) * columns; i++) gx[i] = gy[i] - exp32(y[i]) * sum;
    }
}
