/* Elementwise kernels. */
#include "layers/layers.h"

/* Elements are independent, so y may be an input. "simd" allows the compiler to vectorize the loop. */
#define EACH_ELEMENT(i, n) \
    PARALLEL(n) _Pragma("omp for simd schedule(static)") for (int64_t i = 0; i < (n); i++)

void KERNEL(add)(const float *a, const float *b, float *y, int64_t n, int threads) {
    EACH_ELEMENT(i, n) y[i] = a[i] + b[i];
}

void KERNEL(subtract)(const float *a, const float *b, float *y, int64_t n, int threads) {
    EACH_ELEMENT(i, n) y[i] = a[i] - b[i];
}

void KERNEL(multiply)(const float *a, const float *b, float *y, int64_t n, int threads) {
    EACH_ELEMENT(i, n) y[i] = a[i] * b[i];
}

void KERNEL(divide)(const float *a, const float *b, float *y, int64_t n, int threads) {
    EACH_ELEMENT(i, n) y[i] = a[i] / b[i];
}

void KERNEL(scale)(const float *x, float factor, float *y, int64_t n, int threads) {
    EACH_ELEMENT(i, n) y[i] = x[i] * factor;
}

void KERNEL(relu)(const float *x, float *y, int64_t n, int threads) {
    EACH_ELEMENT(i, n) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

void KERNEL(relu_gradient)(const float *gy, const float *x, float *gx, int64_t n, int threads) {
    EACH_ELEMENT(i, n) {
        const float gradient = gy[i]; /* always read, so that no masked loads are needed */
        gx[i] = x[i] > 0.0f ? gradient : 0.0f;
    }
}

void KERNEL(positive)(const float *x, uint8_t *mask, int64_t n, int threads) {
    EACH_ELEMENT(i, n) mask[i] = x[i] > 0.0f;
}

void KERNEL(relu_gradient_where)(const float *gy, const uint8_t *mask, float *gx, int64_t n, int threads) {
    EACH_ELEMENT(i, n) {
        const float gradient = gy[i];
        gx[i] = mask[i] ? gradient : 0.0f;
    }
}
