/* Softmax, log-softmax and their gradients. */
#include "layers/estimates.h"
#include "layers/layers.h"

/* Returns the first largest element, or the first NaN if there is one. */
static inline float first_largest(const float *x, int64_t n) {
    int32_t most = INT32_MIN, size = 0; /* of the bits in the order of numbers, and without signs */
#pragma omp simd reduction(max : most, size)
    for (int64_t i = 0; i < n; i++) {
        int32_t bits, ordered, unsigned_bits;
        memcpy(&bits, x + i, sizeof bits);
        unsigned_bits = bits & 0x7fffffff;
        ordered = bits ^ (bits >> 31 & 0x7fffffff);
        most = ordered > most ? ordered : most;
        size = unsigned_bits > size ? unsigned_bits : size;
    }
    /* Equal numbers other than zeros have the same bits. */
    if (size <= 0x7f800000 && most != 0 && most != -1) {
        float largest;
        const int32_t bits = most ^ (most >> 31 & 0x7fffffff);
        memcpy(&largest, &bits, sizeof largest);
        return largest;
    }
    float largest = x[0];
    for (int64_t i = 1; i < n; i++)
        if (x[i] > largest || (x[i] != x[i] && largest == largest)) largest = x[i];
    return largest;
}

void KERNEL(log_softmax)(const float *x, int64_t rows, int64_t columns, float *y, int threads) {
    EACH(row, rows, rows * columns) {
        const float *in = x + row * columns;
        float *out = y + row * columns, largest = first_largest(in, columns);
        exp_of_differences(in, largest, out, columns);
        float logarithm = log32(vector_sum(out, columns));
        for (int64_t c = 0; c < columns; c++) out[c] = (in[c] - largest) - logarithm;
    }
}

void KERNEL(log_softmax_gradient)(const float *gy, const float *y, int64_t rows, int64_t columns, float *gx,
                                  int threads) {
    EACH(row, rows, rows * columns) {
        float sum = vector_sum(gy + row * columns, columns);
        for (int64_t i = row * columns; i < (row + 1) * columns; i++) gx[i] = gy[i] - exp32(y[i]) * sum;
    }
}

void KERNEL(softmax)(const float *x, int64_t rows, int64_t columns, float *y, int threads) {
    EACH(row, rows, rows * columns) {
        const float *in = x + row * columns;
        float *out = y + row * columns, largest = first_largest(in, columns);
        exp_of_differences(in, largest, out, columns);
        const float sum = vector_sum(out, columns);
        for (int64_t c = 0; c < columns; c++) out[c] = out[c] / sum;
    }
}

void KERNEL(softmax_gradient)(const float *gy, const float *y, int64_t rows, int64_t columns, float *gx,
                              int threads) {
    EACH(row, rows, rows * columns) {
        const float *gradient = gy + row * columns, *out = y + row * columns;
        const float total = whole_sum(PRODUCTS, out, gradient, columns, 0.0f, 1.0f); /* gy * ((y - 0) * 1) */
        for (int64_t c = 0; c < columns; c++) gx[row * columns + c] = (gradient[c] - total) * out[c];
    }
}
