/* Sums products in float32 (fused or not, any chunk) and in narrow formats, on panels of COLUMNS columns.
 *
 * Each chunk of a panel is packed once, as panel[k*COLUMNS + column], and used by every row. Sums of a few rows stay in
 * registers while k rises over the chunk. Then they are added to the totals. In the first chunk they become the
 * totals. */
#include "orders/sums.h"

#include <math.h>
#include <stdlib.h>

#define VECTORS 2
#define ROWS 4 /* rows of float32 sums that are in registers together */
#define COLUMNS (VECTORS * WIDTH)

/* Sums one chunk of ``rows`` rows (a constant, at most ROWS) in float32. Row i starts at a + row[i]. */
INLINE void sum_float(const float *a, const int64_t *row, int rows, const int64_t *a_k, const float *panel,
                      int64_t count, int fused, int first, float *totals) {
    Floats sums[ROWS][VECTORS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int i = 0; i < VECTORS; i++) sums[r][i] = vector_splat(0);
    for (int64_t k = 0; k < count; k++) {
        UNROLL for (int r = 0; r < rows; r++) {
            Floats value = vector_splat(a[row[r] + a_k[k]]);
            UNROLL for (int i = 0; i < VECTORS; i++) {
                Floats column = vector_load(panel + k * COLUMNS + i * WIDTH);
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

/* Sums one chunk of one row in a narrow format. */
INLINE void sum_narrow(const float *a, const int64_t *a_k, const float *panel, int64_t count,
                       const NarrowFormat *narrow, int first, float *totals) {
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

/* Computes the totals of one panel: rows x COLUMNS. */
static void sum_panel(const Tables *t, int64_t group, int64_t start, int64_t stop, int64_t kind, int64_t chunk,
                      const NarrowFormat *narrow, float *panel, float *totals) {
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

/* -- the exact sum ----------------------------------------------------------------------------------------------- */

/* A sum is stored in digits of weight 2**(32*i - BASE). Each is an int64 to which a term adds a 32-bit piece of a
 * product, so no digit overflows in 2**30 terms. Every product of float32 numbers is a multiple of 2**-BASE below
 * 2**256. */
enum { BASE = 298, LEAST_EXPONENT = 1023 + 47 - BASE };
#define LOW INT64_C(0xFFFFFFFF)

static inline void add_product(int64_t *limbs, int64_t bits) {
    int64_t exponent = bits >> 52 & 2047;
    if (exponent == 0) return; /* a zero: no product is subnormal in float64 */
    int64_t integer = ((bits & ((INT64_C(1) << 52) - 1)) | INT64_C(1) << 52) >> 5; /* a product has 48 bits */
    int64_t shift = exponent - LEAST_EXPONENT, sign = bits >> 63;
    if (shift < 0) { /* the bits below 2**-BASE are zeros */
        integer >>= -shift;
        shift = 0;
    }
    int64_t *limb = limbs + (shift >> 5);
    int64_t lower = (integer & LOW) << (shift & 31), upper = (integer >> 32) << (shift & 31);
    int64_t middle = (lower >> 32) + (upper & LOW), top = upper >> 32;
    limb[0] += ((lower & LOW) ^ sign) - sign;
    limb[1] += (middle ^ sign) - sign;
    limb[2] += (top ^ sign) - sign;
}

/* Carries until every digit is in 0 .. 2**32 - 1, except the highest, which keeps the sign. */
static void carry(int64_t *limbs) {
    for (int i = 0; i < LIMBS - 1; i++) {
        limbs[i + 1] += limbs[i] >> 32;
        limbs[i] &= LOW;
    }
}

/* Rounds to odd to 53 bits. */
static double round_limbs(int64_t *limbs) {
    carry(limbs);
    int negative = limbs[LIMBS - 1] < 0;
    if (negative) {
        for (int i = 0; i < LIMBS; i++) limbs[i] = -limbs[i];
        carry(limbs);
    }
    int top = LIMBS - 1;
    while (top > 1 && limbs[top] == 0) top--;
    uint64_t high = (uint64_t)limbs[top] << 32 | (uint64_t)limbs[top - 1], sticky = 0;
    for (int i = 0; i < top - 1; i++) sticky |= limbs[i] != 0;
    if (high >> 53) {
        sticky |= (high & 2047) != 0;
        high = (high & ~UINT64_C(2047)) | sticky << 11;
    } else {
        high |= sticky;
    }
    double magnitude = ldexp((double)high, 32 * (top - 1) - BASE);
    return negative ? -magnitude : magnitude;
}

void exact_add(ExactSum *sum, double x) {
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits >> 52 & 2047) == 2047)
        sum->special += x; /* inf - inf = NaN */
    else
        add_product(sum->limbs, bits);
}

/* Rounds a number rounded to odd to float32: correct, as 53 >= 24 + 2 (mpsim/kernels/contractions/narrow.py). */
float exact_total(ExactSum *sum) { return (float)(sum->special == 0 ? round_limbs(sum->limbs) : sum->special); }

double exact_to_odd(ExactSum *sum) {
    return sum->special != 0 ? sum->special : sum->others ? round_limbs(sum->limbs) : -0.0;
}

float exact_dot(const float *a, const int64_t *a_k, const float *b, const int64_t *b_k, int64_t length) {
    ExactSum sum = {{0}, 0, 0};
    for (int64_t k = 0; k < length; k++) exact_add(&sum, (double)a[a_k[k]] * (double)b[b_k[k]]);
    return exact_total(&sum);
}

static void sum_exact(const Tables *t, int64_t group, int64_t start, int64_t stop, float *totals) {
    for (int64_t p = start; p < stop; p++) {
        const float *b = t->b + t->b_group[group] + t->b_column[p];
        for (int64_t row = 0; row < t->rows; row++) {
            const float *a = t->a + t->a_group[group] + t->a_row[row];
            totals[row * COLUMNS + p - start] = exact_dot(a, t->a_k, b, t->b_k, t->length);
        }
    }
}

/* -- every panel ------------------------------------------------------------------------------------------------- */

static int accumulate_panels(const Tables *t, int64_t kind, int64_t chunk, const NarrowFormat *narrow, int threads) {
    int64_t panels = (t->columns + COLUMNS - 1) / COLUMNS;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        const uint64_t environment = float_environment_enter();
        float *totals = malloc(sizeof(float) * COLUMNS * (size_t)(t->rows ? t->rows : 1));
        float *panel = malloc(sizeof(float) * COLUMNS * (size_t)chunk);
        failed = !totals || !panel;
#pragma omp for schedule(dynamic)
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

int KERNEL(accumulate)(const float *a, const int64_t *a_group, const int64_t *a_row, const int64_t *a_k, const float *b,
                       const int64_t *b_group, const int64_t *b_column, const int64_t *b_k, float *out,
                       const int64_t *out_group, const int64_t *out_row, const int64_t *out_column, int64_t groups,
                       int64_t rows, int64_t length, int64_t columns, int64_t kind, int64_t chunk,
                       const NarrowFormat *narrow, const AlignedSum *aligned, int threads) {
    const Tables tables = {a,       b,         out,     a_group,    a_row,  a_k,    b_group, b_column,
                           b_k,     out_group, out_row, out_column, groups, rows,   length,  columns};
    if (kind == SUM_ALIGNED) return accumulate_aligned(&tables, chunk, narrow, aligned, threads);
    return accumulate_panels(&tables, kind, chunk, narrow, threads);
}
