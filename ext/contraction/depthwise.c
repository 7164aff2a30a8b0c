/* Depthwise convolutions: WIDTH channels of an image at a time, transposed so that they are the lanes of vectors.
 *
 * A padded plane is (rows, columns, WIDTH). The sums include its zeros of padding and dilation. */
#include "contraction/convolution.h"

#include <stdlib.h>

enum { TAPS_AT_ONCE = 9 };

/* A grid of positions in a padded plane, and the taps around each. */
typedef struct {
    int64_t top, left, dilation_height, dilation_width; /* the position of the image */
    int64_t rows, columns;                              /* padded */
    int64_t height, width, step_height, step_width;     /* grid */
    int64_t kernel_height, kernel_width;
} Geometry;


/* Transposes WIDTH (or the last few) channels of `count` elements to lanes. Missing lanes are zero. */
static void to_lanes(float *target, const float *source, int64_t count, int64_t channels) {
    if (channels < WIDTH) memset(target, 0, (size_t)count * WIDTH * sizeof(float));
    transpose(target, WIDTH, source, count, channels, count);
}

/* Copies the lanes of an image (height, width) into a padded plane whose other elements are zero already. */
static void place_lanes(const Geometry *geometry, float *plane, const float *lanes, int64_t height, int64_t width) {
    for (int64_t i = 0; i < height; i++) {
        int64_t row = geometry->top + i * geometry->dilation_height;
        if (row < 0 || row >= geometry->rows) continue;
        for (int64_t j = 0; j < width; j++) {
            int64_t column = geometry->left + j * geometry->dilation_width;
            if (column < 0 || column >= geometry->columns) continue;
            vector_store(plane + (row * geometry->columns + column) * WIDTH,
                         vector_load(lanes + (i * width + j) * WIDTH));
        }
    }
}

/* -- forward and gradient by the input: out[place] = sum over taps of weight[tap] * plane[place + tap] ----------- */

INLINE Floats sum_taps(const int kernel_height, const int kernel_width, const float *plane, int64_t columns,
                       const float *weights) {
    Floats sum = vector_zero();
    UNROLL for (int r = 0; r < kernel_height; r++)
        UNROLL for (int s = 0; s < kernel_width; s++)
            sum = vector_fma(vector_load(weights + (r * kernel_width + s) * WIDTH),
                             vector_load(plane + (r * columns + s) * WIDTH), sum);
    return sum;
}

/* Supports any kernel, in chunks. */
static Floats sum_many_taps(const Geometry *geometry, const float *plane, const float *weights) {
    Floats total = vector_zero(), sum = vector_zero();
    int64_t taps = geometry->kernel_height * geometry->kernel_width;
    for (int64_t k = 0; k < taps; k++) {
        int64_t r = k / geometry->kernel_width, s = k % geometry->kernel_width;
        const float *place = plane + (r * geometry->columns + s) * WIDTH;
        sum = vector_fma(vector_load(weights + k * WIDTH), vector_load(place), sum);
        if ((k + 1) % CHUNK == 0 || k + 1 == taps) {
            total = k < CHUNK ? sum : vector_add(total, sum);
            sum = vector_zero();
        }
    }
    return total;
}

static void convolve_lanes(const Geometry *geometry, const float *plane, const float *weights, const float *bias,
                           float *lanes) {
    int64_t step = geometry->step_width * WIDTH, columns = geometry->columns;
    for (int64_t i = 0; i < geometry->height; i++) {
        const float *place = plane + i * geometry->step_height * columns * WIDTH;
        for (int64_t j = 0; j < geometry->width; j++, place += step, lanes += WIDTH) {
            Floats sum = geometry->kernel_height == 3 && geometry->kernel_width == 3
                             ? sum_taps(3, 3, place, columns, weights)
                             : sum_many_taps(geometry, place, weights);
            vector_store(lanes, bias ? vector_add(sum, vector_load(bias)) : sum);
        }
    }
}

/* Computes y (N, C, grid) from x (N, C, height, width). The weight of channel c and tap k is at
 * w[c * taps + (flip ? taps-1-k : k)]. */
