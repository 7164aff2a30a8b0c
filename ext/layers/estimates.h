/* Fast estimates of functions of functions.h, and loops that use them.
 *
 * An estimate has a bound of its distance to the float64 result of functions.h. If both ends of that interval round to
 * the same float32 number, so does the result. Otherwise a block is computed again by functions.h, which happens about
 * once in 200 blocks. The bits are therefore those of functions.h, and nothing here is a part of their definition.
 *
 * The polynomials are minimax fits: in exp_near of exp(r) for |r| <= log(2) / 2 (relative error 2^-40.2), in tail_near of
 * exp(m*m/2) erfc(m / sqrt(2)) / (2t) in t = 1 / (1 + m / 4) for 0 <= m <= 8 (2^-39.7). Both are summed as even and odd
 * powers, two short chains in place of a long one. RELATIVE covers both, the roundings here and those of functions.h. */
#ifndef MPSIM_ESTIMATES_H
#define MPSIM_ESTIMATES_H

#include "common/vector.h"
#include "layers/functions.h"

#define RELATIVE 0x1p-38
#define TAIL_LARGEST 8.0
#if defined(__FMA__) || defined(__aarch64__)
#define MULTIPLY_ADD(a, b, c) __builtin_fma(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

/* Numbers around the result. Which one is smaller does not matter. */
typedef struct {
    double one, other;
} Ends;

INLINE Ends around(double value) { return (Ends){value * (1.0 - RELATIVE), value * (1.0 + RELATIVE)}; }

/* exp(t) for -110 <= t <= 90. NaN stays. */
INLINE double exp_near(double t) {
    const double shifter = 0x1.8p+52;
    const double shifted = MULTIPLY_ADD(t, 0x1.71547652b82fep+0, shifter), n = shifted - shifter;
    const double r = MULTIPLY_ADD(n, -0x1.62e42fefa39efp-1, t), z = r * r;
    double even = 0x1.9edaa34b666bap-16, odd = 0x1.a1a8301048122p-13;
    even = MULTIPLY_ADD(even, z, 0x1.6c18b34edd6cap-10);
    odd = MULTIPLY_ADD(odd, z, 0x1.111082a0e4b3bp-7);
    even = MULTIPLY_ADD(even, z, 0x1.55555404ef949p-5);
    odd = MULTIPLY_ADD(odd, z, 0x1.555555a08cfefp-3);
    even = MULTIPLY_ADD(even, z, 0x1.0000000088085p-1);
    odd = MULTIPLY_ADD(odd, z, 0x1.ffffffffd55b2p-1);
    even = MULTIPLY_ADD(even, z, 0x1.ffffffffff7a2p-1);
    return double_of(bits_of(MULTIPLY_ADD(odd, r, even)) + (bits_of(shifted) << 52));
}

INLINE int32_t pattern_of(float x) {
    int32_t pattern;
    memcpy(&pattern, &x, sizeof pattern);
    return pattern;
}

INLINE float number_of(int32_t pattern) {
    float x;
    memcpy(&x, &pattern, sizeof x);
    return x;
}

/* The patterns of 90, -110 and 8. */
enum { P90 = 0x42b40000, M110 = (int32_t)0xc2dc0000, P8 = 0x41000000, MAGNITUDE_BITS = 0x7fffffff };

/* Below -110 the float32 result is 0, above 90 infinity, as it is there. Patterns are compared because that is one
 * instruction: without a sign negative numbers are above the others, and with a sign below. NaN becomes a number. */
INLINE Ends exp_ends(float x) {
    uint32_t above = (uint32_t)pattern_of(x);
    above = above < (uint32_t)M110 ? above : (uint32_t)M110;
    const int32_t inside = (int32_t)above < P90 ? (int32_t)above : P90;
    return around(exp_near(number_of(inside)));
}

/* Half of exp(m*m/2) erfc(m / sqrt(2)), 0 <= m <= TAIL_LARGEST. */
INLINE double tail_near(double m) {
    const double t = 1.0 / MULTIPLY_ADD(m, 0.25, 1.0), z = t * t;
    double even = 0x1.2ce3ab3804b5cp-7, odd = -0x1.3182dc63e9945p-4;
    even = MULTIPLY_ADD(even, z, 0x1.07b8d38923136p-2);
    odd = MULTIPLY_ADD(odd, z, -0x1.f062b8175a1fcp-2);
    even = MULTIPLY_ADD(even, z, 0x1.17fea4124c254p-1);
    odd = MULTIPLY_ADD(odd, z, -0x1.b73254323c59cp-2);
    even = MULTIPLY_ADD(even, z, 0x1.15e6f22675aeep-2);
    odd = MULTIPLY_ADD(odd, z, -0x1.e5746335eaf44p-5);
    even = MULTIPLY_ADD(even, z, 0x1.819803bba3711p-4);
    odd = MULTIPLY_ADD(odd, z, 0x1.3175610c2d1bdp-4);
    even = MULTIPLY_ADD(even, z, 0x1.82b889c355353p-4);
    odd = MULTIPLY_ADD(odd, z, 0x1.983330f5f52dcp-4);
    even = MULTIPLY_ADD(even, z, 0x1.988772ec628d7p-4);
    return t * MULTIPLY_ADD(odd, t, even);
}

