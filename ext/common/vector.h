/* The vectors of the variant being compiled: WIDTH floats or 32-bit integers, half as many doubles or 64-bit integers.
 *
 * Floats, Doubles and Longs are GNU vector types in every variant, so + rounds each lane like the C operator.
 * vector_fma(a, b, c) = a*b + c, rounded once: in hardware if the variant has it, else by exact steps in float64.
 * TILE_ROWS: the rows of two accumulator vectors that fit in registers besides the operands.
 *
 * Integers: WIDTH int32 lanes. Mask: a truth value per lane. Comparisons are signed. Float operations on Integers read
 * the lanes as float32 and round to nearest even. Shift counts by lane are in 0..31, except with "or_drop", where any
 * other count gives 0. For Philox a vector has WIDTH / 2 integers of 64 bits, and multiply_halves multiplies their low
 * 32 bits. */
#ifndef MPSIM_VECTOR_H
#define MPSIM_VECTOR_H

#include "common/variant.h"

#if defined(VARIANT_avx512)
#include <immintrin.h>
#define WIDTH 16
#define TILE_ROWS 13
typedef __m512 Floats;
typedef int32_t Lanes __attribute__((vector_size(64)));
INLINE Floats vector_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vector_store(float *p, Floats a) { _mm512_storeu_ps(p, a); }
/* The first n lanes, n <= WIDTH. The others are zero, or are not written. */
INLINE __mmask16 first_lanes(int64_t n) { return (__mmask16)((1u << n) - 1); }
INLINE Floats vector_load_first(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
INLINE void vector_store_first(float *p, Floats a, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), a); }
INLINE Floats vector_splat(float a) { return _mm512_set1_ps(a); }
INLINE Floats vector_fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }

