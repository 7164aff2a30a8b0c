/* Correlations of small images, a vector of images at a time: see contraction_correlation.h.
 *
 * A block of images is transposed to (channel, place, image), so that any place of the source is a whole vector, and
 * each target position has just the steps whose places exist: no padding, no dilation, no patches. Positions whose
 * steps are the same but for where they start form a class. */
#include <math.h>
#include <stdlib.h>
#include "contraction_correlation.h"

enum { MOST_FLOATS = 5 << 18, MOST_POSITIONS = 256 }; /* of source and target in a block; per image */

/* Target rows (or columns) that have the same taps, at the same distances: each starts reading at start[i]. */
typedef struct {
    long count;
    long *members, *start; /* start: of the source row that is at distance 0 */
    long *distance;        /* per tap; -1: none */
} AxisClass;

typedef struct {
    const AxisClass *rows, *columns;
    Step *steps;
    long *end; /* of each chunk */
    Panel *panels;
} Class;

static long smaller(long a, long b) { return a < b ? a : b; }

/* -- the definition, for zeros ----------------------------------------------------------------------------------- */

static float element(const Correlation *correlation, long image, long row, long i, long j) {
    long taps = correlation->kernel_height * correlation->kernel_width;
    const float *source = correlation->source + image * correlation->source_image;
    const float *weights = correlation->weights + row * correlation->weight_row;
    float total = 0, sum = 0;
    for (long k = 0; k < correlation->depth; k++) {
        long from_row = correlation->row_of[i * correlation->kernel_height + k % taps / correlation->kernel_width];
        long from_column = correlation->column_of[j * correlation->kernel_width + k % correlation->kernel_width];
        long place = (k / taps * correlation->source_height + from_row) * correlation->source_width + from_column;
        sum = fmaf(weights[correlation->weight_offset[k]], from_row < 0 || from_column < 0 ? 0 : source[place], sum);
        if ((k + 1) % CHUNK == 0 || k + 1 == correlation->depth) {
            total = k < CHUNK ? sum : total + sum;
            sum = 0;
        }
    }
    return correlation->bias ? total + correlation->bias[row] : total;
}

void settle_zero_signs(const Correlation *correlation, long image) {
    long grid = correlation->height * correlation->width, count = correlation->rows * grid;
    float *target = correlation->target + image * correlation->target_image;
    uint32_t any = 0, bits;
    for (long i = 0; i < count; i++) {
        memcpy(&bits, target + i, sizeof bits);
        any |= bits == 0x80000000u;
    }
    for (long i = 0; any && i < count; i++)
        if (target[i] == 0 && signbit(target[i]))
            target[i] = element(correlation, image, i / grid, i % grid / correlation->width, i % correlation->width);
}

