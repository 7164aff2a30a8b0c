/* The inner parts that the contractions of one variant share: packed left operands, panels of two vectors of
 * columns, tiles of their product held in registers over a chunk, transposition, scratch memory. */
#ifndef MPSIM_CONTRACTION_TILE_H
#define MPSIM_CONTRACTION_TILE_H

#include "contraction.h"
#include "simd.h"

#ifndef _OPENMP
#define THREAD_NUMBER 0
#else
#include <omp.h>
#define THREAD_NUMBER omp_get_thread_num()
#endif

enum { PANEL = 2 * WIDTH };

/* A (rows, depth) matrix packed by chunk, in a chunk by tile of rows, in a tile by k: the broadcast operand. */
typedef struct {
    float *packed;
    long rows, depth, tiles;
} LeftMatrix;

/* One k of a chunk: its place in the chunk of the left operand, and where the right operand is read. */
typedef struct {
    long k;
    ptrdiff_t source;
} Step;

/* Where two vectors of columns are read and where their totals are: vector v of row k of the right operand is at
 * source[v] + step.source, the total of row m at target[v] + m * row_stride. */
typedef struct {
    const float *source[2];
    float *target[2];
    ptrdiff_t row_stride;
} Panel;

#define tile_start(left, tile) ((tile) * (left)->rows / (left)->tiles)

#define make_left VARIANT_NAME(contraction_make_left)
#define multiply_panels VARIANT_NAME(contraction_multiply_panels)
#define transpose VARIANT_NAME(contraction_transpose)
#define scratch_floats VARIANT_NAME(contraction_scratch_floats)

/* Packs element (m, k) from source[m * row_stride + k_offset[k]]. Returns 0, or -1 when memory ran out. */
int make_left(LeftMatrix *left, long rows, long depth, const float *source, ptrdiff_t row_stride,
              const ptrdiff_t *k_offset, int threads);
/* total (+)= left * right over `count` steps of a chunk, in their order, for every row and `panel_count` panels; the
 * first chunk is the total; after the last chunk bias[row] (unless NULL) is added. */
void multiply_panels(const LeftMatrix *left, long chunk, const Panel *panels, long panel_count, const Step *steps,
                     long count, const float *bias);
/* Fills in the steps of a chunk whose right operand is packed in rows of PANEL floats. */
static inline void packed_steps(Step *steps) {
    for (long k = 0; k < CHUNK; k++) steps[k] = (Step){k, k * PANEL};
}
/* target[c * target_stride + r] = source[r * source_stride + c] for r < rows, c < columns. */
void transpose(float *target, ptrdiff_t target_stride, const float *source, ptrdiff_t source_stride, long rows,
               long columns);
/* `count` floats aligned to 64 bytes, or NULL; to be freed with free(). */
float *scratch_floats(size_t count);
/* Where a row of a padded copy has elements of an image: `count` places from `start`, read from column `first` on. */
typedef struct {
    long start, first, count;
} Stretch;
/* Place p of the `columns` of the copy is column p * step - left of the image, `width` wide. */
static inline Stretch stretch_of(long left, long step, long width, long columns) {
    long start = left > 0 ? (left + step - 1) / step : 0;
    start = start < columns ? start : columns;
    long first = start * step - left, count = first < width ? (width - 1 - first) / step + 1 : 0;
    return (Stretch){start, first, count < columns - start ? count : columns - start};
}
/* Copies the stretch of a row of an image to a row of the copy. */
static inline void copy_stretch(const Stretch *stretch, const float *row, long step, float *target) {
    long j = 0;
    row += stretch->first;
    target += stretch->start;
    if (step == 1)
        for (; j + WIDTH <= stretch->count; j += WIDTH) vector_store(target + j, vector_load(row + j));
    if (step == 2)
        for (; j < stretch->count; j++) target[j] = row[2 * j];
    for (; j < stretch->count; j++) target[j] = row[j * step];
}
/* An empty sum is one chunk without steps. */
static inline long chunk_count(long depth) { return depth > CHUNK ? (depth + CHUNK - 1) / CHUNK : 1; }
static inline long chunk_depth(long depth, long chunk) {
    return depth - chunk * CHUNK < CHUNK ? depth - chunk * CHUNK : CHUNK;
}

#endif
