/* Joins, splits and reorders arrays by copying runs. */
#include "layers/layers.h"

void KERNEL(move)(const float *x, const Moving *moving, float *y, int threads) {
    const int64_t *size = moving->size, *from = moving->from_step, *to = moving->to_step;
    const int64_t before = moving->before, run = moving->run, after = moving->after;
    EACH(outer, size[0] * size[1], size[0] * size[1] * size[2] * (before + run + after)) {
        const int64_t i = outer / size[1], j = outer % size[1];
        for (int64_t k = 0; k < size[2]; k++) {
            const float *source = x + moving->from_start + i * from[0] + j * from[1] + k * from[2];
            float *target = y + moving->to_start + i * to[0] + j * to[1] + k * to[2];
            memset(target - before, 0, before * sizeof *target);
            memcpy(target, source, run * sizeof *target);
            memset(target + run, 0, after * sizeof *target);
        }
    }
}
