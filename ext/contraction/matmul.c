/* Matrix products: blocks of columns of the right operand are packed, one chunk at a time. */
#include "contraction/tile.h"

#include <stdlib.h>

enum { COLUMNS_PER_BLOCK = 16 * PANEL };

/* Element (k, n) is at data[k * k_stride + n * n_stride]. One of the strides is 1. */
typedef struct {
    const float *data;
    int64_t k_stride, n_stride;
} Right;

typedef struct {
    LeftMatrix left;
    Right right;
    const float *bias; /* per column, or per row if transposed */
    float *target;
    int64_t columns;
    int transposed; /* the total of (m, n) is stored at target[n * left.rows + m] */
} Product;


/* Packs `count` columns from `first` of the chunk of `depth` from k = begin. Missing lanes are arbitrary. */
static void pack_right(const Right *right, float *packed, int64_t begin, int64_t depth, int64_t first, int64_t count) {
    const float *data = right->data + begin * right->k_stride + first * right->n_stride;
    if (right->n_stride != 1) {
        for (int64_t n = 0; n < count; n += PANEL)
            transpose(packed + n * CHUNK, PANEL, data + n * right->n_stride, right->n_stride, minimum(PANEL, count - n),
                      depth);
        return;
    }
    for (int64_t k = 0; k < depth; k++, data += right->k_stride) {
        float *target = packed + k * PANEL;
        for (int64_t n = 0; n < count; n += PANEL, target += PANEL * CHUNK) {
            if (count - n >= PANEL) {
                vector_store(target, vector_load(data + n));
                vector_store(target + WIDTH, vector_load(data + n + WIDTH));
            } else {
                memcpy(target, data + n, (count - n) * sizeof(float));
            }
        }
    }
}

/* Creates the block's panels. Totals that cannot be written to the target directly go to `totals` (rows, PANEL). */
static void make_panels(const Product *product, Panel *panels, float *packed, float *totals, int64_t first,
                        int64_t count) {
    for (int64_t n = 0; n < count; n += PANEL) {
        Panel *panel = panels + n / PANEL;
        int direct = !product->transposed && count - n >= PANEL;
        float *target = direct ? product->target + first + n : totals + n * product->left.rows;
        *panel = (Panel){{packed + n * CHUNK, packed + n * CHUNK + WIDTH}, {target, target + WIDTH},
                         direct ? product->columns : PANEL};
        if (count - n <= WIDTH) panel->source[1] = panel->target[1] = NULL;
    }
}

/* Copies totals that are not in the target yet, and adds a bias by column. */
static void finish_columns(const Product *product, const float *totals, int64_t first, int64_t count) {
    int64_t rows = product->left.rows;
    for (int64_t n = 0; n < count; n += PANEL) {
        const float *total = totals + n * rows;
        int64_t width = minimum(PANEL, count - n);
        if (product->transposed) {
            transpose(product->target + (first + n) * rows, rows, total, PANEL, rows, width);
            continue;
        }
        for (int64_t m = 0; m < rows; m++) {
            float *target = product->target + m * product->columns + first + n;
            if (width < PANEL) memcpy(target, total + m * PANEL, width * sizeof(float));
            for (int64_t j = 0; product->bias && j < width; j++) target[j] += product->bias[first + n + j];
        }
    }
}

static void multiply_columns(const Product *product, float *packed, float *totals, Panel *panels, int64_t first,
                             int64_t count) {
    const LeftMatrix *left = &product->left;
    Step steps[CHUNK];
    packed_steps(steps);
    make_panels(product, panels, packed, totals, first, count);
    for (int64_t chunk = 0; chunk < chunk_count(left->depth); chunk++) {
        int64_t depth = chunk_depth(left->depth, chunk);
        pack_right(&product->right, packed, chunk * CHUNK, depth, first, count);
        multiply_panels(left, chunk, panels, (count + PANEL - 1) / PANEL, steps, depth,
                        product->transposed ? product->bias : NULL);
    }
    finish_columns(product, totals, first, count);
}

