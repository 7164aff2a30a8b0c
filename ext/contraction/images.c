/* Correlations of small images, one vector of images at a time (convolution.h).
 *
 * A block of images is transposed to (channel, position, image), so that each position of the source is a whole vector.
 * Each target position has only the steps whose positions exist, without padding, dilation or patches. Positions with
 * the same steps relative to their start form a class. */
#include "contraction/convolution.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_FLOATS = 5 << 18, MOST_POSITIONS = 256 }; /* of source and target in a block; of an image */

/* Target rows (or columns) that have the same taps at the same distances. Each starts reading at start[i]. */
typedef struct {
    int64_t count;
    int64_t *members, *start; /* start: of the source row that is at distance 0 */
    int64_t *distance;        /* per tap; -1: none */
} AxisClass;

typedef struct {
    const AxisClass *rows, *columns;
    Step *steps;
    int64_t *end; /* of each chunk */
    Panel *panels;
} Class;


/* -- the definition, for zeros ----------------------------------------------------------------------------------- */

static float element(const Correlation *correlation, int64_t image, int64_t row, int64_t i, int64_t j) {
    int64_t taps = correlation->kernel_height * correlation->kernel_width;
    const float *source = correlation->source + image * correlation->source_image;
    const float *weights = correlation->weights + row * correlation->weight_row;
    float total = 0, sum = 0;
    for (int64_t k = 0; k < correlation->depth; k++) {
        int64_t from_row = correlation->row_of[i * correlation->kernel_height + k % taps / correlation->kernel_width];
        int64_t from_column = correlation->column_of[j * correlation->kernel_width + k % correlation->kernel_width];
        int64_t place = (k / taps * correlation->source_height + from_row) * correlation->source_width + from_column;
        sum = fmaf(weights[correlation->weight_offset[k]], from_row < 0 || from_column < 0 ? 0 : source[place], sum);
        if ((k + 1) % CHUNK == 0 || k + 1 == correlation->depth) {
            total = k < CHUNK ? sum : total + sum;
            sum = 0;
        }
    }
    return correlation->bias ? total + correlation->bias[row] : total;
}

void resolve_zero_signs(const Correlation *correlation, int64_t image) {
    int64_t grid = correlation->height * correlation->width, count = correlation->rows * grid;
    float *target = correlation->target + image * correlation->target_image;
    uint32_t any = 0, bits;
    for (int64_t i = 0; i < count; i++) {
        memcpy(&bits, target + i, sizeof bits);
        any |= bits == 0x80000000u;
    }
    for (int64_t i = 0; any && i < count; i++)
        if (target[i] == 0 && signbit(target[i]))
            target[i] = element(correlation, image, i / grid, i % grid / correlation->width, i % correlation->width);
}

