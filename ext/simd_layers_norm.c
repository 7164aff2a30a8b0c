/* Sums by channel and batch norm.
 *
 * A channel's elements in the order n, h, w are `count` pieces of `area` elements, far apart. Blocks of 4096 of
 * them are copied together into a buffer in the nearest cache, changed there, and summed; so the written order
 * is in block_sum alone, whatever the area. */
#include "layers_variant.h"
#include <math.h>

/* Calls for every block of the channel: `first` and `size` say which of its elements. */
#define EACH_BLOCK(first, size, n)                                                     \
    for (int64_t first = 0, size; first < n && (size = n - first < SUM_BLOCK ? n - first : SUM_BLOCK, 1); \
         first += SUM_BLOCK)

/* Elements first .. first + size - 1 of the channel, contiguous: in place where they are, else in the buffer. */
static inline const float *gather(const float *x, Batch batch, int64_t channel, int64_t first, int64_t size,
                                  float *buffer) {
    int64_t image = first / batch.area, offset = first % batch.area, step = batch.channels * batch.area;
    const float *piece = x + image * step + channel * batch.area + offset;
    if (offset + size <= batch.area) return piece;
    if (batch.area == 1) {
        for (int64_t i = 0; i < size; i++) buffer[i] = piece[i * step];
        return buffer;
    }
    for (int64_t done = 0; done < size;) {
        int64_t length = batch.area - offset < size - done ? batch.area - offset : size - done;
        memcpy(buffer + done, piece, 4 * length);
        done += length;
        piece += step - offset;
        offset = 0;
    }
    return buffer;
}

static inline float sum(const float *x, Batch batch, int64_t channel) {
    float buffer[SUM_BLOCK], total = 0.0f;
    EACH_BLOCK(first, size, batch.count * batch.area) {
        float block = block_sum(gather(x, batch, channel, first, size, buffer), size);
        total = first ? total + block : block;
    }
    return total;
}

static inline float sum_squared_deviations(const float *x, Batch batch, int64_t channel, float mean) {
    float buffer[SUM_BLOCK], total = 0.0f;
    EACH_BLOCK(first, size, batch.count * batch.area) {
        const float *v = gather(x, batch, channel, first, size, buffer);
        for (int64_t i = 0; i < size; i++) {
            float deviation = v[i] - mean;
            buffer[i] = deviation * deviation;
        }
        float block = block_sum(buffer, size);
        total = first ? total + block : block;
    }
    return total;
}

/* The sums of gy and of gy * xhat. */
static inline void gradient_sums(const float *gy, const float *x, Batch batch, int64_t channel, float mean,
                                 float inverse_deviation, float *gshift, float *gscale) {
    float buffer_gy[SUM_BLOCK], buffer_x[SUM_BLOCK], total_gy = 0.0f, total_product = 0.0f;
    EACH_BLOCK(first, size, batch.count * batch.area) {
        const float *g = gather(gy, batch, channel, first, size, buffer_gy);
        const float *v = gather(x, batch, channel, first, size, buffer_x);
        float block = block_sum(g, size);
        total_gy = first ? total_gy + block : block;
        for (int64_t i = 0; i < size; i++) buffer_x[i] = g[i] * ((v[i] - mean) * inverse_deviation);
        block = block_sum(buffer_x, size);
        total_product = first ? total_product + block : block;
    }
    *gshift = total_gy;
    *gscale = total_product;
}

static inline void normalize(const float *x, Batch batch, int64_t channel, float mean, float factor, float shift,
                             float *y) {
    for (int64_t image = 0; image < batch.count; image++) {
        int64_t start = (image * batch.channels + channel) * batch.area;
#pragma omp simd
        for (int64_t i = start; i < start + batch.area; i++) y[i] = (x[i] - mean) * factor + shift;
    }
}

#define EACH_CHANNEL(c) EACH(c, batch.channels, batch.count * batch.channels * batch.area)

void LAYER(channel_sum)(const float *x, Batch batch, float *sums, int threads) {
    EACH_CHANNEL(c) sums[c] = sum(x, batch, c);
}

float LAYER(total_sum)(const float *x, int64_t n) {
    const uint64_t before = float_environment_enter();
    const float total = vector_sum(x, n);
    float_environment_leave(before);
    return total;
}

void LAYER(batch_norm)(const float *x, const float *scale, const float *shift, float epsilon, Batch batch, float *y,
                       float *mean, float *variance, float *inverse_deviation, int threads) {
    float n = (float)(batch.count * batch.area);
    EACH_CHANNEL(c) {
        mean[c] = sum(x, batch, c) / n;
        variance[c] = sum_squared_deviations(x, batch, c, mean[c]) / n;
        inverse_deviation[c] = 1.0f / sqrtf(variance[c] + epsilon);
        normalize(x, batch, c, mean[c], inverse_deviation[c] * scale[c], shift[c], y);
    }
}

void LAYER(batch_norm_inference)(const float *x, const float *mean, const float *variance, const float *scale,
                                 const float *shift, float epsilon, Batch batch, float *y, int threads) {
    EACH_CHANNEL(c) {
        float inverse_deviation = 1.0f / sqrtf(variance[c] + epsilon);
        normalize(x, batch, c, mean[c], inverse_deviation * scale[c], shift[c], y);
    }
}

void LAYER(batch_norm_gradient)(const float *gy, const float *x, const float *mean, const float *inverse_deviation,
                                const float *scale, Batch batch, float *gx, float *gscale, float *gshift,
                                int threads) {
    float n = (float)(batch.count * batch.area);
    EACH_CHANNEL(c) {
        gradient_sums(gy, x, batch, c, mean[c], inverse_deviation[c], &gshift[c], &gscale[c]);
        float center = mean[c], inverse = inverse_deviation[c], factor = inverse * scale[c];
        float shift_share = gshift[c] / n, scale_share = gscale[c] / n;
        for (int64_t image = 0; image < batch.count; image++) {
            int64_t start = (image * batch.channels + c) * batch.area;
#pragma omp simd
            for (int64_t i = start; i < start + batch.area; i++)
                gx[i] = factor * ((gy[i] - shift_share) - ((x[i] - center) * inverse) * scale_share);
        }
    }
}
