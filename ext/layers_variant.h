/* What the simd_layers*.c files share: names by variant, vectors, and the sum in its written order. */
#ifndef MPSIM_LAYERS_VARIANT_H
#define MPSIM_LAYERS_VARIANT_H

#include "float_environment.h"
#include "layers.h"
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define LAYER(name) VARIANT_NAME(mpsim_layer_##name)

#define X(name, result, parameters) result LAYER(name) parameters;
LAYER_KERNELS(X)
#undef X

/* Every thread runs the statement that follows, in the float environment that the kernels are defined in. Below
 * WORTH_THREADS elements a second thread costs more than it saves. */
#define WORTH_THREADS 32768
#define PARALLEL(elements)                                                                \
    const int team __attribute__((unused)) = (elements) < WORTH_THREADS ? 1 : threads; \
    _Pragma("omp parallel num_threads(team)")                                              \
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

/* A sum in its written order, of elements that come piece by piece. Starts as {0}. */
typedef struct {
    float lane[SUM_LANES];
    float total; /* of the closed blocks */
    int64_t count;
} Sum;

static inline float halve(const float *from) {
    float lane[SUM_LANES];
    memcpy(lane, from, sizeof lane);
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

/* The sum of n <= 32 elements. A lane without one is +0, and no lane is -0: adding it changes nothing. */
ALWAYS_INLINE float short_sum(const float *x, int64_t n) {
    float lane[SUM_LANES];
    int64_t width = SUM_LANES;
    while (width / 2 >= n) width /= 2;
    for (int64_t j = 0; j < width; j++) lane[j] = j < n ? 0.0f + x[j] : 0.0f;
    for (int64_t half = width / 2; half > 0; half /= 2)
        for (int64_t j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

/* The block is full, or there are no more elements: its lanes combine, and it joins the total. */
static inline void sum_close_block(Sum *sum) {
    float block = halve(sum->lane);
    sum->total = sum->count <= SUM_BLOCK ? block : sum->total + block;
    memset(sum->lane, 0, sizeof sum->lane);
}

static inline float sum_finish(Sum *sum) {
    if (sum->count % SUM_BLOCK || sum->count == 0) sum_close_block(sum);
    return sum->total;
}

/* What is summed: x; (x - mean)^2; gy * xhat, xhat = (x - mean) * inverse. */
typedef enum { PLAIN, SQUARES, PRODUCTS } Term;

#define DEFINE_TERM(name, Number)                                                                       \
    ALWAYS_INLINE Number name(Term term, Number x, Number gy, Number mean, Number inverse) {            \
        Number deviation = x - mean;                                                                    \
        if (term == SQUARES) return deviation * deviation;                                              \
        if (term == PRODUCTS) return gy * (deviation * inverse);                                        \
        return x;                                                                                       \
    }
DEFINE_TERM(term_of, float)
DEFINE_TERM(terms_of, Floats)

ALWAYS_INLINE Floats floats_at(const float *p) { return *(const UnalignedFloats *)p; }

/* The next n terms of the sum; gy is x where the term has none. */
ALWAYS_INLINE void sum_add_terms(Sum *sum, Term term, const float *x, const float *gy, int64_t n, float mean,
                                 float inverse) {
    const Floats zero = {0}, means = zero + mean, inverses = zero + inverse;
    while (n > 0) {
        int64_t room = SUM_BLOCK - sum->count % SUM_BLOCK, size = n < room ? n : room, i = 0;
        int64_t lane = sum->count % SUM_LANES, head = lane ? SUM_LANES - lane : 0;
        for (; i < head && i < size; i++) sum->lane[lane + i] += term_of(term, x[i], gy[i], mean, inverse);
        if (i + SUM_LANES <= size) {
            Floats part[SUM_LANES / WIDTH];
            memcpy(part, sum->lane, sizeof part);
            for (; i + SUM_LANES <= size; i += SUM_LANES)
                for (int p = 0; p < SUM_LANES / WIDTH; p++) {
                    const int64_t at = i + p * WIDTH;
                    part[p] += terms_of(term, floats_at(x + at), floats_at(gy + at), means, inverses);
                }
            memcpy(sum->lane, part, sizeof part);
        }
        for (lane = -i; i < size; i++) sum->lane[lane + i] += term_of(term, x[i], gy[i], mean, inverse);
        sum->count += size;
        if (size == room) sum_close_block(sum);
        x += size;
        gy += size;
        n -= size;
    }
}

static inline float vector_sum(const float *x, int64_t n) {
    Sum sum = {{0}, 0, 0};
    sum_add_terms(&sum, PLAIN, x, x, n, 0.0f, 0.0f);
    return sum_finish(&sum);
}

#endif
