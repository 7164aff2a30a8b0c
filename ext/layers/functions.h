/* exp, log and other functions of one float64 number, by the operations of mpsim/kernels/elementary/.
 *
 * They have no branches, so that loops over them become vector code. */
#ifndef MPSIM_FUNCTIONS_H
#define MPSIM_FUNCTIONS_H

#include "common/variant.h"

#include <math.h>

INLINE double double_of(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE double exp64(double x) {
    const double shifter = 0x1.8p+52;
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
    const uint64_t whole = bits_of(shifted) - bits_of(shifter); /* n, modulo 2^64 */
    const uint64_t half = ((whole + 2048) >> 1) - 1024;         /* floor(n / 2) */
    const double result = (p * double_of((half + 1023) << 52)) * double_of((whole - half + 1023) << 52);
    return x != x ? x : large ? (double)INFINITY : small ? 0.0 : result;
}

INLINE float exp32(float x) { return (float)exp64(x); }

/* For a float32 number, or one above 1: none of these is subnormal in float64. */
INLINE double log64(double x) {
    const int inside = (x > 0.0) & (x < (double)INFINITY);
    const uint64_t bits = bits_of(inside ? x : 1.0);
    double f = double_of((bits & 0xfffffffffffff) | 0x3fe0000000000000), k = (double)((int64_t)(bits >> 52) - 1022);
    const int small = f < 0x1.6a09e667f3bcdp-1;
    f = small ? 2.0 * f : f;
    k = small ? k - 1.0 : k;
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
    const double result = k * 0x1.62e42fefa3800p-1 + ((2.0 * s + (s * z) * p) + k * 0x1.ef35793c76730p-45);
    return inside ? result : x == 0.0 ? -(double)INFINITY : x < 0.0 ? (double)NAN : x;
}

INLINE float log32(float x) { return (float)log64(x); }

/* exp(u*u) * erfc(u) for u >= 0. */
INLINE double scaled_erfc(double u) {
    u = u > 30.0 ? 30.0 : u;
    const double s = (u - 3.75) / (u + 3.75);
    double p = -0x1.192dc64e1011fp-23;
    p = p * s + 0x1.ba4e4b2344902p-27;
    p = p * s + 0x1.9a8415e20188dp-20;
    p = p * s + -0x1.248f08aabd4f2p-20;
    p = p * s + -0x1.7865b28800924p-17;
    p = p * s + 0x1.797abb6015758p-16;
    p = p * s + 0x1.b014069c503e5p-15;
    p = p * s + -0x1.30529bf6c52b7p-12;
    p = p * s + 0x1.3409afb066dadp-12;
    p = p * s + 0x1.cc3bd9bc3c64dp-10;
    p = p * s + -0x1.3f605696a1d38p-7;
    p = p * s + 0x1.d0affd06e32d5p-6;
    p = p * s + -0x1.e0d0f99d41b41p-5;
    p = p * s + 0x1.7a1418bd7beb8p-4;
    p = p * s + -0x1.bda930a00cc37p-4;
    p = p * s + 0x1.510169cdb96dap-4;
    p = p * s + 0x1.d5f294847c04fp-9;
    p = p * s + -0x1.1f367683f284cp-3;
    p = p * s + 0x1.3ccda0b5d5dc2p+0;
    return p / (1.0 + 2.0 * u);
}

INLINE double magnitude(double x) { return double_of(bits_of(x) & 0x7fffffffffffffff); }

INLINE double erf64(double x) {
    const double u = magnitude(x), z = x * x, large = 1.0 - exp64(-z) * scaled_erfc(u);
    double p = -0x1.f4d25c3e0c2ebp-17;
    p = p * z + 0x1.f9a326f9b89b7p-14;
    p = p * z + -0x1.c02db40040b86p-11;
    p = p * z + 0x1.565bcd0e6a53fp-8;
    p = p * z + -0x1.b82ce31288b51p-6;
    p = p * z + 0x1.ce2f21a042be2p-4;
    p = p * z + -0x1.812746b0379e7p-2;
    p = p * z + 0x1.20dd750429b6dp+0;
    return u < 0.25 ? x * p : x < 0.0 ? -large : large;
}

INLINE double tanh64(double x) {
    const double u = magnitude(x), z = x * x, t = exp64(-2.0 * u), large = (1.0 - t) / (1.0 + t);
    double p = -0x1.ba1ba1ba1ba1cp-5;
    p = p * z + 0x1.1111111111111p-3;
    p = p * z + -0x1.5555555555555p-2;
    return u < 0.03125 ? x * (1.0 + z * p) : x < 0.0 ? -large : large;
}

INLINE double sigmoid64(double x) { return 1.0 / (1.0 + exp64(-x)); }

INLINE double softplus64(double x) {
    const double e = exp64(-magnitude(x)), w = 1.0 + e, rest = log64(w) * (e / (w - 1.0));
    return (x > 0.0 ? x : 0.0) + (w == 1.0 ? e : rest);
}

INLINE double normal_distribution(double x) {
    const double q = 0.5 * exp64(-0.5 * (x * x)) * scaled_erfc(0x1.6a09e667f3bcdp-1 * magnitude(x));
    return x < 0.0 ? q : 1.0 - q;
}

INLINE double silu_slope(double x) {
    const double s = sigmoid64(x);
    return s * (1.0 + x * (1.0 - s));
}

INLINE double gelu_slope(double x) {
    return normal_distribution(x) + x * (0x1.9884533d43651p-2 * exp64(-0.5 * (x * x)));
}

/* gelu_tanh(x) = x * sigmoid(gelu_inner(x)) */
INLINE double gelu_inner(double x) { return 0x1.9884533d43651p+0 * (x + 0.044715 * (x * x * x)); }

INLINE double gelu_tanh_slope(double x) {
    const double s = sigmoid64(gelu_inner(x));
    return s + x * ((s * (1.0 - s)) * (0x1.9884533d43651p+0 * (1.0 + (3.0 * 0.044715) * (x * x))));
}

INLINE double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }
INLINE double between(double x, double low, double high) { return ((x <= low) | (x >= high)) ? 0.0 : 1.0; }

