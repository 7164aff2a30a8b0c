/* Maximum and average pooling, one plane after another. */
#include "layers_variant.h"
#include <math.h>
#include <stdlib.h>

#define EACH_PLANE(plane) EACH(plane, pool.planes, pool.planes *pool.height *pool.width)

/* The output columns j in [*first, *last) whose window element s lies inside the image. */
static inline void columns_inside(const Pooling *pool, int64_t stride, int64_t s, int64_t *first, int64_t *last) {
    int64_t before = pool->padding[1] - s, room = pool->width - 1 + before; /* 0 <= j * stride - before < width */
    *first = before > 0 ? (before + stride - 1) / stride : 0;
    *last = room < 0 ? 0 : room / stride + 1;
    if (*last > pool->columns) *last = pool->columns;
}

/* One row of output; y and index hold the largest so far, index < 0 while there is none. */
static inline void max_row(const float *x, const Pooling *pool, int64_t stride, int64_t i, float *y, int32_t *index) {
    for (int64_t j = 0; j < pool->columns; j++) y[j] = -INFINITY, index[j] = -1;
    for (int64_t r = 0; r < pool->kernel[0]; r++) {
        int64_t h = i * pool->stride[0] + r - pool->padding[0];
        if (h < 0 || h >= pool->height) continue;
        for (int64_t s = 0; s < pool->kernel[1]; s++) {
            int64_t first, last;
            columns_inside(pool, stride, s, &first, &last);
            int32_t place = (int32_t)(h * pool->width + s - pool->padding[1]);
            const float *row = x + place;
#pragma omp simd
            for (int64_t j = first; j < last; j++) {
                float element = row[j * stride];
                int better = (index[j] < 0) | (element > y[j]) | ((element != element) & (y[j] == y[j]));
                y[j] = better ? element : y[j];
                index[j] = better ? place + (int32_t)(j * stride) : index[j];
            }
        }
    }
}

/* The commonest window: 2 by 2, stride 2, no padding; the four comparisons in registers. */
static inline void max_row_2x2(const float *x, const Pooling *pool, int64_t i, float *y, int32_t *index) {
    int32_t width = (int32_t)pool->width, start = (int32_t)(2 * i) * width;
    const float *upper = x + start, *lower = upper + width;
#pragma omp simd
    for (int32_t j = 0; j < (int32_t)pool->columns; j++) {
        float best = upper[2 * j], element = upper[2 * j + 1];
        int32_t place = start + 2 * j, where = place;
#define CONSIDER(position)                                                               \
    {                                                                                    \
        int better = (element > best) | ((element != element) & (best == best));         \
        best = better ? element : best;                                                  \
        where = better ? (position) : where;                                             \
    }
        CONSIDER(place + 1)
        element = lower[2 * j];
        CONSIDER(place + width)
        element = lower[2 * j + 1];
        CONSIDER(place + width + 1)
#undef CONSIDER
        y[j] = best;
        index[j] = where;
    }
}

static inline int is_2x2(const Pooling *pool) {
    return pool->kernel[0] == 2 && pool->kernel[1] == 2 && pool->stride[0] == 2 && pool->stride[1] == 2 &&
           pool->padding[0] == 0 && pool->padding[1] == 0;
}

void LAYER(max_pool2d)(const float *x, Pooling pool, float *y, int32_t *index, int threads) {
    EACH_PLANE(plane) {
        const float *image = x + plane * pool.height * pool.width;
        for (int64_t i = 0; i < pool.rows; i++) {
            int64_t start = (plane * pool.rows + i) * pool.columns;
            if (is_2x2(&pool)) max_row_2x2(image, &pool, i, y + start, index + start);
            else if (pool.stride[1] == 1) max_row(image, &pool, 1, i, y + start, index + start);
            else if (pool.stride[1] == 2) max_row(image, &pool, 2, i, y + start, index + start);
            else max_row(image, &pool, pool.stride[1], i, y + start, index + start);
        }
    }
}

void LAYER(max_pool2d_gradient)(const float *gy, const int32_t *index, Pooling pool, float *gx, int threads) {
    int64_t area = pool.height * pool.width, windows = pool.rows * pool.columns;
    EACH_PLANE(plane) {
        memset(gx + plane * area, 0, 4 * area);
        for (int64_t i = plane * windows; i < (plane + 1) * windows; i++) gx[plane * area + index[i]] += gy[i];
    }
}

/* One row of averages over windows of at most 32 elements without padding: lanes[k] holds element k of each. */
static inline void average_row_small(const float *x, const Pooling *pool, int64_t stride, int64_t i, float *lanes,
                                     float *y) {
    int64_t size = pool->kernel[0] * pool->kernel[1], columns = pool->columns, width = SUM_LANES;
    while (width / 2 >= size) width /= 2; /* a lane without elements is +0, and no lane is -0 */
    for (int64_t k = 0; k < width; k++) {
        const float *row = x + (i * pool->stride[0] + k / pool->kernel[1]) * pool->width + k % pool->kernel[1];
        float *lane = lanes + k * columns;
        if (k < size)
            for (int64_t j = 0; j < columns; j++) lane[j] = 0.0f + row[j * stride];
        else
            memset(lane, 0, 4 * columns);
    }
    for (int64_t half = width / 2; half > 0; half /= 2) /* lanes k and k + half lie `half * columns` apart */
#pragma omp simd
        for (int64_t j = 0; j < half * columns; j++) lanes[j] += lanes[j + half * columns];
    for (int64_t j = 0; j < columns; j++) y[j] = lanes[j] / (float)size;
}

