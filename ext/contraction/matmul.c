/* Matrix products: blocks of columns of the right operand are packed, one chunk at a time. */
#include "contraction/dense.h"

#include <stdlib.h>

enum { COLUMNS_PER_BLOCK = 16 * PANEL, COLUMNS_WORTH_PACKING = 128 };

/* Element (k, n) is at data[k * k_stride + n * n_stride]. One of the strides is 1. */
typedef struct {
    const float *data;
    int64_t k_stride, n_stride;
} Right;

typedef struct {
    DenseLeft left;
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
static void make_panels(const Product *product, DensePanel *panels, const float *packed, float *totals, int64_t first,
                        int64_t count) {
    for (int64_t n = 0; n < count; n += PANEL) {
        const int direct = !product->transposed && count - n >= PANEL;
        panels[n / PANEL] = (DensePanel){
            .source = packed + n * CHUNK,
            .target = direct ? product->target + first + n : totals + n * product->left.rows,
            .row_stride = direct ? product->columns : PANEL,
            .bias = direct && product->bias ? product->bias + first + n : NULL,
            .vectors = count - n > WIDTH ? 2 : 1,
        };
    }
}

/* Copies the totals of the rows [begin, end) that are not in the target yet, and adds a bias by column. */
static void finish_columns(const Product *product, const float *totals, int64_t first, int64_t count, int64_t begin,
                           int64_t end) {
    const int64_t rows = product->left.rows;
    for (int64_t n = 0; n < count; n += PANEL) {
        const float *total = totals + n * rows;
        int64_t width = minimum(PANEL, count - n);
        if (product->transposed) {
            transpose(product->target + (first + n) * rows + begin, rows, total + begin * PANEL, PANEL, end - begin,
                      width);
        } else if (width < PANEL) {
            for (int64_t m = begin; m < end; m++) {
                float *target = product->target + m * product->columns + first + n;
                memcpy(target, total + m * PANEL, width * sizeof(float));
                for (int64_t j = 0; product->bias && j < width; j++) target[j] += product->bias[first + n + j];
            }
        }
    }
}

/* Computes `count` columns from `first` of the tiles [from, to). */
static void multiply_columns(const Product *product, float *packed, float *totals, DensePanel *panels, int64_t first,
                             int64_t count, int64_t from, int64_t to) {
    const DenseLeft *left = &product->left;
    make_panels(product, panels, packed, totals, first, count);
    for (int64_t chunk = 0; chunk < chunk_count(left->depth); chunk++) {
        pack_right(&product->right, packed, chunk * CHUNK, chunk_depth(left->depth, chunk), first, count);
        multiply_dense(left, from, to, chunk, panels, (count + PANEL - 1) / PANEL,
                       product->transposed ? product->bias : NULL);
    }
    finish_columns(product, totals, first, count, tile_start(left, from), tile_start(left, to));
}

/* Returns how many parts the rows are divided into: one for each thread if there are far more rows than columns. */
static int64_t row_parts(const Product *product, int threads) {
    return product->columns <= COLUMNS_PER_BLOCK && product->left.tiles >= 4 * threads &&
                   product->left.rows > 2 * product->columns
               ? threads
               : 1;
}

static int multiply(const Product *product, int threads) {
    const int64_t parts = row_parts(product, threads), tiles = product->left.tiles;
    int64_t share = parts > 1 ? product->columns : (product->columns + threads - 1) / threads;
    int64_t width = minimum(COLUMNS_PER_BLOCK, (share + PANEL - 1) / PANEL * PANEL);
    int64_t blocks = (product->columns + width - 1) / width;
    size_t packed = (size_t)width * CHUNK, totals = (size_t)width * product->left.rows;
    /* Only the last panel needs a buffer for totals, unless they are transposed. Unused pages cost nothing. */
    float *scratch = scratch_floats((packed + totals) * threads);
    DensePanel *panels = malloc(threads * (width / PANEL) * sizeof(DensePanel));
    if (scratch && panels) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int64_t i = 0; i < blocks * parts; i++) IN_DEFAULT_ENVIRONMENT {
            const int64_t block = i / parts, part = i % parts;
            float *mine = scratch + (packed + totals) * THREAD_NUMBER;
            multiply_columns(product, mine, mine + packed, panels + THREAD_NUMBER * (width / PANEL), block * width,
                             minimum(width, product->columns - block * width), part * tiles / parts,
                             (part + 1) * tiles / parts);
        }
    }
    free(panels);
    aligned_release(scratch);
    return scratch && panels ? 0 : -1;
}

static DenseLeft left_of(const float *data, int64_t rows, int64_t depth, int64_t row_step, int64_t k_step) {
    return (DenseLeft){data, rows, depth, row_step, k_step, (rows + TILE_ROWS - 1) / TILE_ROWS, 0};
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
    product.left = transposed ? left_of(b, columns, depth, b_column, b_k) : left_of(a, rows, depth, a_row, a_k);
    float *packed = NULL;
    /* Rows that few columns are multiplied with are not worth a copy. */
    if (product.columns > COLUMNS_WORTH_PACKING) {
        packed = scratch_floats((size_t)product.left.rows * depth);
        if (!packed) return -1;
        pack_dense(&product.left, packed, threads);
    }
    int failed = multiply(&product, threads);
    aligned_release(packed);
    return failed ? -1 : 0;
}

int multiply_many(const float *a, const float *b, float *c, int64_t count, int64_t rows, int64_t columns, int64_t depth,
                  int transpose_a, int transpose_b, int threads) {
    int64_t a_row = transpose_a ? 1 : depth, a_k = transpose_a ? rows : 1;
    int64_t b_column = transpose_b ? depth : 1, b_k = transpose_b ? 1 : columns;
    int transposed = columns < PANEL && rows > columns;
    int64_t left_rows = transposed ? columns : rows, right_columns = transposed ? rows : columns;
    int64_t left_row = transposed ? b_column : a_row, left_k = transposed ? b_k : a_k;
    int64_t width = minimum(COLUMNS_PER_BLOCK, (right_columns + PANEL - 1) / PANEL * PANEL);
    int copied = left_k > 1 && depth > CHUNK; /* otherwise few lines of the cache are in one set */
    size_t left = copied ? (size_t)(left_rows * depth + PANEL - 1) / PANEL * PANEL : 0, packed = (size_t)width * CHUNK;
    size_t mine = left + packed + (size_t)width * left_rows;
    float *scratch = scratch_floats(mine * threads);
    DensePanel *panels = malloc(threads * (width / PANEL) * sizeof(DensePanel));
    int failed = !scratch || !panels;
    if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t g = 0; g < count; g++) IN_DEFAULT_ENVIRONMENT {
            const float *a_of = a + g * rows * depth, *b_of = b + g * depth * columns;
            float *memory = scratch + mine * THREAD_NUMBER;
            Product product = {.left = left_of(transposed ? b_of : a_of, left_rows, depth, left_row, left_k),
                               .target = c + g * rows * columns, .columns = right_columns, .transposed = transposed};
            product.right = transposed ? (Right){a_of, a_k, a_row} : (Right){b_of, b_k, b_column};
            if (copied) pack_dense(&product.left, memory, 1);
            for (int64_t first = 0; first < right_columns; first += width)
                multiply_columns(&product, memory + left, memory + left + packed,
                                 panels + THREAD_NUMBER * (width / PANEL), first,
                                 minimum(width, right_columns - first), 0, product.left.tiles);
        }
    }
    free(panels);
    aligned_release(scratch);
    return failed ? -1 : 0;
}
