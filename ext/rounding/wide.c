/* Rounds one number in 64-bit integers, for any source, format and mode except the legacy ones. */
#include "rounding/patterns.h"
#include "rounding/rounding.h"

/* Returns what is added to a significand before its last ``shift`` bits (1 to 62) are masked. It carries into the other
 * bits exactly if the mode rounds the number up. quantum: the exponent of the last remaining bit. */
static inline uint64_t increment(uint64_t significand, int64_t shift, int64_t quantum, int negative, uint32_t random,
                                 const RoundingParameters *p) {
    const uint64_t half = (uint64_t)1 << (shift - 1), all = 2 * half - 1;
    const uint64_t code_is_odd = p->by_code ? (uint64_t)(quantum + p->bias) & 1 : 1;
    const uint64_t odd = (significand >> shift) & code_is_odd;
    switch (p->mode) {
    case NEAREST_EVEN: return half - 1 + odd;
    case NEAREST_AWAY: return half;
    case NEAREST_ZERO: return half - 1;
    case UP: return negative ? 0 : all;
    case DOWN: return negative ? all : 0;
    case TO_ODD: return odd ? 0 : all;
    case STOCHASTIC:
    case STOCHASTIC_B:
    case STOCHASTIC_C: {
        int64_t k = p->random_bit_count;
        uint64_t bits = random & (((uint64_t)1 << k) - 1);
        if (p->mode == STOCHASTIC_B) bits = 2 * bits + 1, k++;
        const int64_t below = shift - k; /* discarded bits below the random bits */
        if (below <= 0) return bits >> -below;
        bits <<= below;
        return p->mode == STOCHASTIC_C ? bits + ((uint64_t)1 << (below - 1)) - 1 + (significand >> below & 1) : bits;
    }
    case STOCHASTIC_EQUAL: return random >> (p->random_bit_count - 1) & 1 ? all : 0;
    default: return 0;
    }
}

/* Rounds the magnitude of a finite number that is not zero to the grid, continued upward without bound. */
static inline uint64_t to_grid(uint64_t a, int negative, uint32_t random, const RoundingParameters *p,
                               uint64_t unit_low) {
    int64_t exponent;
    uint64_t significand = split(a, &exponent);
    const int64_t binade = exponent + (a >= IMPLICIT ? 52 : top_bit(significand));
    const int64_t quantum = binade < p->min_exponent ? p->low_quantum : binade - p->mantissa_bits;
    int64_t shift = quantum - exponent;
    if (shift <= 0) return a;
    if (shift <= 52) { /* a carry out of the significand raises the exponent by one */
        const uint64_t r = (a + increment(significand, shift, quantum, negative, random, p)) & -((uint64_t)1 << shift);
        return r || p->has_zero ? r : unit_low;
    }
    if (shift > 62) { /* far below the quantum: the last bit is set if any lower bit is */
        const int64_t dropped = shift - 62 < 63 ? shift - 62 : 63;
        significand = significand >> dropped | ((significand & (((uint64_t)1 << dropped) - 1)) != 0);
        shift = 62;
    }
    const uint64_t up = (significand + increment(significand, shift, quantum, negative, random, p)) >> shift;
    return up || !p->has_zero ? unit_low : 0; /* the quantum 2^low_quantum or zero */
}

static inline uint64_t round_pattern(uint64_t bits, uint32_t random, const RoundingParameters *p, uint64_t unit_low,
                                     RoundingCounts *counts) {
    const uint64_t a = bits & MAGNITUDE, sign = bits ^ a;
    uint64_t r, kept_sign = sign;
    if (a > INFINITE || (!p->has_zero && a == 0)) {
        r = CANONICAL_NAN;
    } else if (a == INFINITE) {
        r = (uint64_t)(sign && !p->has_sign ? p->infinity_below_zero : p->infinity);
    } else {
        r = a ? to_grid(a, sign != 0, random, p, unit_low) : 0;
        if (sign && !p->has_sign && r) r = (uint64_t)p->below_zero;
        else if (r > (uint64_t)p->largest) r = (uint64_t)(sign ? p->negative_overflow : p->positive_overflow);
    }
    if (r == 0 && !p->has_negative_zero) kept_sign = 0;
    counts->overflowed += a >= (uint64_t)p->overflow_from;
    counts->underflowed += a != 0 && a <= (uint64_t)p->underflow_to;
    counts->nan += a > INFINITE;
    counts->inexact += a <= INFINITE && r != a;
    counts->subnormal += r != 0 && r < (uint64_t)p->smallest_normal;
    return r | kept_sign;
}

static void add_counts(RoundingCounts *sum, const RoundingCounts *more) {
    sum->overflowed += more->overflowed;
    sum->underflowed += more->underflowed;
    sum->nan += more->nan;
    sum->inexact += more->inexact;
    sum->subnormal += more->subnormal;
}

void round_wide_float64(const double *x, double *out, int64_t n, const uint32_t *random,
                        const RoundingParameters *parameters, RoundingCounts *counts) {
    const RoundingParameters p = *parameters;
    const uint64_t unit_low = join(1, p.low_quantum);
    RoundingCounts mine = {0, 0, 0, 0, 0};
    for (int64_t i = 0; i < n; i++)
        out[i] = number_of(round_pattern(bits_of(x[i]), random ? random[i] : 0, &p, unit_low, &mine));
    add_counts(counts, &mine);
}

void round_wide_float32(const float *x, float *out, int64_t n, const uint32_t *random,
                        const RoundingParameters *parameters, RoundingCounts *counts) {
    const RoundingParameters p = *parameters;
    const uint64_t unit_low = join(1, p.low_quantum);
    RoundingCounts mine = {0, 0, 0, 0, 0};
    for (int64_t i = 0; i < n; i++) {
        const uint64_t bits = round_pattern(bits_of((double)x[i]), random ? random[i] : 0, &p, unit_low, &mine);
        const float r = (float)number_of(bits);
        uint32_t narrow;
        memcpy(&narrow, &r, sizeof narrow);
        if ((bits & MAGNITUDE) > INFINITE) /* some processors clear a NaN's sign */
            narrow = 0x7fc00000u | (uint32_t)(bits >> 63) << 31;
        memcpy(&out[i], &narrow, sizeof narrow);
    }
    add_counts(counts, &mine);
}
