/* Loads and stores vectors of other numbers. load_bytes and load_shorts extend unsigned numbers, store_bytes and
 * store_shorts drop the upper bits, and load_odd rounds float64 numbers to odd float32 numbers (rounding/rounding.h). */
#ifndef MPSIM_CONVERSIONS_H
#define MPSIM_CONVERSIONS_H

#include "common/vector.h"

#if defined(VARIANT_avx512)
static inline Integers load_bytes(const void *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
static inline Integers load_shorts(const void *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
static inline void store_bytes(void *p, Integers a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
static inline void store_shorts(void *p, Integers a) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(a)); }
static inline Integers load_odd(const double *p) {
    const __m512d low = _mm512_loadu_pd(p), high = _mm512_loadu_pd(p + 8);
    const __m256 l = _mm512_cvt_roundpd_ps(low, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __m256 h = _mm512_cvt_roundpd_ps(high, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const Mask inexact = (Mask)(_mm512_cmp_pd_mask(_mm512_cvtps_pd(l), low, _CMP_NEQ_UQ) |
                                _mm512_cmp_pd_mask(_mm512_cvtps_pd(h), high, _CMP_NEQ_UQ) << 8);
    const Integers truncated = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_castps_si256(l)), _mm256_castps_si256(h), 1);
    return _mm512_mask_or_epi32(truncated, inexact, truncated, splat(1));
}

#elif defined(VARIANT_avx2)
static inline Integers load_bytes(const void *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
static inline Integers load_shorts(const void *p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)); }
static inline void store_bytes(void *p, Integers a) {
    const __m256i lowest = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, /* of a half */
                                            0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i halves = _mm256_shuffle_epi8(a, lowest);
    const __m128i low = _mm256_castsi256_si128(halves), high = _mm256_extracti128_si256(halves, 1);
    _mm_storel_epi64((__m128i *)p, _mm_unpacklo_epi32(low, high));
}
static inline void store_shorts(void *p, Integers a) {
    const __m256i lowest = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1,
                                            0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i halves = _mm256_shuffle_epi8(a, lowest);
    const __m128i low = _mm256_castsi256_si128(halves), high = _mm256_extracti128_si256(halves, 1);
    _mm_storeu_si128((__m128i *)p, _mm_unpacklo_epi64(low, high));
}
/* The lower halves of 64-bit lanes that are all ones or all zeros. */
static inline Integers lower_halves(__m256d low, __m256d high) {
    const __m256 mixed = _mm256_shuffle_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high), 0x88);
    return _mm256_permute4x64_epi64(_mm256_castps_si256(mixed), 0xd8);
}
static inline Integers load_odd(const double *p) {
    const __m256d low = _mm256_loadu_pd(p), high = _mm256_loadu_pd(p + 4), sign = _mm256_set1_pd(-0.0);
    const __m128 l = _mm256_cvtpd_ps(low), h = _mm256_cvtpd_ps(high);
    const __m256d l_back = _mm256_cvtps_pd(l), h_back = _mm256_cvtps_pd(h);
    const Integers beyond = lower_halves(
        _mm256_cmp_pd(_mm256_andnot_pd(sign, l_back), _mm256_andnot_pd(sign, low), _CMP_GT_OQ),
        _mm256_cmp_pd(_mm256_andnot_pd(sign, h_back), _mm256_andnot_pd(sign, high), _CMP_GT_OQ));
    const Integers inexact = lower_halves(_mm256_cmp_pd(l_back, low, _CMP_NEQ_UQ), _mm256_cmp_pd(h_back, high, _CMP_NEQ_UQ));
    const Integers truncated = add(_mm256_castps_si256(_mm256_set_m128(h, l)), beyond);
    return bit_or(truncated, bit_and(inexact, splat(1)));
}

#else
static inline Integers load_bytes(const void *p) {
    const uint8_t *bytes = (const uint8_t *)p;
    return (Integers){bytes[0], bytes[1], bytes[2], bytes[3]};
}
static inline Integers load_shorts(const void *p) {
    uint16_t shorts[4];
    memcpy(shorts, p, sizeof shorts);
    return (Integers){shorts[0], shorts[1], shorts[2], shorts[3]};
}
static inline void store_bytes(void *p, Integers a) {
    for (int lane = 0; lane < 4; lane++) ((uint8_t *)p)[lane] = (uint8_t)a[lane];
}
static inline void store_shorts(void *p, Integers a) {
    for (int lane = 0; lane < 4; lane++) {
        const uint16_t one = (uint16_t)a[lane];
        memcpy((uint8_t *)p + 2 * lane, &one, sizeof one);
    }
}
static inline Integers load_odd(const double *p) {
    Integers a;
    for (int lane = 0; lane < 4; lane++) {
        const float nearest = (float)p[lane];
        const double back = (double)nearest;
        int32_t bits;
        memcpy(&bits, &nearest, sizeof bits);
        bits -= __builtin_fabs(back) > __builtin_fabs(p[lane]); /* toward zero; from infinity to the largest number */
        a[lane] = bits | (back != p[lane]);
    }
    return a;
}
#endif

#endif
