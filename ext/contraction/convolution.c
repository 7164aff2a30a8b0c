/* Convolution and its gradient by the input: each group is a correlation, computed with images or with positions as the
 * lanes of vectors. */
#include "contraction/convolution.h"
#include "contraction/dense.h"

#include <stdlib.h>

static int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* The remainder that is not negative, and the quotient rounded down. */
static int64_t modulo(int64_t a, int64_t b) { return ((a % b) + b) % b; }
static int64_t floor_divide(int64_t a, int64_t b) { return (a - modulo(a, b)) / b; }

/* -- tables of a correlation ------------------------------------------------------------------------------------- */

/* table[i * taps + r] = (i * step + r - before) / dilation if that is an integer in 0 .. size - 1, else -1. */
static int64_t *places(int64_t count, int64_t taps, int64_t step, int64_t before, int64_t dilation, int64_t size) {
    int64_t *table = malloc((count * taps + 1) * sizeof(int64_t));
    for (int64_t i = 0; table && i < count * taps; i++) {
        int64_t place = i / taps * step + i % taps - before;
        table[i] = place >= 0 && place % dilation == 0 && place / dilation < size ? place / dilation : -1;
    }
    return table;
}

static int add_tables(Correlation *correlation, const Convolution *shape, int flipped) {
    int64_t taps = shape->kernel_height * shape->kernel_width, channels = shape->channels / shape->groups;
    int gradient = flipped;
    int64_t top = gradient ? shape->kernel_height - 1 - shape->padding_height : shape->padding_height;
    int64_t left = gradient ? shape->kernel_width - 1 - shape->padding_width : shape->padding_width;
    correlation->kernel_height = shape->kernel_height;
    correlation->kernel_width = shape->kernel_width;
    correlation->depth = correlation->channels * taps;
    correlation->weight_row = gradient ? taps : correlation->depth;
    correlation->weight_offset = malloc((correlation->depth + 1) * sizeof(int64_t));
    correlation->row_of = places(correlation->height, shape->kernel_height, gradient ? 1 : shape->stride_height, top,
                                 gradient ? shape->stride_height : 1, correlation->source_height);
    correlation->column_of = places(correlation->width, shape->kernel_width, gradient ? 1 : shape->stride_width, left,
                                    gradient ? shape->stride_width : 1, correlation->source_width);
    if (!correlation->weight_offset || !correlation->row_of || !correlation->column_of) return -1;
    for (int64_t k = 0; k < correlation->depth; k++)
        correlation->weight_offset[k] = gradient ? k / taps * channels * taps + taps - 1 - k % taps : k;
    return 0;
}

static void free_tables(Correlation *correlation) {
    free(correlation->weight_offset);
    free(correlation->row_of);
    free(correlation->column_of);
}

/* -- parts of positions ------------------------------------------------------------------------------------------ */

/* Creates the list of a part: the k = (channel, r, s) with 0 <= row[r] and 0 <= column[s], the positions that the tap
 * reads in a channel of channel_size. */
static int list_steps(Part *part, const Correlation *correlation, const int64_t *row, const int64_t *column,
                      int64_t channel_size) {
    int64_t taps = correlation->kernel_height * correlation->kernel_width, count = 0;
    part->list.steps = malloc((correlation->depth + 1) * sizeof(Step));
    part->list.end = calloc(chunk_count(correlation->depth), sizeof(int64_t));
    if (!part->list.steps || !part->list.end) return -1;
    for (int64_t k = 0; k < correlation->depth; k++) {
        int64_t r = k % taps / correlation->kernel_width, s = k % correlation->kernel_width;
        if (row[r] >= 0 && column[s] >= 0)
            part->list.steps[count++] = (Step){k % CHUNK, k / taps * channel_size + row[r] + column[s]};
        part->list.end[k / CHUNK] = count;
    }
    return 0;
}

static int run_positions(Positions *positions, const Correlation *correlation, int failed, int threads) {
    failed = failed || make_left(&positions->left, correlation->rows, correlation->depth, correlation->weights,
                                 correlation->weight_row, correlation->weight_offset, threads);
    failed = failed || multiply_positions(positions, threads);
    aligned_release(positions->left.packed);
    for (int64_t p = 0; p < positions->part_count; p++) {
        free(positions->parts[p].list.steps);
        free(positions->parts[p].list.end);
    }
    return failed ? -1 : 0;
}