/* Any window: its elements, zeros of the padding included, are copied together and summed. */
static inline float average_window(const float *x, const Pooling *pool, int64_t i, int64_t j, float *window) {
    int64_t size = pool->kernel[0] * pool->kernel[1];
    for (int64_t r = 0; r < pool->kernel[0]; r++)
        for (int64_t s = 0; s < pool->kernel[1]; s++) {
            int64_t h = i * pool->stride[0] + r - pool->padding[0], w = j * pool->stride[1] + s - pool->padding[1];
            int inside = h >= 0 && h < pool->height && w >= 0 && w < pool->width;
            window[r * pool->kernel[1] + s] = inside ? x[h * pool->width + w] : 0.0f;
        }
    return vector_sum(window, size) / (float)size;
}

int LAYER(avg_pool2d)(const float *x, Pooling pool, float *y, int threads) {
    int64_t size = pool.kernel[0] * pool.kernel[1], area = pool.height * pool.width;
    int unpadded = pool.padding[0] == 0 && pool.padding[1] == 0;
    int whole_rows = unpadded && pool.kernel[1] == pool.width; /* then a window is contiguous */
    int small = unpadded && size <= SUM_LANES && pool.columns > 1;
    int64_t scratch = whole_rows ? 1 : small ? SUM_LANES * pool.columns : size, failed = 0;
    PARALLEL(pool.planes * area) {
        float *room = malloc(4 * scratch);
        if (!room) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t plane = 0; plane < pool.planes; plane++) {
            const float *image = x + plane * area;
            for (int64_t i = 0; room && i < pool.rows; i++) {
                float *row = y + (plane * pool.rows + i) * pool.columns;
                if (whole_rows) row[0] = vector_sum(image + i * pool.stride[0] * pool.width, size) / (float)size;
                else if (small && pool.stride[1] == 2) average_row_small(image, &pool, 2, i, room, row);
                else if (small) average_row_small(image, &pool, pool.stride[1], i, room, row);
                else for (int64_t j = 0; j < pool.columns; j++) row[j] = average_window(image, &pool, i, j, room);
            }
        }
        free(room);
    }
    return failed ? -1 : 0;
}

/* Windows that tile the image: every element of x lies in one window or, at the end, in none. */
static inline void spread_tiles(const float *share, const Pooling *pool, int64_t size, float *gx) {
    for (int64_t i = 0; i < pool->rows; i++)
        for (int64_t r = 0; r < pool->kernel[0]; r++) {
            float *row = gx + (i * pool->kernel[0] + r) * pool->width;
            for (int64_t j = 0; j < pool->columns; j++)
                for (int64_t s = 0; s < size; s++) row[j * size + s] = share[i * pool->columns + j];
        }
}

/* Any windows: an element meets its windows in rising (i, j) when it is their element (r, s) in falling (r, s). */
static inline void spread(const float *share, const Pooling *pool, float *gx) {
    for (int64_t i = 0; i < pool->rows; i++)
        for (int64_t r = 0; r < pool->kernel[0]; r++) {
            int64_t h = i * pool->stride[0] + r - pool->padding[0];
            if (h < 0 || h >= pool->height) continue;
            for (int64_t s = pool->kernel[1] - 1; s >= 0; s--) {
                int64_t first, last;
                columns_inside(pool, pool->stride[1], s, &first, &last);
                float *row = gx + h * pool->width + s - pool->padding[1];
                for (int64_t j = first; j < last; j++)
                    row[j * pool->stride[1]] += share[i * pool->columns + j];
            }
        }
}

int LAYER(avg_pool2d_gradient)(const float *gy, Pooling pool, float *gx, int threads) {
    int64_t windows = pool.rows * pool.columns, area = pool.height * pool.width, failed = 0;
    int64_t elements = pool.planes * area;
    float size = (float)(pool.kernel[0] * pool.kernel[1]);
    int tiles = pool.padding[0] == 0 && pool.padding[1] == 0 && pool.stride[0] == pool.kernel[0] &&
                pool.stride[1] == pool.kernel[1];
#pragma omp parallel num_threads(threads) if (elements >= WORTH_THREADS)
    {
        float *share = malloc(4 * windows);
        if (!share) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t plane = 0; plane < pool.planes; plane++) {
            float *out = gx + plane * area;
            memset(out, 0, 4 * area);
            if (!share) continue;
            for (int64_t i = 0; i < windows; i++) share[i] = 0.0f + gy[plane * windows + i] / size;
            if (tiles && pool.kernel[1] == 2) spread_tiles(share, &pool, 2, out);
            else if (tiles) spread_tiles(share, &pool, pool.kernel[1], out);
            else spread(share, &pool, out);
        }
        free(share);
    }
    return failed ? -1 : 0;
}
