/* Rounding kernels. The definition of every bit is mpsim/kernels/spec.py; mpsim/kernels/parameters.py makes
 * the numbers of RoundingParameters from a Format and a Policy. No Python objects here. */
#ifndef MPSIM_ROUNDING_H
#define MPSIM_ROUNDING_H

#include <stddef.h>
#include <stdint.h>

/* The order of mpsim.policies.Mode. */
enum RoundingMode {
    NEAREST_EVEN, NEAREST_AWAY, NEAREST_ZERO, TOWARD_ZERO, UP, DOWN, TO_ODD, STOCHASTIC,
    QPYTORCH_NEAREST, QPYTORCH_STOCHASTIC, MODES
};

/* Which kernel: 32-bit integers, 64-bit integers, or the legacy float32 algorithm. */
enum RoundingPath { NARROW, WIDE, LEGACY };

/* The fields of mpsim.kernels.parameters.Parameters, in its order. Magnitudes are bit patterns without the sign,
 * of float32 on the paths NARROW and LEGACY, of float64 on the path WIDE. */
typedef struct {
    int64_t path, mode, mantissa_bits, min_exponent, low_quantum;
    int64_t largest, smallest_normal;
    int64_t positive_overflow, negative_overflow, infinity; /* what overflow and infinite input become */
    int64_t overflow_from, underflow_to;                    /* counted: magnitude >= and 0 < magnitude <= */
    int64_t random_bit_count, has_negative_zero, has_sign, has_zero;
    int64_t scale_exponent, scaled_smallest_normal, scaled_limit, scaled_largest; /* LEGACY */
} RoundingParameters;

/* Added to, in the order of mpsim.rounding.Counts. */
typedef struct { int64_t overflowed, underflowed, nan, inexact, subnormal; } RoundingCounts;

/* A Philox stream: key, and the counter's words above the element's. */
typedef struct { uint32_t key[2], words[3]; } RandomStream;

/* Up to 2^24 float32 numbers: x to out (may be x); random: their bits, or NULL. */
typedef void RoundBlock(const float *x, float *out, size_t size, const uint32_t *random,
                        const RoundingParameters *parameters, RoundingCounts *counts);
/* Philox words 4 * first_counter, ... into bits; a size that is a multiple of 256 is fastest. */
typedef void RandomBlock(const RandomStream *stream, uint64_t first_counter, uint32_t *bits, size_t size);

RoundBlock mpsim_round_block_portable, mpsim_round_block_avx2, mpsim_round_block_avx512;
RandomBlock mpsim_random_block_portable, mpsim_random_block_avx2, mpsim_random_block_avx512;

/* Path WIDE (base_rounding_wide.c), as RoundBlock, of either source; float32 numbers are widened and narrowed. */
RoundBlock mpsim_round_wide_float32;
void mpsim_round_wide_float64(const double *x, double *out, size_t size, const uint32_t *random,
                              const RoundingParameters *parameters, RoundingCounts *counts);

/* Whole arrays (base_rounding.c). At most one of random and stream is not NULL. */
void mpsim_round_float32(const float *x, float *out, size_t size, const uint32_t *random, const RandomStream *stream,
                         const RoundingParameters *parameters, RoundingCounts *counts, int threads);
void mpsim_round_float64(const double *x, double *out, size_t size, const uint32_t *random,
                         const RandomStream *stream, const RoundingParameters *parameters, RoundingCounts *counts,
                         int threads);
void mpsim_random_bits(const RandomStream *stream, uint64_t first, uint32_t *bits, size_t size, int threads);
void mpsim_canonical_nan(float *x, size_t size, int threads);
void mpsim_canonical_nan_float64(double *x, size_t size, int threads);
int mpsim_all_finite(const float *x, size_t size, int threads);

/* Codes. The fields of mpsim.kernels.parameters.CodeLayout, in its order; a missing code is -1,
 * a 64-bit one may be negative. */
typedef struct {
    int64_t bits, mantissa_bits, quantum_exponent, largest_code, infinity_code, nan_code;
    int64_t has_sign, has_zero, has_negative_zero, has_subnormals, nan_has_sign, has_nan;
} CodeLayout;

uint64_t mpsim_encode(double x, const CodeLayout *layout);
double mpsim_decode(uint64_t code, const CodeLayout *layout);

#endif
