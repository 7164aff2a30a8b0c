/* Products whose right operand is packed in panels, and whose left operand is read where it is or is packed by tile.
 *
 * The order is that of tile.h. */
#ifndef MPSIM_DENSE_H
#define MPSIM_DENSE_H

#include "contraction/tile.h"

/* A left operand (rows, depth). Element (m, k) is at data[m * row_step + k * k_step], and one of the steps is 1. If it
 * is packed, data is as in LeftMatrix. */
typedef struct {
    const float *data;
    int64_t rows, depth, row_step, k_step, tiles;
    int packed;
} DenseLeft;

/* A panel of at most PANEL columns. The right operand of a chunk is packed in rows of PANEL floats, and the total of
 * row m is at target[m * row_stride]. bias is of the columns, or NULL. */
typedef struct {
    const float *source;
    float *target;
    int64_t row_stride;
    const float *bias;
    int vectors;
} DensePanel;

#define multiply_dense KERNEL(multiply_dense)
#define pack_dense KERNEL(pack_dense)
#define multiply_many KERNEL(multiply_many)

/* Adds left * right over a chunk to the totals of the tiles [first, last). The first chunk becomes the total. After the
 * last chunk biases are added: of the panel, and row_bias[row] unless it is NULL. */
void multiply_dense(const DenseLeft *left, int64_t first, int64_t last, int64_t chunk, const DensePanel *panels,
                    int64_t panel_count, const float *row_bias);
/* Packs the operand into `packed`, for which there is memory, and refers to it there. */
void pack_dense(DenseLeft *left, float *packed, int threads);
/* c[g] (M, N) = op(a[g]) (M, K) op(b[g]) (K, N) for g < count; not empty. Each product is computed by one thread.
 * Returns 0, or -1 without memory. */
int multiply_many(const float *a, const float *b, float *c, int64_t count, int64_t rows, int64_t columns, int64_t depth,
                  int transpose_a, int transpose_b, int threads);

#endif
