/* Shared by the rounding kernels. mpsim/kernels/spec.py defines every bit. */
#ifndef MPSIM_ROUNDING_H
#define MPSIM_ROUNDING_H

#include "common/vector.h"

/* Elements that fit in the first-level cache, with their random bits, and those of a thread's piece; multiples of 256. */
enum { BLOCK = 2048, PIECE = 1 << 16 };
/* Patterns of float32. */
enum { MAGNITUDE_32 = 0x7fffffff, INFINITE_32 = 0x7f800000, NAN_32 = 0x7fc00000 };

/* The order of mpsim.policies.Mode. */
enum RoundingMode {
    NEAREST_EVEN, NEAREST_AWAY, NEAREST_ZERO, TOWARD_ZERO, UP, DOWN, TO_ODD, STOCHASTIC,
    QPYTORCH_NEAREST, QPYTORCH_STOCHASTIC, STOCHASTIC_B, STOCHASTIC_C,
    STOCHASTIC_EQUAL, MODES
};

/* Kernels: 32-bit integers, 64-bit integers, or the legacy float32 algorithm. NARROW rounds float64 numbers to odd
 * float32 numbers first: where these differ, the last bit is 1. So they are on the same side of every number of the
 * format, and of every tie, as mpsim/kernels/parameters.py makes sure. */
enum RoundingPath { NARROW, WIDE, LEGACY };

/* Running counts, in the order of mpsim.rounding.Counts. */
typedef struct { int64_t overflowed, underflowed, nan, inexact, subnormal; } RoundingCounts;

static inline void add_to(int64_t *all, const RoundingCounts *one) {
    all[0] += one->overflowed;
    all[1] += one->underflowed;
    all[2] += one->nan;
    all[3] += one->inexact;
    all[4] += one->subnormal;
}

/* Rounds up to 2^24 float32 numbers from x to out (which may be x). random: their bits, or NULL. */
typedef void RoundBlock(const float *x, float *out, int64_t n, const uint32_t *random,
                        const RoundingParameters *parameters, RoundingCounts *counts);

/* What is rounded: one of the sources; at most one of random and stream is not NULL. */
typedef struct {
    const float *x32;
    const double *x64;
    const uint32_t *random;
    const RandomStream *stream;
    const RoundingParameters *parameters;
} Rounding;

#define round_part KERNEL(round_part)
#define to_odd KERNEL(to_odd)
#define encode_numbers KERNEL(encode_numbers)
#define decode_numbers KERNEL(decode_numbers)
#define round_vectors KERNEL(round_vectors)
#define round_uncounted KERNEL(round_uncounted)
#define round_wide_float32 KERNEL(round_wide_float32)
#define round_wide_float64 KERNEL(round_wide_float64)
#define random_block KERNEL(random_block)

/* The paths NARROW and LEGACY (vectors.c). */
RoundBlock round_vectors;
/* The mode NEAREST_EVEN of the path NARROW, which counts nothing. */
void round_uncounted(const float *x, float *out, int64_t n, const RoundingParameters *parameters);
/* The path WIDE (wide.c) for both sources. float32 numbers are converted to float64 and back. */
RoundBlock round_wide_float32;
void round_wide_float64(const double *x, double *out, int64_t n, const uint32_t *random,
                        const RoundingParameters *parameters, RoundingCounts *counts);
/* Rounds to odd float32 numbers. */
void to_odd(const double *x, float *out, int64_t n);
/* Rounds numbers first .. first + n - 1 of a source to out32, of float64 numbers to out64 or, on the path NARROW,
 * to either, and adds to counts unless it is NULL. With a stream first is a multiple of 4, and n at most 2048. */
void round_part(const Rounding *source, int64_t first, int64_t n, float *out32, double *out64, RoundingCounts *counts);
/* Encodes float32 numbers of the format, and adds the numbers of NaNs and infinities to strays; decodes to float32. Only
 * for formats whose normal numbers are normal in float32, and codes of at most 4 bytes (codes.c). */
void encode_numbers(const float *x, int64_t n, uint8_t *codes, int64_t size, const CodeLayout *layout, int64_t *strays);
void decode_numbers(const uint8_t *codes, int64_t size, int64_t n, float *out, const CodeLayout *layout);
/* Writes Philox words 4 * first_counter, ... to bits (random.c). Multiples of 256 are the fastest n. */
void random_block(const RandomStream *stream, int64_t first_counter, uint32_t *bits, int64_t n);

#endif