static Positions positions_of(const Correlation *correlation, Part *parts) {
    return (Positions){
        .parts = parts, .images = correlation->images, .target = correlation->target, .bias = correlation->bias,
        .target_image_stride = correlation->target_image,
        .target_channel_stride = correlation->height * correlation->width,
        .source = {.images = correlation->source, .image_stride = correlation->source_image,
                   .channels = correlation->channels, .height = correlation->source_height,
                   .width = correlation->source_width, .dilation_height = 1, .dilation_width = 1,
                   .take_height = 1, .take_width = 1, .phases = 1},
    };
}

/* -- forward ----------------------------------------------------------------------------------------------------- */

/* One part. A kernel with one tap needs only the positions it reads. For larger ones columns are sorted by phase. */
static int forward_positions(const Correlation *correlation, const Convolution *shape, int threads) {
    Part part = {.height = correlation->height, .width = correlation->width, .row_stride = correlation->width,
                 .column_stride = 1};
    Positions positions = positions_of(correlation, &part);
    Source *source = &positions.source;
    int64_t *row = malloc(shape->kernel_height * sizeof(int64_t));
    int64_t *column = malloc(shape->kernel_width * sizeof(int64_t));
    int failed = !row || !column;
    positions.part_count = 1;
    plan_blocks(&positions, part.height, part.width, 1, threads);
    source->top = shape->padding_height;
    source->left = shape->padding_width;
    source->take_height = shape->kernel_height == 1 ? shape->stride_height : 1;
    source->take_width = shape->kernel_width == 1 ? shape->stride_width : 1;
    source->phases = shape->stride_width / source->take_width;
    source->in_place = source->top == 0 && source->left == 0 && source->take_height == 1 && source->take_width == 1 &&
                       source->phases == 1;
    int64_t row_step = shape->stride_height / source->take_height;
    source->rows = source->in_place ? shape->height : (positions.rows_per_block - 1) * row_step + shape->kernel_height;
    source->columns = source->in_place ? shape->width : part.width + (shape->kernel_width - 1) / source->phases;
    part.row_step = row_step * source->phases * source->columns;
    for (int64_t r = 0; r < shape->kernel_height && !failed; r++) row[r] = r * source->phases * source->columns;
    for (int64_t s = 0; s < shape->kernel_width && !failed; s++)
        column[s] = s % source->phases * source->columns + s / source->phases;
    failed = failed || list_steps(&part, correlation, row, column, source->rows * source->phases * source->columns);
    failed = run_positions(&positions, correlation, failed, threads);
    free(row);
    free(column);
    return failed;
}

static int forward_group(const Convolution *shape, const float *x, const float *w, const float *bias, float *y,
                         int threads) {
    Correlation correlation = {
        .images = shape->images, .source = x, .source_image = shape->channels * shape->height * shape->width,
        .channels = shape->channels / shape->groups, .source_height = shape->height, .source_width = shape->width,
        .target = y, .target_image = shape->outputs * shape->out_height * shape->out_width,
        .rows = shape->outputs / shape->groups, .height = shape->out_height, .width = shape->out_width,
        .weights = w, .bias = bias,
    };
    int failed = add_tables(&correlation, shape, 0);
    if (!failed)
        failed = suits_images(&correlation) && is_finite(w, correlation.rows * correlation.depth)
                     ? correlate_images(&correlation, threads)
                     : forward_positions(&correlation, shape, threads);
    free_tables(&correlation);
    return failed;
}

int KERNEL(convolution_forward)(const Convolution *shape, const float *x, const float *w, const float *bias, float *y,
                                int threads) {
    int64_t outputs = shape->outputs / shape->groups, channels = shape->channels / shape->groups;
    if (shape->images * shape->outputs * shape->out_height * shape->out_width == 0) return 0;
    if (channels == 1 && outputs == 1 && shape->groups > 1)
        return depthwise_forward(shape, x, w, bias, y, threads);
    if (groups_are_products(shape) && !bias)
        return multiply_many(w, x, y, shape->groups, outputs, shape->height * shape->width, channels, 0, 0, threads);
    for (int64_t g = 0; g < shape->groups; g++)
        if (forward_group(shape, x + g * channels * shape->height * shape->width,
                          w + g * outputs * channels * shape->kernel_height * shape->kernel_width,
                          bias ? bias + g * outputs : NULL, y + g * outputs * shape->out_height * shape->out_width,
                          threads))
            return -1;
    return 0;
}

/* -- gradient by the input --------------------------------------------------------------------------------------- */

