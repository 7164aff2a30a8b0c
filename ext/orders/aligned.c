/* Sums as in tensor cores: c and the products of one instruction are truncated to the quantum of the largest exponent
 * and added exactly (kind "aligned" of mpsim/products/accumulators.py), on panels of COLUMNS columns.
 *
 * All steps are exact in float64. |p| + C - C with C = 2**52 quanta is |p| rounded to the nearest multiple of the
 * quantum. If that rounded up, one quantum is subtracted. The scale of a number is 2**exponent, so the scale of a
 * product is a product of scales, and the largest exponent is a maximum of numbers. Zeros have the scale 0. */
#include "orders/sums.h"

#include <stdlib.h>

#define VECTORS 2
#define COLUMNS (VECTORS * DOUBLES)
#define BLOCK 64 /* the least number of k packed together */

/* A packed operand: its values and scales, for the k of a block. */
typedef struct {
    double *values, *scales;
} Operands;

/* Masks a float32 operand to the significand bits of its format. */
static inline void pack(float x, double least, int64_t mask, double *value, double *scale) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= (int32_t)mask;
    float kept;
    memcpy(&kept, &bits, sizeof kept);
    *value = x == x ? kept : x;
    *scale = scale_of(*value, least);
}

/* Returns c after one instruction of ``count`` terms. */
INLINE void instruction(Doubles *c, const double *a, const double *a_scale, const double *b, const double *b_scale,
                        int64_t count, const NarrowFormat *narrow, const AlignedSum *sum) {
    Doubles top[VECTORS], total[VECTORS], plain[VECTORS], quantum[VECTORS], shifter[VECTORS], column;
    UNROLL for (int i = 0; i < VECTORS; i++)
        top[i] = larger_doubles(scales_of(c[i], sum->least_sum), (Doubles){0} + sum->least_scale);
    for (int64_t k = 0; k < count; k++)
        UNROLL for (int i = 0; i < VECTORS; i++) {
            memcpy(&column, b_scale + k * COLUMNS + i * DOUBLES, sizeof column);
            top[i] = larger_doubles(top[i], a_scale[k] * column);
        }
    UNROLL for (int i = 0; i < VECTORS; i++) {
        quantum[i] = top[i] * sum->quantum;
        shifter[i] = quantum[i] * 0x1p52;
        total[i] = truncated(c[i], quantum[i], shifter[i]) + 0.0;
        plain[i] = c[i];
    }
    for (int64_t k = 0; k < count; k++)
        UNROLL for (int i = 0; i < VECTORS; i++) {
            memcpy(&column, b + k * COLUMNS + i * DOUBLES, sizeof column);
            Doubles product = a[k] * column;
            total[i] += truncated(product, quantum[i], shifter[i]);
            plain[i] += product; /* too short to overflow: infinite or NaN if a term is */
        }
    UNROLL for (int i = 0; i < VECTORS; i++) c[i] = aligned_result(total[i], plain[i], narrow, sum->toward_zero);
}

/* Runs the instructions of one block of k for every row. sums: the rows' c. */
static void sum_block(const Tables *t, int64_t group, int64_t start, int64_t stop, int64_t first, int64_t count,
                      const NarrowFormat *narrow, const AlignedSum *sum, Operands panel, Operands row, double *sums) {
    const float *a = t->a + t->a_group[group], *b = t->b + t->b_group[group];
    for (int64_t k = 0; k < count; k++)
        for (int64_t p = start; p < start + COLUMNS; p++) {
            int64_t place = k * COLUMNS + p - start;
            float value = p < stop ? b[t->b_k[first + k] + t->b_column[p]] : 0;
            pack(value, sum->least_right, sum->mask_right, panel.values + place, panel.scales + place);
        }
    for (int64_t r = 0; r < t->rows; r++) {
        Doubles c[VECTORS];
        for (int64_t k = 0; k < count; k++)
            pack(a[t->a_row[r] + t->a_k[first + k]], sum->least_left, sum->mask_left, row.values + k,
                 row.scales + k);
        memcpy(c, sums + r * COLUMNS, sizeof c);
        for (int64_t k = 0; k < count; k += sum->terms) {
            int64_t terms = count - k < sum->terms ? count - k : sum->terms;
            instruction(c, row.values + k, row.scales + k, panel.values + k * COLUMNS, panel.scales + k * COLUMNS,
                        terms, narrow, sum);
        }
        memcpy(sums + r * COLUMNS, c, sizeof c);
    }
}

/* Computes the totals of one panel: rows x COLUMNS float32 numbers, stored as doubles. */
static void sum_panel(const Tables *t, int64_t group, int64_t start, int64_t stop, int64_t chunk, int64_t block,
                      const NarrowFormat *narrow, const AlignedSum *sum, Operands panel, Operands row, double *sums,
                      double *totals) {
    int64_t outputs = t->rows * COLUMNS;
    for (int64_t begin = 0; begin < t->length; begin += chunk) {
        int64_t end = t->length - begin < chunk ? t->length : begin + chunk;
        memset(sums, 0, sizeof(double) * (size_t)outputs);
        for (int64_t first = begin; first < end; first += block)
            sum_block(t, group, start, stop, first, end - first < block ? end - first : block, narrow, sum, panel, row,
                      sums);
        for (int64_t i = 0; i < outputs; i++)
            totals[i] = begin == 0 ? (float)sums[i] : (float)totals[i] + (float)sums[i];
    }
}

int accumulate_aligned(const Tables *t, int64_t chunk, const NarrowFormat *narrow, const AlignedSum *sum, int threads) {
    int done = accumulate_aligned_floats(t, chunk, narrow, sum, threads);
    if (done <= 0) return done;
    int64_t panels = (t->columns + COLUMNS - 1) / COLUMNS;
    int64_t block = sum->terms < BLOCK ? BLOCK / sum->terms * sum->terms : sum->terms;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        const uint64_t environment = float_environment_enter();
        size_t outputs = (size_t)t->rows * COLUMNS, packed = (size_t)block * COLUMNS;
        double *memory = malloc(sizeof(double) * (2 * outputs + 2 * packed + 2 * (size_t)block));
        failed = !memory;
        Operands panel = {memory, memory + packed}, row = {memory + 2 * packed, memory + 2 * packed + block};
        double *sums = memory + 2 * packed + 2 * block, *totals = sums + outputs;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < t->groups * panels; task++) {
            if (failed) continue;
            int64_t group = task / panels, start = task % panels * COLUMNS;
            int64_t stop = start + COLUMNS < t->columns ? start + COLUMNS : t->columns;
            sum_panel(t, group, start, stop, chunk, block, narrow, sum, panel, row, sums, totals);
            for (int64_t r = 0; r < t->rows; r++) {
                float *out = t->out + t->out_group[group] + t->out_row[r];
                for (int64_t p = start; p < stop; p++) out[t->out_column[p]] = (float)totals[r * COLUMNS + p - start];
            }
        }
        free(memory);
        float_environment_leave(environment);
    }
    return failed ? -1 : 0;
}
