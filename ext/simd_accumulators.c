/* Sums of products in float32 (fused or not, any chunk) and in narrow formats, on panels of COLUMNS columns.
 *
 * Each chunk of a panel is packed once, panel[k*COLUMNS + column], and used by every row. Sums of a few rows stand in
 * registers while k rises over the chunk; then they are added to the totals, or are the totals in the first chunk. */
#include "accumulators.h"
#include "dispatch.h"
#include "doubles.h"
#include "float_environment.h"

#include <stdlib.h>

#define VECTORS 2
#define ROWS 4 /* of float32 sums that stand in registers together */
#define COLUMNS (VECTORS * WIDTH)

/* x + y rounded once to the narrow format: to odd to float64, then to nearest even (mpsim/kernels/narrow.py). */
INLINE Doubles narrow_sum(Doubles x, Doubles y, const struct narrow_format *narrow) {
    Doubles s = x + y, carried = s - x, error = (x - (s - carried)) + (y - carried);
    Longs bits = (Longs)s, positive = (Longs)(error > 0), inexact = positive | (Longs)(error < 0);
    Longs even = (bits & 1) - 1, one_sign = ~(positive ^ (Longs)(s > 0));
    bits += inexact & even & (-1 - 2 * one_sign); /* outward if the error has the sign of s */
    return round_doubles((Doubles)bits, narrow, 0);
}

/* One chunk of ``rows`` rows (a constant, at most ROWS) in float32; row i starts at a + row[i]. */
INLINE void sum_float(const float *a, const int64_t *row, int rows, const int64_t *a_k, const float *panel,
                      int64_t count, int fused, int first, float *totals) {
    Vector sums[ROWS][VECTORS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = vector_splat(0);
    for (int64_t k = 0; k < count; k++) {
        UNROLL for (int r = 0; r < rows; r++) {
            Vector value = vector_splat(a[row[r] + a_k[k]]);
            UNROLL for (int i = 0; i < VECTORS; i++) {
                Vector column = vector_load(panel + k * COLUMNS + i * WIDTH);
                if (fused)
                    sums[r][i] = vector_fma(value, column, sums[r][i]);
                else
                    sums[r][i] += value * column;
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int i = 0; i < VECTORS; i++) {
            float *total = totals + r * COLUMNS + i * WIDTH;
            if (!first) sums[r][i] += vector_load(total);
            vector_store(total, sums[r][i]);
        }
}

/* One chunk of one row in a narrow format. */
INLINE void sum_narrow(const float *a, const int64_t *a_k, const float *panel, int64_t count,
                       const struct narrow_format *narrow, int first, float *totals) {
    Doubles sums[2 * VECTORS];
    UNROLL for (int i = 0; i < 2 * VECTORS; i++) sums[i] = (Doubles){0};
    for (int64_t k = 0; k < count; k++) {
        double value = a[a_k[k]];
        UNROLL for (int i = 0; i < 2 * VECTORS; i++) {
            Doubles product = value * load_doubles(panel + k * COLUMNS + i * DOUBLES);
            sums[i] = narrow_sum(product, sums[i], narrow);
        }
    }
    UNROLL for (int i = 0; i < 2 * VECTORS; i++) {
        float *total = totals + i * DOUBLES;
        if (!first) sums[i] = narrow_sum(load_doubles(total), sums[i], narrow);
        store_doubles(total, sums[i]);
    }
}

/* The totals of one panel: rows x COLUMNS. */
static void sum_panel(const struct contraction_tables *t, int64_t group, int64_t start, int64_t stop, int kind,
                      int64_t chunk, const struct narrow_format *narrow, float *panel, float *totals) {
    const float *b = t->b + t->b_group[group];
    for (int64_t first = 0; first < t->length; first += chunk) {
        int64_t count = t->length - first < chunk ? t->length - first : chunk;
        for (int64_t k = 0; k < count; k++) {
            for (int64_t p = start; p < stop; p++)
                panel[k * COLUMNS + p - start] = b[t->b_k[first + k] + t->b_column[p]];
            for (int64_t p = stop - start; p < COLUMNS; p++) panel[k * COLUMNS + p] = 0;
        }
        const float *a = t->a + t->a_group[group];
        for (int64_t row = 0; row < t->rows;) {
            const int64_t *a_k = t->a_k + first, *a_row = t->a_row + row;
            float *total = totals + row * COLUMNS;
            int together = kind != SUM_NARROW && t->rows - row >= ROWS ? ROWS : 1, begins = first == 0;
            if (kind == SUM_NARROW)
                sum_narrow(a + *a_row, a_k, panel, count, narrow, begins, total);
            else if (kind == SUM_FUSED && together == ROWS)
                sum_float(a, a_row, ROWS, a_k, panel, count, 1, begins, total);
            else if (kind == SUM_FUSED)
                sum_float(a, a_row, 1, a_k, panel, count, 1, begins, total);
            else if (together == ROWS)
                sum_float(a, a_row, ROWS, a_k, panel, count, 0, begins, total);
            else
                sum_float(a, a_row, 1, a_k, panel, count, 0, begins, total);
            row += together;
        }
    }
}

static void sum_exact(const struct contraction_tables *t, int64_t group, int64_t start, int64_t stop, float *totals) {
    for (int64_t p = start; p < stop; p++) {
        const float *b = t->b + t->b_group[group] + t->b_column[p];
        for (int64_t row = 0; row < t->rows; row++) {
            const float *a = t->a + t->a_group[group] + t->a_row[row];
            totals[row * COLUMNS + p - start] = mpsim_exact_dot(a, t->a_k, b, t->b_k, t->length);
        }
    }
}

int VARIANT_NAME(mpsim_accumulate)(const struct contraction_tables *t, int kind, int64_t chunk,
                                   const struct narrow_format *narrow, int threads) {
    int64_t panels = (t->columns + COLUMNS - 1) / COLUMNS;
    if (chunk > t->length) chunk = t->length;
    int failed = 0;
#ifndef MPSIM_NO_OPENMP
#pragma omp parallel num_threads(threads) reduction(| : failed)
#endif
    {
        const uint64_t environment = float_environment_enter();
        float *totals = malloc(sizeof(float) * COLUMNS * (size_t)(t->rows ? t->rows : 1));
        float *panel = malloc(sizeof(float) * COLUMNS * (size_t)chunk);
        failed = !totals || !panel;
#ifndef MPSIM_NO_OPENMP
#pragma omp for schedule(dynamic)
#endif
        for (int64_t task = 0; task < t->groups * panels; task++) {
            if (failed) continue;
            int64_t group = task / panels, start = task % panels * COLUMNS;
            int64_t stop = start + COLUMNS < t->columns ? start + COLUMNS : t->columns;
            if (kind == SUM_EXACT)
                sum_exact(t, group, start, stop, totals);
            else
                sum_panel(t, group, start, stop, kind, chunk, narrow, panel, totals);
            for (int64_t row = 0; row < t->rows; row++) {
                float *out = t->out + t->out_group[group] + t->out_row[row];
                for (int64_t p = start; p < stop; p++) out[t->out_column[p]] = totals[row * COLUMNS + p - start];
            }
        }
        free(totals);
        free(panel);
        float_environment_leave(environment);
    }
    return failed ? -1 : 0;
}