static int convolve(const Geometry *geometry, int64_t images, int64_t channels, int64_t height, int64_t width,
                    const float *x, const float *w, int flip, const float *bias, float *y, int threads) {
    int64_t taps = geometry->kernel_height * geometry->kernel_width, grid = geometry->height * geometry->width;
    int64_t blocks = (channels + WIDTH - 1) / WIDTH;
    size_t plane = (size_t)geometry->rows * geometry->columns * WIDTH;
    size_t lanes = (size_t)(height * width > grid ? height * width : grid) * WIDTH;
    size_t own = plane + lanes + taps * WIDTH + WIDTH;
    float *scratch = scratch_floats(own * threads);
    if (!scratch) return -1;
    memset(scratch, 0, own * threads * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t task = 0; task < images * blocks; task++) IN_DEFAULT_ENVIRONMENT {
        float *my_plane = scratch + own * THREAD_NUMBER, *my_lanes = my_plane + plane;
        float *my_weights = my_lanes + lanes, *my_bias = my_weights + taps * WIDTH;
        int64_t channel = task % blocks * WIDTH, count = minimum(WIDTH, channels - channel), image = task / blocks;
        const float *source = x + (image * channels + channel) * height * width;
        float *target = y + (image * channels + channel) * grid;
        for (int64_t k = 0; k < taps; k++)
            for (int64_t c = 0; c < WIDTH; c++)
                my_weights[k * WIDTH + c] = c < count ? w[(channel + c) * taps + (flip ? taps - 1 - k : k)] : 0;
        for (int64_t c = 0; c < count && bias; c++) my_bias[c] = bias[channel + c];
        to_lanes(my_lanes, source, height * width, count);
        place_lanes(geometry, my_plane, my_lanes, height, width);
        convolve_lanes(geometry, my_plane, my_weights, bias ? my_bias : NULL, my_lanes);
        transpose(target, grid, my_lanes, WIDTH, grid, count);
    }
    aligned_release(scratch);
    return 0;
}

static Geometry forward_geometry(const Convolution *shape) {
    return (Geometry){
        .top = shape->padding_height, .left = shape->padding_width, .dilation_height = 1, .dilation_width = 1,
        .rows = (shape->out_height - 1) * shape->stride_height + shape->kernel_height,
        .columns = (shape->out_width - 1) * shape->stride_width + shape->kernel_width,
        .height = shape->out_height, .width = shape->out_width,
        .step_height = shape->stride_height, .step_width = shape->stride_width,
        .kernel_height = shape->kernel_height, .kernel_width = shape->kernel_width,
    };
}

int depthwise_forward(const Convolution *shape, const float *x, const float *w, const float *bias, float *y,
                      int threads) {
    Geometry geometry = forward_geometry(shape);
    return convolve(&geometry, shape->images, shape->channels, shape->height, shape->width, x, w, 0, bias, y,
                    threads);
}

int depthwise_input_gradient(const Convolution *shape, const float *gy, const float *w, float *gx, int threads) {
    Geometry geometry = {
        .top = shape->kernel_height - 1 - shape->padding_height, .left = shape->kernel_width - 1 - shape->padding_width,
        .dilation_height = shape->stride_height, .dilation_width = shape->stride_width,
        .rows = shape->height + shape->kernel_height - 1, .columns = shape->width + shape->kernel_width - 1,
        .height = shape->height, .width = shape->width, .step_height = 1, .step_width = 1,
        .kernel_height = shape->kernel_height, .kernel_width = shape->kernel_width,
    };
    return convolve(&geometry, shape->images, shape->channels, shape->out_height, shape->out_width, gy, w, 1, NULL, gx,
                    threads);
}

/* -- gradient by the weights: per channel and tap, a sum over (n, i, j) ------------------------------------------ */

/* Adds gy * plane to sum[t] at each tap, for `count` taps and the positions [first, last) of the grid. */
INLINE void accumulate_taps(const int count, Floats *sum, const Geometry *geometry, const float *plane,
                            const int64_t *tap, const float *gy, int64_t first, int64_t last) {
    Floats acc[TAPS_AT_ONCE];
    UNROLL for (int t = 0; t < count; t++) acc[t] = sum[t];
    for (int64_t q = first; q < last;) {
        int64_t i = q / geometry->width, j = q % geometry->width, end = minimum(last, (i + 1) * geometry->width);
        const float *place = plane + (i * geometry->step_height * geometry->columns + j * geometry->step_width) * WIDTH;
        for (; q < end; q++, place += geometry->step_width * WIDTH) {
            Floats factor = vector_load(gy + q * WIDTH);
            UNROLL for (int t = 0; t < count; t++) acc[t] = vector_fma(factor, vector_load(place + tap[t]), acc[t]);
        }
    }
    UNROLL for (int t = 0; t < count; t++) sum[t] = acc[t];
}

