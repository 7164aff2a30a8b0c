/* Computes tiles of a product whose k are consecutive (dense.h). */
#include "contraction/dense.h"

typedef struct {
    const float *left, *right;
    int64_t row_step, k_step, depth; /* of the left operand, and of the chunk */
    float *target;
    int64_t row_stride;
    const float *bias, *row_bias; /* NULL before the last chunk */
    int add;
} Tile;

/* by_row: rows are row_step apart and k adjacent. Otherwise rows are adjacent and k are k_step apart. Every third row
 * has a pointer, from which the next two have offsets that an address can hold. */
INLINE void multiply_tile(const int rows, const int vectors, const int by_row, const Tile *tile) {
    Floats sum[TILE_ROWS][2];
    const int64_t step = by_row ? tile->row_step : 1, k_step = by_row ? 1 : tile->k_step;
    const float *right = tile->right, *end = right + tile->depth * PANEL, *left[TILE_ROWS / 3 + 1];
    UNROLL for (int m = 0; m < rows; m += 3) left[m / 3] = tile->left + m * step;
    UNROLL for (int m = 0; m < rows; m++)
        UNROLL for (int v = 0; v < vectors; v++) {
            sum[m][v] = vector_zero();
            if (tile->add) __builtin_prefetch(tile->target + m * tile->row_stride + v * WIDTH, 1);
        }
    for (; right < end; right += PANEL) {
        Floats right0 = vector_load(right), right1 = vectors > 1 ? vector_load(right + WIDTH) : right0;
        UNROLL for (int m = 0; m < rows; m++) {
            Floats factor = vector_splat(left[m / 3][m % 3 * step]);
            sum[m][0] = vector_fma(factor, right0, sum[m][0]);
            if (vectors > 1) sum[m][1] = vector_fma(factor, right1, sum[m][1]);
        }
        UNROLL for (int m = 0; m < rows; m += 3) left[m / 3] += k_step;
    }
    UNROLL for (int m = 0; m < rows; m++)
        UNROLL for (int v = 0; v < vectors; v++) {
            float *total = tile->target + m * tile->row_stride + v * WIDTH;
            Floats value = tile->add ? vector_add(vector_load(total), sum[m][v]) : sum[m][v];
            if (tile->bias) value = vector_add(value, vector_load(tile->bias + v * WIDTH));
            if (tile->row_bias) value = vector_add(value, vector_splat(tile->row_bias[m]));
            vector_store(total, value);
        }
}

#define TILE_OF(rows) \
    static void tile_##rows##_1_0(const Tile *tile) { multiply_tile(rows, 1, 0, tile); } \
    static void tile_##rows##_2_0(const Tile *tile) { multiply_tile(rows, 2, 0, tile); } \
    static void tile_##rows##_1_1(const Tile *tile) { multiply_tile(rows, 1, 1, tile); } \
    static void tile_##rows##_2_1(const Tile *tile) { multiply_tile(rows, 2, 1, tile); }
EACH_TILE(TILE_OF)

typedef void (*TileFunction)(const Tile *);
#define ROW_OF(rows) {{tile_##rows##_1_0, tile_##rows##_1_1}, {tile_##rows##_2_0, tile_##rows##_2_1}},
/* [rows - 1][vectors - 1][by_row] */
static const TileFunction TILES[TILE_ROWS][2][2] = {EACH_TILE(ROW_OF)};

void multiply_dense(const DenseLeft *left, int64_t first, int64_t last, int64_t chunk, const DensePanel *panels,
                    int64_t panel_count, const float *row_bias) {
    const int64_t begin = chunk * CHUNK, depth = chunk_depth(left->depth, chunk);
    const int is_last = chunk == chunk_count(left->depth) - 1, by_row = !left->packed && left->k_step == 1;
    Tile tile = {.depth = depth, .add = chunk > 0, .row_step = left->row_step, .k_step = left->k_step};
    for (int64_t from = first; from < last; from += TILES_PER_BLOCK)
        for (const DensePanel *panel = panels; panel < panels + panel_count; panel++) {
            int64_t start = tile_start(left, from), next;
            tile.right = panel->source;
            tile.row_stride = panel->row_stride;
            tile.bias = is_last ? panel->bias : NULL;
            for (int64_t t = from; t < minimum(from + TILES_PER_BLOCK, last); t++, start = next) {
                next = tile_start(left, t + 1);
                if (left->packed) {
                    tile.left = left->data + begin * left->rows + depth * start;
                    tile.k_step = next - start;
                } else {
                    tile.left = left->data + start * left->row_step + begin * left->k_step;
                }
                tile.target = panel->target + start * panel->row_stride;
                tile.row_bias = is_last && row_bias ? row_bias + start : NULL;
                TILES[next - start - 1][panel->vectors - 1][by_row](&tile);
            }
        }
}

/* Packs a chunk of `depth` of a tile's rows, which are adjacent. Whole vectors are copied while what they write beyond
 * the rows is written again, and what they read is a part of the operand. */
static void pack_adjacent(const DenseLeft *left, float *target, int64_t start, int64_t rows, int64_t begin,
                          int64_t depth) {
    const float *source = left->data + begin * left->k_step + start;
    const int64_t width = (rows + WIDTH - 1) / WIDTH * WIDTH, above = left->depth - begin;
    for (int64_t k = 0; k < depth; k++, source += left->k_step, target += rows) {
        if ((depth - k) * rows >= width && (above - k) * left->k_step - start >= width)
            for (int64_t m = 0; m < width; m += WIDTH) vector_store(target + m, vector_load(source + m));
        else
            memcpy(target, source, rows * sizeof(float));
    }
}

void pack_dense(DenseLeft *left, float *packed, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t tile = 0; tile < left->tiles; tile++) {
        const int64_t start = tile_start(left, tile), rows = tile_start(left, tile + 1) - start;
        for (int64_t begin = 0; begin < left->depth; begin += CHUNK) {
            const int64_t depth = chunk_depth(left->depth, begin / CHUNK);
            float *target = packed + begin * left->rows + depth * start;
            if (left->k_step == 1)
                transpose(target, rows, left->data + start * left->row_step + begin, left->row_step, rows, depth);
            else
                pack_adjacent(left, target, start, rows, begin, depth);
        }
    }
    left->data = packed;
    left->packed = 1;
}