int all_finite(const float *values, long count) {
    uint32_t largest = 0, bits;
    for (long i = 0; i < count; i++) {
        memcpy(&bits, values + i, sizeof bits);
        bits &= 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7f800000u;
}

/* -- classes ----------------------------------------------------------------------------------------------------- */

static long first_place(const long *places, long taps) {
    for (long r = 0; r < taps; r++)
        if (places[r] >= 0) return places[r];
    return 0;
}

static int belongs(const AxisClass *class, const long *places, long taps) {
    long start = first_place(places, taps);
    for (long r = 0; r < taps; r++)
        if (class->distance[r] != (places[r] < 0 ? -1 : places[r] - start)) return 0;
    return 1;
}

static void free_axis(AxisClass *classes, long count) {
    for (long c = 0; classes && c < count; c++) {
        free(classes[c].members);
        free(classes[c].start);
        free(classes[c].distance);
    }
    free(classes);
}

/* Parts the `size` places of an axis into classes; NULL when memory ran out. */
static AxisClass *part_axis(const long *places, long size, long taps, long *count) {
    AxisClass *classes = calloc(size, sizeof(AxisClass));
    *count = 0;
    for (long i = 0; classes && i < size; i++, places += taps) {
        long c = 0, start = first_place(places, taps);
        while (c < *count && !belongs(classes + c, places, taps)) c++;
        AxisClass *class = classes + c;
        if (c == *count) {
            ++*count;
            class->members = malloc(size * sizeof(long));
            class->start = malloc(size * sizeof(long));
            class->distance = malloc((taps + 1) * sizeof(long));
            if (!class->members || !class->start || !class->distance) {
                free_axis(classes, *count);
                return NULL;
            }
            for (long r = 0; r < taps; r++) class->distance[r] = places[r] < 0 ? -1 : places[r] - start;
        }
        class->start[class->count] = start;
        class->members[class->count++] = i;
    }
    return classes;
}

static int list_class(Class *class, const Correlation *correlation, const AxisClass *rows, const AxisClass *columns,
                      int threads) {
    long taps = correlation->kernel_height * correlation->kernel_width, count = 0;
    long plane = correlation->source_height * correlation->source_width;
    *class = (Class){rows, columns, malloc((correlation->depth + 1) * sizeof(Step)),
                     calloc(chunk_count(correlation->depth), sizeof(long)),
                     malloc(threads * rows->count * columns->count * sizeof(Panel))};
    if (!class->steps || !class->end || !class->panels) return -1;
    for (long k = 0; k < correlation->depth; k++) {
        long r = rows->distance[k % taps / correlation->kernel_width];
        long s = columns->distance[k % correlation->kernel_width];
        if (r >= 0 && s >= 0)
            class->steps[count++] =
                (Step){k % CHUNK, (k / taps * plane + r * correlation->source_width + s) * PANEL};
        class->end[k / CHUNK] = count;
    }
    return 0;
}

/* -- a block of images ------------------------------------------------------------------------------------------- */

/* Panels of a class: one for each of its positions. */
static void make_panels(const Class *class, Panel *panel, const Correlation *correlation, const float *source,
                        float *totals, long vectors) {
    for (long a = 0; a < class->rows->count; a++)
        for (long b = 0; b < class->columns->count; b++, panel++) {
            long place = class->rows->start[a] * correlation->source_width + class->columns->start[b];
            long position = class->rows->members[a] * correlation->width + class->columns->members[b];
            for (long v = 0; v < 2; v++) {
                panel->source[v] = v < vectors ? source + place * PANEL + v * WIDTH : NULL;
                panel->target[v] = v < vectors ? totals + position * PANEL + v * WIDTH : NULL;
            }
            panel->row_stride = correlation->height * correlation->width * PANEL;
        }
}

static void run_block(const Correlation *correlation, const LeftMatrix *left, const Class *classes, long class_count,
                      float *source, float *totals, long first_image, long images) {
    long vectors = (images + WIDTH - 1) / WIDTH;
    long place = correlation->channels * correlation->source_height * correlation->source_width;
    long grid = correlation->rows * correlation->height * correlation->width;
    transpose(source, PANEL, correlation->source + first_image * correlation->source_image, correlation->source_image,
              images, place);
    for (long c = 0; c < class_count; c++) {
        long count = classes[c].rows->count * classes[c].columns->count;
        make_panels(classes + c, classes[c].panels + THREAD_NUMBER * count, correlation, source, totals, vectors);
    }
    for (long chunk = 0; chunk < chunk_count(left->depth); chunk++)
        for (long c = 0; c < class_count; c++) {
            const Class *class = classes + c;
            long begin = chunk ? class->end[chunk - 1] : 0, count = class->rows->count * class->columns->count;
            multiply_panels(left, chunk, class->panels + THREAD_NUMBER * count, count, class->steps + begin,
                            class->end[chunk] - begin, correlation->bias);
        }
    transpose(correlation->target + first_image * correlation->target_image, correlation->target_image, totals, PANEL,
              grid, images);
    for (long n = 0; n < images; n++) settle_zero_signs(correlation, first_image + n);
}

static int run_blocks(const Correlation *correlation, const Class *classes, long class_count, int threads) {
    size_t source = (size_t)correlation->channels * correlation->source_height * correlation->source_width * PANEL;
    size_t totals = (size_t)correlation->rows * correlation->height * correlation->width * PANEL;
    float *scratch = scratch_floats((source + totals) * threads);
    LeftMatrix left = {0};
    long share = (correlation->images + threads - 1) / threads, block = share > WIDTH ? PANEL : WIDTH;
    int failed = !scratch || make_left(&left, correlation->rows, correlation->depth, correlation->weights,
                                       correlation->weight_row, correlation->weight_offset, threads);
    if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (long image = 0; image < correlation->images; image += block) {
            float *mine = scratch + (source + totals) * THREAD_NUMBER;
            run_block(correlation, &left, classes, class_count, mine, mine + source, image,
                      smaller(block, correlation->images - image));
        }
    }
    free(left.packed);
    free(scratch);
    return failed ? -1 : 0;
}

int correlate_images(const Correlation *correlation, int threads) {
    long rows, columns;
    AxisClass *row_classes = part_axis(correlation->row_of, correlation->height, correlation->kernel_height, &rows);
    AxisClass *column_classes =
        part_axis(correlation->column_of, correlation->width, correlation->kernel_width, &columns);
    Class *classes = row_classes && column_classes ? calloc(rows * columns, sizeof(Class)) : NULL;
    int failed = classes == NULL;
    for (long c = 0; c < rows * columns && !failed; c++)
        failed = list_class(classes + c, correlation, row_classes + c / columns, column_classes + c % columns, threads);
    failed = failed || run_blocks(correlation, classes, rows * columns, threads);
    for (long c = 0; classes && c < rows * columns; c++) {
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
    long per_image = correlation->channels * correlation->source_height * correlation->source_width +
                     correlation->rows * correlation->height * correlation->width;
    long lanes = (correlation->images + WIDTH - 1) / WIDTH * WIDTH;
    return correlation->kernel_height * correlation->kernel_width > 1 &&
           correlation->height * correlation->width <= MOST_POSITIONS && 8 * (lanes - correlation->images) <= lanes &&
           per_image * PANEL <= MOST_FLOATS;
}
