/* Joining, splitting and reordering: nothing but copies of runs. */
#include "layers_variant.h"

void LAYER(move)(const float *x, Moving moving, float *y, int threads) {
    const int64_t *size = moving.size, *from = moving.from, *to = moving.to;
    const int64_t whole = moving.before + moving.run + moving.after;
    EACH(outer, size[0] * size[1], size[0] * size[1] * size[2] * whole) {
        const int64_t i = outer / size[1], j = outer % size[1];
        for (int64_t k = 0; k < size[2]; k++) {
            float *run = y + i * to[0] + j * to[1] + k * to[2];
            memset(run - moving.before, 0, moving.before * sizeof *run);
            memcpy(run, x + i * from[0] + j * from[1] + k * from[2], moving.run * sizeof *run);
            memset(run + moving.run, 0, moving.after * sizeof *run);
        }
    }
}
