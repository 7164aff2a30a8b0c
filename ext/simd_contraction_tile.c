/* Tiles of a product in registers, and what feeds them: see contraction_tile.h. */
#include <stdlib.h>
#include "contraction_tile.h"

/* Rows of tiles that are multiplied with every panel before the next: about a quarter of a megabyte of chunk. */
enum { TILES_PER_BLOCK = 240 / TILE_ROWS };

float *scratch_floats(size_t count) { return aligned_alloc(64, (count * sizeof(float) + 127) / 64 * 64); }

long chunk_ends(const long *full_index, long depth, long *end) {
    long count = 0;
    for (long k = 1; k < depth; k++) {
        long here = full_index ? full_index[k] : k, before = full_index ? full_index[k - 1] : k - 1;
        if (here / CHUNK == before / CHUNK) continue;
        if (end) end[count] = k;
        count++;
    }
    if (end) end[count] = depth;
    return count + 1;
}

long left_tiles(long rows) { return (rows + TILE_ROWS - 1) / TILE_ROWS; }

void pack_left(LeftMatrix *left, const float *source, ptrdiff_t row_stride, const ptrdiff_t *k_offset, long first,
               long last) {
    for (long chunk = 0, begin = 0; chunk < left->chunks.count; begin = left->chunks.end[chunk++]) {
        long depth = left->chunks.end[chunk] - begin;
        for (long tile = first; tile < last; tile++) {
            long start = tile_start(left, tile), rows = tile_start(left, tile + 1) - start;
            float *target = left->packed + begin * left->rows + depth * start;
            const float *row = source + start * row_stride;
            for (long k = 0; k < depth; k++, target += rows)
                for (long m = 0; m < rows; m++) target[m] = row[m * row_stride + k_offset[begin + k]];
        }
    }
}

/* -- one tile: `rows` rows times `vectors` vectors over a chunk, all in registers -------------------------------- */

typedef struct {
    long depth;
    const float *left;
    const ptrdiff_t *offset;
    const Panel *panel;
    long first_row;
    const float *bias;
    int add;
} Tile;

INLINE void multiply_tile(const int rows, const int vectors, const Tile *tile) {
    Vector sum[TILE_ROWS][2];
    const float *left = tile->left, *source0 = tile->panel->source[0], *source1 = tile->panel->source[1];
    const ptrdiff_t *offset = tile->offset, *end = offset + tile->depth;
    ptrdiff_t row_stride = tile->panel->row_stride;
    float *target[2] = {tile->panel->target[0] + tile->first_row * row_stride,
                        vectors > 1 ? tile->panel->target[1] + tile->first_row * row_stride : NULL};
    UNROLL for (int m = 0; m < rows; m++)
        UNROLL for (int v = 0; v < vectors; v++) {
            sum[m][v] = vector_zero();
            if (tile->add) __builtin_prefetch(target[v] + m * row_stride, 1);
        }
    for (; offset < end; offset++, left += rows) {
        Vector right0 = vector_load(source0 + *offset);
        Vector right1 = vectors > 1 ? vector_load(source1 + *offset) : right0;
        UNROLL for (int m = 0; m < rows; m++) {
            Vector factor = vector_splat(left[m]);
            sum[m][0] = vector_fma(factor, right0, sum[m][0]);
            if (vectors > 1) sum[m][1] = vector_fma(factor, right1, sum[m][1]);
        }
    }
    UNROLL for (int m = 0; m < rows; m++)
        UNROLL for (int v = 0; v < vectors; v++) {
            float *total = target[v] + m * row_stride;
            Vector value = tile->add ? vector_add(vector_load(total), sum[m][v]) : sum[m][v];
            if (tile->bias) value = vector_add(value, vector_splat(tile->bias[tile->first_row + m]));
            vector_store(total, value);
        }
}

#define TILE_OF(rows) \
    static void tile_##rows##_1(const Tile *tile) { multiply_tile(rows, 1, tile); } \
    static void tile_##rows##_2(const Tile *tile) { multiply_tile(rows, 2, tile); }
