/* The inner parts that the contractions of one variant share: packed left operands, panels of two vectors of
 * columns, tiles of their product held in registers over a chunk, transposition, scratch memory. */
#ifndef MPSIM_CONTRACTION_TILE_H
#define MPSIM_CONTRACTION_TILE_H

#include "contraction.h"
#include "simd.h"

#ifdef MPSIM_NO_OPENMP
#define THREAD_NUMBER 0
#else
#include <omp.h>
#define THREAD_NUMBER omp_get_thread_num()
#endif

enum { PANEL = 2 * WIDTH };

/* Ends of chunks of a list of k, of which some may be left out: chunk t is k in [end[t-1], end[t]). */
typedef struct {
    long count;
    long *end;
} Chunks;

/* A (rows, depth) matrix packed by chunk, in a chunk by tile of rows, in a tile by k: the broadcast operand. */
typedef struct {
    float *packed;
    long rows, tiles;
    Chunks chunks;
} LeftMatrix;

/* Where two vectors of columns are read and where their totals are: vector v of row k of the right operand is at
 * source[v] + offset[k], the total of row m at target[v] + m * row_stride. */
typedef struct {
    const float *source[2];
    float *target[2];
    ptrdiff_t row_stride;
} Panel;

#define tile_start(left, tile) ((tile) * (left)->rows / (left)->tiles)

#define left_tiles VARIANT_NAME(contraction_left_tiles)
#define pack_left VARIANT_NAME(contraction_pack_left)
#define multiply_panels VARIANT_NAME(contraction_multiply_panels)
#define transpose VARIANT_NAME(contraction_transpose)
#define scratch_floats VARIANT_NAME(contraction_scratch_floats)
#define chunk_ends VARIANT_NAME(contraction_chunk_ends)

/* How many tiles `rows` rows make: as few as can be, then equal to within one row. */
long left_tiles(long rows);
/* Packs element (m, k) from source[m * row_stride + k_offset[k]] into left->packed, for the tiles from `first` to
 * before `last`; left->rows, tiles and chunks are set. */
void pack_left(LeftMatrix *left, const float *source, ptrdiff_t row_stride, const ptrdiff_t *k_offset, long first,
               long last);
/* total (+)= left(chunk) * right for every row and `count` panels, right read at offset[k]; the first chunk is the
 * total; after the last chunk bias[row] (unless NULL) is added. */
void multiply_panels(const LeftMatrix *left, long chunk, const Panel *panels, long count, const ptrdiff_t *offset,
                     const float *bias);
/* target[c * target_stride + r] = source[r * source_stride + c] for r < rows, c < columns. */
void transpose(float *target, ptrdiff_t target_stride, const float *source, ptrdiff_t source_stride, long rows,
               long columns);
/* `count` floats aligned to 64 bytes, or NULL; to be freed with free(). */
float *scratch_floats(size_t count);
/* The chunks of a rising list of `depth` full indices (NULL: 0, 1, ...): at least one, maybe empty; end may be NULL
 * for the count alone. */
long chunk_ends(const long *full_index, long depth, long *end);

#endif
