/* Joins, splits and reorders arrays by copying runs, and by index. */
#include "layers/layers.h"
#include "layers/transpose.h"

/* Copies a run. A call of memcpy costs more than a few vectors. */
INLINE void copy_run(float *target, const float *source, int64_t run) {
    if (run == 1) *target = *source;
    else if (run > 8 * WIDTH || run % WIDTH) memcpy(target, source, run * sizeof *target);
    else
        for (int64_t i = 0; i < run; i += WIDTH) vector_store(target + i, vector_load(source + i));
}

/* Columns of a matrix that one thread transposes at a time. */
enum { STRIP = 64 };

/* Copies elements whose last two axes change places: each of size[0] matrices is transposed. */
static void transpose_each(const float *x, const Moving *moving, float *y, int threads) {
    const int64_t rows = moving->size[2], columns = moving->size[1], strips = (columns + STRIP - 1) / STRIP;
    EACH(outer, moving->size[0] * strips, moving->size[0] * columns * rows) {
        const int64_t i = outer / strips, first = outer % strips * STRIP;
        transpose(y + i * moving->to_step[0] + first * moving->to_step[1], moving->to_step[1],
                  x + i * moving->from_step[0] + first, moving->from_step[2], rows, minimum(STRIP, columns - first));
    }
}

void KERNEL(move)(const float *x, const Moving *moving, float *y, int threads) {
    const int64_t *size = moving->size, *from = moving->from_step, *to = moving->to_step;
    const int64_t before = moving->before, run = moving->run, after = moving->after;
    x += moving->from_start;
    y += moving->to_start;
    if (before == 0 && run == 1 && after == 0 && from[1] == 1 && to[2] == 1) {
        transpose_each(x, moving, y, threads);
        return;
    }
    EACH(outer, size[0] * size[1], size[0] * size[1] * size[2] * (before + run + after)) {
        const int64_t i = outer / size[1], j = outer % size[1];
        for (int64_t k = 0; k < size[2]; k++) {
            const float *source = x + i * from[0] + j * from[1] + k * from[2];
            float *target = y + i * to[0] + j * to[1] + k * to[2];
            if (before) memset(target - before, 0, before * sizeof *target);
            copy_run(target, source, run);
            if (after) memset(target + run, 0, after * sizeof *target);
        }
    }
}

/* x (outer, size, run) -> y (outer, count, run) */
void KERNEL(take)(const float *x, const int64_t *index, float *y, int64_t outer, int64_t size, int64_t count,
                  int64_t run, int threads) {
    if (run == 1) {
        EACH(p, outer, outer * count)
            for (int64_t j = 0; j < count; j++) y[p * count + j] = index[j] < 0 ? 0.0f : x[p * size + index[j]];
        return;
    }
    EACH(row, outer * count, outer * count * run) {
        const int64_t p = row / count, from = index[row % count];
        if (from < 0) memset(y + row * run, 0, run * sizeof *y);
        else copy_run(y + row * run, x + (p * size + from) * run, run);
    }
}

/* gy (outer, count, run) -> gx (outer, size, run) */
void KERNEL(take_gradient)(const float *gy, const int64_t *index, float *gx, int64_t outer, int64_t size,
                           int64_t count, int64_t run, int threads) {
    EACH(p, outer, outer * (count + size) * run) {
        memset(gx + p * size * run, 0, size * run * sizeof *gx);
        for (int64_t j = 0; j < count; j++) {
            if (index[j] < 0) continue;
            const float *source = gy + (p * count + j) * run;
            float *target = gx + (p * size + index[j]) * run;
            for (int64_t q = 0; q < run; q++) target[q] += source[q];
        }
    }
}
