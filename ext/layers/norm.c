/* Sums by channel, and batch norm.
 *
 * A channel's elements in the order n, h, w are `count` pieces of `area` elements, far apart in memory. Groups of
 * channels are read in the order of memory, and each channel's pieces are added to its sum as they are read. */
#include "layers/layers.h"
#include <math.h>

/* Channels first .. first + size - 1. Their sums are on the stack. */
#define GROUP 64
typedef struct {
    int64_t first, size;
} Group;

/* Channels per group: enough that an image's pieces are one long read, and as many as fit in the second-level cache for
 * the next pass, but so few that every thread has some. */
static inline int64_t group_size(const Batch *batch, int threads) {
    const int64_t long_read = (1 << 18) / (4 * batch->area + 1) + 1;
    const int64_t fit = (1 << 19) / (4 * batch->images * batch->area + 1);
    const int64_t share = (batch->channels + threads - 1) / threads, size = fit > long_read ? fit : long_read;
    return size < share ? (size < GROUP ? size : GROUP) : (share < GROUP ? share : GROUP);
}

#define EACH_GROUP(group)                                                                    \
    const int64_t step = group_size(batch, threads);                                         \
    EACH(index, (batch->channels + step - 1) / step, batch->images * batch->channels * batch->area) \
        for (Group group = group_at(batch, index * step, step); group.size; group.size = 0)

static inline Group group_at(const Batch *batch, int64_t first, int64_t step) {
    return (Group){first, batch->channels - first < step ? batch->channels - first : step};
}

/* Sums x, or its squared deviations from the mean if that is not NULL, over every channel of the group. */
static void group_sums(const float *x, const Batch *batch, Group group, const float *mean, float *sums) {
    if (batch->images == 1) {
        for (int64_t c = group.first; c < group.first + group.size; c++) {
            const float *piece = x + c * batch->area;
            sums[c] = mean ? whole_sum(SQUARES, piece, piece, batch->area, mean[c], 0.0f)
                           : whole_sum(PLAIN, piece, piece, batch->area, 0.0f, 0.0f);
        }
        return;
    }
    Sum sum[GROUP];
    memset(sum, 0, group.size * sizeof *sum);
    for (int64_t image = 0; image < batch->images; image++)
        for (int64_t c = 0; c < group.size; c++) {
            const float *piece = x + (image * batch->channels + group.first + c) * batch->area;
            if (mean) sum_add_terms(&sum[c], SQUARES, piece, piece, batch->area, mean[group.first + c], 0.0f);
            else sum_add_terms(&sum[c], PLAIN, piece, piece, batch->area, 0.0f, 0.0f);
        }
    for (int64_t c = 0; c < group.size; c++) sums[group.first + c] = sum_finish(&sum[c]);
}

/* Computes both sums of the gradient: of gy and of gy * xhat. */
static void gradient_sums(const float *gy, const float *x, const Batch *batch, Group group, const float *mean,
                          const float *inverse, float *gscale, float *gshift) {
    if (batch->images == 1) {
        for (int64_t c = group.first; c < group.first + group.size; c++) {
            const float *piece = x + c * batch->area, *gradient = gy + c * batch->area;
            gshift[c] = whole_sum(PLAIN, gradient, gradient, batch->area, 0.0f, 0.0f);
            gscale[c] = whole_sum(PRODUCTS, piece, gradient, batch->area, mean[c], inverse[c]);
        }
        return;
    }
    Sum shift[GROUP], scale[GROUP];
    memset(shift, 0, group.size * sizeof *shift);
    memset(scale, 0, group.size * sizeof *scale);
    for (int64_t image = 0; image < batch->images; image++)
        for (int64_t c = 0; c < group.size; c++) {
            int64_t channel = group.first + c, start = (image * batch->channels + channel) * batch->area;
            sum_add_terms(&shift[c], PLAIN, gy + start, gy + start, batch->area, 0.0f, 0.0f);
            sum_add_terms(&scale[c], PRODUCTS, x + start, gy + start, batch->area, mean[channel], inverse[channel]);
        }
    for (int64_t c = 0; c < group.size; c++) {
        gshift[group.first + c] = sum_finish(&shift[c]);
        gscale[group.first + c] = sum_finish(&scale[c]);
    }
}

