/* The contractions of the variant that runs: see contraction.h. */
#include "contraction.h"

/* Below so many multiplications a second thread costs more than it saves. */
#define WORTH_THREADS (1 << 20)

static int team(double multiplications, int threads) { return multiplications < WORTH_THREADS ? 1 : threads; }

static double multiplications_of(const Convolution *shape) {
    return (double)shape->images * shape->outputs * shape->out_height * shape->out_width *
           (shape->channels / shape->groups) * shape->kernel_height * shape->kernel_width;
}

int contraction_matmul(const float *a, const float *b, const float *bias, float *c, long rows, long columns, long depth,
                       int transpose_a, int transpose_b, int threads) {
    return DISPATCH(contraction_matmul)(a, b, bias, c, rows, columns, depth, transpose_a, transpose_b,
                                        team((double)rows * columns * depth, threads));
}

int contraction_forward(const Convolution *shape, const float *x, const float *w, const float *bias, float *y,
                        const Epilogue *epilogue, int threads) {
    return DISPATCH(contraction_forward)(shape, x, w, bias, y, epilogue, team(multiplications_of(shape), threads));
}

int contraction_input_gradient(const Convolution *shape, const float *gy, const float *w, float *gx,
                               const Epilogue *epilogue, int threads) {
    return DISPATCH(contraction_input_gradient)(shape, gy, w, gx, epilogue,
                                                team(multiplications_of(shape), threads));
}

int contraction_weight_gradient(const Convolution *shape, const float *x, const float *gy, float *gw, int threads) {
    return DISPATCH(contraction_weight_gradient)(shape, x, gy, gw, team(multiplications_of(shape), threads));
}
