/* Any order of summation: the steps of mpsim/kernels/contractions/steps.py, on panels of COLUMNS columns and one row at a time.
 *
 * A register is COLUMNS float64 numbers: exact products, or sums in a format that float32 holds. */
#include "contraction/accumulators.h"
#include "rounding/rounding.h"

#include <math.h>
#include <stdlib.h>

#define COLUMNS 64
#define TOGETHER 4 /* vectors of sums that stand in registers while k rises */
#define PARTS (COLUMNS / DOUBLES)

/* The numbers of mpsim/kernels/contractions/steps.py. */
enum {
    STEP_ZERO, STEP_MULTIPLY, STEP_ROUND, STEP_ADD, STEP_RISING, STEP_ALIGNED, STEP_CLEAR, STEP_GATHER, STEP_TOTAL,
    STEP_LOAD, STEP_TIMES, STEP_SUBTRACT, STEP_ODD, STEP_LATE
};
/* The numbers of mpsim/kernels/contractions/narrow.py. */
enum { SUMS_TO_NEAREST, SUMS_TOWARD_ZERO, SUMS_BY_BITS };

typedef struct {
    const int64_t *code, *places, *aligned_sums, *tables;
    int64_t count, registers, exact_sums, result, table_size;
    const SumRounding *sums;
    const AlignedSum *aligned;
    const LateSum *late;
    const float *values;
    const RandomStream *stream;
} Program;

/* One row of one panel: the left factor's elements by k, the packed panel, registers and exact sums; where its columns
 * are in a table and in the flat output; the random roundings so far. */
typedef struct {
    const float *a, *panel;
    const int64_t *a_k;
    double *r;
    ExactSum *exact;
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
    return (double)row->a[row->a_k[k]] * load_doubles(row->panel + k * COLUMNS + part * DOUBLES);
}

/* -- sums that are rounded in any way ----------------------------------------------------------------------------- */

/* The words of the next random rounding, one for each column. */
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

/* s rounded up or down, as the lowest random bits of the word decide. */
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

/* x, exact numbers or rounded to odd, rounded; to may be x. */
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

/* x + y, or x - y, rounded once; to may be x or y. */
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

/* -- steps --------------------------------------------------------------------------------------------------------- */

/* r becomes r + a[k] * b[k] for the k of places, in this order. */
INLINE void rising(const Row *row, const int64_t *places, int64_t count, double *r, const SumRounding *how) {
    for (int first = 0; first < PARTS; first += TOGETHER) {
        Doubles sums[TOGETHER];
        UNROLL for (int i = 0; i < TOGETHER; i++) sums[i] = get(r + (first + i) * DOUBLES);
        for (int64_t k = 0; k < count; k++)
            UNROLL for (int i = 0; i < TOGETHER; i++)
                sums[i] = rounded_sum(product(row, places[k], first + i), sums[i], &how->format, how->mode);
        UNROLL for (int i = 0; i < TOGETHER; i++) put(r + (first + i) * DOUBLES, sums[i]);
    }
}

/* The same for sums that are not rounded to nearest or toward zero alone. */
static void rising_any(const Program *p, Row *row, const int64_t *places, int64_t count, double *r,
                       const SumRounding *how) {
    double products[COLUMNS];
    for (int64_t k = 0; k < count; k++) {
        for (int i = 0; i < PARTS; i++) put(products + i * DOUBLES, product(row, places[k], i));
        add_any(p, row, r, products, r, 0, how);
    }
}

/* The next c of one instruction over the k of places. */
INLINE Doubles instruction(const Row *row, const int64_t *places, int64_t count, int part, Doubles c,
                           const AlignedSum *sum, const NarrowFormat *narrow) {
    Doubles top = larger_doubles(scales_of(c, sum->least_sum), (Doubles){0} + sum->least_scale);
    for (int64_t k = 0; k < count; k++) {
        Doubles right = load_doubles(row->panel + places[k] * COLUMNS + part * DOUBLES);
        double left = scale_of(row->a[row->a_k[places[k]]], sum->least_left);
        top = larger_doubles(top, left * scales_of(right, sum->least_right));
    }
    Doubles quantum = top * sum->quantum, shifter = quantum * 0x1p52;
    Doubles total = truncated(c, quantum, shifter) + 0.0, plain = c;
    for (int64_t k = 0; k < count; k++) {
        Doubles term = product(row, places[k], part);
        total += truncated(term, quantum, shifter);
        plain += term; /* too short to overflow: infinite or NaN if a term is */
    }
    return aligned_result(total, plain, narrow, sum->toward_zero);
}

