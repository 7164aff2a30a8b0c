/* Any order of summation: the steps of mpsim/kernels/contractions/steps.py, on panels of COLUMNS columns and one row at a time.
 *
 * A register is COLUMNS float64 numbers: exact products, or sums in a format that float32 holds. */
#include "contraction/accumulators.h"

#include <stdlib.h>

#define COLUMNS 64
#define TOGETHER 4 /* vectors of sums that stand in registers while k rises */
#define PARTS (COLUMNS / DOUBLES)

/* The numbers of mpsim/kernels/contractions/steps.py. */
enum { STEP_ZERO, STEP_MULTIPLY, STEP_ROUND, STEP_ADD, STEP_RISING, STEP_ALIGNED, STEP_CLEAR, STEP_GATHER, STEP_TOTAL };

typedef struct {
    const int64_t *code, *places, *toward_zero, *aligned_sums;
    int64_t count, registers, exact_sums;
    const NarrowFormat *sums;
    const AlignedSum *aligned;
} Program;

/* One row of one panel: the left factor's elements by k, the packed panel, registers and exact sums. */
typedef struct {
    const float *a, *panel;
    const int64_t *a_k;
    double *r;
    ExactSum *exact;
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

/* r becomes r + a[k] * b[k] for the k of places, in this order. */
INLINE void rising(const Row *row, const int64_t *places, int64_t count, double *r, const NarrowFormat *narrow,
                   int64_t toward_zero) {
    for (int first = 0; first < PARTS; first += TOGETHER) {
        Doubles sums[TOGETHER];
        UNROLL for (int i = 0; i < TOGETHER; i++) sums[i] = get(r + (first + i) * DOUBLES);
        for (int64_t k = 0; k < count; k++)
            UNROLL for (int i = 0; i < TOGETHER; i++)
                sums[i] = rounded_sum(product(row, places[k], first + i), sums[i], narrow, toward_zero);
        UNROLL for (int i = 0; i < TOGETHER; i++) put(r + (first + i) * DOUBLES, sums[i]);
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
    const NarrowFormat *narrow = p->sums + p->aligned_sums[how];
    for (int part = 0; part < PARTS; part++) {
        Doubles c = get(r + part * DOUBLES);
        for (int64_t k = 0; k < count; k += sum->terms)
            c = instruction(row, places + k, count - k < sum->terms ? count - k : sum->terms, part, c, sum, narrow);
        put(r + part * DOUBLES, c);
    }
}

/* One step; its fields: what, to, x, y, how. */
static void do_step(const Program *p, const Row *row, const int64_t *step) {
    int64_t x = step[2], y = step[3], how = step[4];
    double *to = row->r + step[1] * COLUMNS;
    const double *left = row->r + x * COLUMNS, *right = row->r + y * COLUMNS;
    switch (step[0]) {
    case STEP_ZERO:
        memset(to, 0, COLUMNS * sizeof(double));
        break;
    case STEP_MULTIPLY:
        for (int i = 0; i < PARTS; i++) put(to + i * DOUBLES, product(row, x, i));
        break;
    case STEP_ROUND:
        for (int i = 0; i < PARTS; i++)
            put(to + i * DOUBLES, round_doubles(get(left + i * DOUBLES), p->sums + how, p->toward_zero[how]));
        break;
    case STEP_ADD:
        for (int i = 0; i < PARTS; i++) {
            Doubles one = get(left + i * DOUBLES), other = get(right + i * DOUBLES);
            put(to + i * DOUBLES, rounded_sum(one, other, p->sums + how, p->toward_zero[how]));
        }
        break;
    case STEP_RISING:
        rising(row, p->places + x, y, to, p->sums + how, p->toward_zero[how]);
        break;
    case STEP_ALIGNED:
        aligned_run(p, row, p->places + x, y, to, how);
        break;
    case STEP_CLEAR:
        memset(row->exact + step[1] * COLUMNS, 0, COLUMNS * sizeof(ExactSum));
        break;
    case STEP_GATHER:
        for (int i = 0; i < COLUMNS; i++) exact_add(row->exact + step[1] * COLUMNS + i, left[i]);
        break;
    default:
        for (int i = 0; i < COLUMNS; i++) to[i] = exact_total(row->exact + x * COLUMNS + i);
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
        const Row row = {t->a + t->a_group[group] + t->a_row[m], panel, t->a_k, r, exact};
        for (int64_t step = 0; step < p->count; step++) do_step(p, &row, p->code + 5 * step);
        float *out = t->out + t->out_group[group] + t->out_row[m];
        for (int64_t i = start; i < stop; i++) out[t->out_column[i]] = (float)r[i - start];
    }
}

int KERNEL(run_steps)(const float *a, const int64_t *a_group, const int64_t *a_row, const int64_t *a_k, const float *b,
                      const int64_t *b_group, const int64_t *b_column, const int64_t *b_k, float *out,
                      const int64_t *out_group, const int64_t *out_row, const int64_t *out_column, int64_t groups,
                      int64_t rows, int64_t length, int64_t columns, const int64_t *code, int64_t count,
                      const int64_t *places, const NarrowFormat *sums, const int64_t *toward_zero,
                      const AlignedSum *aligned, const int64_t *aligned_sums, int64_t registers, int64_t exact_sums,
                      int threads) {
    const Tables t = {a,       b,         out,     a_group,    a_row,  a_k,  b_group, b_column,
                      b_k,     out_group, out_row, out_column, groups, rows, length,  columns};
    const Program p = {code, places, toward_zero, aligned_sums, count, registers, exact_sums, sums, aligned};
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
