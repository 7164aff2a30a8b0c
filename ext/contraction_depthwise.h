/* Depthwise convolutions (one channel in and out per group): vector lanes are channels. */
#ifndef MPSIM_CONTRACTION_DEPTHWISE_H
#define MPSIM_CONTRACTION_DEPTHWISE_H

#include "contraction_tile.h"

#define depthwise_forward VARIANT_NAME(contraction_depthwise_forward)
#define depthwise_input_gradient VARIANT_NAME(contraction_depthwise_input_gradient)
#define depthwise_weight_gradient VARIANT_NAME(contraction_depthwise_weight_gradient)

int depthwise_forward(const Convolution *shape, const float *x, const float *w, const float *bias, float *y, int threads);
int depthwise_input_gradient(const Convolution *shape, const float *gy, const float *w, float *gx, int threads);
int depthwise_weight_gradient(const Convolution *shape, const float *x, const float *gy, float *gw, int threads);

#endif
