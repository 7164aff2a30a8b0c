/* A program of steps, the state of one row of a panel, and sums with any rounding. Only steps.c includes this file. */
#ifndef MPSIM_STEPS_H
#define MPSIM_STEPS_H

#include "orders/sums.h"
#include "rounding/rounding.h"

#include <math.h>
#include <stdlib.h>

#define COLUMNS 64
#define TOGETHER 4 /* vectors of sums that stay in registers while k rises */
#define PARTS (COLUMNS / DOUBLES)

/* The numbers of mpsim/kernels/contractions/steps.py. */
enum {
    STEP_ZERO, STEP_MULTIPLY, STEP_ROUND, STEP_ADD, STEP_RISING, STEP_ALIGNED, STEP_CLEAR, STEP_GATHER, STEP_TOTAL,
    STEP_LOAD, STEP_TIMES, STEP_SUBTRACT, STEP_ODD, STEP_LATE, STEP_SCALED
};

typedef struct {
    const int64_t *code, *places, *aligned_sums, *tables;
    int64_t count, registers, exact_sums, result, table_size;
    const SumRounding *sums;
    const AlignedSum *aligned;
    const LateSum *late;
    const ScaledSum *scaled;
    const float *values;
    const RandomStream *stream;
} Program;

/* One row of one panel: the left factor's elements by k, or those of each column packed like the panel; the packed
 * panel, registers, exact sums and a buffer for scales; the columns' positions in a table and in the flat output; the
 * number of random roundings so far. */
typedef struct {
    const float *a, *lefts, *panel;
    const int64_t *a_k;
    double *r;
    ExactSum *exact;
    double *scales;
    int64_t group, row, start, count;
    int64_t elements[COLUMNS];
    int64_t roundings;
} Row;

INLINE Doubles get(const double *p) {
    Doubles value;
    memcpy(&value, p, sizeof value);
    return value;
}

INLINE void put(double *p, Doubles value) { memcpy(p, &value, sizeof value); }

INLINE Doubles product(const Row *row, int64_t k, int part) {
    Doubles right = load_doubles(row->panel + k * COLUMNS + part * DOUBLES);
    if (row->lefts) return load_doubles(row->lefts + k * COLUMNS + part * DOUBLES) * right;
    return (double)row->a[row->a_k[k]] * right;
}

/* Returns the product of the scales of both factors. */
INLINE Doubles scale_of_product(const Row *row, int64_t k, int part, double least_left, double least_right) {
    Doubles right = scales_of(load_doubles(row->panel + k * COLUMNS + part * DOUBLES), least_right);
    if (row->lefts) return scales_of(load_doubles(row->lefts + k * COLUMNS + part * DOUBLES), least_left) * right;
    return scale_of(row->a[row->a_k[k]], least_left) * right;
}

/* Draws the words of the next random rounding, one for each column. */
static void random_words(const Program *p, Row *row, uint32_t *words) {
    RandomStream stream = *p->stream;
    stream.words[2] += row->roundings++ << 8;
    uint32_t block[COLUMNS];
    int64_t first = 0, end = 0; /* the counters in the block */
    for (int i = 0; i < COLUMNS; i++) {
        int64_t counter = row->elements[i] / 4;
        if (counter < first || counter >= end) {
            first = counter;
            end = counter + COLUMNS / 4;
            random_block(&stream, first, block, COLUMNS);
        }
        words[i] = block[row->elements[i] - 4 * first];
    }
}

/* Rounds s up or down, depending on the lowest random bits of the word. */
static double rounded_by(double s, uint32_t word, const SumRounding *sums) {
    const NarrowFormat *narrow = &sums->format;
    double magnitude = fabs(s), value = magnitude;
    if (magnitude < INFINITY) {
        int64_t exponent;
        memcpy(&exponent, &magnitude, sizeof exponent);
        exponent >>= 52;
        double quantum =
            ldexp(1, (int)((exponent < narrow->least_exponent ? narrow->low : exponent + narrow->shift) - 1075));
        double quanta = magnitude / quantum, keep = floor(quanta); /* exact */
        int64_t steps = INT64_C(1) << sums->random_bits;
        keep += (int64_t)((quanta - keep) * (double)steps) + (word & (steps - 1)) >= steps;
        value = keep * quantum;
    }
    value = copysign(value > narrow->largest ? narrow->beyond : value, s);
    return narrow->negative_zero ? value : value + 0.0;
}

/* Rounds x, which is exact or rounded to odd. to may be x. */
static void round_any(const Program *p, Row *row, double *to, const double *x, const SumRounding *sums) {
    if (sums->is_double) {
        memmove(to, x, COLUMNS * sizeof(double));
        return;
    }
    if (sums->mode == SUMS_BY_BITS) {
        uint32_t words[COLUMNS];
        random_words(p, row, words);
        for (int i = 0; i < COLUMNS; i++) to[i] = rounded_by(x[i], words[i], sums);
    } else {
        for (int i = 0; i < PARTS; i++)
            put(to + i * DOUBLES, round_doubles(get(x + i * DOUBLES), &sums->format, sums->mode));
    }
    if (sums->flush_below > 0)
        for (int i = 0; i < COLUMNS; i++)
            if (fabs(to[i]) < sums->flush_below) to[i] = sums->format.negative_zero ? copysign(0, to[i]) : 0;
}

/* Rounds x + y, or x - y, once. to may be x or y. */
static void add_any(const Program *p, Row *row, double *to, const double *x, const double *y, int minus,
                    const SumRounding *sums) {
    int plain = sums->mode != SUMS_BY_BITS && !(sums->flush_below > 0);
    for (int i = 0; i < PARTS; i++) {
        Doubles one = get(x + i * DOUBLES), other = get(y + i * DOUBLES), sum;
        if (minus) other = -other;
        if (sums->is_double)
            sum = sums->mode == SUMS_TOWARD_ZERO ? truncated_sum(one, other) : one + other;
        else
            sum = plain ? rounded_sum(one, other, &sums->format, sums->mode) : sum_to_odd(one, other);
        put(to + i * DOUBLES, sum);
    }
    if (!plain) round_any(p, row, to, to, sums);
}

#endif
