/* Rounds float32 numbers on the paths NARROW and LEGACY, one vector at a time.
 *
 * NARROW: |x| = significand * 2^p is a pattern ``a`` without the sign. With the grid's quantum 2^q the last
 * shift = q - p bits of the significand are discarded. a - discarded is the number rounded toward zero, and adding
 * 1 << shift gives the next number: a carry out of the significand correctly raises the exponent by one. If
 * shift >= 24, the result is 0 or one quantum.
 * LEGACY: QPyTorch's float32 algorithm (mpsim/kernels/spec.py). */
#include "rounding/rounding.h"

enum { FRACTION = 0x7fffff, IMPLICIT = 0x800000, LARGEST = 0x7f7fffff };
#define SIGN_BIT INT32_MIN

typedef struct {
    Integers largest, smallest_normal, positive_overflow, negative_overflow, infinite;
    Integers below_overflow, above_underflow;
    Integers shift, lowest_exponent, low_quantum;         /* any mode */
    Integers odd_bit, added, kept_bits, to_grid, low_below; /* nearest_even */
    Integers raised;                                      /* nearest_even by one sum */
    Integers scale, unscale, scaled_smallest_normal, below_limit, scaled_largest, bit_mask; /* legacy */
    int shift_count, unused_bits;                       /* of the 32 random bits */
} Constants;

/* Zeros among inputs and results. small: results below the smallest normal number, including zeros. same: unchanged
 * numbers. A lane of +0 changes none of the differences that are computed at the end. */
typedef struct { Integers beyond, zero_in, at_most_half, zero_out, small, same, nan; } Tallies;

INLINE int32_t power_of_two(int64_t exponent) {
    return exponent >= -126 ? (int32_t)((exponent + 127) << 23) : (int32_t)1 << (exponent + 149);
}

static Constants constants(const RoundingParameters *p) {
    Constants c;
    const int shift = (int)(23 - p->mantissa_bits);
    c.shift_count = shift;
    c.largest = splat((int32_t)p->largest);
    c.smallest_normal = splat((int32_t)p->smallest_normal);
    c.positive_overflow = splat((int32_t)p->positive_overflow);
    c.negative_overflow = splat((int32_t)p->negative_overflow);
    c.infinite = splat((int32_t)p->infinity);
    c.below_overflow = splat((int32_t)p->overflow_from - 1);
    c.above_underflow = splat((int32_t)p->underflow_to + 1);
    c.shift = splat(shift);
    c.low_below = larger(c.smallest_normal, splat(IMPLICIT));
    c.kept_bits = splat(-((int32_t)1 << shift));
    c.raised = splat(shift << 23);
    c.unused_bits = 32 - (int)p->random_bit_count;
    c.lowest_exponent = c.low_quantum = c.to_grid = c.odd_bit = c.added = splat(0);
    c.scale = c.unscale = c.scaled_smallest_normal = c.below_limit = c.scaled_largest = c.bit_mask = splat(0);
    if (p->path == LEGACY) {
        c.added = splat(shift ? (int32_t)1 << (shift - 1) : 0);
        c.bit_mask = splat(((int32_t)1 << shift) - 1);
        c.scale = splat(power_of_two(p->scale_exponent));
        c.unscale = splat(power_of_two(-p->scale_exponent));
        c.scaled_smallest_normal = splat((int32_t)p->scaled_smallest_normal);
        c.below_limit = splat((int32_t)(p->scaled_limit - 1));
        c.scaled_largest = splat((int32_t)p->scaled_largest);
    } else {
        c.lowest_exponent = splat((int32_t)p->low_quantum + 150);
        c.low_quantum = splat(power_of_two(p->low_quantum));
        c.to_grid = splat(power_of_two(p->low_quantum + 23));
        /* With no fraction bits the kept significand is 1, odd, and its bit is not the exponent's lowest. */
        c.odd_bit = splat(p->mantissa_bits > 0 && shift > 0);
        c.added = splat(shift == 0 ? 0 : ((int32_t)1 << (shift - 1)) - (p->mantissa_bits > 0));
    }
    return c;
}

/* Kinds of formats for which the loops differ. */
enum { BOTH_ZEROS, ONE_ZERO, POSITIVE_ONLY /* without zero: E8M0 */ };