TILE_OF(1) TILE_OF(2) TILE_OF(3) TILE_OF(4)
#if TILE_ROWS > 4
TILE_OF(5) TILE_OF(6)
#endif
#if TILE_ROWS > 6
TILE_OF(7) TILE_OF(8) TILE_OF(9) TILE_OF(10) TILE_OF(11) TILE_OF(12)
#endif
#if TILE_ROWS > 12
TILE_OF(13)
#endif

typedef void (*TileFunction)(const Tile *);
#define ROW_OF(rows) {tile_##rows##_1, tile_##rows##_2}
static const TileFunction TILES[TILE_ROWS][2] = {
    ROW_OF(1), ROW_OF(2), ROW_OF(3), ROW_OF(4),
#if TILE_ROWS > 4
    ROW_OF(5), ROW_OF(6),
#endif
#if TILE_ROWS > 6
    ROW_OF(7), ROW_OF(8), ROW_OF(9), ROW_OF(10), ROW_OF(11), ROW_OF(12),
#endif
#if TILE_ROWS > 12
    ROW_OF(13),
#endif
};

void multiply_panels(const LeftMatrix *left, long chunk, const Panel *panels, long count, const ptrdiff_t *offset,
                     const float *bias) {
    long begin = chunk ? left->chunks.end[chunk - 1] : 0, depth = left->chunks.end[chunk] - begin;
    const float *packed = left->packed + begin * left->rows;
    Tile tile = {.depth = depth, .offset = offset, .add = chunk > 0,
                 .bias = chunk == left->chunks.count - 1 ? bias : NULL};
    for (long block = 0; block < left->tiles; block += TILES_PER_BLOCK) {
        long block_end = block + TILES_PER_BLOCK < left->tiles ? block + TILES_PER_BLOCK : left->tiles;
        for (tile.panel = panels; tile.panel < panels + count; tile.panel++)
            for (long t = block; t < block_end; t++) {
                tile.first_row = tile_start(left, t);
                tile.left = packed + depth * tile.first_row;
                TILES[tile_start(left, t + 1) - tile.first_row - 1][tile.panel->source[1] != NULL](&tile);
            }
    }
}

/* -- transposition ----------------------------------------------------------------------------------------------- */

/* One stage: lanes whose index has the bit `step` change places between rows `step` apart. */
INLINE void exchange(Vector *row, const int step) {
    Lanes low, high;
    UNROLL for (int lane = 0; lane < WIDTH; lane++) {
        low[lane] = lane & step ? WIDTH + lane - step : lane;
        high[lane] = lane & step ? WIDTH + lane : lane + step;
    }
    UNROLL for (int r = 0; r < WIDTH; r++)
        if (!(r & step)) {
            Vector a = row[r], b = row[r + step];
            row[r] = SHUFFLE(a, b, low);
            row[r + step] = SHUFFLE(a, b, high);
        }
}

static void transpose_square(float *target, ptrdiff_t target_stride, const float *source, ptrdiff_t source_stride) {
    Vector row[WIDTH];
    UNROLL for (int r = 0; r < WIDTH; r++) row[r] = vector_load(source + r * source_stride);
    exchange(row, 1);
    exchange(row, 2);
    if (WIDTH > 4) exchange(row, WIDTH > 4 ? 4 : 1);
    if (WIDTH > 8) exchange(row, WIDTH > 8 ? 8 : 1);
    UNROLL for (int r = 0; r < WIDTH; r++) vector_store(target + r * target_stride, row[r]);
}

void transpose(float *target, ptrdiff_t target_stride, const float *source, ptrdiff_t source_stride, long rows,
               long columns) {
    long whole_rows = rows / WIDTH * WIDTH, whole_columns = columns / WIDTH * WIDTH;
    for (long r = 0; r < whole_rows; r += WIDTH)
        for (long c = 0; c < whole_columns; c += WIDTH)
            transpose_square(target + c * target_stride + r, target_stride, source + r * source_stride + c,
                             source_stride);
    for (long r = 0; r < rows; r++)
        for (long c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            target[c * target_stride + r] = source[r * source_stride + c];
}