typedef __m512i Integers;
typedef __mmask16 Mask;
static inline Integers load(const void *p) { return _mm512_loadu_si512(p); }
static inline void store(void *p, Integers a) { _mm512_storeu_si512(p, a); }
static inline Integers splat(int32_t a) { return _mm512_set1_epi32(a); }
static inline Integers bit_and(Integers a, Integers b) { return _mm512_and_si512(a, b); }
static inline Integers bit_or(Integers a, Integers b) { return _mm512_or_si512(a, b); }
static inline Integers bit_xor(Integers a, Integers b) { return _mm512_xor_si512(a, b); }
static inline Integers add(Integers a, Integers b) { return _mm512_add_epi32(a, b); }
static inline Integers subtract(Integers a, Integers b) { return _mm512_sub_epi32(a, b); }
static inline Integers shift_right(Integers a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
static inline Integers shift_right_each(Integers a, Integers n) { return _mm512_srlv_epi32(a, n); }
static inline Integers shift_left(Integers a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline Integers shift_left_each(Integers a, Integers n) { return _mm512_sllv_epi32(a, n); }
static inline Integers shift_right_or_drop(Integers a, Integers n) { return _mm512_srlv_epi32(a, n); }
static inline Integers shift_left_or_drop(Integers a, Integers n) { return _mm512_sllv_epi32(a, n); }
static inline Integers larger(Integers a, Integers b) { return _mm512_max_epi32(a, b); }
static inline Integers smaller(Integers a, Integers b) { return _mm512_min_epi32(a, b); }
static inline Mask greater(Integers a, Integers b) { return _mm512_cmpgt_epi32_mask(a, b); }
static inline Mask equal(Integers a, Integers b) { return _mm512_cmpeq_epi32_mask(a, b); }
static inline Mask both(Mask a, Mask b) { return a & b; }
static inline Mask either(Mask a, Mask b) { return a | b; }
static inline Integers choose(Mask m, Integers yes, Integers no) { return _mm512_mask_mov_epi32(no, m, yes); }
static inline Integers keep_where(Mask m, Integers a) { return _mm512_maskz_mov_epi32(m, a); }
static inline Integers tally(Integers count, Mask m) { return _mm512_mask_sub_epi32(count, m, count, splat(-1)); }
static inline int any(Mask m) { return m != 0; }
static inline int64_t total(Integers a) { return _mm512_reduce_add_epi32(a); }
static inline Integers multiply_halves(Integers a, Integers b) { return _mm512_mul_epu32(a, b); }
static inline Integers high_halves(Integers a) { return _mm512_srli_epi64(a, 32); }
static inline Integers join_halves(Integers low, Integers high) {
    return _mm512_mask_shuffle_epi32(low, 0xaaaa, high, _MM_PERM_CCAA);
}
static inline Integers first_of_pairs(Integers a, Integers b) { return _mm512_unpacklo_epi64(a, b); }
static inline Integers second_of_pairs(Integers a, Integers b) { return _mm512_unpackhi_epi64(a, b); }
static inline Integers float_add(Integers a, Integers b) {
    return _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}
static inline Integers float_subtract(Integers a, Integers b) {
    return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}
static inline Integers float_multiply(Integers a, Integers b) {
    return _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}

#elif defined(VARIANT_avx2)
#include <immintrin.h>
#define WIDTH 8
#define TILE_ROWS 6
typedef __m256 Floats;
typedef int32_t Lanes __attribute__((vector_size(32)));
INLINE Floats vector_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vector_store(float *p, Floats a) { _mm256_storeu_ps(p, a); }
INLINE __m256i first_lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE Floats vector_load_first(const float *p, int64_t n) { return _mm256_maskload_ps(p, first_lanes(n)); }
/* In pieces, because a masked store is slow on AMD's processors. */
INLINE void vector_store_first(float *p, Floats a, int64_t n) {
    __m128 piece = _mm256_castps256_ps128(a);
    if (n >= WIDTH) {
        _mm256_storeu_ps(p, a);
        return;
    }
    if (n & 4) {
        _mm_storeu_ps(p, piece);
        piece = _mm256_extractf128_ps(a, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, piece);
        piece = _mm_movehl_ps(piece, piece);
        p += 2;
    }
    if (n & 1) _mm_store_ss(p, piece);
}
INLINE Floats vector_splat(float a) { return _mm256_set1_ps(a); }
INLINE Floats vector_fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }

typedef __m256i Integers;
typedef __m256i Mask;
static inline Integers load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void store(void *p, Integers a) { _mm256_storeu_si256((__m256i *)p, a); }
static inline Integers splat(int32_t a) { return _mm256_set1_epi32(a); }
static inline Integers bit_and(Integers a, Integers b) { return _mm256_and_si256(a, b); }
static inline Integers bit_or(Integers a, Integers b) { return _mm256_or_si256(a, b); }
static inline Integers bit_xor(Integers a, Integers b) { return _mm256_xor_si256(a, b); }
static inline Integers add(Integers a, Integers b) { return _mm256_add_epi32(a, b); }
static inline Integers subtract(Integers a, Integers b) { return _mm256_sub_epi32(a, b); }
static inline Integers shift_right(Integers a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
static inline Integers shift_right_each(Integers a, Integers n) { return _mm256_srlv_epi32(a, n); }
static inline Integers shift_left(Integers a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline Integers shift_left_each(Integers a, Integers n) { return _mm256_sllv_epi32(a, n); }
static inline Integers shift_right_or_drop(Integers a, Integers n) { return _mm256_srlv_epi32(a, n); }
static inline Integers shift_left_or_drop(Integers a, Integers n) { return _mm256_sllv_epi32(a, n); }
static inline Integers larger(Integers a, Integers b) { return _mm256_max_epi32(a, b); }
static inline Integers smaller(Integers a, Integers b) { return _mm256_min_epi32(a, b); }
static inline Mask greater(Integers a, Integers b) { return _mm256_cmpgt_epi32(a, b); }
static inline Mask equal(Integers a, Integers b) { return _mm256_cmpeq_epi32(a, b); }
static inline Mask both(Mask a, Mask b) { return _mm256_and_si256(a, b); }
static inline Mask either(Mask a, Mask b) { return _mm256_or_si256(a, b); }
static inline Integers choose(Mask m, Integers yes, Integers no) { return _mm256_blendv_epi8(no, yes, m); }
static inline Integers keep_where(Mask m, Integers a) { return _mm256_and_si256(m, a); }
static inline Integers tally(Integers count, Mask m) { return _mm256_sub_epi32(count, m); }
static inline int any(Mask m) { return !_mm256_testz_si256(m, m); }
static inline int64_t total(Integers a) {
    int32_t lane[WIDTH];
    int64_t sum = 0;
    store(lane, a);
    for (int i = 0; i < WIDTH; i++) sum += lane[i];
    return sum;
}
static inline Integers multiply_halves(Integers a, Integers b) { return _mm256_mul_epu32(a, b); }
static inline Integers high_halves(Integers a) { return _mm256_srli_epi64(a, 32); }
static inline Integers join_halves(Integers low, Integers high) {
    return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xaa);
}
static inline Integers first_of_pairs(Integers a, Integers b) { return _mm256_unpacklo_epi64(a, b); }
static inline Integers second_of_pairs(Integers a, Integers b) { return _mm256_unpackhi_epi64(a, b); }
static inline Integers float_add(Integers a, Integers b) {
    return _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
}
static inline Integers float_subtract(Integers a, Integers b) {
    return _mm256_castps_si256(_mm256_sub_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
}
static inline Integers float_multiply(Integers a, Integers b) {
    return _mm256_castps_si256(_mm256_mul_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
}

#else /* portable: the compiler's vectors, on any machine (SSE2, NEON, plain registers) */
#define WIDTH 4
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Lanes __attribute__((vector_size(16)));
INLINE Floats vector_load(const float *p) { Floats a; memcpy(&a, p, sizeof a); return a; }
INLINE void vector_store(float *p, Floats a) { memcpy(p, &a, sizeof a); }
INLINE Floats vector_load_first(const float *p, int64_t n) {
    Floats a = {0, 0, 0, 0};
    memcpy(&a, p, n * sizeof(float));
    return a;
}
INLINE void vector_store_first(float *p, Floats a, int64_t n) { memcpy(p, &a, n * sizeof(float)); }
INLINE Floats vector_splat(float a) { return (Floats){a, a, a, a}; }
#if defined(__aarch64__)
#include <arm_neon.h>
#define TILE_ROWS 12
INLINE Floats vector_fma(Floats a, Floats b, Floats c) {
    return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#elif defined(__SSE2__) && !defined(__FP_FAST_FMAF)
#define TILE_ROWS 4
typedef double Pair __attribute__((vector_size(16)));
typedef int64_t PairBits __attribute__((vector_size(16)));
/* The product is exact in float64. The sum is rounded to odd there (53 >= 24 + 2 bits), and then rounds to float32 like
 * the exact one (Boldo and Melquiond 2008). For infinities and NaN the error is NaN, and nothing is adjusted. */
INLINE Pair fma_round_to_odd(Pair a, Pair b, Pair c) {
    Pair product = a * b, sum = product + c;
    Pair from_c = sum - product, error = (product - (sum - from_c)) + (c - from_c);
    PairBits bits = (PairBits)sum, positive_error = error > 0, inexact = positive_error | (error < 0);
    PairBits even = (bits & 1) - 1, away = positive_error ^ ~(sum > 0); /* away: error and sum have the same sign */
    return (Pair)(bits + (inexact & even & ((~away & -2) + 1)));
}
/* Converts with intrinsics, because GCC 12 miscompiles (float)pair[0], (float)pair[1] ... when it vectorizes. */
INLINE Floats vector_fma(Floats a, Floats b, Floats c) {
    Pair low = fma_round_to_odd(_mm_cvtps_pd(a), _mm_cvtps_pd(b), _mm_cvtps_pd(c));
    Pair high = fma_round_to_odd(_mm_cvtps_pd(_mm_movehl_ps(a, a)), _mm_cvtps_pd(_mm_movehl_ps(b, b)),
                                 _mm_cvtps_pd(_mm_movehl_ps(c, c)));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}
#else
#define TILE_ROWS 4
INLINE Floats vector_fma(Floats a, Floats b, Floats c) {
    Floats sum;
    for (int lane = 0; lane < 4; lane++) sum[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
    return sum;
}
#endif

typedef int32_t Integers __attribute__((vector_size(16)));
typedef uint32_t Unsigned __attribute__((vector_size(16)));
typedef Integers Mask;
static inline Integers load(const void *p) { Integers a; memcpy(&a, p, sizeof a); return a; }
static inline void store(void *p, Integers a) { memcpy(p, &a, sizeof a); }
static inline Integers splat(int32_t a) { return (Integers){a, a, a, a}; }
static inline Integers bit_and(Integers a, Integers b) { return a & b; }
static inline Integers bit_or(Integers a, Integers b) { return a | b; }
static inline Integers bit_xor(Integers a, Integers b) { return a ^ b; }
static inline Integers add(Integers a, Integers b) { return (Integers)((Unsigned)a + (Unsigned)b); }
static inline Integers subtract(Integers a, Integers b) { return (Integers)((Unsigned)a - (Unsigned)b); }
static inline Integers shift_right(Integers a, int n) { return (Integers)((Unsigned)a >> n); }
static inline Integers shift_right_each(Integers a, Integers n) { return (Integers)((Unsigned)a >> (Unsigned)n); }
static inline Integers shift_left(Integers a, int n) { return (Integers)((Unsigned)a << n); }
static inline Integers shift_left_each(Integers a, Integers n) { return (Integers)((Unsigned)a << (Unsigned)n); }
static inline Integers shift_right_or_drop(Integers a, Integers n) {
    return shift_right_each(a, n & 31) & (Integers)((Unsigned)n < 32);
}
static inline Integers shift_left_or_drop(Integers a, Integers n) {
    return shift_left_each(a, n & 31) & (Integers)((Unsigned)n < 32);
}
static inline Mask greater(Integers a, Integers b) { return a > b; }
static inline Mask equal(Integers a, Integers b) { return a == b; }
static inline Mask both(Mask a, Mask b) { return a & b; }
static inline Mask either(Mask a, Mask b) { return a | b; }
static inline Integers choose(Mask m, Integers yes, Integers no) { return (yes & m) | (no & ~m); }
static inline Integers larger(Integers a, Integers b) { return choose(a > b, a, b); }
static inline Integers smaller(Integers a, Integers b) { return choose(a > b, b, a); }
static inline Integers keep_where(Mask m, Integers a) { return a & m; }
static inline Integers tally(Integers count, Mask m) { return count - m; }
static inline int any(Mask m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
static inline int64_t total(Integers a) { return (int64_t)a[0] + a[1] + a[2] + a[3]; }
typedef uint64_t Halves __attribute__((vector_size(16)));
#define LOW_HALVES ((Halves){0xffffffffu, 0xffffffffu})
#if defined(__SSE2__)
static inline Integers multiply_halves(Integers a, Integers b) {
    return (Integers)_mm_mul_epu32((__m128i)a, (__m128i)b);
}
#else
static inline Integers multiply_halves(Integers a, Integers b) {
    return (Integers)(((Halves)a & LOW_HALVES) * ((Halves)b & LOW_HALVES));
}
#endif
static inline Integers high_halves(Integers a) { return (Integers)((Halves)a >> 32); }
static inline Integers join_halves(Integers low, Integers high) {
    return (Integers)(((Halves)low & LOW_HALVES) | (Halves)high << 32);
}
static inline Integers first_of_pairs(Integers a, Integers b) {
    return (Integers)(Halves){((Halves)a)[0], ((Halves)b)[0]};
}
static inline Integers second_of_pairs(Integers a, Integers b) {
    return (Integers)(Halves){((Halves)a)[1], ((Halves)b)[1]};
}
static inline Integers float_add(Integers a, Integers b) { return (Integers)((Floats)a + (Floats)b); }
static inline Integers float_subtract(Integers a, Integers b) { return (Integers)((Floats)a - (Floats)b); }
static inline Integers float_multiply(Integers a, Integers b) { return (Integers)((Floats)a * (Floats)b); }
#endif

/* SHUFFLE(a, b, F, n): lane i is lane F(i, n) of a and b concatenated. F is a macro, and n a literal. */
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

INLINE Floats vector_zero(void) { return vector_splat(0.0f); }
INLINE Floats vector_add(Floats a, Floats b) { return a + b; }

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

#endif
