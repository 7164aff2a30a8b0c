/* Updates of parameters, in place. The operations are those of mpsim/kernels/contract_functions.py. */
#include <math.h>

#include "layers/layers.h"

#define EACH_ELEMENT(i, n) \
    PARALLEL(n) _Pragma("omp for simd schedule(static)") for (int64_t i = 0; i < (n); i++)

void KERNEL(sgd_update)(float *master, const float *gradient, float *velocity, float learning_rate, float momentum,
                        float weight_decay, float inverse_scale, float damping, int64_t nesterov, int64_t n,
                        int threads) {
    EACH_ELEMENT(i, n) {
        float g = gradient[i] * inverse_scale;
        g = g + weight_decay * master[i];
        const float v = momentum * velocity[i] + damping * g;
        const float ahead = g + momentum * v;
        velocity[i] = v;
        master[i] = master[i] - learning_rate * (nesterov ? ahead : v);
    }
}

void KERNEL(adam_update)(float *master, const float *gradient, float *first_moment, float *second_moment,
                         float step_size, float kept, float weight_decay, float rest1, float beta2, float rest2,
                         float root, float epsilon, float inverse_scale, int64_t n, int threads) {
    EACH_ELEMENT(i, n) {
        float g = gradient[i] * inverse_scale;
        g = g + weight_decay * master[i];
        const float first = first_moment[i] + rest1 * (g - first_moment[i]);
        const float second = beta2 * second_moment[i] + rest2 * (g * g);
        const float d = sqrtf(second) / root + epsilon;
        first_moment[i] = first;
        second_moment[i] = second;
        master[i] = kept * master[i] - step_size * (first / d);
    }
}

void KERNEL(lion_update)(float *master, const float *gradient, float *first_moment, float learning_rate, float kept,
                         float beta1, float rest1, float beta2, float rest2, float inverse_scale, int64_t n,
                         int threads) {
    EACH_ELEMENT(i, n) {
        const float g = gradient[i] * inverse_scale;
        const float c = beta1 * first_moment[i] + rest1 * g;
        const float sign = c > 0.0f ? 1.0f : c < 0.0f ? -1.0f : c;
        master[i] = kept * master[i] - learning_rate * sign;
        first_moment[i] = beta2 * first_moment[i] + rest2 * g;
    }
}
