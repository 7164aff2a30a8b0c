/* Contractions for every accumulator except NumPy's, by offset tables (mpsim/kernels/contractions/lowering.py).
 *
 * Left element (g, m, k) is a[a_group[g] + a_row[m] + a_k[k]], right element (g, k, p) is
 * b[b_group[g] + b_column[p] + b_k[k]], output (g, m, p) is out[out_group[g] + out_row[m] + out_column[p]]. */
#ifndef MPSIM_SUMS_H
#define MPSIM_SUMS_H

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
#define accumulate_aligned_floats KERNEL(accumulate_aligned_floats)
#define exact_dot KERNEL(exact_dot)
#define exact_add KERNEL(exact_add)
#define exact_total KERNEL(exact_total)
#define exact_to_odd KERNEL(exact_to_odd)

/* Computes the kind SUM_ALIGNED. length >= 1, 1 <= chunk <= length. Returns 0, or -1 without memory. */
int accumulate_aligned(const Tables *tables, int64_t chunk, const NarrowFormat *narrow, const AlignedSum *aligned,
                       int threads);

/* Does the same if every product is exact in float32. Otherwise returns 1 and computes nothing. */
int accumulate_aligned_floats(const Tables *tables, int64_t chunk, const NarrowFormat *narrow,
                              const AlignedSum *aligned, int threads);

/* Returns the correctly rounded dot product of row (a + a_k[k]) and column (b + b_k[k]). */
float exact_dot(const float *a, const int64_t *a_k, const float *b, const int64_t *b_k, int64_t length);

/* How sums are rounded. The numbers of mpsim/kernels/contractions/narrow.py. */
enum { SUMS_TO_NEAREST, SUMS_TOWARD_ZERO, SUMS_BY_BITS, SUMS_TIES_AWAY };

/* Rounds s to the narrow format (mpsim/kernels/contractions/narrow.py), not by bits. For an infinity c is a tiny negative
 * number, so the infinity stays. */
INLINE Doubles round_doubles(Doubles s, const NarrowFormat *narrow, int64_t mode) {
    Longs bits = (Longs)s, sign = bits & INT64_MIN, magnitude = bits & INT64_MAX, exponent = magnitude >> 52;
    Longs below = (Longs)(exponent < narrow->least_exponent);
    Doubles c = (Doubles)(((below & narrow->low) | (~below & (exponent + narrow->shift))) << 52);
    Doubles rounded = ((Doubles)magnitude + c) - c;
    if (mode == SUMS_TOWARD_ZERO) rounded -= (Doubles)((Longs)(rounded > (Doubles)magnitude) & (Longs)(c * 0x1p-52));
    if (mode == SUMS_TIES_AWAY)
        rounded += (Doubles)((Longs)((Doubles)magnitude - rounded == c * 0x1p-53) & (Longs)(c * 0x1p-52));
    Longs too_large = (Longs)(rounded > narrow->largest);
    int64_t beyond;
    memcpy(&beyond, &narrow->beyond, sizeof beyond);
    Doubles result = (Doubles)((too_large & beyond) | (~too_large & (Longs)rounded) | sign);
    if (!narrow->negative_zero) result += 0.0;
    return result;
}

/* An exact sum of products of float32 numbers, in digits of 32 bits. special: the sum of the products that are not
 * finite. others: how many were not -0. */
enum { LIMBS = 19 };
typedef struct {
    int64_t limbs[LIMBS];
    double special;
    int64_t others;
} ExactSum;

void exact_add(ExactSum *sum, double x);
/* Rounds the sum once to float32. It overwrites the digits. */
float exact_total(ExactSum *sum);
/* Rounds the sum to odd to float64, to -0 if every number was -0. It overwrites the digits. */
double exact_to_odd(ExactSum *sum);

