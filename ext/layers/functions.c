/* The functions of one argument: one loop for each, so that each becomes vector code. */
#include "layers/estimates.h"
#include "layers/layers.h"

#define LOOP(expression)                                                                      \
    if (function == number++) {                                                               \
        PARALLEL(n) _Pragma("omp for simd schedule(static)") for (int64_t i = 0; i < n; i++) { \
            const double x = input[i];                                                           \
            out[i] = (float)(expression);                                                     \
        }                                                                                     \
        return;                                                                               \
    }

#define ESTIMATED_LOOP(ends, limit, expression)                                                     \
    if (function == number++) {                                                                     \
        EACH(block, (n + ESTIMATED - 1) / ESTIMATED, n) {                                           \
            const int64_t begin = block * ESTIMATED, end = minimum(begin + ESTIMATED, n);           \
            ESTIMATED_BLOCK(input[i], ends, limit, expression, out, begin, end);                    \
        }                                                                                           \
        return;                                                                                     \
    }

void KERNEL(unary)(const float *input, int64_t function, float low, float high, float *out, int64_t n, int threads) {
    const double a = low, b = high;
    int64_t number = 0;
    FUNCTIONS(LOOP, ESTIMATED_LOOP)
    (void)a;
    (void)b;
}
