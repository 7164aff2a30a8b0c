/* The contractions of the variant that runs: see contraction.h. */
#include "contraction.h"

int contraction_matmul(const float *a, const float *b, const float *bias, float *c, long rows, long columns, long depth,
                       int transpose_a, int transpose_b, int threads) {
    return DISPATCH(contraction_matmul)(a, b, bias, c, rows, columns, depth, transpose_a, transpose_b, threads);
}

int contraction_forward(const Convolution *shape, const float *x, const float *w, const float *bias, float *y, int threads) {
    return DISPATCH(contraction_forward)(shape, x, w, bias, y, threads);
}

int contraction_input_gradient(const Convolution *shape, const float *gy, const float *w, float *gx, int threads) {
    return DISPATCH(contraction_input_gradient)(shape, gy, w, gx, threads);
}

int contraction_weight_gradient(const Convolution *shape, const float *x, const float *gy, float *gw, int threads) {
    return DISPATCH(contraction_weight_gradient)(shape, x, gy, gw, threads);
}
