/* What a convolution's forward pass and its gradient by the input have in common, whatever the stride and padding:
 * target[n, m, i, j] = sum over k = (c, r, s) of weight[m, k] * source[n, c, row_of(i, r), column_of(j, s)], the second
 * factor +0 where there is no such row or column.
 *
 * Where the weights are finite, the steps with such a zero may be left out: fma(w, 0, acc) == acc unless acc is -0,
 * which it becomes by underflow only. A sum that then differs from the definition's is -0 where that one may be +0, so
 * settle_zero_signs computes every -0 again in full. */
#ifndef MPSIM_CONTRACTION_CORRELATION_H
#define MPSIM_CONTRACTION_CORRELATION_H

#include "contraction_tile.h"

typedef struct {
    long images;
    const float *source;
    ptrdiff_t source_image; /* from image to image */
    long channels, source_height, source_width;
    float *target;
    ptrdiff_t target_image;
    long rows, height, width; /* of the target: channels and grid */
    long kernel_height, kernel_width, depth;
    const float *weights, *bias; /* weight (m, k) at weights[m * weight_row + weight_offset[k]]; bias may be NULL */
    ptrdiff_t weight_row;
    ptrdiff_t *weight_offset;
    long *row_of, *column_of; /* [i * kernel_height + r], [j * kernel_width + s]; -1: zero */
} Correlation;

#define settle_zero_signs VARIANT_NAME(contraction_settle_zero_signs)
#define all_finite VARIANT_NAME(contraction_all_finite)
#define correlate_images VARIANT_NAME(contraction_correlate_images)
#define suits_images VARIANT_NAME(contraction_suits_images)

/* Computes each -0 of an image of the target again, by the definition. */
void settle_zero_signs(const Correlation *correlation, long image);
int all_finite(const float *values, long count);

/* The whole correlation with images as the lanes of vectors; the weights are finite. Returns 0, or -1. */
int correlate_images(const Correlation *correlation, int threads);
/* Whether that is the faster way: many images, small ones, several taps. */
int suits_images(const Correlation *correlation);

#endif
