/* What the rounding kernels share. The definition of every bit is mpsim/kernels/spec.py. */
#ifndef MPSIM_ROUNDING_H
#define MPSIM_ROUNDING_H

#include "common/vector.h"

/* The order of mpsim.policies.Mode. */
enum RoundingMode {
    NEAREST_EVEN, NEAREST_AWAY, NEAREST_ZERO, TOWARD_ZERO, UP, DOWN, TO_ODD, STOCHASTIC,
    QPYTORCH_NEAREST, QPYTORCH_STOCHASTIC, STOCHASTIC_B, STOCHASTIC_C, MODES
};

/* Which kernel: 32-bit integers, 64-bit integers, or the legacy float32 algorithm. */
enum RoundingPath { NARROW, WIDE, LEGACY };

/* Added to, in the order of mpsim.rounding.Counts. */
typedef struct { int64_t overflowed, underflowed, nan, inexact, subnormal; } RoundingCounts;

/* Up to 2^24 float32 numbers: x to out (may be x); random: their bits, or NULL. */
typedef void RoundBlock(const float *x, float *out, int64_t n, const uint32_t *random,
                        const RoundingParameters *parameters, RoundingCounts *counts);

#define round_vectors KERNEL(round_vectors)
#define round_wide_float32 KERNEL(round_wide_float32)
#define round_wide_float64 KERNEL(round_wide_float64)
#define random_block KERNEL(random_block)

/* The paths NARROW and LEGACY (vectors.c). */
RoundBlock round_vectors;
/* The path WIDE (wide.c), of either source; float32 numbers are widened and narrowed. */
RoundBlock round_wide_float32;
void round_wide_float64(const double *x, double *out, int64_t n, const uint32_t *random,
                        const RoundingParameters *parameters, RoundingCounts *counts);
/* Philox words 4 * first_counter, ... into bits (random.c); an n that is a multiple of 256 is fastest. */
void random_block(const RandomStream *stream, int64_t first_counter, uint32_t *bits, int64_t n);

#endif