/* Returns whether nearest_even needs only one sum: it is finite for numbers that do not overflow, and the grid below
 * the smallest normal number is that of its binade. */
static int takes_one_sum(const RoundingParameters *p) {
    const int64_t shift = 23 - p->mantissa_bits, highest_exponent = (p->overflow_from - 1) >> 23;
    return shift > 0 && highest_exponent + shift < 254 && p->low_quantum == p->min_exponent - p->mantissa_bits;
}

/* Returns the magnitude of the nearest number, ties to even. Adding 2^(q + 23), whose quantum is 2^q, rounds to
 * multiples of 2^q: every number, or with two sums only those below the smallest normal number. */
INLINE Integers nearest_even(Integers a, const Constants *c, const int numbers, const int one_sum) {
    if (one_sum) {
        const Integers power = larger(add(bit_and(a, splat(INFINITE_32)), c->raised), c->to_grid);
        return float_subtract(float_add(a, power), power);
    }
    Integers odd = bit_and(shift_right(a, c->shift_count), c->odd_bit);
    Integers normal = bit_and(add(add(a, c->added), odd), c->kept_bits);
    Integers low = float_subtract(float_add(a, c->to_grid), c->to_grid);
    if (numbers == POSITIVE_ONLY) low = larger(low, c->low_quantum);
    return choose(greater(c->low_below, a), low, normal);
}

/* Returns the magnitude on the grid in any mode. v: the signed number. random: its bits. */
INLINE Integers to_grid(Integers v, Integers a, Integers random, const Constants *c, const int mode) {
    const Integers zero = splat(0), one = splat(1);
    Integers exponent = larger(shift_right(a, 23), one);
    Integers significand = choose(greater(a, splat(FRACTION)), bit_or(bit_and(a, splat(FRACTION)), splat(IMPLICIT)), a);
    Integers low_shift = larger(subtract(c->lowest_exponent, exponent), zero);
    Integers full_shift = choose(greater(c->smallest_normal, a), low_shift, c->shift);
    Integers shift = smaller(full_shift, splat(30));
    Integers unit = shift_left_each(one, shift);
    Integers discarded = bit_and(significand, subtract(unit, one)), doubled = add(discarded, discarded);
    Mask up = greater(zero, zero);
    if (mode == NEAREST_EVEN) up = greater(add(doubled, bit_and(shift_right_each(significand, shift), one)), unit);
    if (mode == NEAREST_AWAY) up = greater(add(doubled, one), unit);
    if (mode == NEAREST_ZERO) up = greater(doubled, unit);
    if (mode == UP) up = both(greater(discarded, zero), greater(v, splat(-1)));
    if (mode == DOWN) up = both(greater(discarded, zero), greater(zero, v));
    if (mode == TO_ODD) up = both(greater(discarded, zero), equal(bit_and(significand, unit), zero));
    if (mode == STOCHASTIC) {
        /* up iff the discarded part + R / 2^k carries: compares floor(discarded 2^32 / 2^shift) with R 2^(32 - k) */
        Integers left = shift_left_or_drop(discarded, subtract(splat(32), full_shift));
        Integers chance = bit_or(left, shift_right_or_drop(discarded, subtract(full_shift, splat(32))));
        Integers refused = bit_xor(shift_left(random, c->unused_bits), splat(MAGNITUDE_32));
        up = greater(bit_xor(chance, splat(SIGN_BIT)), refused);
    }
    Integers result = add(subtract(a, discarded), keep_where(up, unit));
    return choose(greater(shift, splat(23)), keep_where(up, c->low_quantum), result);
}

/* Returns whether this mode defines overflow and underflow: the numbers it rounds beyond the largest one, and to zero,
 * are those that are counted. */
INLINE int defines_counts(const int mode, const int numbers) {
    return mode == NEAREST_EVEN && numbers != POSITIVE_ONLY;
}