/* Rounds x + y to odd (mpsim/kernels/contractions/narrow.py). */
INLINE Doubles sum_to_odd(Doubles x, Doubles y) {
    Doubles s = x + y, carried = s - x, error = (x - (s - carried)) + (y - carried);
    Longs bits = (Longs)s, positive = (Longs)(error > 0), inexact = positive | (Longs)(error < 0);
    Longs even = (bits & 1) - 1, one_sign = ~(positive ^ (Longs)(s > 0));
    bits += inexact & even & (-1 - 2 * one_sign); /* away from zero if the error has the sign of s */
    return (Doubles)bits;
}

/* Rounds x + y toward zero. */
INLINE Doubles truncated_sum(Doubles x, Doubles y) {
    Doubles s = x + y, carried = s - x, error = (x - (s - carried)) + (y - carried);
    Longs inward = ((Longs)(error > 0) & (Longs)(s < 0)) | ((Longs)(error < 0) & (Longs)(s > 0));
    return (Doubles)((Longs)s + inward);
}

/* Rounds x + y once to the narrow format: to odd to float64, then to the format. */
INLINE Doubles rounded_sum(Doubles x, Doubles y, const NarrowFormat *narrow, int64_t mode) {
    return round_doubles(sum_to_odd(x, y), narrow, mode);
}

INLINE Doubles narrow_sum(Doubles x, Doubles y, const NarrowFormat *narrow) {
    return rounded_sum(x, y, narrow, SUMS_TO_NEAREST);
}

/* -- sums of aligned terms --------------------------------------------------------------------------------------- */

#if defined(VARIANT_avx512)
INLINE Doubles larger_doubles(Doubles a, Doubles b) { return (Doubles)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif defined(VARIANT_avx2)
INLINE Doubles larger_doubles(Doubles a, Doubles b) { return (Doubles)_mm256_max_pd((__m256d)a, (__m256d)b); }
#else
INLINE Doubles larger_doubles(Doubles a, Doubles b) {
    Longs more = (Longs)(a > b);
    return (Doubles)((more & (Longs)a) | (~more & (Longs)b));
}
#endif

static inline double scale_of(double x, double least) {
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= INT64_C(2047) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return x == 0 ? 0 : power > least ? power : least;
}

INLINE Doubles scales_of(Doubles x, double least) {
    Doubles power = (Doubles)((Longs)x & (INT64_C(2047) << 52)), floor = (Doubles){0} + least;
    return (Doubles)((Longs)(x != 0) & (Longs)larger_doubles(power, floor));
}

INLINE Doubles truncated(Doubles p, Doubles quantum, Doubles shifter) {
    Longs sign = (Longs)p & INT64_MIN;
    Doubles magnitude = (Doubles)((Longs)p & INT64_MAX), part = (magnitude + shifter) - shifter;
    part -= (Doubles)((Longs)(part > magnitude) & (Longs)quantum);
    return (Doubles)((Longs)part | sign);
}

/* Rounds x, which has less than 2**51 quanta, down to a multiple of the quantum. */
INLINE Doubles rounded_down(Doubles x, Doubles quantum) {
    Doubles whole = truncated(x, quantum, quantum * 0x1p52);
    return whole - (Doubles)((Longs)(whole > x) & (Longs)quantum);
}

/* Returns the next c: the exact total rounded once, never -0. If the plain sum is infinite or NaN, so is c. */
INLINE Doubles aligned_result(Doubles total, Doubles plain, const NarrowFormat *narrow, int64_t toward_zero) {
    int64_t beyond;
    memcpy(&beyond, &narrow->beyond, sizeof beyond);
    Longs finite = (Longs)(plain - plain == 0), nan = (Longs)(plain != plain);
    Longs special = (nan & (Longs)plain) | (~nan & (beyond | ((Longs)plain & INT64_MIN)));
    Longs rounded = (Longs)(round_doubles(total, narrow, toward_zero) + 0.0);
    return (Doubles)((finite & rounded) | (~finite & special));
}

#endif
