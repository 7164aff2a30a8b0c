/* A vector of WIDTH floats for the variant being compiled, and the few operations the contractions need.
 *
 * vector_fma(a, b, c) = a*b + c, rounded once: hardware where the variant has it, else exact in float64.
 * TILE_ROWS: how many rows of two accumulator vectors fit the registers besides the operands. */
#ifndef MPSIM_SIMD_H
#define MPSIM_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(VARIANT_avx512)
#include <immintrin.h>
#define WIDTH 16
#define TILE_ROWS 13
typedef __m512 Vector;
typedef int32_t Lanes __attribute__((vector_size(64)));
INLINE Vector vector_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vector_store(float *p, Vector a) { _mm512_storeu_ps(p, a); }
/* The first n lanes, n <= WIDTH; the others are zero, or stay. */
INLINE Vector vector_load_first(const float *p, long n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
INLINE void vector_store_first(float *p, Vector a, long n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a); }
INLINE Vector vector_splat(float a) { return _mm512_set1_ps(a); }
INLINE Vector vector_fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }

#elif defined(VARIANT_avx2)
#include <immintrin.h>
#define WIDTH 8
#define TILE_ROWS 6
typedef __m256 Vector;
typedef int32_t Lanes __attribute__((vector_size(32)));
INLINE Vector vector_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vector_store(float *p, Vector a) { _mm256_storeu_ps(p, a); }
INLINE __m256i first_lanes(long n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE Vector vector_load_first(const float *p, long n) { return _mm256_maskload_ps(p, first_lanes(n)); }
INLINE void vector_store_first(float *p, Vector a, long n) { _mm256_maskstore_ps(p, first_lanes(n), a); }
INLINE Vector vector_splat(float a) { return _mm256_set1_ps(a); }
INLINE Vector vector_fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }

#else /* portable */
#define WIDTH 4
typedef float Vector __attribute__((vector_size(16)));
typedef int32_t Lanes __attribute__((vector_size(16)));
INLINE Vector vector_load(const float *p) { Vector a; memcpy(&a, p, sizeof a); return a; }
INLINE void vector_store(float *p, Vector a) { memcpy(p, &a, sizeof a); }
INLINE Vector vector_load_first(const float *p, long n) {
    Vector a = {0, 0, 0, 0};
    memcpy(&a, p, n * sizeof(float));
    return a;
}
INLINE void vector_store_first(float *p, Vector a, long n) { memcpy(p, &a, n * sizeof(float)); }
INLINE Vector vector_splat(float a) { return (Vector){a, a, a, a}; }
#if defined(__aarch64__)
#include <arm_neon.h>
#define TILE_ROWS 12
INLINE Vector vector_fma(Vector a, Vector b, Vector c) {
    return (Vector)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#elif defined(__SSE2__) && !defined(__FP_FAST_FMAF)
#include <emmintrin.h>
#define TILE_ROWS 4
typedef double Pair __attribute__((vector_size(16)));
typedef int64_t PairBits __attribute__((vector_size(16)));
/* The product is exact in float64. The sum, rounded to odd there (53 >= 2*24 + 2 bits), then rounds to float32 as
 * the exact one would (Boldo and Melquiond 2008). Infinities and NaN leave no ordered error: nothing is adjusted. */
INLINE Pair fma_round_to_odd(Pair a, Pair b, Pair c) {
    Pair product = a * b, sum = product + c;
    Pair from_c = sum - product, error = (product - (sum - from_c)) + (c - from_c);
    PairBits bits = (PairBits)sum, positive_error = error > 0, inexact = positive_error | (error < 0);
    PairBits even = (bits & 1) - 1, away = positive_error ^ ~(sum > 0); /* away: error and sum have one sign */
    return (Pair)(bits + (inexact & even & ((~away & -2) + 1)));
}
/* Intrinsics convert, not lane by lane: GCC 12 vectorises (float)pair[0], (float)pair[1] ... wrongly. */
INLINE Vector vector_fma(Vector a, Vector b, Vector c) {
    Pair low = fma_round_to_odd(_mm_cvtps_pd(a), _mm_cvtps_pd(b), _mm_cvtps_pd(c));
    Pair high = fma_round_to_odd(_mm_cvtps_pd(_mm_movehl_ps(a, a)), _mm_cvtps_pd(_mm_movehl_ps(b, b)),
                                 _mm_cvtps_pd(_mm_movehl_ps(c, c)));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}
#else
#define TILE_ROWS 4
INLINE Vector vector_fma(Vector a, Vector b, Vector c) {
    Vector sum;
    for (int lane = 0; lane < 4; lane++) sum[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
    return sum;
}
#endif
#endif

/* SHUFFLE(a, b, F, n): lane i is lane F(i, n) of a and b joined, F a macro and n a literal. */
#if WIDTH == 16
#define LANES_OF(F, n) \
    F(0, n), F(1, n), F(2, n), F(3, n), F(4, n), F(5, n), F(6, n), F(7, n), F(8, n), F(9, n), F(10, n), F(11, n), \
        F(12, n), F(13, n), F(14, n), F(15, n)
#elif WIDTH == 8
#define LANES_OF(F, n) F(0, n), F(1, n), F(2, n), F(3, n), F(4, n), F(5, n), F(6, n), F(7, n)
#else
#define LANES_OF(F, n) F(0, n), F(1, n), F(2, n), F(3, n)
#endif
#if defined(__clang__)
#define SHUFFLE(a, b, F, n) __builtin_shufflevector(a, b, LANES_OF(F, n))
#else
#define SHUFFLE(a, b, F, n) __builtin_shuffle(a, b, (Lanes){LANES_OF(F, n)})
#endif

INLINE Vector vector_zero(void) { return vector_splat(0.0f); }
/* Vectors are GNU vector types in every variant, so + rounds each lane as float does. */
INLINE Vector vector_add(Vector a, Vector b) { return a + b; }

#endif
