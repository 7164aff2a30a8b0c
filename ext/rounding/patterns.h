/* Patterns of float64 numbers in 64-bit integers. */
#ifndef MPSIM_PATTERNS_H
#define MPSIM_PATTERNS_H

#include <stdint.h>
#include <string.h>

static const uint64_t MAGNITUDE = INT64_MAX, INFINITE = (uint64_t)0x7ff << 52, CANONICAL_NAN = (uint64_t)0xfff << 51;
static const uint64_t IMPLICIT = (uint64_t)1 << 52;

static inline uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double number_of(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |x| = significand * 2^exponent for a finite x. */
static inline uint64_t split(uint64_t magnitude, int64_t *exponent) {
    const int64_t biased = (int64_t)(magnitude >> 52);
    *exponent = (biased ? biased : 1) - 1075;
    return (magnitude & (IMPLICIT - 1)) | (biased ? IMPLICIT : 0);
}

/* Returns floor(log2(significand)) of a significand that is not zero. */
static inline int64_t top_bit(uint64_t significand) { return 63 - __builtin_clzll(significand); }

/* Returns the pattern of significand * 2^exponent, a double or too large for one (then infinity). */
static inline uint64_t join(uint64_t significand, int64_t exponent) {
    if (significand == 0) return 0;
    const int64_t top = top_bit(significand), binade = top + exponent;
    if (binade > 1023) return INFINITE;
    if (binade < -1022) return exponent >= -1074 ? significand << (exponent + 1074) : significand >> (-1074 - exponent);
    const uint64_t fraction = top <= 52 ? significand << (52 - top) : significand >> (top - 52);
    return ((uint64_t)(binade + 1022) << 52) + fraction;
}

#endif