static void aligned_run(const Program *p, const Row *row, const int64_t *places, int64_t count, double *r, int64_t how) {
    const AlignedSum *sum = p->aligned + how;
    const NarrowFormat *narrow = &p->sums[p->aligned_sums[how]].format;
    for (int part = 0; part < PARTS; part++) {
        Doubles c = get(r + part * DOUBLES);
        for (int64_t k = 0; k < count; k += sum->terms)
            c = instruction(row, places + k, count - k < sum->terms ? count - k : sum->terms, part, c, sum, narrow);
        put(r + part * DOUBLES, c);
    }
}

/* A product of operands, infinite from 2**128 on. */
INLINE Doubles below_2_128(Doubles x) {
    Longs infinite = (Longs)((Doubles)((Longs)x & INT64_MAX) >= 0x1p128) & ~(Longs)(x != x);
    Doubles infinity = (Doubles)((Longs)((Doubles){0} + INFINITY) | ((Longs)x & INT64_MIN));
    return (Doubles)((infinite & (Longs)infinity) | (~infinite & (Longs)x));
}

/* The next c of an instruction that aligns its products first. places: how many groups, their sizes, their terms. */
INLINE Doubles late_instruction(const Row *row, const int64_t *places, int part, Doubles c, const LateSum *sum,
                                const NarrowFormat *narrow, int64_t toward_zero) {
    const Doubles zero = {0};
    Doubles largest = zero, total = zero, plain = c;
    for (int pass = 0; pass < 2; pass++) { /* the largest power of two of all products first */
        const int64_t *k = places + 1 + places[0];
        for (int64_t group = 0; group < places[0]; k += places[1 + group], group++) {
            Doubles top = zero, one = zero;
            for (int64_t i = 0; i < places[1 + group]; i++) {
                Doubles right = load_doubles(row->panel + k[i] * COLUMNS + part * DOUBLES);
                double left = scale_of(row->a[row->a_k[k[i]]], sum->least_left);
                top = larger_doubles(top, left * scales_of(right, sum->least_right));
                if (!pass) plain += below_2_128(product(row, k[i], part));
            }
            largest = larger_doubles(largest, top);
            if (!pass) continue;
            Doubles quantum = top * sum->quantum;
            for (int64_t i = 0; i < places[1 + group]; i++)
                one += truncated(product(row, k[i], part), quantum, quantum * 0x1p52);
            total += rounded_down(one, largest * sum->quantum);
        }
    }
    Doubles of_c = larger_doubles(scales_of(c, sum->least_sum), zero + sum->least_sum);
    Doubles top = larger_doubles(largest, of_c);
    total = rounded_down(total, top * (sum->sum_quantum / 2));
    Doubles down = rounded_down(c, top * sum->quantum);
    total += (Doubles)((Longs)(of_c >= top * sum->reach) & (Longs)down);
    total = rounded_down(total, scales_of(total, sum->least_sum) * sum->sum_quantum) + 0.0;
    Longs finite = (Longs)(plain - plain == 0);
    Longs result = (Longs)round_doubles(total, narrow, toward_zero);
    return (Doubles)((finite & result) | (~finite & (Longs)aligned_result(zero, plain, narrow, toward_zero)));
}

static void late_run(const Program *p, const Row *row, const int64_t *places, double *r, int64_t how) {
    const SumRounding *sums = p->sums + p->late[how].sums;
    for (int part = 0; part < PARTS; part++)
        put(r + part * DOUBLES, late_instruction(row, places, part, get(r + part * DOUBLES), p->late + how,
                                                 &sums->format, sums->mode));
}

/* The numbers of a table for these outputs and one block. */
static void load_table(const Program *p, const Tables *t, const Row *row, int64_t table, int64_t block, double *to) {
    const int64_t *at = p->tables + table * p->table_size, *offsets = at + 2;
    const int64_t *column = offsets + t->groups + t->rows + row->start;
    const float *values = p->values + at[0] + at[1] * block + offsets[row->group] + offsets[t->groups + row->row];
    for (int64_t i = 0; i < COLUMNS; i++) to[i] = i < row->count ? values[column[i]] : 0;
}

