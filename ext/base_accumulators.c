/* The exact dot product, and the choice of the variant of the other sums. */
#include "accumulators.h"
#include "dispatch.h"

#include <math.h>
#include <string.h>

DECLARE_VARIANTS(int, mpsim_accumulate, (const struct contraction_tables *, int, int64_t,
                                         const struct narrow_format *, int));

int mpsim_accumulate(const struct contraction_tables *tables, int kind, int64_t chunk,
                     const struct narrow_format *narrow, int threads) {
    return DISPATCH(mpsim_accumulate)(tables, kind, chunk, narrow, threads);
}

DECLARE_VARIANTS(int, mpsim_accumulate_aligned, (const struct contraction_tables *, int64_t,
                                                 const struct narrow_format *, const struct aligned_sum *, int));

int mpsim_accumulate_aligned(const struct contraction_tables *tables, int64_t chunk, const struct narrow_format *narrow,
                             const struct aligned_sum *aligned, int threads) {
    return DISPATCH(mpsim_accumulate_aligned)(tables, chunk, narrow, aligned, threads);
}

/* A sum is kept in digits of weight 2**(32*i - BASE), each an int64 that takes a 32-bit piece of a product per term:
 * no digit overflows in 2**30 terms. Every product of float32 numbers is a multiple of 2**-BASE below 2**256. */
enum { LIMBS = 19, BASE = 298, LEAST_EXPONENT = 1023 + 47 - BASE };
#define LOW INT64_C(0xFFFFFFFF)

static inline void add_product(int64_t *limbs, int64_t bits) {
    int64_t exponent = bits >> 52 & 2047;
    if (exponent == 0) return; /* a zero: no product is subnormal in float64 */
    int64_t integer = ((bits & ((INT64_C(1) << 52) - 1)) | INT64_C(1) << 52) >> 5; /* 48 bits hold a product */
    int64_t shift = exponent - LEAST_EXPONENT, sign = bits >> 63;
    if (shift < 0) { /* the bits below 2**-BASE are zeros */
        integer >>= -shift;
        shift = 0;
    }
    int64_t *limb = limbs + (shift >> 5);
    int64_t lower = (integer & LOW) << (shift & 31), upper = (integer >> 32) << (shift & 31);
    int64_t middle = (lower >> 32) + (upper & LOW), top = upper >> 32;
    limb[0] += ((lower & LOW) ^ sign) - sign;
    limb[1] += (middle ^ sign) - sign;
    limb[2] += (top ^ sign) - sign;
}

/* Every digit but the highest, which keeps the sign, into 0 .. 2**32 - 1. */
static void carry(int64_t *limbs) {
    for (int i = 0; i < LIMBS - 1; i++) {
        limbs[i + 1] += limbs[i] >> 32;
        limbs[i] &= LOW;
    }
}

/* To odd to 53 bits, then to float32: right, because 53 >= 24 + 2 (mpsim/kernels/narrow.py). */
static float round_limbs(int64_t *limbs) {
    carry(limbs);
    int negative = limbs[LIMBS - 1] < 0;
    if (negative) {
        for (int i = 0; i < LIMBS; i++) limbs[i] = -limbs[i];
        carry(limbs);
    }
    int top = LIMBS - 1;
    while (top > 1 && limbs[top] == 0) top--;
    uint64_t high = (uint64_t)limbs[top] << 32 | (uint64_t)limbs[top - 1], sticky = 0;
    for (int i = 0; i < top - 1; i++) sticky |= limbs[i] != 0;
    if (high >> 53) {
        sticky |= (high & 2047) != 0;
        high = (high & ~UINT64_C(2047)) | sticky << 11;
    } else {
        high |= sticky;
    }
    double magnitude = ldexp((double)high, 32 * (top - 1) - BASE);
    return (float)(negative ? -magnitude : magnitude);
}

float mpsim_exact_dot(const float *a, const int64_t *a_k, const float *b, const int64_t *b_k, int64_t length) {
    int64_t limbs[LIMBS] = {0};
    double special = 0;
    for (int64_t k = 0; k < length; k++) {
        double product = (double)a[a_k[k]] * (double)b[b_k[k]];
        int64_t bits;
        memcpy(&bits, &product, sizeof bits);
        if ((bits >> 52 & 2047) == 2047)
            special += product; /* inf - inf = NaN */
        else
            add_product(limbs, bits);
    }
    return special == 0 ? round_limbs(limbs) : (float)special;
}