/* The rows or columns of padded gy that taps read at positions `phase`, phase + step, ...; -1: zeros of dilation. */
static int64_t *phase_taps(int64_t taps, int64_t phase, int64_t step, int64_t before, int64_t margin, int64_t pitch) {
    int64_t *place = malloc((taps + 1) * sizeof(int64_t));
    for (int64_t r = 0; place && r < taps; r++)
        place[r] = modulo(phase + r - before, step) ? -1 : (margin + floor_divide(phase + r - before, step)) * pitch;
    return place;
}

/* Parts: an input position uses gy only at the taps of its phase (row % step, column % step), and zeros at others. */
static int gradient_positions(const Correlation *correlation, const Convolution *shape, int finite, int threads) {
    int64_t step_height = finite ? shape->stride_height : 1, step_width = finite ? shape->stride_width : 1;
    int64_t top = shape->kernel_height - 1 - shape->padding_height;
    int64_t left = shape->kernel_width - 1 - shape->padding_width;
    Part *parts = calloc(step_height * step_width, sizeof(Part));
    Positions positions = positions_of(correlation, parts);
    Source *source = &positions.source;
    int failed = !parts;
    plan_blocks(&positions, ceiling(shape->height, step_height), ceiling(shape->width, step_width), 0, threads);
    positions.with_zeros = step_height * step_width > 1 ? correlation : NULL;
    source->top = -floor_divide(-top, step_height);
    source->left = -floor_divide(-left, step_width);
    source->dilation_height = shape->stride_height / step_height;
    source->dilation_width = shape->stride_width / step_width;
    source->rows = source->top + floor_divide(shape->height + shape->kernel_height - 2 - top, step_height) + 1;
    source->columns = source->left + floor_divide(shape->width + shape->kernel_width - 2 - left, step_width) + 1;
    source->in_place = source->top == 0 && source->left == 0 && source->dilation_height == 1 &&
                       source->dilation_width == 1 && source->rows == source->height &&
                       source->columns == source->width;
    for (int64_t phase = 0; phase < step_height * step_width && !failed; phase++) {
        int64_t row = phase / step_width, column = phase % step_width;
        if (row >= shape->height || column >= shape->width) continue;
        int64_t *rows = phase_taps(shape->kernel_height, row, step_height, top, source->top, source->columns);
        int64_t *columns = phase_taps(shape->kernel_width, column, step_width, left, source->left, 1);
        Part *part = parts + positions.part_count++;
        *part = (Part){.height = ceiling(shape->height - row, step_height), .row_step = source->columns,
                       .width = ceiling(shape->width - column, step_width), .start = row * shape->width + column,
                       .row_stride = step_height * shape->width, .column_stride = step_width};
        failed = !rows || !columns || list_steps(part, correlation, rows, columns, source->rows * source->columns);
        free(rows);
        free(columns);
    }
    failed = run_positions(&positions, correlation, failed, threads);
    free(parts);
    return failed;
}

static int gradient_group(const Convolution *shape, const float *gy, const float *w, float *gx, int threads) {
    Correlation correlation = {
        .images = shape->images, .source = gy,
        .source_image = shape->outputs * shape->out_height * shape->out_width,
        .channels = shape->outputs / shape->groups, .source_height = shape->out_height,
        .source_width = shape->out_width,
        .target = gx, .target_image = shape->channels * shape->height * shape->width,
        .rows = shape->channels / shape->groups, .height = shape->height, .width = shape->width, .weights = w,
    };
    int failed = add_tables(&correlation, shape, 1);
    int finite = !failed && is_finite(w, correlation.rows * correlation.depth);
    if (!failed)
        failed = finite && suits_images(&correlation) ? correlate_images(&correlation, threads)
                                                      : gradient_positions(&correlation, shape, finite, threads);
    free_tables(&correlation);
    return failed;
}

int KERNEL(convolution_input_gradient)(const Convolution *shape, const float *gy, const float *w, float *gx,
                                       int threads) {
    int64_t outputs = shape->outputs / shape->groups, channels = shape->channels / shape->groups;
    if (shape->images * shape->channels * shape->height * shape->width == 0) return 0;
    if (channels == 1 && outputs == 1 && shape->groups > 1)
        return depthwise_input_gradient(shape, gy, w, gx, threads);
    if (groups_are_products(shape))
        return multiply_many(w, gy, gx, shape->groups, channels, shape->height * shape->width, outputs, 1, 0, threads);
    for (int64_t g = 0; g < shape->groups; g++)
        if (gradient_group(shape, gy + g * outputs * shape->out_height * shape->out_width,
                           w + g * outputs * channels * shape->kernel_height * shape->kernel_width,
                           gx + g * channels * shape->height * shape->width, threads))
            return -1;
    return 0;
}
