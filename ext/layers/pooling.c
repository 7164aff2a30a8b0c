/* Maximum and average pooling, one plane after another. */
#include "layers/layers.h"
#include <math.h>
#include <stdlib.h>

#define EACH_PLANE(plane) EACH(plane, pool->planes, pool->planes * pool->height * pool->width)

/* Updates the largest element so far: a greater element replaces it, and NaN replaces a number. It is written as four
 * selections because the compiler vectorizes these, but not one condition joined by "and". */
#define CONSIDER(best, place, element, position)                     \
    {                                                                \
        const float kept = (element) <= best ? best : (element);     \
        const int32_t at = (element) <= best ? place : (position);   \
        place = best != best ? place : at;                           \
        best = best != best ? best : kept;                           \
    }

/* A padded plane. The columns of a row are sorted by their remainder modulo the stride: column q is at
 * (q % stride) * run + (q / stride) * step. With step 1, element s of a row of windows is a run of adjacent elements.
 * An unsorted plane without padding has run 1 and step `stride`. */
typedef struct {
    const float *data;
    int64_t run, step, pitch;
} Sorted;

/* Sorts one row of `width` elements to the position after the padding. */
static inline void sort_row(const float *row, int64_t width, int64_t stride, int64_t padding, int64_t run, float *to) {
    if (stride == 1) {
        memcpy(to + padding, row, 4 * width);
    } else if (stride == 2) {
        float *even = to + padding % 2 * run + padding / 2, *odd = to + (padding + 1) % 2 * run + (padding + 1) / 2;
#pragma omp simd
        for (int64_t k = 0; k < width / 2; k++) {
            even[k] = row[2 * k];
            odd[k] = row[2 * k + 1];
        }
        if (width % 2) even[width / 2] = row[width - 1];
    } else {
        for (int64_t w = 0; w < width; w++) to[(w + padding) % stride * run + (w + padding) / stride] = row[w];
    }
}

/* Computes one row of output. A window starts as -inf at its first position inside the image, which is correct if no
 * element is greater. The padding of -inf never replaces anything. */
INLINE void max_row(Sorted plane, const Pooling *pool, int64_t kernel_rows, int64_t kernel_columns, int64_t stride,
                    int64_t i, float *y, int32_t *index) {
    const int64_t top = i * pool->stride[0] - pool->padding[0];
    const int32_t width = (int32_t)pool->width, left = (int32_t)pool->padding[1];
    const int32_t first_row = top > 0 ? (int32_t)top * width : 0;
    const float *start = plane.data + i * pool->stride[0] * plane.pitch;
#pragma omp simd
    for (int64_t j = 0; j < pool->columns; j++) {
        const int32_t column = (int32_t)(j * stride) - left;
        float best = -INFINITY;
        int32_t place = first_row + (column > 0 ? column : 0);
#pragma GCC unroll 4
        for (int64_t r = 0; r < kernel_rows; r++)
#pragma GCC unroll 4
            for (int64_t s = 0; s < kernel_columns; s++) {
                const float element = start[r * plane.pitch + s % stride * plane.run + (j + s / stride) * plane.step];
                CONSIDER(best, place, element, ((int32_t)top + (int32_t)r) * width + column + (int32_t)s)
            }
        y[j] = best;
        index[j] = place;
    }
}

static inline int is_2x2(const Pooling *pool) {
    return pool->kernel[0] == 2 && pool->kernel[1] == 2 && pool->stride[1] == 2;
}

static inline int is_unpadded(const Pooling *pool) { return pool->padding[0] == 0 && pool->padding[1] == 0; }

/* Computes the rows of one sorted plane. The most common windows are constants, which the compiler vectorizes. */
static void max_plane(const float *data, int64_t run, const Pooling *pool, float *y, int32_t *index) {
    const int64_t *kernel = pool->kernel, stride = pool->stride[1];
    const Sorted plane = {data, run, 1, run * stride};
    for (int64_t i = 0; i < pool->rows; i++, y += pool->columns, index += pool->columns) {
        if (is_2x2(pool)) max_row(plane, pool, 2, 2, 2, i, y, index);
        else if (kernel[0] == 3 && kernel[1] == 3 && stride == 2) max_row(plane, pool, 3, 3, 2, i, y, index);
        else max_row(plane, pool, kernel[0], kernel[1], stride, i, y, index);
    }
}

