/* Rounds one number in 64-bit integers, and computes codes, for any source, format and mode except the legacy ones. */
#include "rounding/rounding.h"

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

/* |x| = significand * 2^exponent for a finite x. */
static uint64_t split(uint64_t magnitude, int64_t *exponent) {
    const int64_t biased = (int64_t)(magnitude >> 52);
    *exponent = (biased ? biased : 1) - 1075;
    return (magnitude & (IMPLICIT - 1)) | (biased ? IMPLICIT : 0);
}

/* Returns floor(log2(significand)) of a significand that is not zero. */
static int64_t top_bit(uint64_t significand) { return 63 - __builtin_clzll(significand); }

/* Returns the pattern of significand * 2^exponent, a double or too large for one (then infinity). */
static uint64_t join(uint64_t significand, int64_t exponent) {
    if (significand == 0) return 0;
    const int64_t top = top_bit(significand), binade = top + exponent;
    if (binade > 1023) return INFINITE;
    if (binade < -1022) return exponent >= -1074 ? significand << (exponent + 1074) : significand >> (-1074 - exponent);
    const uint64_t fraction = top <= 52 ? significand << (52 - top) : significand >> (top - 52);
    return ((uint64_t)(binade + 1022) << 52) + fraction;
}

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

static inline uint64_t encode(double x, const CodeLayout *c) {
    const uint64_t bits = bits_of(x), a = bits & MAGNITUDE;
    const uint64_t sign = c->has_sign && a != bits ? (uint64_t)1 << (c->bits - 1) : 0;
    if (a > INFINITE) return (uint64_t)c->nan_code | (c->nan_has_sign ? sign : 0);
    if (a == INFINITE) return (uint64_t)c->infinity_code | sign;
    if (a == 0) return c->has_negative_zero ? sign : 0;
    int64_t exponent;
    const uint64_t significand = split(a, &exponent);
    /* |x| in quanta of the smallest normal number's binade, as (binades above it, significand of m + 1 bits) */
    const int64_t top = top_bit(significand), above = top + exponent - c->quantum_exponent - c->mantissa_bits;
    const int64_t drop = above > 0 ? top - c->mantissa_bits : c->quantum_exponent - exponent;
    const uint64_t kept = drop >= 0 ? significand >> drop : significand << -drop;
    if (!c->has_zero) return (uint64_t)above;
    /* the implicit bit of a normal number is added to the lowest bit of the biased exponent */
    return sign | (((uint64_t)(above > 0 ? above : 0) << c->mantissa_bits) + kept);
}

static inline double decode(uint64_t code, const CodeLayout *c) {
    const uint64_t width_mask = c->bits < 64 ? ((uint64_t)1 << c->bits) - 1 : ~(uint64_t)0;
    const uint64_t sign_mask = c->has_sign ? (uint64_t)1 << (c->bits - 1) : 0;
    const uint64_t magnitude = code & width_mask & ~sign_mask, sign = code & sign_mask ? ~MAGNITUDE : 0;
    if (c->has_nan && code == (uint64_t)c->nan_code) return number_of(CANONICAL_NAN);
    if (c->infinity_code >= 0 && magnitude == (uint64_t)c->infinity_code) return number_of(INFINITE | sign);
    if (magnitude > (uint64_t)c->largest_code) return number_of(CANONICAL_NAN | sign);
    const uint64_t biased = magnitude >> c->mantissa_bits, implicit = (uint64_t)1 << c->mantissa_bits;
    const uint64_t mantissa = magnitude & (implicit - 1);
    if (biased == 0 && c->has_zero)
        return number_of((c->has_subnormals ? join(mantissa, c->quantum_exponent) : 0) | sign);
    return number_of(join(mantissa | implicit, c->quantum_exponent + (int64_t)biased - c->has_zero) | sign);
}

/* Returns code i of an array of unsigned integers of `size` bytes. */
static inline uint64_t code_at(const uint8_t *codes, int64_t i, int64_t size) {
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (size) {
    case 1: return codes[i];
    case 2: memcpy(&two, codes + 2 * i, 2); return two;
    case 4: memcpy(&four, codes + 4 * i, 4); return four;
    default: memcpy(&eight, codes + 8 * i, 8); return eight;
    }
}

static inline void put_code(uint8_t *codes, int64_t i, int64_t size, uint64_t code) {
    const uint16_t two = (uint16_t)code;
    const uint32_t four = (uint32_t)code;
    switch (size) {
    case 1: codes[i] = (uint8_t)code; break;
    case 2: memcpy(codes + 2 * i, &two, 2); break;
    case 4: memcpy(codes + 4 * i, &four, 4); break;
    default: memcpy(codes + 8 * i, &code, 8);
    }
}

/* One loop for each size of a code, so that the size is a compile-time constant. */
#define FOR_SIZE(statement)                     \
    switch (size) {                             \
    case 1: { enum { SIZE = 1 }; statement } break; \
    case 2: { enum { SIZE = 2 }; statement } break; \
    case 4: { enum { SIZE = 4 }; statement } break; \
    default: { enum { SIZE = 8 }; statement }   \
    }

#define DEFINE_CODES(Real, encode_all, decode_all)                                                                \
    void KERNEL(encode_all)(const Real *x, int64_t n, uint8_t *codes, int64_t size, const CodeLayout *layout) {   \
        FOR_SIZE(for (int64_t i = 0; i < n; i++) put_code(codes, i, SIZE, encode((double)x[i], layout));)         \
    }                                                                                                             \
    void KERNEL(decode_all)(const uint8_t *codes, int64_t size, int64_t n, Real *out, const CodeLayout *layout) { \
        FOR_SIZE(for (int64_t i = 0; i < n; i++) out[i] = (Real)decode(code_at(codes, i, SIZE), layout);)         \
    }
DEFINE_CODES(float, encode_float32, decode_float32)
DEFINE_CODES(double, encode_float64, decode_float64)
