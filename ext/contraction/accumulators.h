/* Contractions for every accumulator but NumPy's, from tables of offsets (mpsim/kernels/lowering.py).
 *
 * Left element (g, m, k) is a[a_group[g] + a_row[m] + a_k[k]], right element (g, k, p) is
 * b[b_group[g] + b_column[p] + b_k[k]], output (g, m, p) is out[out_group[g] + out_row[m] + out_column[p]]. */
#ifndef MPSIM_ACCUMULATORS_H
#define MPSIM_ACCUMULATORS_H

#include "common/vector.h"

typedef struct {
    const float *a, *b;
    float *out;
    const int64_t *a_group, *a_row, *a_k, *b_group, *b_column, *b_k, *out_group, *out_row, *out_column;
    int64_t groups, rows, length, columns;
} Tables;

/* The order of mpsim/kernels/compiled/accumulators.py. */
enum { SUM_FUSED, SUM_SEPARATE, SUM_NARROW, SUM_EXACT, SUM_ALIGNED };

#define accumulate_aligned KERNEL(accumulate_aligned)
#define exact_dot KERNEL(exact_dot)

/* The kind SUM_ALIGNED. length >= 1, 1 <= chunk <= length. Returns 0, or -1 without memory. */
int accumulate_aligned(const Tables *tables, int64_t chunk, const NarrowFormat *narrow, const AlignedSum *aligned,
                       int threads);

/* The correctly rounded dot product of row (a + a_k[k]) and column (b + b_k[k]). */
float exact_dot(const float *a, const int64_t *a_k, const float *b, const int64_t *b_k, int64_t length);

/* s rounded to the narrow format, to nearest even or toward zero (mpsim/kernels/narrow.py). An infinity makes c a tiny
 * negative number, and stays. */
INLINE Doubles round_doubles(Doubles s, const NarrowFormat *narrow, int64_t toward_zero) {
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
