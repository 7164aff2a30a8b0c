/* What the simd_layers*.c files share: names by variant, vectors, and the sum in its written order. */
#ifndef MPSIM_LAYERS_VARIANT_H
#define MPSIM_LAYERS_VARIANT_H

#include "float_environment.h"
#include "layers.h"
#include <string.h>

#define LAYER(name) VARIANT_NAME(mpsim_layer_##name)

#define X(name, result, parameters) result LAYER(name) parameters;
LAYER_KERNELS(X)
#undef X

/* Every thread runs the statement that follows, in the float environment that the kernels are defined in. Below
 * WORTH_THREADS elements a second thread costs more than it saves. */
#define WORTH_THREADS 32768
#define PARALLEL(elements)                                     \
    const int team = (elements) < WORTH_THREADS ? 1 : threads; \
    _Pragma("omp parallel num_threads(team)")                  \
    for (uint64_t once = 1, before = float_environment_enter(); once; once = 0, float_environment_leave(before))

/* A parallel loop of independent steps. */
#define EACH(i, n, elements) \
    PARALLEL(elements) _Pragma("omp for schedule(static)") for (int64_t i = 0; i < (n); i++)

#if defined(VARIANT_avx512)
#define WIDTH 16
#elif defined(VARIANT_avx2)
#define WIDTH 8
#else
#define WIDTH 4
#endif
#define SUM_LANES 32
#define SUM_BLOCK 4096

typedef float Floats __attribute__((vector_size(4 * WIDTH)));
typedef float UnalignedFloats __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

/* The sum of n <= 4096 elements: 32 lanes, then halving. */
static inline float block_sum(const float *v, int64_t n) {
    Floats part[SUM_LANES / WIDTH];
    float lane[SUM_LANES] = {0};
    int64_t i = 0;
    memset(part, 0, sizeof part);
    for (; i + SUM_LANES <= n; i += SUM_LANES)
        for (int p = 0; p < SUM_LANES / WIDTH; p++) part[p] += *(const UnalignedFloats *)(v + i + p * WIDTH);
    memcpy(lane, part, sizeof lane);
    for (int j = 0; i + j < n; j++) lane[j] += v[i + j];
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

/* The sum of n contiguous elements: blocks in rising order, the first is the total. */
static inline float vector_sum(const float *v, int64_t n) {
    float total = block_sum(v, n < SUM_BLOCK ? n : SUM_BLOCK);
    for (int64_t i = SUM_BLOCK; i < n; i += SUM_BLOCK) total += block_sum(v + i, n - i < SUM_BLOCK ? n - i : SUM_BLOCK);
    return total;
}

#endif