/* Computes the rows of one unsorted plane, for the most common window. */
static void max_plane_2x2(const float *image, const Pooling *pool, float *y, int32_t *index) {
    const Sorted plane = {image, 1, 2, pool->width};
    for (int64_t i = 0; i < pool->rows; i++, y += pool->columns, index += pool->columns)
        max_row(plane, pool, 2, 2, 2, i, y, index);
}

int KERNEL(max_pool2d)(const float *x, const Pooling *pool, float *y, int32_t *index, int threads) {
    const int64_t area = pool->height * pool->width, windows = pool->rows * pool->columns;
    const int64_t stride = pool->stride[1], run = (pool->width + 2 * pool->padding[1] + stride - 1) / stride;
    const int64_t pitch = run * stride, size = (pool->height + 2 * pool->padding[0]) * pitch;
    const int as_it_is = is_2x2(pool) && is_unpadded(pool);
    int failed = 0;
    PARALLEL(pool->planes * area) {
        float *buffer = malloc(4 * size);
        if (!buffer) {
#pragma omp atomic write
            failed = 1;
        }
        for (int64_t k = 0; buffer && k < size; k++) buffer[k] = -INFINITY;
#pragma omp for schedule(static)
        for (int64_t plane = 0; plane < pool->planes; plane++) {
            const float *image = x + plane * area;
            if (!buffer) continue;
            if (as_it_is) {
                max_plane_2x2(image, pool, y + plane * windows, index + plane * windows);
                continue;
            }
            for (int64_t h = 0; h < pool->height; h++)
                sort_row(image + h * pool->width, pool->width, stride, pool->padding[1], run,
                         buffer + (h + pool->padding[0]) * pitch);
            max_plane(buffer, run, pool, y + plane * windows, index + plane * windows);
        }
        free(buffer);
    }
    return failed ? -1 : 0;
}

void KERNEL(max_pool2d_gradient)(const float *gy, const int32_t *index, const Pooling *pool, float *gx, int threads) {
    int64_t area = pool->height * pool->width, windows = pool->rows * pool->columns;
    EACH_PLANE(plane) {
        memset(gx + plane * area, 0, 4 * area);
        for (int64_t i = plane * windows; i < (plane + 1) * windows; i++) gx[plane * area + index[i]] += gy[i];
    }
}

/* Computes one row of averages over windows of at most 32 elements without padding. lanes[k] has element k of each. */
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
    for (int64_t half = width / 2; half > 0; half /= 2) /* lanes k and k + half are `half * columns` apart */
#pragma omp simd
        for (int64_t j = 0; j < half * columns; j++) lanes[j] += lanes[j + half * columns];
    for (int64_t j = 0; j < columns; j++) y[j] = lanes[j] / (float)size;
}

/* Computes the mean of a contiguous window. */
static inline float average_contiguous(const float *x, int64_t size) {
    return (size == 16 ? short_sum(x, 16) : size <= SUM_LANES ? short_sum(x, size) : vector_sum(x, size)) / (float)size;
}

/* Computes the mean of any window: copies its elements, including zeros of the padding, to a buffer and sums them. */
static inline float average_window(const float *x, const Pooling *pool, int64_t i, int64_t j, float *window) {
    int64_t size = pool->kernel[0] * pool->kernel[1];
    for (int64_t r = 0; r < pool->kernel[0]; r++)
        for (int64_t s = 0; s < pool->kernel[1]; s++) {
            int64_t h = i * pool->stride[0] + r - pool->padding[0], w = j * pool->stride[1] + s - pool->padding[1];
            int inside = h >= 0 && h < pool->height && w >= 0 && w < pool->width;
            window[r * pool->kernel[1] + s] = inside ? x[h * pool->width + w] : 0.0f;
        }
    return average_contiguous(window, size);
}

