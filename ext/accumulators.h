/* Contractions for every accumulator but NumPy's, from tables of offsets (mpsim/kernels/lowering.py).
 *
 * Left element (g, m, k) is a[a_group[g] + a_row[m] + a_k[k]], right element (g, k, p) is
 * b[b_group[g] + b_column[p] + b_k[k]], output (g, m, p) is out[out_group[g] + out_row[m] + out_column[p]]. */
#ifndef MPSIM_ACCUMULATORS_H
#define MPSIM_ACCUMULATORS_H

#include <stdint.h>

struct contraction_tables {
    const float *a, *b;
    float *out;
    const int64_t *a_group, *a_row, *a_k, *b_group, *b_column, *b_k, *out_group, *out_row, *out_column;
    int64_t groups, rows, length, columns;
};

/* A narrow format: the fields of mpsim.kernels.narrow.Narrow. */
struct narrow_format {
    int64_t least_exponent, shift, low;
    double largest, beyond;
    int negative_zero;
};

enum accumulator_kind { SUM_FUSED = 0, SUM_SEPARATE = 1, SUM_NARROW = 2, SUM_EXACT = 3 };

/* length >= 1, chunk >= 1. Returns 0, or -1 without memory. */
int mpsim_accumulate(const struct contraction_tables *tables, int kind, int64_t chunk,
                     const struct narrow_format *narrow, int threads);

/* Sums of aligned, truncated products (kind "aligned" of mpsim/accumulators.py). */
struct aligned_sum {
    int64_t terms;
    double quantum;                /* 2**-fraction_bits */
    double least_input, least_sum; /* the smallest normal numbers of the inputs and of the sums */
    double least_scale;            /* terms are aligned to this power of two at least */
    int32_t mask;                  /* of the bits of operands */
    int toward_zero;
};

/* length >= 1, 1 <= chunk <= length. Returns 0, or -1 without memory. */
int mpsim_accumulate_aligned(const struct contraction_tables *tables, int64_t chunk, const struct narrow_format *narrow,
                             const struct aligned_sum *aligned, int threads);

/* The correctly rounded dot product of row (a + a_k[k]) and column (b + b_k[k]). */
float mpsim_exact_dot(const float *a, const int64_t *a_k, const float *b, const int64_t *b_k, int64_t length);

#endif
