/* Shared by the layer kernels: parallel loops, and the sum in its specified order. Images are (images, channels,
 * area = height * width). */
#ifndef MPSIM_LAYERS_H
#define MPSIM_LAYERS_H

#include "common/vector.h"

/* Runs the following statement in every thread, in the kernels' floating-point environment. Below WORTH_THREADS
 * elements a second thread costs more time than it saves. */
#ifndef WORTH_THREADS
#define WORTH_THREADS 32768
#endif
#define PARALLEL(elements)                                                             \
    const int team __attribute__((unused)) = (elements) < WORTH_THREADS ? 1 : threads; \
    _Pragma("omp parallel num_threads(team)") IN_DEFAULT_ENVIRONMENT

/* Runs a parallel loop of independent iterations. */
#define EACH(i, n, elements) \
    PARALLEL(elements) _Pragma("omp for schedule(static)") for (int64_t i = 0; i < (n); i++)

#define SUM_LANES 32
#define SUM_BLOCK 4096

/* A sum in its specified order, of elements that are added piece by piece. Initially {0}. */
typedef struct {
    float lane[SUM_LANES];
    float total; /* of the finished blocks */
    int64_t count;
} Sum;

static inline float halve(const float *from) {
    float lane[SUM_LANES];
    memcpy(lane, from, sizeof lane);
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

/* Sums n <= 32 elements. A lane without an element is +0, and no lane is -0, so adding it changes nothing. */
INLINE float short_sum(const float *x, int64_t n) {
    float lane[SUM_LANES];
    int64_t width = SUM_LANES;
    while (width / 2 >= n) width /= 2;
    for (int64_t j = 0; j < width; j++) lane[j] = j < n ? 0.0f + x[j] : 0.0f;
    for (int64_t half = width / 2; half > 0; half /= 2)
        for (int64_t j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

/* Finishes a block that is full or has no more elements: combines its lanes and adds it to the total. */
static inline void sum_close_block(Sum *sum) {
    float block = halve(sum->lane);
    sum->total = sum->count <= SUM_BLOCK ? block : sum->total + block;
    memset(sum->lane, 0, sizeof sum->lane);
}

static inline float sum_finish(Sum *sum) {
    if (sum->count % SUM_BLOCK || sum->count == 0) sum_close_block(sum);
    return sum->total;
}

/* Terms: x; (x - mean)^2; gy * xhat, xhat = (x - mean) * inverse. */
typedef enum { PLAIN, SQUARES, PRODUCTS } Term;

#define DEFINE_TERM(name, Number)                                                                       \
    INLINE Number name(Term term, Number x, Number gy, Number mean, Number inverse) {            \
        Number deviation = x - mean;                                                                    \
        if (term == SQUARES) return deviation * deviation;                                              \
        if (term == PRODUCTS) return gy * (deviation * inverse);                                        \
        return x;                                                                                       \
    }
DEFINE_TERM(term_of, float)
DEFINE_TERM(terms_of, Floats)

/* Adds the next n terms to the sum. gy is x if the term does not use it. */
INLINE void sum_add_terms(Sum *sum, Term term, const float *x, const float *gy, int64_t n, float mean, float inverse) {
    const Floats zero = {0}, means = zero + mean, inverses = zero + inverse;
    while (n > 0) {
        int64_t left = SUM_BLOCK - sum->count % SUM_BLOCK, size = n < left ? n : left, i = 0;
        int64_t lane = sum->count % SUM_LANES, head = lane ? SUM_LANES - lane : 0;
        for (; i < head && i < size; i++) sum->lane[lane + i] += term_of(term, x[i], gy[i], mean, inverse);
        if (i + SUM_LANES <= size) {
            Floats part[SUM_LANES / WIDTH];
            memcpy(part, sum->lane, sizeof part);
            for (; i + SUM_LANES <= size; i += SUM_LANES)
                for (int p = 0; p < SUM_LANES / WIDTH; p++) {
                    const int64_t at = i + p * WIDTH;
                    part[p] += terms_of(term, vector_load(x + at), vector_load(gy + at), means, inverses);
                }
            memcpy(sum->lane, part, sizeof part);
        }
        for (lane = -i; i < size; i++) sum->lane[lane + i] += term_of(term, x[i], gy[i], mean, inverse);
        sum->count += size;
        if (size == left) sum_close_block(sum);
        x += size;
        gy += size;
        n -= size;
    }
}

/* Lane i of the result is the lane i + n of the vector. */
#define UPPER(lane, n) (((lane) + (n)) % WIDTH)

/* The same sum of n adjacent terms. Lanes stay in registers, and their last halves are added within a vector. */
INLINE float whole_sum(Term term, const float *x, const float *gy, int64_t n, float mean, float inverse) {
    const Floats zero = {0}, means = zero + mean, inverses = zero + inverse;
    float total = 0.0f;
    for (int64_t start = 0; start == 0 || start < n; start += SUM_BLOCK) {
        const int64_t end = minimum(start + SUM_BLOCK, n);
        Floats part[SUM_LANES / WIDTH];
        int64_t i = start;
        UNROLL for (int p = 0; p < SUM_LANES / WIDTH; p++) part[p] = zero;
        for (; i + SUM_LANES <= end; i += SUM_LANES)
            UNROLL for (int p = 0; p < SUM_LANES / WIDTH; p++) {
                const int64_t at = i + p * WIDTH;
                part[p] += terms_of(term, vector_load(x + at), vector_load(gy + at), means, inverses);
            }
        if (i < end) { /* no lane is -0, so adding +0 changes nothing */
            float rest[SUM_LANES] = {0};
            for (int64_t lane = 0; lane < end - i; lane++)
                rest[lane] = term_of(term, x[i + lane], gy[i + lane], mean, inverse);
            UNROLL for (int p = 0; p < SUM_LANES / WIDTH; p++) part[p] += vector_load(rest + p * WIDTH);
        }
        UNROLL for (int half = SUM_LANES / WIDTH / 2; half > 0; half /= 2)
            UNROLL for (int p = 0; p < half; p++) part[p] += part[p + half];
#if WIDTH > 8
        part[0] += SHUFFLE(part[0], part[0], UPPER, 8);
#endif
#if WIDTH > 4
        part[0] += SHUFFLE(part[0], part[0], UPPER, 4);
#endif
        part[0] += SHUFFLE(part[0], part[0], UPPER, 2);
        part[0] += SHUFFLE(part[0], part[0], UPPER, 1);
        total = start == 0 ? part[0][0] : total + part[0][0];
    }
    return total;
}

static inline float vector_sum(const float *x, int64_t n) { return whole_sum(PLAIN, x, x, n, 0.0f, 0.0f); }

#endif