/* Handles overflow, infinities, NaNs, counts and the sign. a: |x|. r: |x| on the unbounded grid. */
INLINE Integers finish(Integers v, Integers a, Integers r, const Constants *c, Tallies *t, const int mode,
                       const int numbers, const int counting) {
    const Integers zero = splat(0);
    const int defines = defines_counts(mode, numbers);
    Mask counted = greater(a, c->below_overflow); /* including infinities and NaNs */
    Mask special = defines ? counted : greater(a, splat(LARGEST));
    if (!defines)
        r = choose(greater(r, c->largest), choose(greater(zero, v), c->negative_overflow, c->positive_overflow), r);
    Integers infinite = c->infinite;
    if (numbers == POSITIVE_ONLY) {
        const Mask outside = greater(splat(1), v);
        infinite = choose(outside, splat(NAN_32), infinite);
        r = choose(outside, splat(NAN_32), r);
    }
    Integers compared = r;
    if (__builtin_expect(any(special), 0)) {
        Mask nan = greater(a, splat(INFINITE_32));
        t->nan = tally(t->nan, nan);
        if (defines) {
            t->beyond = tally(t->beyond, counted);
            r = choose(counted, c->positive_overflow, r);
            special = greater(a, splat(LARGEST));
        }
        r = choose(special, infinite, r);
        compared = choose(nan, a, r);
        r = choose(nan, splat(NAN_32), r);
    }
    if (counting) {
        t->zero_in = tally(t->zero_in, equal(a, zero));
        t->zero_out = tally(t->zero_out, equal(r, zero));
        if (!defines) {
            t->beyond = tally(t->beyond, counted);
            t->at_most_half = tally(t->at_most_half, greater(c->above_underflow, a));
        }
        t->small = tally(t->small, greater(c->smallest_normal, r));
        t->same = tally(t->same, equal(compared, a));
    }
    Integers sign = bit_and(v, splat(SIGN_BIT));
    return bit_or(r, numbers == ONE_ZERO ? keep_where(greater(r, zero), sign) : sign);
}

INLINE Integers legacy(Integers v, Integers a, Integers random, const Constants *c, Tallies *t, const int mode) {
    const Integers magnitude = splat(MAGNITUDE_32), zero = splat(0);
    Integers scaled = float_multiply(v, c->scale), sign = bit_and(scaled, splat(SIGN_BIT));
    Mask low = greater(c->scaled_smallest_normal, bit_and(scaled, magnitude));
    Integers offset = bit_or(c->scaled_smallest_normal, sign);
    Integers added = mode == QPYTORCH_STOCHASTIC ? bit_and(random, c->bit_mask) : c->added;
    Integers result = bit_and(add(choose(low, float_add(scaled, offset), scaled), added), c->kept_bits);
    Mask clipped = greater(bit_and(result, magnitude), c->below_limit);
    result = choose(low, float_subtract(result, offset), choose(clipped, bit_or(c->scaled_largest, sign), result));
    result = float_multiply(result, c->unscale);
    Integers r = bit_and(result, magnitude), compared = r;
    Mask nan = greater(a, splat(INFINITE_32));
    if (__builtin_expect(any(nan), 0)) {
        t->nan = tally(t->nan, nan);
        compared = choose(nan, a, r);
        result = choose(nan, splat(SIGN_BIT), result);
        r = choose(nan, zero, r);
    }
    t->zero_in = tally(t->zero_in, equal(a, zero));
    t->zero_out = tally(t->zero_out, equal(r, zero));
    t->beyond = tally(t->beyond, greater(a, c->below_overflow));
    t->at_most_half = tally(t->at_most_half, greater(c->above_underflow, a));
    t->small = tally(t->small, greater(c->smallest_normal, r));
    t->same = tally(t->same, equal(compared, a));
    return result;
}

INLINE Integers round_vector(Integers v, Integers random, const Constants *c, Tallies *t, const int mode,
                             const int numbers, const int one_sum, const int counting) {
    Integers a = bit_and(v, splat(MAGNITUDE_32));
    if (mode == QPYTORCH_NEAREST || mode == QPYTORCH_STOCHASTIC) return legacy(v, a, random, c, t, mode);
    Integers r = mode == NEAREST_EVEN ? nearest_even(a, c, numbers, one_sum) : to_grid(v, a, random, c, mode);
    return finish(v, a, r, c, t, mode, numbers, counting);
}