/* The sums of WIDTH channels so far: taps vectors each. */
typedef struct {
    float *sum, *total;
    int64_t k; /* number of positions so far */
} Sums;

static void end_chunk(Sums *sums, int64_t taps) {
    for (int64_t t = 0; t < taps; t++) {
        float *total = sums->total + t * WIDTH, *sum = sums->sum + t * WIDTH;
        vector_store(total, sums->k <= CHUNK ? vector_load(sum) : vector_add(vector_load(total), vector_load(sum)));
        vector_store(sum, vector_zero());
    }
}

static void accumulate_image(const Geometry *geometry, const float *plane, const float *gy, Sums *sums) {
    int64_t taps = geometry->kernel_height * geometry->kernel_width, grid = geometry->height * geometry->width;
    for (int64_t first = 0, last; first < grid; first = last) {
        last = minimum(grid, first + CHUNK - sums->k % CHUNK);
        for (int64_t t = 0; t < taps; t += TAPS_AT_ONCE) {
            int64_t count = minimum(TAPS_AT_ONCE, taps - t);
            int64_t tap[TAPS_AT_ONCE];
            Floats sum[TAPS_AT_ONCE];
            for (int64_t u = 0; u < count; u++) {
                int64_t r = (t + u) / geometry->kernel_width, s = (t + u) % geometry->kernel_width;
                tap[u] = (r * geometry->columns + s) * WIDTH;
                sum[u] = vector_load(sums->sum + (t + u) * WIDTH);
            }
            if (count == TAPS_AT_ONCE) accumulate_taps(TAPS_AT_ONCE, sum, geometry, plane, tap, gy, first, last);
            else
                for (int64_t u = 0; u < count; u++)
                    accumulate_taps(1, sum + u, geometry, plane, tap + u, gy, first, last);
            for (int64_t u = 0; u < count; u++) vector_store(sums->sum + (t + u) * WIDTH, sum[u]);
        }
        sums->k += last - first;
        if (sums->k % CHUNK == 0) end_chunk(sums, taps);
    }
}

int depthwise_weight_gradient(const Convolution *shape, const float *x, const float *gy, float *gw, int threads) {
    Geometry geometry = forward_geometry(shape);
    int64_t channels = shape->channels, taps = shape->kernel_height * shape->kernel_width;
    int64_t place = shape->height * shape->width, grid = shape->out_height * shape->out_width;
    size_t plane = (size_t)(geometry.rows * geometry.columns) * WIDTH;
    size_t own = plane + (place + grid + 2 * taps) * WIDTH;
    float *scratch = scratch_floats(own * threads);
    if (!scratch) return -1;
    memset(scratch, 0, own * threads * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t channel = 0; channel < channels; channel += WIDTH) IN_DEFAULT_ENVIRONMENT {
        float *my_plane = scratch + own * THREAD_NUMBER, *x_lanes = my_plane + plane;
        float *gy_lanes = x_lanes + place * WIDTH;
        Sums sums = {gy_lanes + grid * WIDTH, gy_lanes + (grid + taps) * WIDTH, 0};
        int64_t count = minimum(WIDTH, channels - channel);
        memset(sums.sum, 0, 2 * taps * WIDTH * sizeof(float));
        for (int64_t n = 0; n < shape->images; n++) {
            to_lanes(x_lanes, x + (n * channels + channel) * place, place, count);
            to_lanes(gy_lanes, gy + (n * channels + channel) * grid, grid, count);
            place_lanes(&geometry, my_plane, x_lanes, shape->height, shape->width);
            accumulate_image(&geometry, my_plane, gy_lanes, &sums);
        }
        if (sums.k % CHUNK) {
            sums.k += CHUNK - sums.k % CHUNK;
            end_chunk(&sums, taps);
        }
        for (int64_t c = 0; c < count; c++)
            for (int64_t t = 0; t < taps; t++) gw[(channel + c) * taps + t] = sums.total[t * WIDTH + c];
    }
    aligned_release(scratch);
    return 0;
}