int is_finite(const float *values, int64_t count) {
    uint32_t largest = 0, bits;
    for (int64_t i = 0; i < count; i++) {
        memcpy(&bits, values + i, sizeof bits);
        bits &= 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7f800000u;
}

/* -- classes ----------------------------------------------------------------------------------------------------- */

static int64_t first_place(const int64_t *places, int64_t taps) {
    for (int64_t r = 0; r < taps; r++)
        if (places[r] >= 0) return places[r];
    return 0;
}

static int belongs(const AxisClass *class, const int64_t *places, int64_t taps) {
    int64_t start = first_place(places, taps);
    for (int64_t r = 0; r < taps; r++)
        if (class->distance[r] != (places[r] < 0 ? -1 : places[r] - start)) return 0;
    return 1;
}

static void free_axis(AxisClass *classes, int64_t count) {
    for (int64_t c = 0; classes && c < count; c++) {
        free(classes[c].members);
        free(classes[c].start);
        free(classes[c].distance);
    }
    free(classes);
}

/* Sorts the `size` positions of an axis into classes. Returns NULL without memory. */
static AxisClass *part_axis(const int64_t *places, int64_t size, int64_t taps, int64_t *count) {
    AxisClass *classes = calloc(size, sizeof(AxisClass));
    *count = 0;
    for (int64_t i = 0; classes && i < size; i++, places += taps) {
        int64_t c = 0, start = first_place(places, taps);
        while (c < *count && !belongs(classes + c, places, taps)) c++;
        AxisClass *class = classes + c;
        if (c == *count) {
            ++*count;
            class->members = malloc(size * sizeof(int64_t));
            class->start = malloc(size * sizeof(int64_t));
            class->distance = malloc((taps + 1) * sizeof(int64_t));
            if (!class->members || !class->start || !class->distance) {
                free_axis(classes, *count);
                return NULL;
            }
            for (int64_t r = 0; r < taps; r++) class->distance[r] = places[r] < 0 ? -1 : places[r] - start;
        }
        class->start[class->count] = start;
        class->members[class->count++] = i;
    }
    return classes;
}

static int list_class(Class *class, const Correlation *correlation, const AxisClass *rows, const AxisClass *columns,
                      int threads) {
    int64_t taps = correlation->kernel_height * correlation->kernel_width, count = 0;
    int64_t plane = correlation->source_height * correlation->source_width;
    *class = (Class){rows, columns, malloc((correlation->depth + 1) * sizeof(Step)),
                     calloc(chunk_count(correlation->depth), sizeof(int64_t)),
                     malloc(threads * rows->count * columns->count * sizeof(Panel))};
    if (!class->steps || !class->end || !class->panels) return -1;
    for (int64_t k = 0; k < correlation->depth; k++) {
        int64_t r = rows->distance[k % taps / correlation->kernel_width];
        int64_t s = columns->distance[k % correlation->kernel_width];
        if (r >= 0 && s >= 0)
            class->steps[count++] =
                (Step){k % CHUNK, (k / taps * plane + r * correlation->source_width + s) * PANEL};
        class->end[k / CHUNK] = count;
    }
    return 0;
}

/* -- a block of images ------------------------------------------------------------------------------------------- */

/* The panels of a class, one for each of its positions. */
static void make_panels(const Class *class, Panel *panel, const Correlation *correlation, const float *source,
                        float *totals, int64_t vectors) {
    for (int64_t a = 0; a < class->rows->count; a++)
        for (int64_t b = 0; b < class->columns->count; b++, panel++) {
            int64_t place = class->rows->start[a] * correlation->source_width + class->columns->start[b];
            int64_t position = class->rows->members[a] * correlation->width + class->columns->members[b];
            for (int64_t v = 0; v < 2; v++) {
                panel->source[v] = v < vectors ? source + place * PANEL + v * WIDTH : NULL;
                panel->target[v] = v < vectors ? totals + position * PANEL + v * WIDTH : NULL;
            }
            panel->row_stride = correlation->height * correlation->width * PANEL;
        }
}

static void run_block(const Correlation *correlation, const LeftMatrix *left, const Class *classes, int64_t class_count,
                      float *source, float *totals, int64_t first_image, int64_t images) {
    int64_t vectors = (images + WIDTH - 1) / WIDTH;
    int64_t place = correlation->channels * correlation->source_height * correlation->source_width;
    int64_t grid = correlation->rows * correlation->height * correlation->width;
    transpose(source, PANEL, correlation->source + first_image * correlation->source_image, correlation->source_image,
              images, place);
    for (int64_t c = 0; c < class_count; c++) {
        int64_t count = classes[c].rows->count * classes[c].columns->count;
        make_panels(classes + c, classes[c].panels + THREAD_NUMBER * count, correlation, source, totals, vectors);
    }
    for (int64_t chunk = 0; chunk < chunk_count(left->depth); chunk++)
        for (int64_t c = 0; c < class_count; c++) {
            const Class *class = classes + c;
            int64_t begin = chunk ? class->end[chunk - 1] : 0, count = class->rows->count * class->columns->count;
            multiply_panels(left, chunk, class->panels + THREAD_NUMBER * count, count, class->steps + begin,
                            class->end[chunk] - begin, correlation->bias);
        }
    transpose(correlation->target + first_image * correlation->target_image, correlation->target_image, totals, PANEL,
              grid, images);
    for (int64_t n = 0; n < images; n++) resolve_zero_signs(correlation, first_image + n);
}

static int run_blocks(const Correlation *correlation, const Class *classes, int64_t class_count, int threads) {
    size_t source = (size_t)correlation->channels * correlation->source_height * correlation->source_width * PANEL;
    size_t totals = (size_t)correlation->rows * correlation->height * correlation->width * PANEL;
    float *scratch = scratch_floats((source + totals) * threads);
    LeftMatrix left = {0};
    int64_t share = (correlation->images + threads - 1) / threads, block = share > WIDTH ? PANEL : WIDTH;
    int failed = !scratch || make_left(&left, correlation->rows, correlation->depth, correlation->weights,
                                       correlation->weight_row, correlation->weight_offset, threads);
    if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int64_t image = 0; image < correlation->images; image += block) IN_DEFAULT_ENVIRONMENT {
            float *mine = scratch + (source + totals) * THREAD_NUMBER;
            run_block(correlation, &left, classes, class_count, mine, mine + source, image,
                      minimum(block, correlation->images - image));
        }
    }
    aligned_release(left.packed);
    aligned_release(scratch);
    return failed ? -1 : 0;
}

int correlate_images(const Correlation *correlation, int threads) {
    int64_t rows, columns;
    AxisClass *row_classes = part_axis(correlation->row_of, correlation->height, correlation->kernel_height, &rows);
    AxisClass *column_classes =
        part_axis(correlation->column_of, correlation->width, correlation->kernel_width, &columns);
    Class *classes = row_classes && column_classes ? calloc(rows * columns, sizeof(Class)) : NULL;
    int failed = classes == NULL;
    for (int64_t c = 0; c < rows * columns && !failed; c++)
        failed = list_class(classes + c, correlation, row_classes + c / columns, column_classes + c % columns, threads);
    failed = failed || run_blocks(correlation, classes, rows * columns, threads);
    for (int64_t c = 0; classes && c < rows * columns; c++) {
        free(classes[c].steps);
        free(classes[c].end);
        free(classes[c].panels);
    }
    free(classes);
    free_axis(row_classes, rows);
    free_axis(column_classes, columns);
    return failed ? -1 : 0;
}

int suits_images(const Correlation *correlation) {
    int64_t per_image = correlation->channels * correlation->source_height * correlation->source_width +
                     correlation->rows * correlation->height * correlation->width;
    int64_t lanes = (correlation->images + WIDTH - 1) / WIDTH * WIDTH;
    return correlation->kernel_height * correlation->kernel_width > 1 &&
           correlation->height * correlation->width <= MOST_POSITIONS && 8 * (lanes - correlation->images) <= lanes &&
           per_image * PANEL <= MOST_FLOATS;
}