/* X(function of x, a and b), or E(ends, limit, function), in the order of mpsim/kernels/elementary/functions.py. */
#define FUNCTIONS(X, E)                                     \
    E(exp_ends, INFINITY, exp64(x))                         \
    X(log64(x))                                             \
    X(sqrt(x))                                              \
    X(erf64(x))                                             \
    X(tanh64(x))                                            \
    X(sigmoid64(x))                                         \
    X(softplus64(x))                                        \
    X(x / (1.0 + exp64(-x)))                                \
    E(gelu_ends, TAIL_LARGEST, x * normal_distribution(x))  \
    X(x / (1.0 + exp64(-gelu_inner(x))))                    \
    X(1.0 / sqrt(x))                                        \
    X(x + a)                                                \
    X(clamp(x, a, b))                                       \
    X(x > 0.0 ? x : a * x)                                  \
    X(clamp(x + 3.0, 0.0, 6.0) / 6.0)                       \
    X((x * clamp(x + 3.0, 0.0, 6.0)) / 6.0)                 \
    X(0x1.20dd750429b6dp+0 * exp64(-(x * x)))               \
    X(1.0 - x * x)                                          \
    X(x * (1.0 - x))                                        \
    X(silu_slope(x))                                        \
    E(gelu_slope_ends, TAIL_LARGEST, gelu_slope(x))         \
    X(gelu_tanh_slope(x))                                   \
    X(between(x, a, b))                                     \
    X(x > 0.0 ? 1.0 : a)                                    \
    X(between(x, -3.0, 3.0) / 6.0)                          \
    X(x <= -3.0 ? 0.0 : x >= 3.0 ? 1.0 : x / 3.0 + 0.5)

#endif
