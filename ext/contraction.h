/* Contractions in the written order: float32, chunks of 256 consecutive k, fma within a chunk from +0, chunk results
 * added to the total in rising order. Bits do not depend on the variant, the threads or any block size.
 *
 * All arrays are dense float32 in C order. Every function returns 0, or -1 when memory ran
 * out. */
#ifndef MPSIM_CONTRACTION_H
#define MPSIM_CONTRACTION_H

#include <stddef.h>
#include "dispatch.h"

enum { CHUNK = 256 };

typedef struct {
    long images, channels, height, width;        /* x: (N, C, H, W) */
    long outputs, out_height, out_width;         /* y: (N, O, OH, OW) */
    long kernel_height, kernel_width;            /* w: (O, C / groups, R, S) */
    long stride_height, stride_width;
    long padding_height, padding_width;
    long groups;
} Convolution;

/* c (M, N) = op(a) (M, K) op(b) (K, N) + bias (N) or NULL. */
int contraction_matmul(const float *a, const float *b, const float *bias, float *c, long rows, long columns, long depth,
                       int transpose_a, int transpose_b, int threads);
/* y = x * w + bias (O) or NULL. */
int contraction_forward(const Convolution *shape, const float *x, const float *w, const float *bias, float *y, int threads);
/* gx from gy and w. */
int contraction_input_gradient(const Convolution *shape, const float *gy, const float *w, float *gx, int threads);
/* gw from x and gy. */
int contraction_weight_gradient(const Convolution *shape, const float *x, const float *gy, float *gw, int threads);

/* The same functions of each variant. */
DECLARE_VARIANTS(int, contraction_matmul, (const float *a, const float *b, const float *bias, float *c, long rows,
                                           long columns, long depth, int transpose_a, int transpose_b, int threads));
DECLARE_VARIANTS(int, contraction_forward, (const Convolution *shape, const float *x, const float *w,
                                            const float *bias, float *y, int threads));
DECLARE_VARIANTS(int, contraction_input_gradient, (const Convolution *shape, const float *gy, const float *w,
                                                   float *gx, int threads));
DECLARE_VARIANTS(int, contraction_weight_gradient, (const Convolution *shape, const float *x, const float *gy,
                                                    float *gw, int threads));

#endif
