/* Transposition, for copies in another order and for packed operands. */
#ifndef MPSIM_TRANSPOSE_H
#define MPSIM_TRANSPOSE_H

#include "common/vector.h"

#define transpose KERNEL(transpose)

/* Sets target[c * target_stride + r] to source[r * source_stride + c] for r < rows, c < columns. */
void transpose(float *target, int64_t target_stride, const float *source, int64_t source_stride, int64_t rows,
               int64_t columns);

#endif
