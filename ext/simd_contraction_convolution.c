/* Convolution forward and its gradient by the input, as products with image positions. */
#include <math.h>
#include <stdlib.h>
#include "contraction_positions.h"
#include "contraction_depthwise.h"

static long ceiling(long a, long b) { return (a + b - 1) / b; }

/* The least non-negative remainder, and the quotient rounded down. */
static long modulo(long a, long b) { return ((a % b) + b) % b; }
static long floor_divide(long a, long b) { return (a - modulo(a, b)) / b; }

/* -- forward ----------------------------------------------------------------------------------------------------- */

/* A kernel of one tap needs only the places it reads; of a larger one, columns are parted by phase. */
static Source forward_source(const Convolution *shape, const float *x) {
    int one_row = shape->kernel_height == 1, one_column = shape->kernel_width == 1;
    Source source = {
        .images = x,
        .image_stride = shape->channels * shape->height * shape->width,
        .channels = shape->channels / shape->groups, .height = shape->height, .width = shape->width,
        .top = shape->padding_height, .left = shape->padding_width, .dilation_height = 1, .dilation_width = 1,
        .take_height = one_row ? shape->stride_height : 1, .take_width = one_column ? shape->stride_width : 1,
        .phases = one_column ? 1 : shape->stride_width,
    };
    source.in_place = shape->padding_height == 0 && shape->padding_width == 0 && source.take_height == 1 &&
                      source.take_width == 1 && source.phases == 1;
    return source;
}

static int forward_group(const Convolution *shape, const float *x, const float *w, const float *bias, float *y,
                         int threads) {
    long depth = shape->channels / shape->groups * shape->kernel_height * shape->kernel_width;
    Positions positions = {.source = forward_source(shape, x), .part_count = 1, .images = shape->images,
                           .target = y, .bias = bias,
                           .target_image_stride = shape->outputs * shape->out_height * shape->out_width,
                           .target_channel_stride = shape->out_height * shape->out_width};
    Source *source = &positions.source;
    Part part = {.height = shape->out_height, .width = shape->out_width, .row_stride = shape->out_width,
                 .column_stride = 1, .offset = malloc((depth + 1) * sizeof(ptrdiff_t))};
    ptrdiff_t *weight_offset = malloc((depth + 1) * sizeof(ptrdiff_t));
    int failed = !part.offset || !weight_offset;
    positions.parts = &part;
    plan_blocks(&positions, part.height, part.width, 1, threads);
    long row_step = shape->stride_height / source->take_height, column_step = shape->stride_width / source->take_width;
    source->rows = source->in_place ? shape->height
                                    : (positions.rows_per_block - 1) * row_step + shape->kernel_height;
    source->columns = source->in_place ? shape->width
                                       : ceiling((shape->out_width - 1) * column_step + shape->kernel_width, column_step);
    part.row_step = row_step * source->phases * source->columns;
    for (long k = 0; k < depth && !failed; k++) {
        long s = k % shape->kernel_width, r = k / shape->kernel_width % shape->kernel_height;
        long channel = k / shape->kernel_width / shape->kernel_height;
        weight_offset[k] = k;
        part.offset[k] = ((channel * source->rows + r) * source->phases + s % source->phases) * source->columns +
                         s / source->phases;
    }
    failed = failed || pack_weights(&part, w, shape->outputs / shape->groups, depth, weight_offset, NULL, depth, threads);
    failed = failed || multiply_positions(&positions, threads);
    free(weight_offset);
    free_part(&part);
    return failed ? -1 : 0;
}

int VARIANT_NAME(contraction_forward)(const Convolution *shape, const float *x, const float *w, const float *bias,
                                      float *y, int threads) {
    long outputs = shape->outputs / shape->groups, channels = shape->channels / shape->groups;
    if (shape->images * shape->outputs * shape->out_height * shape->out_width == 0) return 0;
    if (channels == 1 && outputs == 1 && shape->groups > 1) return depthwise_forward(shape, x, w, bias, y, threads);
    for (long g = 0; g < shape->groups; g++)
        if (forward_group(shape, x + g * channels * shape->height * shape->width,
                          w + g * outputs * channels * shape->kernel_height * shape->kernel_width,
                          bias ? bias + g * outputs : NULL, y + g * outputs * shape->out_height * shape->out_width,
                          threads))
            return -1;
    return 0;
}

