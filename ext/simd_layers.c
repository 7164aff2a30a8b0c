/* Elementwise layer kernels, and the table of all layer kernels of this variant. */
#include "layers_variant.h"

#define X(name, result, parameters) .name = LAYER(name),
const LayerKernels VARIANT_NAME(mpsim_layers)[1] = {{LAYER_KERNELS(X)}};
#undef X

/* Every element is independent, so y may be an input: "simd" tells the compiler so. */
#define EACH_ELEMENT(i, n) \
    PARALLEL(n) _Pragma("omp for simd schedule(static)") for (int64_t i = 0; i < (n); i++)

/* The same in blocks, of which the epilogue finishes each while it is in the first-level cache. */
#define BLOCK 4096
#define EACH_FINISHED(i, n, y, epilogue)                                                                 \
    EACH(block, ((n) + BLOCK - 1) / BLOCK, n)                                                            \
    for (int64_t first = block * BLOCK, last = (n) - first < BLOCK ? (n) : first + BLOCK, open = 1; open; \
         open = 0, finish_part(epilogue, y + first, last - first))                                            \
        _Pragma("omp simd") for (int64_t i = first; i < last; i++)

void LAYER(add)(const float *a, const float *b, float *y, int64_t n, const Epilogue *epilogue,
                int threads) {
    EACH_FINISHED(i, n, y, epilogue) y[i] = a[i] + b[i];
}

void LAYER(scale)(const float *x, float factor, float *y, int64_t n, const Epilogue *epilogue, int threads) {
    EACH_FINISHED(i, n, y, epilogue) y[i] = x[i] * factor;
}

void LAYER(relu)(const float *x, float *y, int64_t n, const Epilogue *epilogue, int threads) {
    EACH_FINISHED(i, n, y, epilogue) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

void LAYER(relu_gradient)(const float *gy, const float *x, float *gx, int64_t n, const Epilogue *epilogue,
                          int threads) {
    EACH_FINISHED(i, n, gx, epilogue) {
        const float gradient = gy[i]; /* read in any case, so that no vector of it is masked */
        gx[i] = x[i] > 0.0f ? gradient : 0.0f;
    }
}

void LAYER(positive)(const float *x, uint8_t *mask, int64_t n, int threads) {
    EACH_ELEMENT(i, n) mask[i] = x[i] > 0.0f;
}

void LAYER(relu_gradient_where)(const float *gy, const uint8_t *mask, float *gx, int64_t n, const Epilogue *epilogue,
                                int threads) {
    EACH_FINISHED(i, n, gx, epilogue) {
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
