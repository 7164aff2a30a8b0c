/* A product of packed weights with image positions read through offsets: what a convolution's forward pass and its
 * gradient by the input have in common. No matrix of patches is made.
 *
 * Positions are a grid over a source image; row k of the right operand is the source moved by offset[k]. */
#ifndef MPSIM_CONTRACTION_POSITIONS_H
#define MPSIM_CONTRACTION_POSITIONS_H

#include "contraction_correlation.h"

/* The images that positions read. Unless `in_place`, a copy of a block of them is made with zeros around and between:
 * element (i, j) of a channel goes to row top + i * dilation_height and column left + j * dilation_width (negative
 * top or left crops), of which every take_height-th row and take_width-th column is kept. Column j of the copy is at
 * place j / phases of phase j % phases, so that positions `phases` columns apart are neighbours. At most one of
 * dilation_width, and take_width and phases, is more than 1. */
typedef struct {
    const float *images;
    ptrdiff_t image_stride;
    long channels, height, width;
    long top, left, dilation_height, dilation_width, take_height, take_width, phases;
    long rows, columns; /* of a channel's copy; columns per phase */
    int in_place;
} Source;

/* The steps of a list of k of which some may be left out: those of chunk t are end[t - 1] .. end[t] - 1. */
typedef struct {
    Step *steps;
    long *end;
} StepList;

/* Positions (height, width) with one list of steps: position (i, j) reads from i * row_step + j, and its total for
 * row m of the weights belongs at start + m * channel_stride + i * row_stride + j * column_stride of its image. */
typedef struct {
    StepList list;
    long height, width;
    ptrdiff_t row_step;
    ptrdiff_t start, row_stride, column_stride;
} Part;

typedef struct {
    Source source;
    LeftMatrix left;
    Part *parts;
    long part_count;
    long images;
    float *target;
    ptrdiff_t target_image_stride, target_channel_stride;
    const float *bias;
    long images_per_block, rows_per_block; /* rows: of the grid, fewer than all only with one part */
    const Correlation *settled; /* if steps are left out: what settles the signs of zeros (contraction_correlation.h) */
} Positions;

#define plan_blocks VARIANT_NAME(contraction_plan_blocks)
#define multiply_positions VARIANT_NAME(contraction_multiply_positions)

/* Chooses the block size for grids of height * width positions; rows_per_block may be less than height if `bands`. */
void plan_blocks(Positions *positions, long height, long width, int bands, int threads);
/* Computes every position. Returns 0, or -1 when memory ran out. */
int multiply_positions(const Positions *positions, int threads);
#endif
