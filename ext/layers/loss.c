/* Softmax, log-softmax and their gradients. */
#include "layers/functions.h"
#include "layers/layers.h"

/* Returns the first largest element, or the first NaN if there is one. */
static inline float first_largest(const float *x, int64_t n) {
    enum { LANES = 16 };
    if (n >= 2 * LANES) {
        float lanes[LANES], most;
        int32_t unordered[LANES];
        for (int l = 0; l < LANES; l++) lanes[l] = x[n - LANES + l];
        for (int l = 0; l < LANES; l++) unordered[l] = lanes[l] != lanes[l];
        for (int64_t i = 0; i + LANES <= n; i += LANES)
            for (int l = 0; l < LANES; l++) {
                unordered[l] |= x[i + l] != x[i + l];
                lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
            }
        int32_t any = 0;
        most = lanes[0];
        for (int l = 0; l < LANES; l++) {
            any |= unordered[l];
            most = lanes[l] > most ? lanes[l] : most;
        }
        if (!any && most != 0.0f) return most; /* equal numbers other than zeros have the same bits */
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
        for (int64_t c = 0; c < columns; c++) out[c] = exp32(in[c] - largest);
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
        for (int64_t c = 0; c < columns; c++) out[c] = exp32(in[c] - largest);
        const float sum = vector_sum(out, columns);
        for (int64_t c = 0; c < columns; c++) out[c] = out[c] / sum;
    }
}

void KERNEL(softmax_gradient)(const float *gy, const float *y, int64_t rows, int64_t columns, float *gx,
                              int threads) {
    EACH(row, rows, rows * columns) {
        const float *gradient = gy + row * columns, *out = y + row * columns;
        Sum sum = {{0}, 0, 0};
        sum_add_terms(&sum, PRODUCTS, out, gradient, columns, 0.0f, 1.0f); /* gy * ((y - 0) * 1) */
        const float total = sum_finish(&sum);
        for (int64_t c = 0; c < columns; c++) gx[row * columns + c] = (gradient[c] - total) * out[c];
    }
}