int KERNEL(avg_pool2d)(const float *x, const Pooling *pool, float *y, int threads) {
    int64_t size = pool->kernel[0] * pool->kernel[1], area = pool->height * pool->width;
    int unpadded = is_unpadded(pool);
    int whole_rows = unpadded && pool->kernel[1] == pool->width; /* if true, a window is contiguous */
    int small = unpadded && size <= SUM_LANES && pool->columns > 1;
    int64_t scratch = whole_rows ? 1 : small ? SUM_LANES * pool->columns : size;
    int failed = 0;
    PARALLEL(pool->planes * area) {
        float *buffer = malloc(4 * scratch);
        if (!buffer) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t plane = 0; plane < pool->planes; plane++) {
            const float *image = x + plane * area;
            for (int64_t i = 0; buffer && i < pool->rows; i++) {
                float *row = y + (plane * pool->rows + i) * pool->columns;
                if (whole_rows) row[0] = average_contiguous(image + i * pool->stride[0] * pool->width, size);
                else if (small && pool->stride[1] == 2) average_row_small(image, pool, 2, i, buffer, row);
                else if (small) average_row_small(image, pool, pool->stride[1], i, buffer, row);
                else for (int64_t j = 0; j < pool->columns; j++) row[j] = average_window(image, pool, i, j, buffer);
            }
        }
        free(buffer);
    }
    return failed ? -1 : 0;
}

/* Adjacent windows of `size` columns that cover the whole width. */
INLINE void spread_tiles(const float *share, const Pooling *pool, int64_t size, float *gx) {
    for (int64_t i = 0; i < pool->rows; i++)
        for (int64_t r = 0; r < pool->kernel[0]; r++) {
            float *row = gx + (i * pool->kernel[0] + r) * pool->width;
            for (int64_t j = 0; j < pool->columns; j++)
                for (int64_t s = 0; s < size; s++) row[j * size + s] = share[i * pool->columns + j];
        }
}

/* Finds the output columns j in [*first, *last) whose window element s is inside the image. */
static inline void columns_inside(const Pooling *pool, int64_t stride, int64_t s, int64_t *first, int64_t *last) {
    int64_t before = pool->padding[1] - s, most = pool->width - 1 + before; /* 0 <= j * stride - before < width */
    *first = before > 0 ? (before + stride - 1) / stride : 0;
    *last = most < 0 ? 0 : most / stride + 1;
    if (*last > pool->columns) *last = pool->columns;
}

/* Any windows: falling (r, s) visits the windows of an element in rising (i, j). */
static inline void spread(const float *share, const Pooling *pool, float *gx) {
    memset(gx, 0, 4 * pool->height * pool->width);
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

int KERNEL(avg_pool2d_gradient)(const float *gy, const Pooling *pool, float *gx, int threads) {
    int64_t windows = pool->rows * pool->columns, area = pool->height * pool->width;
    float size = (float)(pool->kernel[0] * pool->kernel[1]);
    const int64_t *kernel = pool->kernel, *stride = pool->stride;
    const int tiles = is_unpadded(pool) && stride[0] == kernel[0] && stride[1] == kernel[1] &&
                      pool->rows * kernel[0] == pool->height &&
                      pool->columns * kernel[1] == pool->width; /* every element is in exactly one window */
    int failed = 0;
    PARALLEL(pool->planes * area) {
        float *share = malloc(4 * windows);
        if (!share) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t plane = 0; plane < pool->planes; plane++) {
            float *out = gx + plane * area;
            if (!share) continue;
            for (int64_t i = 0; i < windows; i++) share[i] = 0.0f + gy[plane * windows + i] / size;
            if (tiles && windows == 1)
                for (int64_t i = 0; i < area; i++) out[i] = share[0];
            else if (tiles && kernel[1] == 2) spread_tiles(share, pool, 2, out);
            else if (tiles) spread_tiles(share, pool, kernel[1], out);
            else spread(share, pool, out);
        }
        free(share);
    }
    return failed ? -1 : 0;
}
