/* The layer kernels: elementwise, sums, batch norm, pooling, loss. Orders: mpsim/kernels/contract.py.
 *
 * Arrays are float32 and contiguous; images are (count, channels, area = height * width). The
 * outputs of the elementwise kernels and of batch norm may be an input. Kernels that return
 * int: -1 when memory ran out, else 0. LAYER_KERNELS is the one list of what every variant defines. */
#ifndef MPSIM_LAYERS_H
#define MPSIM_LAYERS_H

#include "dispatch.h"
#include "rounding.h"
#include <stdint.h>

/* A pooling layer: planes = images * channels; input height, width; output rows, columns; the window. */
typedef struct {
    int64_t planes, height, width, rows, columns;
    int64_t kernel[2], stride[2], padding[2];
} Pooling;

/* An image batch as (count, channels, area). */
typedef struct {
    int64_t count, channels, area;
} Batch;

/* Copies of `run` neighbours: run (i, j, k) goes from i * from[0] + j * from[1] + k * from[2] to the place by `to`.
 * It has `before` zeros in front and `after` behind. */
typedef struct {
    int64_t size[3], from[3], to[3];
    int64_t run, before, after;
} Moving;

/* X(name, result, parameters) */
#define LAYER_KERNELS(X)                                                                                     \
    X(add, void, (const float *a, const float *b, float *y, int64_t n, int threads)) \
    X(scale, void, (const float *x, float factor, float *y, int64_t n, int threads)) \
    X(relu, void, (const float *x, float *y, int64_t n, int threads))              \
    X(relu_gradient, void,                                                                                   \
      (const float *gy, const float *x, float *gx, int64_t n, int threads))        \
    X(positive, void, (const float *x, uint8_t *mask, int64_t n, int threads))                               \
    X(relu_gradient_where, void,                                                                             \
      (const float *gy, const uint8_t *mask, float *gx, int64_t n, int threads))   \
    X(sgd_update, void,                                                                                      \
      (float *master, const float *gradient, float *velocity, float learning_rate, float momentum,           \
       float weight_decay, float inverse_scale, int64_t n, int threads))                                     \
    X(channel_sum, void, (const float *x, Batch batch, float *sums, int threads))                            \
    X(total_sum, float, (const float *x, int64_t n))                                                         \
    X(batch_norm, void,                                                                                      \
      (const float *x, const float *scale, const float *shift, float epsilon, Batch batch, float *y,         \
       float *mean, float *variance, float *inverse_deviation, int threads))       \
    X(batch_norm_inference, void,                                                                            \
      (const float *x, const float *mean, const float *variance, const float *scale, const float *shift,     \
       float epsilon, Batch batch, float *y, int threads))                         \
    X(batch_norm_gradient, void,                                                                             \
      (const float *gy, const float *x, const float *mean, const float *inverse_deviation,                   \
       const float *scale, Batch batch, float *gx, float *gscale, float *gshift,   \
       int threads))                                                                                         \
    X(move, void, (const float *x, Moving moving, float *y, int threads))          \
    X(max_pool2d, int, (const float *x, Pooling pool, float *y, int32_t *index, int threads))                \
    X(max_pool2d_gradient, void, (const float *gy, const int32_t *index, Pooling pool, float *gx, int threads)) \
    X(avg_pool2d, int, (const float *x, Pooling pool, float *y, int threads))                               \
    X(avg_pool2d_gradient, int, (const float *gy, Pooling pool, float *gx, int threads))                    \
    X(log_softmax, void, (const float *x, int64_t rows, int64_t columns, float *y, int threads))             \
    X(log_softmax_gradient, void,                                                                            \
      (const float *gy, const float *y, int64_t rows, int64_t columns, float *gx, int threads))

typedef struct {
#define X(name, result, parameters) result(*name) parameters;
    LAYER_KERNELS(X)
#undef X
} LayerKernels;

/* Arrays of one, so that DISPATCH(mpsim_layers) is a pointer. */
extern const LayerKernels mpsim_layers_portable[1], mpsim_layers_avx2[1], mpsim_layers_avx512[1];

static inline const LayerKernels *layer_kernels(void) { return DISPATCH(mpsim_layers); }

#endif
