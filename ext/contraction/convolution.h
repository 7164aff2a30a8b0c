/* Algorithms for convolutions.
 *
 * A convolution and its gradient by the input have the same form for any stride and padding:
 * target[n, m, i, j] = sum over k = (c, r, s) of weight[m, k] * source[n, c, row_of(i, r), column_of(j, s)], where the
 * second factor is +0 if the row or column does not exist.
 *
 * If the weights are finite, steps with such a zero can be omitted: fma(w, 0, acc) == acc unless acc is -0, which
 * happens only by underflow. The sum can then be -0 where the definition gives +0, so resolve_zero_signs computes every
 * -0 again in full. */
#ifndef MPSIM_CONVOLUTION_H
#define MPSIM_CONVOLUTION_H

#include "contraction/tile.h"

typedef struct {
    int64_t images;
    const float *source;
    int64_t source_image; /* distance between images */
    int64_t channels, source_height, source_width;
    float *target;
    int64_t target_image;
    int64_t rows, height, width; /* of the target: channels and grid */
    int64_t kernel_height, kernel_width, depth;
    const float *weights, *bias; /* weight (m, k) at weights[m * weight_row + weight_offset[k]]; bias may be NULL */
    int64_t weight_row;
    int64_t *weight_offset;
    int64_t *row_of, *column_of; /* [i * kernel_height + r], [j * kernel_width + s]; -1: zero */
} Correlation;

#define resolve_zero_signs KERNEL(resolve_zero_signs)
#define is_finite KERNEL(is_finite)
#define correlate_images KERNEL(correlate_images)
#define suits_images KERNEL(suits_images)

/* Computes each -0 of a target image again by the definition. */
void resolve_zero_signs(const Correlation *correlation, int64_t image);
int is_finite(const float *values, int64_t count);

/* Computes the correlation with images as the lanes of vectors, for finite weights. Returns 0, or -1 without memory. */
int correlate_images(const Correlation *correlation, int threads);
/* Returns whether that is faster: for many small images and several taps. */
int suits_images(const Correlation *correlation);

/* -- positions --------------------------------------------------------------------------------------------------------
 *
 * Multiplies packed weights with image positions, which are read by offsets, without a matrix of patches. Positions are
 * a grid over a source image. Row k of the right operand is the source shifted by offset[k]. */

/* The images that positions read. Unless `in_place`, a block of them is copied with zeros around and between elements:
 * element (i, j) of a channel is copied to row top + i * dilation_height and column left + j * dilation_width (negative
 * top or left crops), and only every take_height-th row and take_width-th column is stored. Column j of the copy is
 * element j / phases of phase j % phases, so that positions `phases` columns apart are adjacent. Either dilation_width
 * is 1, or take_width and phases are. */
typedef struct {
    const float *images;
    int64_t image_stride;
    int64_t channels, height, width;
    int64_t top, left, dilation_height, dilation_width, take_height, take_width, phases;
    int64_t rows, columns; /* of the copy of a channel; columns per phase */
    int in_place;
} Source;

/* The steps of a list of k, from which some may be omitted. Those of chunk t are end[t - 1] .. end[t] - 1. */
typedef struct {
    Step *steps;
    int64_t *end;
} StepList;

/* Positions (height, width) with the same list of steps. Position (i, j) reads from i * row_step + j, and its total for
 * row m of the weights is stored at start + m * channel_stride + i * row_stride + j * column_stride of its image. */
typedef struct {
    StepList list;
    int64_t height, width;
    int64_t row_step;
    int64_t start, row_stride, column_stride;
} Part;

typedef struct {
    Source source;
    LeftMatrix left;
    Part *parts;
    int64_t part_count;
    int64_t images;
    float *target;
    int64_t target_image_stride, target_channel_stride;
    const float *bias;
    int64_t images_per_block, rows_per_block; /* rows of the grid: all, or fewer if there is one part */
    const Correlation *with_zeros; /* if steps are omitted: the correlation of resolve_zero_signs */
} Positions;

/* Returns whether each group is one matrix product: one image and a kernel of one tap that reads every position. */
static inline int groups_are_products(const Convolution *shape) {
    return shape->groups > 1 && shape->images == 1 && shape->kernel_height * shape->kernel_width == 1 &&
           shape->stride_height == 1 && shape->stride_width == 1 && shape->padding_height == 0 &&
           shape->padding_width == 0;
}

#define plan_blocks KERNEL(plan_blocks)
#define multiply_positions KERNEL(multiply_positions)

/* Chooses the block size for grids of height * width positions. rows_per_block may be less than height if `bands`. */
void plan_blocks(Positions *positions, int64_t height, int64_t width, int bands, int threads);
/* Computes every position. Returns 0, or -1 without memory. */
int multiply_positions(const Positions *positions, int threads);

/* -- depthwise: one channel in and out per group, vector lanes are channels ---------------------------------------- */

#define depthwise_forward KERNEL(depthwise_forward)
#define depthwise_input_gradient KERNEL(depthwise_input_gradient)
#define depthwise_weight_gradient KERNEL(depthwise_weight_gradient)

int depthwise_forward(const Convolution *shape, const float *x, const float *w, const float *bias, float *y,
                      int threads);
int depthwise_input_gradient(const Convolution *shape, const float *gy, const float *w, float *gx, int threads);
int depthwise_weight_gradient(const Convolution *shape, const float *x, const float *gy, float *gw, int threads);

#endif
