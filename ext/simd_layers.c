/* Elementwise layer kernels, and the table of all layer kernels of this variant. */
#include "layers_variant.h"

#define X(name, result, parameters) .name = LAYER(name),
const LayerKernels VARIANT_NAME(mpsim_layers)[1] = {{LAYER_KERNELS(X)}};
#undef X

/* Every element is independent, so y may be an input: "simd" tells the compiler so. */
#define EACH_ELEMENT(i, n) \
    PARALLEL(n) _Pragma("omp for simd schedule(static)") for (int64_t i = 0; i < (n); i++)

void LAYER(add)(const float *a, const float *b, float *y, int64_t n,
                int threads) {
    EACH_ELEMENT(i, n) y[i] = a[i] + b[i];
}

void LAYER(scale)(const float *x, float factor, float *y, int64_t n, int threads) {
    EACH_ELEMENT(i, n) y[i] = x[i] * factor;
}

void LAYER(relu)(const float *x, float *y, int64_t n, int threads) {
    EACH_ELEMENT(i, n) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

void LAYER(relu_gradient)(const float *gy, const float *x, float *gx, int64_t n,
                          int threads) {
    EACH_ELEMENT(i, n) {
        const float gradient = gy[i]; /* read in any case, so that no vector of it is masked */
        gx[i] = x[i] > 0.0f ? gradient : 0.0f;
    }
}

void LAYER(positive)(const float *x, uint8_t *mask, int64_t n, int threads) {
    EACH_ELEMENT(i, n) mask[i] = x[i] > 0.0f;
}

void LAYER(relu_gradient_where)(const float *gy, const uint8_t *mask, float *gx, int64_t n,
                                int threads) {
    EACH_ELEMENT(i, n) {
        const float gradient = gy[i];
        gx[i] = mask[i] ? gradient : 0.0f;
    }
}

void LAYER(sgd_update)(float *master, const float *gradient, float *velocity, float learning_rate, float momentum,
                       float weight_decay, float inverse_scale, int64_t n, int threads) {
    EACH_ELEMENT(i, n) {
        float g = gradient[i] * inverse_scale;
        g = g + weight_decay * master[i];
        velocity[i] = momentum * velocity[i] + g;
        master[i] = master[i] - learning_rate * velocity[i];
    }
}
