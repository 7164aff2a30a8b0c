/* Sums in any order, by the steps of mpsim/kernels/contractions/steps.py, on panels of COLUMNS columns, one row at a
 * time.
 *
 * A register has COLUMNS float64 numbers: exact products, or sums in a format within float32. If every group is one dot
 * product, the columns of a panel are groups, and each has its own left factor. */
#include "orders/steps.h"

/* Adds a[k] * b[k] to r for the k of places, in this order. */
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

/* Does the same for sums with random bits, flushing or float64. */
static void rising_any(const Program *p, Row *row, const int64_t *places, int64_t count, double *r,
                       const SumRounding *how) {
    double products[COLUMNS];
    for (int64_t k = 0; k < count; k++) {
        for (int i = 0; i < PARTS; i++) put(products + i * DOUBLES, product(row, places[k], i));
        add_any(p, row, r, products, r, 0, how);
    }
}

/* Computes the next c of one instruction over the k of places. */
INLINE Doubles instruction(const Row *row, const int64_t *places, int64_t count, int part, Doubles c,
                           const AlignedSum *sum, const NarrowFormat *narrow) {
    Doubles top = larger_doubles(scales_of(c, sum->least_sum), (Doubles){0} + sum->least_scale);
    for (int64_t k = 0; k < count; k++)
        top = larger_doubles(top, scale_of_product(row, places[k], part, sum->least_left, sum->least_right));
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

/* A product of operands that is infinite from 2**128 on. */
INLINE Doubles below_2_128(Doubles x) {
    Longs infinite = (Longs)((Doubles)((Longs)x & INT64_MAX) >= 0x1p128) & ~(Longs)(x != x);
    Doubles infinity = (Doubles)((Longs)((Doubles){0} + INFINITY) | ((Longs)x & INT64_MIN));
    return (Doubles)((infinite & (Longs)infinity) | (~infinite & (Longs)x));
}

/* Returns the next c of an instruction that aligns its products first. places: the number of groups, their sizes, their
 * terms. */
INLINE Doubles late_instruction(const Row *row, const int64_t *places, int part, Doubles c, const LateSum *sum,
                                const NarrowFormat *narrow, int64_t toward_zero) {
    const Doubles zero = {0};
    Doubles largest = zero, total = zero, plain = c;
    for (int pass = 0; pass < 2; pass++) { /* the first pass finds the largest power of two of all products */
        const int64_t *k = places + 1 + places[0];
        for (int64_t group = 0; group < places[0]; k += places[1 + group], group++) {
            Doubles top = zero, one = zero;
            for (int64_t i = 0; i < places[1 + group]; i++) {
                top = larger_doubles(top, scale_of_product(row, k[i], part, sum->least_left, sum->least_right));
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

/* Loads a table's numbers for these outputs and one block. */
static void load_table(const Program *p, const Tables *t, const Row *row, int64_t table, int64_t block, double *to) {
    const int64_t *at = p->tables + table * p->table_size, *offsets = at + 2;
    const int64_t *column = offsets + t->groups + t->rows + row->start;
    const float *values = p->values + at[0] + at[1] * block + offsets[t->groups + row->row];
    if (row->lefts) { /* the columns are groups */
        column = offsets + row->start;
        values += offsets[t->groups + t->rows];
    } else {
        values += offsets[row->group];
    }
    for (int64_t i = 0; i < COLUMNS; i++) to[i] = i < row->count ? values[column[i]] : 0;
}

/* Returns the next c of an instruction with scales. places: the number of groups, their sizes, their blocks, and their
 * terms. left, right: COLUMNS scales of each group. */
INLINE Doubles scaled_instruction(const Row *row, const int64_t *places, const double *left, const double *right,
                                  int part, Doubles c, const ScaledSum *sum, const NarrowFormat *narrow,
                                  int64_t toward_zero) {
    const Doubles zero = {0};
    Doubles top = larger_doubles(scales_of(c, sum->least_sum), zero + sum->least), total = zero, plain = c;
    for (int pass = 0; pass < 2; pass++) { /* the first pass finds the largest power of two */
        const int64_t *k = places + 1 + 2 * places[0];
        const Doubles quantum = top * sum->quantum, shifter = quantum * 0x1p52;
        if (pass) total = truncated(c, quantum, shifter);
        for (int64_t group = 0; group < places[0]; k += places[1 + group], group++) {
            Doubles one = get(left + group * COLUMNS + part * DOUBLES);
            Doubles other = get(right + group * COLUMNS + part * DOUBLES), factor = one * other, all = zero;
            Doubles power = scales_of(one, sum->least_scale) * scales_of(other, sum->least_scale);
            for (int64_t i = 0; i < places[1 + group]; i++) {
                Doubles term = product(row, k[i], part);
                if (sum->grouped) {
                    all += term;
                    if (!pass) top = larger_doubles(top, (Doubles)((Longs)power & (Longs)(term != 0)));
                } else if (pass) {
                    total += truncated(term * factor, quantum, shifter);
                    plain += term * factor;
                } else {
                    Doubles own = scale_of_product(row, k[i], part, sum->least_left, sum->least_right);
                    top = larger_doubles(top, power * own);
                }
            }
            if (!sum->grouped || !pass) continue;
            total += truncated(all * factor, quantum, shifter);
            plain += all * factor;
        }
    }
    return aligned_result(total + 0.0, plain, narrow, toward_zero);
}

static void scaled_run(const Program *p, const Tables *t, const Row *row, const int64_t *places, double *r,
                       int64_t how) {
    const ScaledSum *sum = p->scaled + how;
    const SumRounding *sums = p->sums + sum->sums;
    double *left = row->scales, *right = left + places[0] * COLUMNS;
    for (int64_t group = 0; group < places[0]; group++) {
        load_table(p, t, row, sum->left_table, places[1 + places[0] + group], left + group * COLUMNS);
        load_table(p, t, row, sum->right_table, places[1 + places[0] + group], right + group * COLUMNS);
    }
    for (int part = 0; part < PARTS; part++)
        put(r + part * DOUBLES, scaled_instruction(row, places, left, right, part, get(r + part * DOUBLES), sum,
                                                   &sums->format, sums->mode));
}

/* Runs one step with the fields what, to, x, y, how. */
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
    case STEP_SCALED:
        scaled_run(p, t, row, p->places + x, to, step[4]);
        break;
    case STEP_LOAD:
        load_table(p, t, row, x, y, to);
        break;
    default:
        for (int i = 0; i < PARTS; i++) put(to + i * DOUBLES, get(left + i * DOUBLES) * get(right + i * DOUBLES));
    }
}

/* Runs the steps of one row, and stores its results. */
static void run_row(const Program *p, const Tables *t, Row *row) {
    for (int64_t step = 0; step < p->count; step++) do_step(p, t, row, p->code + 5 * step);
    const double *result = row->r + p->result * COLUMNS;
    for (int64_t i = 0; i < row->count; i++) t->out[row->elements[i]] = (float)result[i];
}

/* Computes every row of the columns from start to stop. */
static void run_panel(const Program *p, const Tables *t, int64_t group, int64_t start, int64_t stop, float *panel,
                      double *r, ExactSum *exact, double *scales) {
    const float *b = t->b + t->b_group[group];
    for (int64_t k = 0; k < t->length; k++)
        for (int64_t i = 0; i < COLUMNS; i++)
            panel[k * COLUMNS + i] = start + i < stop ? b[t->b_k[k] + t->b_column[start + i]] : 0;
    for (int64_t m = 0; m < t->rows; m++) {
        Row row = {t->a + t->a_group[group] + t->a_row[m], NULL, panel, t->a_k, r, exact, scales, group, m, start,
                   stop - start, {0}, 0};
        for (int64_t i = start; i < stop; i++)
            row.elements[i - start] = t->out_group[group] + t->out_row[m] + t->out_column[i];
        run_row(p, t, &row);
    }
}

/* Computes the groups from start to stop, each of one row and one column. */
static void run_groups(const Program *p, const Tables *t, int64_t start, int64_t stop, float *panel, double *r,
                       ExactSum *exact, double *scales) {
    float *lefts = panel + t->length * COLUMNS;
    Row row = {NULL, lefts, panel, t->a_k, r, exact, scales, start, 0, start, stop - start, {0}, 0};
    for (int64_t i = 0; i < COLUMNS; i++) {
        int64_t group = start + i < stop ? start + i : start;
        const float *a = t->a + t->a_group[group] + t->a_row[0], *b = t->b + t->b_group[group] + t->b_column[0];
        for (int64_t k = 0; k < t->length; k++) {
            lefts[k * COLUMNS + i] = a[t->a_k[k]];
            panel[k * COLUMNS + i] = b[t->b_k[k]];
        }
        row.elements[i] = t->out_group[group] + t->out_row[0] + t->out_column[0];
    }
    run_row(p, t, &row);
}

int KERNEL(run_steps)(const float *a, const int64_t *a_group, const int64_t *a_row, const int64_t *a_k, const float *b,
                      const int64_t *b_group, const int64_t *b_column, const int64_t *b_k, float *out,
                      const int64_t *out_group, const int64_t *out_row, const int64_t *out_column, int64_t groups,
                      int64_t rows, int64_t length, int64_t columns, const int64_t *code, int64_t count,
                      const int64_t *places, const SumRounding *sums, const AlignedSum *aligned,
                      const int64_t *aligned_sums, const LateSum *late, const ScaledSum *scaled, int64_t most_groups,
                      const float *values, const int64_t *tables, const RandomStream *stream, int64_t registers,
                      int64_t exact_sums, int64_t answer, int threads) {
    const Tables t = {a,       b,         out,     a_group,    a_row,  a_k,  b_group, b_column,
                      b_k,     out_group, out_row, out_column, groups, rows, length,  columns};
    const Program p = {code,       places, aligned_sums,            tables, count,   registers, exact_sums,
                       answer,     2 + groups + rows + columns,     sums,   aligned, late,      scaled,     values, stream};
    const int dots = rows == 1 && columns == 1;
    int64_t panels = ((dots ? groups : columns) + COLUMNS - 1) / COLUMNS, tasks = dots ? panels : groups * panels;
    size_t packed = sizeof(float) * COLUMNS * (size_t)(length ? length : 1);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        const uint64_t environment = float_environment_enter();
        float *panel = malloc(dots ? 2 * packed : packed);
        double *r = malloc(sizeof(double) * COLUMNS * (size_t)registers);
        ExactSum *exact = malloc(sizeof(ExactSum) * COLUMNS * (size_t)(exact_sums ? exact_sums : 1));
        double *scales = malloc(sizeof(double) * 2 * COLUMNS * (size_t)(most_groups ? most_groups : 1));
        failed = !panel || !r || !exact || !scales;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < tasks; task++) {
            if (failed) continue;
            int64_t start = task % panels * COLUMNS, end = dots ? groups : columns;
            int64_t stop = start + COLUMNS < end ? start + COLUMNS : end;
            if (dots)
                run_groups(&p, &t, start, stop, panel, r, exact, scales);
            else
                run_panel(&p, &t, task / panels, start, stop, panel, r, exact, scales);
        }
        free(panel);
        free(r);
        free(exact);
        free(scales);
        float_environment_leave(environment);
    }
    return failed ? -1 : 0;
}