/* One step; its fields: what, to, x, y, how. */
static void do_step(const Program *p, const Tables *t, Row *row, const int64_t *step) {
    int64_t x = step[2], y = step[3];
    double *to = row->r + step[1] * COLUMNS;
    const double *left = row->r + x * COLUMNS, *right = row->r + y * COLUMNS;
    const SumRounding *how = p->sums + step[4];
    switch (step[0]) {
    case STEP_ZERO:
        memset(to, 0, COLUMNS * sizeof(double));
        break;
    case STEP_MULTIPLY:
        for (int i = 0; i < PARTS; i++) put(to + i * DOUBLES, product(row, x, i));
        break;
    case STEP_ROUND:
        round_any(p, row, to, left, how);
        break;
    case STEP_ADD:
        add_any(p, row, to, left, right, 0, how);
        break;
    case STEP_SUBTRACT:
        add_any(p, row, to, left, right, 1, how);
        break;
    case STEP_RISING:
        if (how->mode == SUMS_BY_BITS || how->flush_below > 0 || how->is_double)
            rising_any(p, row, p->places + x, y, to, how);
        else
            rising(row, p->places + x, y, to, how);
        break;
    case STEP_ALIGNED:
        aligned_run(p, row, p->places + x, y, to, step[4]);
        break;
    case STEP_CLEAR:
        memset(row->exact + step[1] * COLUMNS, 0, COLUMNS * sizeof(ExactSum));
        break;
    case STEP_GATHER:
        for (int i = 0; i < COLUMNS; i++) exact_add(row->exact + step[1] * COLUMNS + i, left[i]);
        if (step[4])
            for (int i = 0; i < COLUMNS; i++)
                row->exact[step[1] * COLUMNS + i].others += left[i] != 0 || !signbit(left[i]);
        break;
    case STEP_TOTAL:
        for (int i = 0; i < COLUMNS; i++) to[i] = exact_total(row->exact + x * COLUMNS + i);
        break;
    case STEP_ODD:
        for (int i = 0; i < COLUMNS; i++) to[i] = exact_to_odd(row->exact + x * COLUMNS + i);
        break;
    case STEP_LATE:
        late_run(p, row, p->places + x, to, step[4]);
        break;
    case STEP_LOAD:
        load_table(p, t, row, x, y, to);
        break;
    default:
        for (int i = 0; i < PARTS; i++) put(to + i * DOUBLES, get(left + i * DOUBLES) * get(right + i * DOUBLES));
    }
}

/* Every row of the columns from start to stop. */
static void run_panel(const Program *p, const Tables *t, int64_t group, int64_t start, int64_t stop, float *panel,
                      double *r, ExactSum *exact) {
    const float *b = t->b + t->b_group[group];
    for (int64_t k = 0; k < t->length; k++)
        for (int64_t i = 0; i < COLUMNS; i++)
            panel[k * COLUMNS + i] = start + i < stop ? b[t->b_k[k] + t->b_column[start + i]] : 0;
    for (int64_t m = 0; m < t->rows; m++) {
        Row row = {t->a + t->a_group[group] + t->a_row[m], panel, t->a_k, r, exact, group, m, start, stop - start,
                   {0}, 0};
        for (int64_t i = start; i < stop; i++)
            row.elements[i - start] = t->out_group[group] + t->out_row[m] + t->out_column[i];
        for (int64_t step = 0; step < p->count; step++) do_step(p, t, &row, p->code + 5 * step);
        const double *result = r + p->result * COLUMNS;
        for (int64_t i = 0; i < row.count; i++) t->out[row.elements[i]] = (float)result[i];
    }
}

int KERNEL(run_steps)(const float *a, const int64_t *a_group, const int64_t *a_row, const int64_t *a_k, const float *b,
                      const int64_t *b_group, const int64_t *b_column, const int64_t *b_k, float *out,
                      const int64_t *out_group, const int64_t *out_row, const int64_t *out_column, int64_t groups,
                      int64_t rows, int64_t length, int64_t columns, const int64_t *code, int64_t count,
                      const int64_t *places, const SumRounding *sums, const AlignedSum *aligned,
                      const int64_t *aligned_sums, const LateSum *late, const float *values, const int64_t *tables,
                      const RandomStream *stream, int64_t registers, int64_t exact_sums, int64_t answer, int threads) {
    const Tables t = {a,       b,         out,     a_group,    a_row,  a_k,  b_group, b_column,
                      b_k,     out_group, out_row, out_column, groups, rows, length,  columns};
    const Program p = {code,       places, aligned_sums,            tables, count,   registers, exact_sums,
                       answer,     2 + groups + rows + columns,     sums,   aligned, late,      values,     stream};
    int64_t panels = (columns + COLUMNS - 1) / COLUMNS;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        const uint64_t environment = float_environment_enter();
        float *panel = malloc(sizeof(float) * COLUMNS * (size_t)(length ? length : 1));
        double *r = malloc(sizeof(double) * COLUMNS * (size_t)registers);
        ExactSum *exact = malloc(sizeof(ExactSum) * COLUMNS * (size_t)(exact_sums ? exact_sums : 1));
        failed = !panel || !r || !exact;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < groups * panels; task++) {
            if (failed) continue;
            int64_t start = task % panels * COLUMNS, stop = start + COLUMNS < columns ? start + COLUMNS : columns;
            run_panel(&p, &t, task / panels, start, stop, panel, r, exact);
        }
        free(panel);
        free(r);
        free(exact);
        float_environment_leave(environment);
    }
    return failed ? -1 : 0;
}
