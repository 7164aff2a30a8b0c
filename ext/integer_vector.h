/* One vector of 32-bit integers per variant, with the few operations the rounding kernels need.
 *
 * Vector: LANES int32 lanes; Mask: a truth value per lane. Comparisons are signed. Float operations read the
 * lanes as float32 and round to nearest even. Shift counts by lane are in 0..31,
 * but with "or_drop", where any other count gives 0. For Philox a vector is
 * LANES / 2 integers of 64 bits, of which multiply_halves multiplies the low 32 bits. */
#ifndef MPSIM_INTEGER_VECTOR_H
#define MPSIM_INTEGER_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(VARIANT_avx512)
#include <immintrin.h>
#define LANES 16
typedef __m512i Vector;
typedef __mmask16 Mask;
static inline Vector load(const void *p) { return _mm512_loadu_si512(p); }
static inline void store(void *p, Vector a) { _mm512_storeu_si512(p, a); }
static inline Vector splat(int32_t a) { return _mm512_set1_epi32(a); }
static inline Vector bit_and(Vector a, Vector b) { return _mm512_and_si512(a, b); }
static inline Vector bit_or(Vector a, Vector b) { return _mm512_or_si512(a, b); }
static inline Vector bit_xor(Vector a, Vector b) { return _mm512_xor_si512(a, b); }
static inline Vector add(Vector a, Vector b) { return _mm512_add_epi32(a, b); }
static inline Vector subtract(Vector a, Vector b) { return _mm512_sub_epi32(a, b); }
static inline Vector shift_right(Vector a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
static inline Vector shift_right_each(Vector a, Vector n) { return _mm512_srlv_epi32(a, n); }
static inline Vector shift_left(Vector a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline Vector shift_left_each(Vector a, Vector n) { return _mm512_sllv_epi32(a, n); }
static inline Vector shift_right_or_drop(Vector a, Vector n) { return _mm512_srlv_epi32(a, n); }
static inline Vector shift_left_or_drop(Vector a, Vector n) { return _mm512_sllv_epi32(a, n); }
static inline Vector larger(Vector a, Vector b) { return _mm512_max_epi32(a, b); }
static inline Vector smaller(Vector a, Vector b) { return _mm512_min_epi32(a, b); }
static inline Mask greater(Vector a, Vector b) { return _mm512_cmpgt_epi32_mask(a, b); }
static inline Mask equal(Vector a, Vector b) { return _mm512_cmpeq_epi32_mask(a, b); }
static inline Mask both(Mask a, Mask b) { return a & b; }
static inline Mask either(Mask a, Mask b) { return a | b; }
static inline Vector choose(Mask m, Vector yes, Vector no) { return _mm512_mask_mov_epi32(no, m, yes); }
static inline Vector keep_where(Mask m, Vector a) { return _mm512_maskz_mov_epi32(m, a); }
static inline Vector tally(Vector count, Mask m) { return _mm512_mask_sub_epi32(count, m, count, splat(-1)); }
static inline int any(Mask m) { return m != 0; }
static inline int64_t total(Vector a) { return _mm512_reduce_add_epi32(a); }
static inline Vector multiply_halves(Vector a, Vector b) { return _mm512_mul_epu32(a, b); }
static inline Vector high_halves(Vector a) { return _mm512_srli_epi64(a, 32); }
static inline Vector join_halves(Vector low, Vector high) {
    return _mm512_mask_shuffle_epi32(low, 0xaaaa, high, _MM_PERM_CCAA);
}
static inline Vector first_of_pairs(Vector a, Vector b) { return _mm512_unpacklo_epi64(a, b); }
static inline Vector second_of_pairs(Vector a, Vector b) { return _mm512_unpackhi_epi64(a, b); }
static inline Vector float_add(Vector a, Vector b) {
    return _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}
static inline Vector float_subtract(Vector a, Vector b) {
    return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}
static inline Vector float_multiply(Vector a, Vector b) {
    return _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
}

#elif defined(VARIANT_avx2)
#include <immintrin.h>
#define LANES 8
typedef __m256i Vector;
typedef __m256i Mask;
static inline Vector load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void store(void *p, Vector a) { _mm256_storeu_si256((__m256i *)p, a); }
static inline Vector splat(int32_t a) { return _mm256_set1_epi32(a); }
static inline Vector bit_and(Vector a, Vector b) { return _mm256_and_si256(a, b); }
static inline Vector bit_or(Vector a, Vector b) { return _mm256_or_si256(a, b); }
static inline Vector bit_xor(Vector a, Vector b) { return _mm256_xor_si256(a, b); }
static inline Vector add(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
static inline Vector subtract(Vector a, Vector b) { return _mm256_sub_epi32(a, b); }
static inline Vector shift_right(Vector a, int n) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n)); }
static inline Vector shift_right_each(Vector a, Vector n) { return _mm256_srlv_epi32(a, n); }
static inline Vector shift_left(Vector a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
static inline Vector shift_left_each(Vector a, Vector n) { return _mm256_sllv_epi32(a, n); }
static inline Vector shift_right_or_drop(Vector a, Vector n) { return _mm256_srlv_epi32(a, n); }
static inline Vector shift_left_or_drop(Vector a, Vector n) { return _mm256_sllv_epi32(a, n); }
static inline Vector larger(Vector a, Vector b) { return _mm256_max_epi32(a, b); }
static inline Vector smaller(Vector a, Vector b) { return _mm256_min_epi32(a, b); }
static inline Mask greater(Vector a, Vector b) { return _mm256_cmpgt_epi32(a, b); }
static inline Mask equal(Vector a, Vector b) { return _mm256_cmpeq_epi32(a, b); }
static inline Mask both(Mask a, Mask b) { return _mm256_and_si256(a, b); }
static inline Mask either(Mask a, Mask b) { return _mm256_or_si256(a, b); }
static inline Vector choose(Mask m, Vector yes, Vector no) { return _mm256_blendv_epi8(no, yes, m); }
static inline Vector keep_where(Mask m, Vector a) { return _mm256_and_si256(m, a); }
static inline Vector tally(Vector count, Mask m) { return _mm256_sub_epi32(count, m); }
static inline int any(Mask m) { return !_mm256_testz_si256(m, m); }
static inline int64_t total(Vector a) {
    int32_t lane[LANES];
    int64_t sum = 0;
    store(lane, a);
    for (int i = 0; i < LANES; i++) sum += lane[i];
    return sum;
}
static inline Vector multiply_halves(Vector a, Vector b) { return _mm256_mul_epu32(a, b); }
static inline Vector high_halves(Vector a) { return _mm256_srli_epi64(a, 32); }
static inline Vector join_halves(Vector low, Vector high) {
    return _mm256_blend_epi32(low, _mm256_slli_epi64(high, 32), 0xaa);
}
static inline Vector first_of_pairs(Vector a, Vector b) { return _mm256_unpacklo_epi64(a, b); }
static inline Vector second_of_pairs(Vector a, Vector b) { return _mm256_unpackhi_epi64(a, b); }
static inline Vector float_add(Vector a, Vector b) {
    return _mm256_castps_si256(_mm256_add_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
}
static inline Vector float_subtract(Vector a, Vector b) {
    return _mm256_castps_si256(_mm256_sub_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
}
static inline Vector float_multiply(Vector a, Vector b) {
    return _mm256_castps_si256(_mm256_mul_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
}

#else /* portable: the compiler's own vectors, which any machine has (SSE2, NEON, plain registers) */
#define LANES 4
typedef int32_t Vector __attribute__((vector_size(16)));
typedef uint32_t Unsigned __attribute__((vector_size(16)));
typedef float Floats __attribute__((vector_size(16)));
typedef Vector Mask;
static inline Vector load(const void *p) { Vector a; memcpy(&a, p, sizeof a); return a; }
static inline void store(void *p, Vector a) { memcpy(p, &a, sizeof a); }
static inline Vector splat(int32_t a) { return (Vector){a, a, a, a}; }
static inline Vector bit_and(Vector a, Vector b) { return a & b; }
static inline Vector bit_or(Vector a, Vector b) { return a | b; }
static inline Vector bit_xor(Vector a, Vector b) { return a ^ b; }
static inline Vector add(Vector a, Vector b) { return (Vector)((Unsigned)a + (Unsigned)b); }
static inline Vector subtract(Vector a, Vector b) { return (Vector)((Unsigned)a - (Unsigned)b); }
static inline Vector shift_right(Vector a, int n) { return (Vector)((Unsigned)a >> n); }
static inline Vector shift_right_each(Vector a, Vector n) { return (Vector)((Unsigned)a >> (Unsigned)n); }
static inline Vector shift_left(Vector a, int n) { return (Vector)((Unsigned)a << n); }
static inline Vector shift_left_each(Vector a, Vector n) { return (Vector)((Unsigned)a << (Unsigned)n); }
static inline Vector shift_right_or_drop(Vector a, Vector n) {
    return shift_right_each(a, n & 31) & (Vector)((Unsigned)n < 32);
}
static inline Vector shift_left_or_drop(Vector a, Vector n) {
    return shift_left_each(a, n & 31) & (Vector)((Unsigned)n < 32);
}
static inline Mask greater(Vector a, Vector b) { return a > b; }
static inline Mask equal(Vector a, Vector b) { return a == b; }
static inline Mask both(Mask a, Mask b) { return a & b; }
static inline Mask either(Mask a, Mask b) { return a | b; }
static inline Vector choose(Mask m, Vector yes, Vector no) { return (yes & m) | (no & ~m); }
static inline Vector larger(Vector a, Vector b) { return choose(a > b, a, b); }
static inline Vector smaller(Vector a, Vector b) { return choose(a > b, b, a); }
static inline Vector keep_where(Mask m, Vector a) { return a & m; }
static inline Vector tally(Vector count, Mask m) { return count - m; }
static inline int any(Mask m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
static inline int64_t total(Vector a) { return (int64_t)a[0] + a[1] + a[2] + a[3]; }
typedef uint64_t Halves __attribute__((vector_size(16)));
#define LOW_HALVES ((Halves){0xffffffffu, 0xffffffffu})
#if defined(__SSE2__)
#include <emmintrin.h>
static inline Vector multiply_halves(Vector a, Vector b) { return (Vector)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#else
static inline Vector multiply_halves(Vector a, Vector b) {
    return (Vector)(((Halves)a & LOW_HALVES) * ((Halves)b & LOW_HALVES));
}
#endif
static inline Vector high_halves(Vector a) { return (Vector)((Halves)a >> 32); }
static inline Vector join_halves(Vector low, Vector high) {
    return (Vector)(((Halves)low & LOW_HALVES) | (Halves)high << 32);
}
static inline Vector first_of_pairs(Vector a, Vector b) { return (Vector)(Halves){((Halves)a)[0], ((Halves)b)[0]}; }
static inline Vector second_of_pairs(Vector a, Vector b) { return (Vector)(Halves){((Halves)a)[1], ((Halves)b)[1]}; }
static inline Vector float_add(Vector a, Vector b) { return (Vector)((Floats)a + (Floats)b); }
static inline Vector float_subtract(Vector a, Vector b) { return (Vector)((Floats)a - (Floats)b); }
static inline Vector float_multiply(Vector a, Vector b) { return (Vector)((Floats)a * (Floats)b); }
#endif

#endif