/* The smaller of |x| and TAIL_LARGEST, which is 8. NaN becomes a number. */
INLINE double tail_argument(float x) {
    const int32_t size = pattern_of(x) & MAGNITUDE_BITS;
    return number_of(size < P8 ? size : P8);
}

/* x, or -0 if x is negative. */
INLINE double positive_part(float x) { return number_of(pattern_of(x) & (~(pattern_of(x) >> 31) | INT32_MIN)); }

/* x * q for a negative x = -m, and else x - x * q, q = 1 - distribution(m). */
INLINE Ends gelu_ends(float x) {
    const double m = tail_argument(x), q = exp_near(-0.5 * (m * m)) * tail_near(m);
    return around(positive_part(x) - m * q);
}

/* w for a negative x, and else 1 - w, w = q - m * density(m). The terms may cancel, so the error is that of their sum. */
INLINE Ends gelu_slope_ends(float x) {
    const double m = tail_argument(x), e = exp_near(-0.5 * (m * m)), q = e * tail_near(m);
    const double density = m * (0x1.9884533d43651p-2 * e);
    const double one = number_of(0x3f800000 & ~(pattern_of(x) >> 31)), sign = 1.0 - 2.0 * one;
    const double value = one + sign * (q - density), error = RELATIVE * (one + (q + density));
    return (Ends){value - error, value + error};
}

/* Sets out[i] for begin <= i < end, at most ESTIMATED numbers, to the float32 result of `exact`, an expression of the
 * float64 number x. `argument` is an expression of i. The ends hold for |argument| <= limit. `out` may be read there. */
enum { ESTIMATED = 64 };
#define ESTIMATED_BLOCK(argument, ends, limit, exact, out, begin, end)                          \
    do {                                                                                        \
        float results[ESTIMATED];                                                               \
        int32_t unsure = 0;                                                                     \
        const int32_t largest_sure = pattern_of((float)(limit)); /* NaN is above it */          \
        _Pragma("omp simd reduction(| : unsure)") for (int64_t i = (begin); i < (end); i++) {   \
            const float given = (argument);                                                     \
            const Ends found = ends(given);                                                     \
            const float result = (float)found.one;                                              \
            results[i - (begin)] = result;                                                      \
            unsure |= !(result == (float)found.other);                                          \
            unsure |= (pattern_of(given) & MAGNITUDE_BITS) > largest_sure;                      \
        }                                                                                       \
        if (unsure)                                                                             \
            _Pragma("omp simd") for (int64_t i = (begin); i < (end); i++) {                     \
                const double x = (double)(argument);                                            \
                results[i - (begin)] = (float)(exact);                                          \
            }                                                                                   \
        memcpy((out) + (begin), results, ((end) - (begin)) * sizeof(float));                    \
    } while (0)

/* Returns n less the numbers at the end whose exp(x[i] - largest) is 0, in whole vectors: a causal mask has many. Their
 * patterns are above that of -110 and at most that of -infinity. */
INLINE int64_t without_zeros(const float *x, float largest, int64_t n) {
    const Integers least = splat(M110 + 1), most = splat((int32_t)0xff800000);
    for (; n >= WIDTH; n -= WIDTH) {
        float difference[WIDTH];
        vector_store(difference, vector_load(x + n - WIDTH) - vector_splat(largest));
        const Integers pattern = load(difference);
        if (any(either(greater(least, pattern), greater(pattern, most)))) break;
    }
    return n;
}

/* Sets out[i] to exp(in[i] - largest), i < n. */
INLINE void exp_of_differences(const float *in, float largest, float *out, int64_t n) {
    const int64_t count = without_zeros(in, largest, n);
    for (int64_t start = 0; start < count; start += ESTIMATED) {
        const int64_t end = minimum(start + ESTIMATED, count);
        ESTIMATED_BLOCK(in[i] - largest, exp_ends, INFINITY, exp64(x), out, start, end);
    }
    memset(out + count, 0, (n - count) * sizeof *out);
}

#endif
