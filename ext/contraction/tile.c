/* Computes tiles of a product in registers (tile.h). */
#include "contraction/tile.h"

#include <stdlib.h>

float *scratch_floats(size_t count) { return aligned_allocate(64, (count * sizeof(float) + 127) / 64 * 64); }

/* Returns whether every element k directly follows element k - 1. */
static int are_neighbours(const int64_t *k_offset, int64_t depth) {
    for (int64_t k = 1; k < depth; k++)
        if (k_offset[k] != k_offset[k - 1] + 1) return 0;
    return 1;
}

static void pack_tile(const LeftMatrix *left, int64_t tile, const float *source, int64_t row_stride,
                      const int64_t *k_offset, int neighbours) {
    int64_t start = tile_start(left, tile), rows = tile_start(left, tile + 1) - start;
    const float *row = source + start * row_stride;
    for (int64_t begin = 0; begin < left->depth; begin += CHUNK) {
        int64_t depth = chunk_depth(left->depth, begin / CHUNK);
        float *target = left->packed + begin * left->rows + depth * start;
        if (neighbours) {
            transpose(target, rows, row + k_offset[begin], row_stride, rows, depth);
            continue;
        }
        for (int64_t k = begin; k < begin + depth; k++, target += rows)
            for (int64_t m = 0; m < rows; m++) target[m] = row[m * row_stride + k_offset[k]];
    }
}

int make_left(LeftMatrix *left, int64_t rows, int64_t depth, const float *source, int64_t row_stride,
              const int64_t *k_offset, int threads) {
    *left = (LeftMatrix){scratch_floats((size_t)rows * depth), rows, depth, (rows + TILE_ROWS - 1) / TILE_ROWS};
    if (!left->packed) return -1;
    int neighbours = are_neighbours(k_offset, depth);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t tile = 0; tile < left->tiles; tile++) pack_tile(left, tile, source, row_stride, k_offset, neighbours);
    return 0;
}

/* -- one tile: `rows` rows times `vectors` vectors over a chunk, all in registers -------------------------------- */

typedef struct {
    const Step *step, *end;
    const float *left;
    const Panel *panel;
    int64_t first_row;
    const float *bias;
    int add;
} Tile;

INLINE void multiply_tile(const int rows, const int vectors, const Tile *tile) {
    Floats sum[TILE_ROWS][2];
    const float *left = tile->left, *source0 = tile->panel->source[0], *source1 = tile->panel->source[1];
    const Step *step = tile->step, *end = tile->end;
    int64_t row_stride = tile->panel->row_stride;
    float *target[2] = {tile->panel->target[0] + tile->first_row * row_stride,
                        vectors > 1 ? tile->panel->target[1] + tile->first_row * row_stride : NULL};
    UNROLL for (int m = 0; m < rows; m++)
        UNROLL for (int v = 0; v < vectors; v++) {
            sum[m][v] = vector_zero();
            if (tile->add) __builtin_prefetch(target[v] + m * row_stride, 1);
        }
    for (; step < end; step++) {
        const float *factors = left + step->k * rows;
        Floats right0 = vector_load(source0 + step->source);
        Floats right1 = vectors > 1 ? vector_load(source1 + step->source) : right0;
        UNROLL for (int m = 0; m < rows; m++) {
            Floats factor = vector_splat(factors[m]);
            sum[m][0] = vector_fma(factor, right0, sum[m][0]);
            if (vectors > 1) sum[m][1] = vector_fma(factor, right1, sum[m][1]);
        }
    }
    UNROLL for (int m = 0; m < rows; m++)
        UNROLL for (int v = 0; v < vectors; v++) {
            float *total = target[v] + m * row_stride;
            Floats value = tile->add ? vector_add(vector_load(total), sum[m][v]) : sum[m][v];
            if (tile->bias) value = vector_add(value, vector_splat(tile->bias[tile->first_row + m]));
            vector_store(total, value);
        }
}

#define TILE_OF(rows) \
    static void tile_##rows##_1(const Tile *tile) { multiply_tile(rows, 1, tile); } \
    static void tile_##rows##_2(const Tile *tile) { multiply_tile(rows, 2, tile); }
EACH_TILE(TILE_OF)

typedef void (*TileFunction)(const Tile *);
#define ROW_OF(rows) {tile_##rows##_1, tile_##rows##_2},
static const TileFunction TILES[TILE_ROWS][2] = {EACH_TILE(ROW_OF)};

void multiply_panels(const LeftMatrix *left, int64_t chunk, const Panel *panels, int64_t panel_count, const Step *steps,
                     int64_t count, const float *bias) {
    int64_t depth = chunk_depth(left->depth, chunk);
    const float *packed = left->packed + chunk * CHUNK * left->rows;
    Tile tile = {.step = steps, .end = steps + count, .add = chunk > 0,
                 .bias = chunk == chunk_count(left->depth) - 1 ? bias : NULL};
    if (count == 0 && tile.add && !tile.bias) return;
    for (int64_t block = 0; block < left->tiles; block += TILES_PER_BLOCK) {
        int64_t block_end = block + TILES_PER_BLOCK < left->tiles ? block + TILES_PER_BLOCK : left->tiles;
        for (tile.panel = panels; tile.panel < panels + panel_count; tile.panel++)
            for (int64_t t = block, start = tile_start(left, block), next; t < block_end; t++, start = next) {
                next = tile_start(left, t + 1);
                tile.first_row = start;
                tile.left = packed + depth * start;
                TILES[next - start - 1][tile.panel->source[1] != NULL](&tile);
            }
    }
}