INLINE void round_block(const float *x, float *out, int64_t n, const uint32_t *random,
                        const RoundingParameters *parameters, RoundingCounts *counts, const int mode, const int numbers,
                        const int one_sum, const int counting) {
    const Constants c = constants(parameters);
    const Integers none = splat(0);
    const int uses_random = mode == STOCHASTIC || mode == QPYTORCH_STOCHASTIC;
    Tallies t = {none, none, none, none, none, none, none};
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        store(out + i,
              round_vector(load(x + i), uses_random ? load(random + i) : none, &c, &t, mode, numbers, one_sum, counting));
    if (i < n) { /* the rest, padded with a number that does not change and is not counted */
        float rest[WIDTH];
        uint32_t bits[WIDTH] = {0};
        for (int lane = 0; lane < WIDTH; lane++) rest[lane] = numbers == POSITIVE_ONLY ? 1.0f : 0.0f;
        memcpy(rest, x + i, (size_t)(n - i) * sizeof *x);
        if (uses_random) memcpy(bits, random + i, (size_t)(n - i) * sizeof *random);
        store(rest, round_vector(load(rest), load(bits), &c, &t, mode, numbers, one_sum, counting));
        memcpy(out + i, rest, (size_t)(n - i) * sizeof *x);
        i += WIDTH;
    }
    if (!counting) return;
    counts->overflowed += total(t.beyond);
    counts->underflowed += total(defines_counts(mode, numbers) ? t.zero_out : t.at_most_half) - total(t.zero_in);
    counts->nan += total(t.nan);
    counts->inexact += i - total(t.same);
    counts->subnormal += total(t.small) - total(t.zero_out);
}

/* One function per mode, so that the mode is a compile-time constant in the loop. */
#define DEFINE(MODE)                                                                                                   \
    static void round_##MODE(const float *x, float *out, int64_t n, const uint32_t *random,                          \
                             const RoundingParameters *p, RoundingCounts *counts) {                                    \
        if (p->has_negative_zero) round_block(x, out, n, random, p, counts, MODE, BOTH_ZEROS, 0, 1);                   \
        else round_block(x, out, n, random, p, counts, MODE, ONE_ZERO, 0, 1);                                          \
    }

INLINE void round_to_nearest(const float *x, float *out, int64_t n, const RoundingParameters *p, RoundingCounts *counts,
                             const int counting) {
    if (!p->has_zero) round_block(x, out, n, NULL, p, counts, NEAREST_EVEN, POSITIVE_ONLY, 0, counting);
    else if (!p->has_negative_zero) round_block(x, out, n, NULL, p, counts, NEAREST_EVEN, ONE_ZERO, 0, counting);
    else if (takes_one_sum(p)) round_block(x, out, n, NULL, p, counts, NEAREST_EVEN, BOTH_ZEROS, 1, counting);
    else round_block(x, out, n, NULL, p, counts, NEAREST_EVEN, BOTH_ZEROS, 0, counting);
}

static void round_NEAREST_EVEN(const float *x, float *out, int64_t n, const uint32_t *random,
                               const RoundingParameters *p, RoundingCounts *counts) {
    (void)random;
    round_to_nearest(x, out, n, p, counts, 1);
}

void round_uncounted(const float *x, float *out, int64_t n, const RoundingParameters *parameters) {
    round_to_nearest(x, out, n, parameters, NULL, 0);
}

DEFINE(NEAREST_AWAY)
DEFINE(NEAREST_ZERO)
DEFINE(TOWARD_ZERO)
DEFINE(UP)
DEFINE(DOWN)
DEFINE(TO_ODD)
DEFINE(STOCHASTIC)
DEFINE(QPYTORCH_NEAREST)
DEFINE(QPYTORCH_STOCHASTIC)

void round_vectors(const float *x, float *out, int64_t n, const uint32_t *random, const RoundingParameters *parameters,
                   RoundingCounts *counts) {
    static RoundBlock *const by_mode[MODES] = {
        round_NEAREST_EVEN, round_NEAREST_AWAY, round_NEAREST_ZERO, round_TOWARD_ZERO, round_UP, round_DOWN,
        round_TO_ODD, round_STOCHASTIC, round_QPYTORCH_NEAREST, round_QPYTORCH_STOCHASTIC};
    by_mode[parameters->mode](x, out, n, random, parameters, counts);
}
