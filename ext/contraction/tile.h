/* The inner parts of one variant's contractions: packed left operands, panels of two vectors of columns, tiles of their
 * product that stay in registers over a chunk, buffers.
 *
 * The specified order is float32 with fma from +0 within a chunk of 256 consecutive k. Chunk results are added to the
 * total in rising order. All arrays are dense float32 in C order. Functions that return int return 0, or -1 without
 * memory. */
#ifndef MPSIM_TILE_H
#define MPSIM_TILE_H

#include "common/memory.h"
#include "common/vector.h"
#include "layers/transpose.h"

enum { CHUNK = 256 };
enum { PANEL = 2 * WIDTH };
/* Tiles that are multiplied with every panel before the next ones: their rows stay in the second-level cache. */
enum { TILES_PER_BLOCK = 240 / TILE_ROWS };

/* f(rows) for every number of rows of a tile. */
#if TILE_ROWS > 12
#define EACH_TILE(f) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13)
#elif TILE_ROWS > 6
#define EACH_TILE(f) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12)
#elif TILE_ROWS > 4
#define EACH_TILE(f) f(1) f(2) f(3) f(4) f(5) f(6)
#else
#define EACH_TILE(f) f(1) f(2) f(3) f(4)
#endif

/* A (rows, depth) matrix packed by chunk, within a chunk by tile of rows, and within a tile by k. It is broadcast. */
typedef struct {
    float *packed;
    int64_t rows, depth, tiles;
} LeftMatrix;

/* One k of a chunk: its position in the chunk of the left operand, and in the right operand. */
typedef struct {
    int64_t k;
    int64_t source;
} Step;

/* The addresses of two vectors of columns and of their totals: vector v of row k of the right operand is at
 * source[v] + step.source, and the total of row m at target[v] + m * row_stride. */
typedef struct {
    const float *source[2];
    float *target[2];
    int64_t row_stride;
} Panel;

#define tile_start(left, tile) ((tile) * (left)->rows / (left)->tiles)

#define make_left KERNEL(make_left)
#define multiply_panels KERNEL(multiply_panels)
#define scratch_floats KERNEL(scratch_floats)

/* Packs element (m, k) from source[m * row_stride + k_offset[k]]. Returns 0, or -1 without memory. */
int make_left(LeftMatrix *left, int64_t rows, int64_t depth, const float *source, int64_t row_stride,
              const int64_t *k_offset, int threads);
/* Adds left * right over `count` steps of a chunk, in their order, to the totals of every row and `panel_count` panels.
 * The first chunk becomes the total. After the last chunk bias[row] (unless NULL) is added. */
void multiply_panels(const LeftMatrix *left, int64_t chunk, const Panel *panels, int64_t panel_count, const Step *steps,
                     int64_t count, const float *bias);
/* Allocates `count` floats aligned to 64 bytes, or returns NULL. The caller frees them with aligned_release(). */
float *scratch_floats(size_t count);
/* The elements of an image in a row of its padded copy: `count` from `start` on, read from column `first` on. */
typedef struct {
    int64_t start, first, count;
} Stretch;
/* Column p of the `columns` of the copy is column p * step - left of the image, which is `width` wide. */
static inline Stretch stretch_of(int64_t left, int64_t step, int64_t width, int64_t columns) {
    int64_t start = left > 0 ? (left + step - 1) / step : 0;
    start = start < columns ? start : columns;
    int64_t first = start * step - left, count = first < width ? (width - 1 - first) / step + 1 : 0;
    return (Stretch){start, first, count < columns - start ? count : columns - start};
}
/* Copies these elements from a row of an image to a row of the copy. */
static inline void copy_stretch(const Stretch *stretch, const float *row, int64_t step, float *target) {
    int64_t j = 0;
    row += stretch->first;
    target += stretch->start;
    if (step == 1)
        for (; j + WIDTH <= stretch->count; j += WIDTH) vector_store(target + j, vector_load(row + j));
    if (step == 2)
        for (; j < stretch->count; j++) target[j] = row[2 * j];
    for (; j < stretch->count; j++) target[j] = row[j * step];
}
/* An empty sum is one chunk without steps. */
static inline int64_t chunk_count(int64_t depth) { return depth > CHUNK ? (depth + CHUNK - 1) / CHUNK : 1; }
static inline int64_t chunk_depth(int64_t depth, int64_t chunk) {
    return depth - chunk * CHUNK < CHUNK ? depth - chunk * CHUNK : CHUNK;
}

#endif
