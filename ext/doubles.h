/* Vectors of DOUBLES float64 numbers, half as many as a vector of simd.h has floats, and roundings in them. */
#ifndef MPSIM_DOUBLES_H
#define MPSIM_DOUBLES_H

#include "accumulators.h"
#include "simd.h"

#define DOUBLES (WIDTH / 2)

typedef double Doubles __attribute__((vector_size(4 * WIDTH)));
typedef int64_t Longs __attribute__((vector_size(4 * WIDTH)));
typedef float Half __attribute__((vector_size(2 * WIDTH)));

INLINE Doubles load_doubles(const float *p) {
    Half half;
    memcpy(&half, p, sizeof half);
    return __builtin_convertvector(half, Doubles);
}

INLINE void store_doubles(float *p, Doubles a) {
    Half half = __builtin_convertvector(a, Half);
    memcpy(p, &half, sizeof half);
}

/* s rounded to the narrow format, to nearest even or toward zero (mpsim/kernels/narrow.py). An infinity makes c a tiny
 * negative number, and stays. */
INLINE Doubles round_doubles(Doubles s, const struct narrow_format *narrow, int toward_zero) {
    Longs bits = (Longs)s, sign = bits & INT64_MIN, magnitude = bits & INT64_MAX, exponent = magnitude >> 52;
    Longs below = (Longs)(exponent < narrow->least_exponent);
    Doubles c = (Doubles)(((below & narrow->low) | (~below & (exponent + narrow->shift))) << 52);
    Doubles rounded = ((Doubles)magnitude + c) - c;
    if (toward_zero) rounded -= (Doubles)((Longs)(rounded > (Doubles)magnitude) & (Longs)(c * 0x1p-52));
    Longs too_large = (Longs)(rounded > narrow->largest);
    int64_t beyond;
    memcpy(&beyond, &narrow->beyond, sizeof beyond);
    Doubles result = (Doubles)((too_large & beyond) | (~too_large & (Longs)rounded) | sign);
    if (!narrow->negative_zero) result += 0.0;
    return result;
}

#endif
