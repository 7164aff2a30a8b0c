/* Lists all kernels. Every variant defines them, and Python calls them.
 *
 * A kernel is an entry here and a function KERNEL(name) in a file of rounding/, contraction/ or layers/. wrappers.py
 * writes its Python function. A pointer is an array or None (NULL), and a pointer to a struct of structs.h is the bytes
 * of its fields. A kernel that returns int returns 0, or -1 if memory ran out: the Python function raises MemoryError.
 *
 * Arrays are contiguous. mpsim/kernels/contract.py specifies orders and bits, which are independent of variant and
 * threads. */
#ifndef MPSIM_KERNELS_H
#define MPSIM_KERNELS_H

#include "common/structs.h"
#include "generated/variants.h"

/* X(V, name, result, parameters) for every kernel. V is the variant. */
#define KERNELS(X, V)                                                                                               \
    /* rounding: at most one of random and stream is not NULL; counts: the five of mpsim.rounding.Counts */         \
    X(V, round_float32, void,                                                                                       \
      (const float *x, float *out, int64_t n, const uint32_t *random, const RandomStream *stream,                   \
       const RoundingParameters *parameters, int64_t *counts, int threads))                                         \
    X(V, round_float64, void,                                                                                       \
      (const double *x, double *out, int64_t n, const uint32_t *random, const RandomStream *stream,                 \
       const RoundingParameters *parameters, int64_t *counts, int threads))                                         \
    X(V, random_bits, void,                                                                                         \
      (const RandomStream *stream, int64_t first, uint32_t *bits, int64_t n, int threads))                          \
    X(V, canonical_nan_float32, void, (float *x, int64_t n, int threads))                                           \
    X(V, canonical_nan_float64, void, (double *x, int64_t n, int threads))                                          \
    X(V, all_finite, int64_t, (const float *x, int64_t n, int threads))                                             \
    /* codes, each of `size` bytes, of numbers that are rounded first unless parameters is NULL; strays: the numbers of */ \
    /* NaNs and of infinities among them */                                                                          \
    X(V, encode_float32, void,                                                                                      \
      (const float *x, int64_t n, const uint32_t *random, const RandomStream *stream,                               \
       const RoundingParameters *parameters, uint8_t *codes, int64_t size, const CodeLayout *layout,                \
       int64_t *strays, int threads))                                                                               \
    X(V, encode_float64, void,                                                                                      \
      (const double *x, int64_t n, const uint32_t *random, const RandomStream *stream,                              \
       const RoundingParameters *parameters, uint8_t *codes, int64_t size, const CodeLayout *layout,                \
       int64_t *strays, int threads))                                                                               \
    X(V, decode_float32, void,                                                                                      \
      (const uint8_t *codes, int64_t size, int64_t n, float *out, const CodeLayout *layout, int threads))           \
    X(V, decode_float64, void,                                                                                      \
      (const uint8_t *codes, int64_t size, int64_t n, double *out, const CodeLayout *layout, int threads))          \
    /* groups of `size` numbers; factors: one a group, NaN for a group of zeros; for formats of the path NARROW */    \
    X(V, group_largest, void, (const float *x, int64_t groups, int64_t size, float *largest, int threads))          \
    X(V, quantize_groups, void,                                                                                     \
      (const float *x, int64_t groups, int64_t size, const double *factors, int arithmetic,                         \
       const RoundingParameters *parameters, uint8_t *codes, int64_t code_size, const CodeLayout *layout,           \
       int64_t *counts, int threads))                                                                               \
    X(V, dequantize_groups, void,                                                                                   \
      (const uint8_t *codes, int64_t code_size, int64_t groups, int64_t size, const double *factors,                \
       const CodeLayout *layout, float *out, int threads))                                                          \
    /* c (M, N) = op(a) (M, K) op(b) (K, N) + bias (N) or NULL */                                                   \
    X(V, matmul, int,                                                                                               \
      (const float *a, const float *b, const float *bias, float *c, int64_t rows, int64_t columns, int64_t depth,   \
       int transpose_a, int transpose_b, int threads))                                                              \
    X(V, convolution_forward, int,                                                                                  \
      (const Convolution *shape, const float *x, const float *w, const float *bias, float *y, int threads))         \
    X(V, convolution_input_gradient, int,                                                                           \
      (const Convolution *shape, const float *gy, const float *w, float *gx, int threads))                          \
    X(V, convolution_weight_gradient, int,                                                                          \
      (const Convolution *shape, const float *x, const float *gy, float *gw, int threads))                          \
    /* every other sum, over offset tables: orders/sums.h; at least one output and one k */                         \
    X(V, accumulate, int,                                                                                           \
      (const float *a, const int64_t *a_group, const int64_t *a_row, const int64_t *a_k, const float *b,            \
       const int64_t *b_group, const int64_t *b_column, const int64_t *b_k, float *out, const int64_t *out_group,   \
       const int64_t *out_row, const int64_t *out_column, int64_t groups, int64_t rows, int64_t length,             \
       int64_t columns, int64_t kind, int64_t chunk, const NarrowFormat *narrow, const AlignedSum *aligned,         \
       int threads))                                                                                                \
    /* any order in steps: orders/steps.c; count steps, of five numbers each; most_groups: of a step with           \
     * scales; values and tables: further numbers; tables has the start, step and offsets of each */                \
    X(V, run_steps, int,                                                                                            \
      (const float *a, const int64_t *a_group, const int64_t *a_row, const int64_t *a_k, const float *b,            \
       const int64_t *b_group, const int64_t *b_column, const int64_t *b_k, float *out, const int64_t *out_group,   \
       const int64_t *out_row, const int64_t *out_column, int64_t groups, int64_t rows, int64_t length,             \
       int64_t columns, const int64_t *code, int64_t count, const int64_t *places, const SumRounding *sums,         \
       const AlignedSum *aligned, const int64_t *aligned_sums, const LateSum *late, const ScaledSum *scaled,        \
       int64_t most_groups, const float *values, const int64_t *tables, const RandomStream *stream,                 \
       int64_t registers, int64_t exact_sums, int64_t answer, int threads))                                         \
    /* elementwise; the output may be an input */                                                                   \
    X(V, add, void, (const float *a, const float *b, float *y, int64_t n, int threads))                             \
    X(V, subtract, void, (const float *a, const float *b, float *y, int64_t n, int threads))                        \
    X(V, multiply, void, (const float *a, const float *b, float *y, int64_t n, int threads))                        \
    X(V, divide, void, (const float *a, const float *b, float *y, int64_t n, int threads))                          \
    X(V, unary, void,                                                                                               \
      (const float *input, int64_t function, float low, float high, float *out, int64_t n, int threads))               \
    X(V, scale, void, (const float *x, float factor, float *y, int64_t n, int threads))                             \
    X(V, relu, void, (const float *x, float *y, int64_t n, int threads))                                            \
    X(V, relu_gradient, void, (const float *gy, const float *x, float *gx, int64_t n, int threads))                 \
    X(V, positive, void, (const float *x, uint8_t *mask, int64_t n, int threads))                                   \
    X(V, relu_gradient_where, void, (const float *gy, const uint8_t *mask, float *gx, int64_t n, int threads))      \
    X(V, sgd_update, void,                                                                                          \
      (float *master, const float *gradient, float *velocity, float learning_rate, float momentum,                  \
       float weight_decay, float inverse_scale, float damping, int64_t nesterov, int64_t n, int threads))           \
    X(V, adam_update, void,                                                                                         \
      (float *master, const float *gradient, float *first_moment, float *second_moment, float step_size,            \
       float kept, float weight_decay, float rest1, float beta2, float rest2, float root, float epsilon,            \
       float inverse_scale, int64_t n, int threads))                                                                \
    X(V, lion_update, void,                                                                                         \
      (float *master, const float *gradient, float *first_moment, float learning_rate, float kept,                  \
       float beta1, float rest1, float beta2, float rest2, float inverse_scale, int64_t n, int threads))            \
    X(V, move, void, (const float *x, const Moving *moving, float *y, int threads))                                 \
    X(V, take, void,                                                                                                \
      (const float *x, const int64_t *index, float *y, int64_t outer, int64_t size, int64_t count, int64_t run,     \
       int threads))                                                                                                \
    X(V, take_gradient, void,                                                                                       \
      (const float *gy, const int64_t *index, float *gx, int64_t outer, int64_t size, int64_t count, int64_t run,   \
       int threads))                                                                                                \
    /* sums and batch norm, whose output may be an input */                                                         \
    X(V, channel_sum, void, (const float *x, const Batch *batch, float *sums, int threads))                         \
    X(V, total_sum, float, (const float *x, int64_t n))                                                             \
    X(V, batch_norm, void,                                                                                          \
      (const float *x, const float *scale, const float *shift, float epsilon, const Batch *batch, float *y,         \
       float *mean, float *variance, float *inverse_deviation, int threads))                                        \
    X(V, batch_norm_inference, void,                                                                                \
      (const float *x, const float *mean, const float *variance, const float *scale, const float *shift,            \
       float epsilon, const Batch *batch, float *y, int threads))                                                   \
    X(V, batch_norm_gradient, void,                                                                                 \
      (const float *gy, const float *x, const float *mean, const float *inverse_deviation, const float *scale,      \
       const Batch *batch, float *gx, float *gscale, float *gshift, int threads))                                   \
    /* pooling */                                                                                                   \
    X(V, max_pool2d, int, (const float *x, const Pooling *pool, float *y, int32_t *index, int threads))             \
    X(V, max_pool2d_gradient, void,                                                                                 \
      (const float *gy, const int32_t *index, const Pooling *pool, float *gx, int threads))                         \
    X(V, avg_pool2d, int, (const float *x, const Pooling *pool, float *y, int threads))                             \
    X(V, avg_pool2d_gradient, int, (const float *gy, const Pooling *pool, float *gx, int threads))                  \
    /* loss */                                                                                                      \
    X(V, log_softmax, void, (const float *x, int64_t rows, int64_t columns, float *y, int threads))                 \
    X(V, log_softmax_gradient, void,                                                                                \
      (const float *gy, const float *y, int64_t rows, int64_t columns, float *gx, int threads))                     \
    X(V, softmax, void, (const float *x, int64_t rows, int64_t columns, float *y, int threads))                     \
    X(V, softmax_gradient, void,                                                                                    \
      (const float *gy, const float *y, int64_t rows, int64_t columns, float *gx, int threads))

/* The kernels of one variant. */
typedef struct {
#define FIELD(V, name, result, parameters) result(*name) parameters;
    KERNELS(FIELD, )
#undef FIELD
} Kernels;

/* The kernels of the current variant: the last of VARIANTS that this processor supports, or the forced one. */
const Kernels *mpsim_kernels(void);

/* The name of a variant, or NULL beyond the last one. */
const char *mpsim_variant_name(int variant);
/* Returns whether this processor supports the variant. */
int mpsim_variant_runs(int variant);
/* Returns the number of the current variant. */
int mpsim_variant(void);
/* Selects a variant that this processor supports; -1: the best one. */
void mpsim_force_variant(int variant);

#define MPSIM_JOIN(name, variant) mpsim_##name##_##variant

#endif
