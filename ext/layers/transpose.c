/* Transposes matrices by squares in registers. */
#include "layers/transpose.h"

/* Runs one stage: exchanges lanes whose index has the bit `step` between rows `step` apart. */
#define LOW(lane, step) ((lane) & (step) ? WIDTH + (lane) - (step) : (lane))
#define HIGH(lane, step) ((lane) & (step) ? WIDTH + (lane) : (lane) + (step))
#define EXCHANGE(row, step) \
    UNROLL for (int r = 0; r < WIDTH; r++) \
        if (!(r & (step))) { \
            Floats a = row[r], b = row[r + (step)]; \
            row[r] = SHUFFLE(a, b, LOW, step); \
            row[r + (step)] = SHUFFLE(a, b, HIGH, step); \
        }

INLINE void transpose_registers(Floats *row) {
    EXCHANGE(row, 1)
    EXCHANGE(row, 2)
#if WIDTH > 4
    EXCHANGE(row, 4)
#endif
#if WIDTH > 8
    EXCHANGE(row, 8)
#endif
}

static void transpose_square(float *target, int64_t target_stride, const float *source, int64_t source_stride) {
    Floats row[WIDTH];
    UNROLL for (int r = 0; r < WIDTH; r++) row[r] = vector_load(source + r * source_stride);
    transpose_registers(row);
    UNROLL for (int r = 0; r < WIDTH; r++) vector_store(target + r * target_stride, row[r]);
}

/* Transposes at most WIDTH rows and columns. */
static void transpose_edge(float *target, int64_t target_stride, const float *source, int64_t source_stride,
                           int64_t rows, int64_t columns) {
    Floats row[WIDTH];
    UNROLL for (int r = 0; r < WIDTH; r++)
        row[r] = r < rows ? vector_load_first(source + r * source_stride, columns) : vector_zero();
    transpose_registers(row);
    UNROLL for (int c = 0; c < WIDTH; c++)
        if (c < columns) vector_store_first(target + c * target_stride, row[c], rows);
}

void transpose(float *target, int64_t target_stride, const float *source, int64_t source_stride, int64_t rows,
               int64_t columns) {
    for (int64_t r = 0; r < rows; r += WIDTH)
        for (int64_t c = 0; c < columns; c += WIDTH) {
            float *to = target + c * target_stride + r;
            const float *from = source + r * source_stride + c;
            if (rows - r >= WIDTH && columns - c >= WIDTH)
                transpose_square(to, target_stride, from, source_stride);
            else
                transpose_edge(to, target_stride, from, source_stride, rows - r < WIDTH ? rows - r : WIDTH,
                               columns - c < WIDTH ? columns - c : WIDTH);
        }
}