static void normalize(const float *x, const float *mean, const float *inverse_deviation, const float *scale,
                      const float *shift, const Batch *batch, Group group, float *y) {
    float factor[GROUP];
    for (int64_t c = 0; c < group.size; c++)
        factor[c] = inverse_deviation[group.first + c] * scale[group.first + c];
    for (int64_t image = 0; image < batch->images; image++)
        for (int64_t c = 0; c < group.size; c++) {
            int64_t channel = group.first + c, start = (image * batch->channels + channel) * batch->area;
            const float center = mean[channel], by = factor[c], to = shift[channel];
#pragma omp simd
            for (int64_t i = start; i < start + batch->area; i++) y[i] = (x[i] - center) * by + to;
        }
}

/* The sums of the columns of a matrix, i.e. of images of one element: the same order, many channels at once. */
static void column_sums(const float *x, const Batch *batch, Group group, float *sums) {
    float lane[SUM_LANES][GROUP], *total = sums + group.first;
    for (int64_t start = 0; start == 0 || start < batch->images; start += SUM_BLOCK) {
        const int64_t end = minimum(start + SUM_BLOCK, batch->images);
        memset(lane, 0, sizeof lane);
        for (int64_t image = start; image < end; image++) {
            const float *row = x + image * batch->channels + group.first;
            float *to = lane[(image - start) % SUM_LANES];
#pragma omp simd
            for (int64_t c = 0; c < group.size; c++) to[c] += row[c];
        }
        for (int half = SUM_LANES / 2; half > 0; half /= 2)
            for (int j = 0; j < half; j++)
                for (int64_t c = 0; c < group.size; c++) lane[j][c] += lane[j + half][c];
        for (int64_t c = 0; c < group.size; c++) total[c] = start == 0 ? lane[0][c] : total[c] + lane[0][c];
    }
}

void KERNEL(channel_sum)(const float *x, const Batch *batch, float *sums, int threads) {
    EACH_GROUP(group) {
        if (batch->area == 1) column_sums(x, batch, group, sums);
        else group_sums(x, batch, group, NULL, sums);
    }
}

float KERNEL(total_sum)(const float *x, int64_t n) {
    const uint64_t before = float_environment_enter();
    const float total = vector_sum(x, n);
    float_environment_leave(before);
    return total;
}

void KERNEL(batch_norm)(const float *x, const float *scale, const float *shift, float epsilon, const Batch *batch,
                        float *y, float *mean, float *variance, float *inverse_deviation, int threads) {
    const float n = (float)(batch->images * batch->area);
    EACH_GROUP(group) {
        const int64_t last = group.first + group.size;
        group_sums(x, batch, group, NULL, mean);
        for (int64_t c = group.first; c < last; c++) mean[c] = mean[c] / n;
        group_sums(x, batch, group, mean, variance);
        for (int64_t c = group.first; c < last; c++) {
            variance[c] = variance[c] / n;
            inverse_deviation[c] = 1.0f / sqrtf(variance[c] + epsilon);
        }
        normalize(x, mean, inverse_deviation, scale, shift, batch, group, y);
    }
}

void KERNEL(batch_norm_inference)(const float *x, const float *mean, const float *variance, const float *scale,
                                  const float *shift, float epsilon, const Batch *batch, float *y, int threads) {
    EACH_GROUP(group) {
        float inverse_deviation[GROUP];
        for (int64_t c = 0; c < group.size; c++)
            inverse_deviation[c] = 1.0f / sqrtf(variance[group.first + c] + epsilon);
        normalize(x, mean, inverse_deviation - group.first, scale, shift, batch, group, y);
    }
}

void KERNEL(batch_norm_gradient)(const float *gy, const float *x, const float *mean, const float *inverse_deviation,
                                 const float *scale, const Batch *batch, float *gx, float *gscale, float *gshift,
                                 int threads) {
    const float n = (float)(batch->images * batch->area);
    EACH_GROUP(group) {
        float shift_shares[GROUP], scale_shares[GROUP];
        gradient_sums(gy, x, batch, group, mean, inverse_deviation, gscale, gshift);
        for (int64_t c = 0; c < group.size; c++) {
            shift_shares[c] = gshift[group.first + c] / n;
            scale_shares[c] = gscale[group.first + c] / n;
        }
        for (int64_t image = 0; image < batch->images; image++)
            for (int64_t c = 0; c < group.size; c++) {
                const int64_t channel = group.first + c, start = (image * batch->channels + channel) * batch->area;
                const float center = mean[channel], inverse = inverse_deviation[channel];
                const float factor = inverse * scale[channel];
                const float shift_share = shift_shares[c], scale_share = scale_shares[c];
#pragma omp simd
                for (int64_t i = start; i < start + batch->area; i++)
                    gx[i] = factor * ((gy[i] - shift_share) - ((x[i] - center) * inverse) * scale_share);
            }
    }
}
