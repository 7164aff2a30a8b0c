/* Rounding one number in 64-bit integers, and codes: any source, format and mode but the legacy ones. */
#include "rounding.h"

#include <string.h>

static const uint64_t MAGNITUDE = INT64_MAX, INFINITE = (uint64_t)0x7ff << 52, CANONICAL_NAN = (uint64_t)0xfff << 51;
static const uint64_t IMPLICIT = (uint64_t)1 << 52;

static uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double number_of(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* |x| = significand * 2^exponent of a finite x. */
static uint64_t split(uint64_t magnitude, int64_t *exponent) {
    const int64_t biased = (int64_t)(magnitude >> 52);
    *exponent = (biased ? biased : 1) - 1075;
    return (magnitude & (IMPLICIT - 1)) | (biased ? IMPLICIT : 0);
}

/* floor(log2(significand)) of a significand that is not zero. */
static int64_t top_bit(uint64_t significand) { return 63 - __builtin_clzll(significand); }

/* Bits of significand * 2^exponent, a double's value or more than any (then infinity). */
static uint64_t join(uint64_t significand, int64_t exponent) {
    if (significand == 0) return 0;
    const int64_t top = top_bit(significand), binade = top + exponent;
    if (binade > 1023) return INFINITE;
    if (binade < -1022) return exponent >= -1074 ? significand << (exponent + 1074) : significand >> (-1074 - exponent);
    const uint64_t fraction = top <= 52 ? significand << (52 - top) : significand >> (top - 52);
    return ((uint64_t)(binade + 1022) << 52) + fraction;
}

/* Whether keep + discarded / 2^shift goes to keep + 1; shift may exceed 63, discarded is below 2^53. */
static int goes_up(uint64_t keep, uint64_t discarded, int64_t shift, int negative, uint32_t random,
                   const RoundingParameters *p) {
    if (discarded == 0) return 0;
    const uint64_t half = (uint64_t)1 << (shift < 62 ? shift - 1 : 61);
    switch (p->mode) {
    case NEAREST_EVEN: return discarded > half || (discarded == half && (keep & 1));
    case NEAREST_AWAY: return discarded >= half;
    case NEAREST_ZERO: return discarded > half;
    case UP: return !negative;
    case DOWN: return negative;
    case TO_ODD: return !(keep & 1);
    case STOCHASTIC: {
        const int64_t k = p->random_bit_count, right = shift - k;
        const uint64_t all = ((uint64_t)1 << k) - 1;
        const uint64_t chance = right <= 0 ? discarded << -right : right < 64 ? discarded >> right : 0;
        return chance + (random & all) > all;
    }
    default: return 0;
    }
}

/* Magnitude of a finite number that is not zero, on the grid continued upward without end. */
static uint64_t to_grid(uint64_t magnitude, int negative, uint32_t random, const RoundingParameters *p) {
    int64_t exponent;
    const uint64_t significand = split(magnitude, &exponent);
    const int64_t binade = top_bit(significand) + exponent;
    const int64_t quantum = binade < p->min_exponent ? p->low_quantum : binade - p->mantissa_bits;
    const int64_t shift = quantum - exponent;
    if (shift <= 0) return magnitude;
    uint64_t keep = shift < 64 ? significand >> shift : 0;
    const uint64_t discarded = shift < 64 ? significand & (((uint64_t)1 << shift) - 1) : significand;
    keep += (uint64_t)goes_up(keep, discarded, shift, negative, random, p);
    if (!p->has_zero && keep == 0) keep = 1;
    return join(keep, quantum);
}

double mpsim_round_wide(double x, uint32_t random, const RoundingParameters *p, RoundingCounts *counts) {
    const uint64_t bits = bits_of(x), a = bits & MAGNITUDE, sign = bits ^ a;
    uint64_t r;
    int keep_sign = 1;
    if (a > INFINITE || (sign && a && !p->has_sign) || (a == 0 && !p->has_zero)) {
        r = CANONICAL_NAN;
    } else if (a == INFINITE) {
        r = (uint64_t)p->infinity;
    } else {
        r = a ? to_grid(a, sign != 0, random, p) : 0;
        if (r > (uint64_t)p->largest) r = (uint64_t)(sign ? p->negative_overflow : p->positive_overflow);
        keep_sign = r != 0 || p->has_negative_zero;
    }
    counts->overflowed += a >= (uint64_t)p->overflow_from;
    counts->underflowed += a != 0 && a <= (uint64_t)p->underflow_to;
    counts->nan += a > INFINITE;
    counts->inexact += a <= INFINITE && r != a;
    counts->subnormal += r != 0 && r < (uint64_t)p->smallest_normal;
    return number_of(keep_sign ? r | sign : r);
}

uint64_t mpsim_encode(double x, const CodeLayout *c) {
    const uint64_t bits = bits_of(x), a = bits & MAGNITUDE;
    const uint64_t sign = c->has_sign && a != bits ? (uint64_t)1 << (c->bits - 1) : 0;
    if (a > INFINITE) return (uint64_t)c->nan_code | (c->nan_has_sign ? sign : 0);
    if (a == INFINITE) return (uint64_t)c->infinity_code | sign;
    if (a == 0) return c->has_negative_zero ? sign : 0;
    int64_t exponent;
    const uint64_t significand = split(a, &exponent);
    /* |x| in quanta of the smallest normal number's binade, as (binade above it, significand of m + 1 bits) */
    const int64_t top = top_bit(significand), above = top + exponent - c->quantum_exponent - c->mantissa_bits;
    const int64_t drop = above > 0 ? top - c->mantissa_bits : c->quantum_exponent - exponent;
    const uint64_t kept = drop >= 0 ? significand >> drop : significand << -drop;
    if (!c->has_zero) return (uint64_t)above;
    /* a normal number's implicit bit is added to the biased exponent's lowest */
    return sign | (((uint64_t)(above > 0 ? above : 0) << c->mantissa_bits) + kept);
}

double mpsim_decode(uint64_t code, const CodeLayout *c) {
    const uint64_t width_mask = c->bits < 64 ? ((uint64_t)1 << c->bits) - 1 : ~(uint64_t)0;
    const uint64_t sign_mask = c->has_sign ? (uint64_t)1 << (c->bits - 1) : 0;
    const uint64_t magnitude = code & width_mask & ~sign_mask, sign = code & sign_mask ? ~MAGNITUDE : 0;
    if (c->has_nan && code == (uint64_t)c->nan_code) return number_of(CANONICAL_NAN);
    if (c->infinity_code >= 0 && magnitude == (uint64_t)c->infinity_code) return number_of(INFINITE | sign);
    if (magnitude > (uint64_t)c->largest_code) return number_of(CANONICAL_NAN | sign);
    const uint64_t biased = magnitude >> c->mantissa_bits, implicit = (uint64_t)1 << c->mantissa_bits;
    const uint64_t mantissa = magnitude & (implicit - 1);
    if (biased == 0 && c->has_zero) return number_of((c->has_subnormals ? join(mantissa, c->quantum_exponent) : 0) | sign);
    return number_of(join(mantissa | implicit, c->quantum_exponent + (int64_t)biased - c->has_zero) | sign);
}