static int multiply(const Product *product, int threads) {
    int64_t share = (product->columns + threads - 1) / threads;
    int64_t width = minimum(COLUMNS_PER_BLOCK, (share + PANEL - 1) / PANEL * PANEL);
    int64_t blocks = (product->columns + width - 1) / width;
    size_t packed = (size_t)width * CHUNK, totals = (size_t)width * product->left.rows;
    /* Only the last panel needs a buffer for totals, unless they are transposed. Unused pages cost nothing. */
    float *scratch = scratch_floats((packed + totals) * threads);
    Panel *panels = malloc(threads * (width / PANEL) * sizeof(Panel));
    if (scratch && panels) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int64_t block = 0; block < blocks; block++) IN_DEFAULT_ENVIRONMENT {
            float *mine = scratch + (packed + totals) * THREAD_NUMBER;
            multiply_columns(product, mine, mine + packed, panels + THREAD_NUMBER * (width / PANEL), block * width,
                             minimum(width, product->columns - block * width));
        }
    }
    free(panels);
    aligned_release(scratch);
    return scratch && panels ? 0 : -1;
}

static int64_t *offsets_of(int64_t depth, int64_t k_stride) {
    int64_t *k_offset = malloc((depth + 1) * sizeof(int64_t));
    for (int64_t k = 0; k < depth && k_offset; k++) k_offset[k] = k * k_stride;
    return k_offset;
}

static int pack_whole_left(LeftMatrix *left, int64_t rows, const float *source, int64_t row_stride, int64_t k_stride,
                           int64_t depth, int threads) {
    int64_t *k_offset = offsets_of(depth, k_stride);
    int failed = !k_offset || make_left(left, rows, depth, source, row_stride, k_offset, threads);
    free(k_offset);
    return failed ? -1 : 0;
}

int KERNEL(matmul)(const float *a, const float *b, const float *bias, float *c, int64_t rows, int64_t columns,
                   int64_t depth, int transpose_a, int transpose_b, int threads) {
    int64_t a_row = transpose_a ? 1 : depth, a_k = transpose_a ? rows : 1;
    int64_t b_column = transpose_b ? depth : 1, b_k = transpose_b ? 1 : columns;
    /* Products are commutative, so few columns become rows: full vectors instead of empty lanes. */
    int transposed = columns < PANEL && rows > columns;
    Product product = {.bias = bias, .target = c, .transposed = transposed, .columns = transposed ? rows : columns};
    if (rows * columns == 0) return 0;
    product.right = transposed ? (Right){a, a_k, a_row} : (Right){b, b_k, b_column};
    int failed = transposed ? pack_whole_left(&product.left, columns, b, b_column, b_k, depth, threads)
                            : pack_whole_left(&product.left, rows, a, a_row, a_k, depth, threads);
    failed = failed || multiply(&product, threads);
    aligned_release(product.left.packed);
    return failed ? -1 : 0;
}

int multiply_many(const float *a, const float *b, float *c, int64_t count, int64_t rows, int64_t columns, int64_t depth,
                  int transpose_a, int transpose_b, int threads) {
    int64_t a_row = transpose_a ? 1 : depth, a_k = transpose_a ? rows : 1;
    int64_t b_column = transpose_b ? depth : 1, b_k = transpose_b ? 1 : columns;
    int transposed = columns < PANEL && rows > columns;
    int64_t left_rows = transposed ? columns : rows, right_columns = transposed ? rows : columns;
    int64_t width = minimum(COLUMNS_PER_BLOCK, (right_columns + PANEL - 1) / PANEL * PANEL);
    size_t left = (size_t)(left_rows * depth + PANEL - 1) / PANEL * PANEL, packed = (size_t)width * CHUNK;
    size_t mine = left + packed + (size_t)width * left_rows;
    int64_t *k_offset = offsets_of(depth, transposed ? b_k : a_k);
    float *scratch = scratch_floats(mine * threads);
    Panel *panels = malloc(threads * (width / PANEL) * sizeof(Panel));
    int failed = !k_offset || !scratch || !panels;
    if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t g = 0; g < count; g++) IN_DEFAULT_ENVIRONMENT {
            const float *a_of = a + g * rows * depth, *b_of = b + g * depth * columns;
            float *memory = scratch + mine * THREAD_NUMBER;
            Product product = {.left = {.packed = memory}, .target = c + g * rows * columns,
                               .columns = right_columns, .transposed = transposed};
            product.right = transposed ? (Right){a_of, a_k, a_row} : (Right){b_of, b_k, b_column};
            pack_left(&product.left, left_rows, depth, transposed ? b_of : a_of, transposed ? b_column : a_row, k_offset);
            for (int64_t first = 0; first < right_columns; first += width)
                multiply_columns(&product, memory + left, memory + left + packed,
                                 panels + THREAD_NUMBER * (width / PANEL), first,
                                 minimum(width, right_columns - first));
        }
    }
    free(k_offset);
    free(panels);
    aligned_release(scratch);
    return failed ? -1 : 0;
}