/* -- gradient by the input ---------------------------------------------------------------------------------------
 *
 * The definition is a convolution of the zero-dilated, zero-padded gy with the flipped kernel. With a stride, an input
 * position meets gy only at the taps (r, s) of its phase (row % stride, column % stride), and zeros at the others.
 * Where the weights are finite, fma(w, 0, acc) == acc unless acc is -0, so each phase is a part with its own taps,
 * chunks ending where they end in the full list of k. An accumulator becomes -0 by underflow only, and a sum that
 * differs from the definition's is then -0 where that one may be +0: so every -0 is computed again in full. */

typedef struct {
    const Convolution *shape;
    const float *gy, *w;
    float *gx;
} Gradient;

/* One element of gx of a group by the definition. */
static float element_of_gradient(const Gradient *gradient, long image, long channel, long row, long column) {
    const Convolution *shape = gradient->shape;
    long outputs = shape->outputs / shape->groups, channels = shape->channels / shape->groups;
    long taps = shape->kernel_height * shape->kernel_width, place = shape->out_height * shape->out_width;
    const float *gy = gradient->gy + image * shape->outputs * place;
    float total = 0, sum = 0;
    for (long k = 0; k < outputs * taps; k++) {
        long o = k / taps, r = k % taps / shape->kernel_width, s = k % shape->kernel_width;
        long i = row + r - (shape->kernel_height - 1 - shape->padding_height);
        long j = column + s - (shape->kernel_width - 1 - shape->padding_width);
        int inside = i >= 0 && j >= 0 && i % shape->stride_height == 0 && j % shape->stride_width == 0 &&
                     i / shape->stride_height < shape->out_height && j / shape->stride_width < shape->out_width;
        float factor = gradient->w[(o * channels + channel) * taps + taps - 1 - k % taps];
        float value = inside ? gy[o * place + i / shape->stride_height * shape->out_width + j / shape->stride_width] : 0;
        sum = fmaf(factor, value, sum);
        if ((k + 1) % CHUNK == 0 || k + 1 == outputs * taps) {
            total = k < CHUNK ? sum : total + sum;
            sum = 0;
        }
    }
    return total;
}

static void settle_zero_signs(const void *context, long image) {
    const Gradient *gradient = context;
    const Convolution *shape = gradient->shape;
    long place = shape->height * shape->width, count = shape->channels / shape->groups * place;
    float *gx = gradient->gx + image * shape->channels * place;
    uint32_t any = 0, bits;
    for (long i = 0; i < count; i++) {
        memcpy(&bits, gx + i, sizeof bits);
        any |= bits == 0x80000000u;
    }
    for (long i = 0; any && i < count; i++)
        if (gx[i] == 0 && signbit(gx[i]))
            gx[i] = element_of_gradient(gradient, image, i / place, i % place / shape->width, i % shape->width);
}

/* The part of the positions (row % step_height, column % step_width) == (row, column), with taps parted likewise. */
static int make_phase(Part *part, const Gradient *gradient, const Source *source, long row, long column,
                      long step_height, long step_width, int threads) {
    const Convolution *shape = gradient->shape;
    long outputs = shape->outputs / shape->groups, channels = shape->channels / shape->groups;
    long taps = shape->kernel_height * shape->kernel_width, depth = 0;
    long full_depth = outputs * taps, top = shape->kernel_height - 1 - shape->padding_height;
    long left = shape->kernel_width - 1 - shape->padding_width;
    ptrdiff_t *weight_offset = malloc((full_depth + 1) * sizeof(ptrdiff_t));
    long *full_index = malloc((full_depth + 1) * sizeof(long));
    *part = (Part){.height = ceiling(shape->height - row, step_height), .width = ceiling(shape->width - column, step_width),
                   .row_step = source->columns, .start = row * shape->width + column,
                   .row_stride = step_height * shape->width, .column_stride = step_width,
                   .offset = malloc((full_depth + 1) * sizeof(ptrdiff_t))};
    int failed = !weight_offset || !full_index || !part->offset;
    for (long k = 0; k < full_depth && !failed; k++) {
        long o = k / taps, r = k % taps / shape->kernel_width, s = k % shape->kernel_width;
        if (modulo(row + r - top, step_height) || modulo(column + s - left, step_width)) continue;
        full_index[depth] = k;
        weight_offset[depth] = o * channels * taps + taps - 1 - k % taps;
        part->offset[depth++] = (o * source->rows + source->top + floor_divide(row + r - top, step_height)) *
                                    source->columns +
                                source->left + floor_divide(column + s - left, step_width);
    }
    failed = failed || pack_weights(part, gradient->w, channels, taps, weight_offset, full_index, depth, threads);
    free(weight_offset);
    free(full_index);
    return failed ? -1 : 0;
}

