/* The functions of one argument: one loop for each, so that each becomes vector code. */
#include "layers/functions.h"
#include "layers/layers.h"

#define LOOP(expression)                                                                      \
    if (function == number++) {                                                               \
        PARALLEL(n) _Pragma("omp for simd schedule(static)") for (int64_t i = 0; i < n; i++) { \
            const double x = input[i];                                                           \
            out[i] = (float)(expression);                                                     \
        }                                                                                     \
        return;                                                                               \
    }

void KERNEL(unary)(const float *input, int64_t function, float low, float high, float *out, int64_t n, int threads) {
    const double a = low, b = high;
    int64_t number = 0;
    FUNCTIONS(LOOP)
    (void)a;
    (void)b;
}