/* The padded gy: a margin before it that the taps of every phase stay inside of, and rows and columns enough. */
static Source gradient_source(const Gradient *gradient, long step_height, long step_width) {
    const Convolution *shape = gradient->shape;
    long top = shape->kernel_height - 1 - shape->padding_height, left = shape->kernel_width - 1 - shape->padding_width;
    Source source = {
        .images = gradient->gy, .image_stride = shape->outputs * shape->out_height * shape->out_width,
        .channels = shape->outputs / shape->groups, .height = shape->out_height, .width = shape->out_width,
        .top = -floor_divide(-top, step_height), .left = -floor_divide(-left, step_width),
        .dilation_height = shape->stride_height / step_height, .dilation_width = shape->stride_width / step_width,
        .take_height = 1, .take_width = 1, .phases = 1,
    };
    source.rows = source.top + floor_divide(shape->height - 1 + shape->kernel_height - 1 - top, step_height) + 1;
    source.columns = source.left + floor_divide(shape->width - 1 + shape->kernel_width - 1 - left, step_width) + 1;
    source.in_place = source.top == 0 && source.left == 0 && source.dilation_height == 1 &&
                      source.dilation_width == 1 && source.rows == source.height && source.columns == source.width;
    return source;
}

static int all_finite(const float *values, long count) {
    uint32_t largest = 0, bits;
    for (long i = 0; i < count; i++) {
        memcpy(&bits, values + i, sizeof bits);
        bits &= 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7f800000u;
}

static int gradient_group(const Gradient *gradient, int threads) {
    const Convolution *shape = gradient->shape;
    long weights = shape->outputs / shape->groups * (shape->channels / shape->groups) * shape->kernel_height *
                   shape->kernel_width;
    int finite = all_finite(gradient->w, weights), failed = 0;
    long step_height = finite ? shape->stride_height : 1, step_width = finite ? shape->stride_width : 1;
    Positions positions = {
        .source = gradient_source(gradient, step_height, step_width), .images = shape->images, .target = gradient->gx,
        .target_image_stride = shape->channels * shape->height * shape->width,
        .target_channel_stride = shape->height * shape->width, .context = gradient,
        .finish_image = step_height * step_width > 1 ? settle_zero_signs : NULL,
        .parts = calloc(step_height * step_width, sizeof(Part)),
    };
    if (!positions.parts) return -1;
    plan_blocks(&positions, ceiling(shape->height, step_height), ceiling(shape->width, step_width), 0, threads);
    for (long row = 0; row < step_height && row < shape->height; row++)
        for (long column = 0; column < step_width && column < shape->width; column++)
            failed = failed || make_phase(positions.parts + positions.part_count++, gradient, &positions.source, row,
                                          column, step_height, step_width, threads);
    failed = failed || multiply_positions(&positions, threads);
    for (long p = 0; p < positions.part_count; p++) free_part(positions.parts + p);
    free(positions.parts);
    return failed ? -1 : 0;
}

int VARIANT_NAME(contraction_input_gradient)(const Convolution *shape, const float *gy, const float *w, float *gx,
                                             int threads) {
    long outputs = shape->outputs / shape->groups, channels = shape->channels / shape->groups;
    if (shape->images * shape->channels * shape->height * shape->width == 0) return 0;
    if (channels == 1 && outputs == 1 && shape->groups > 1) return depthwise_input_gradient(shape, gy, w, gx, threads);
    for (long g = 0; g < shape->groups; g++) {
        Gradient gradient = {shape, gy + g * outputs * shape->out_height * shape->out_width,
                             w + g * outputs * channels * shape->kernel_height * shape->kernel_width,
                             gx + g * channels * shape->height * shape->width};
        if (gradient_group(&gradient, threads)) return -1;
    }
    return 0;
}
