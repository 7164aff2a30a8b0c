/* Depthwise convolutions: WIDTH channels of an image at a time, transposed so that they are the lanes of vectors.
 *
 * A padded plane is (rows, columns, WIDTH); its zeros of padding and dilation take part in the sums. */
#include <stdlib.h>
#include "contraction_depthwise.h"

enum { TAPS_AT_ONCE = 9 };

/* A grid of places in a padded plane and the taps around each. */
typedef struct {
    long top, left, dilation_height, dilation_width; /* where the image is put */
    long rows, columns;                              /* padded */
    long height, width, step_height, step_width;     /* grid */
    long kernel_height, kernel_width;
} Geometry;

static long smaller(long a, long b) { return a < b ? a : b; }

/* WIDTH (or the last few) channels of `count` places each, to lanes; missing lanes are zero. */
static void to_lanes(float *target, const float *source, long count, long channels) {
    if (channels < WIDTH) memset(target, 0, (size_t)count * WIDTH * sizeof(float));
    transpose(target, WIDTH, source, count, channels, count);
}

/* The lanes of an image (height, width) put into a padded plane whose other places are zero already. */
static void place_lanes(const Geometry *geometry, float *plane, const float *lanes, long height, long width) {
    for (long i = 0; i < height; i++) {
        long row = geometry->top + i * geometry->dilation_height;
        if (row < 0 || row >= geometry->rows) continue;
        for (long j = 0; j < width; j++) {
            long column = geometry->left + j * geometry->dilation_width;
            if (column < 0 || column >= geometry->columns) continue;
            vector_store(plane + (row * geometry->columns + column) * WIDTH,
                         vector_load(lanes + (i * width + j) * WIDTH));
        }
    }
}

/* -- forward and gradient by the input: out[place] = sum over taps of weight[tap] * plane[place + tap] ----------- */

INLINE Vector sum_taps(const int kernel_height, const int kernel_width, const float *plane, long columns,
                       const float *weights) {
    Vector sum = vector_zero();
    UNROLL for (int r = 0; r < kernel_height; r++)
        UNROLL for (int s = 0; s < kernel_width; s++)
            sum = vector_fma(vector_load(weights + (r * kernel_width + s) * WIDTH),
                             vector_load(plane + (r * columns + s) * WIDTH), sum);
    return sum;
}

/* Any kernel, in chunks. */
static Vector sum_many_taps(const Geometry *geometry, const float *plane, const float *weights) {
    Vector total = vector_zero(), sum = vector_zero();
    long taps = geometry->kernel_height * geometry->kernel_width;
    for (long k = 0; k < taps; k++) {
        long r = k / geometry->kernel_width, s = k % geometry->kernel_width;
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
    long step = geometry->step_width * WIDTH, columns = geometry->columns;
    for (long i = 0; i < geometry->height; i++) {
        const float *place = plane + i * geometry->step_height * columns * WIDTH;
        for (long j = 0; j < geometry->width; j++, place += step, lanes += WIDTH) {
            Vector sum = geometry->kernel_height == 3 && geometry->kernel_width == 3
                             ? sum_taps(3, 3, place, columns, weights)
                             : sum_many_taps(geometry, place, weights);
            vector_store(lanes, bias ? vector_add(sum, vector_load(bias)) : sum);
        }
    }
}

/* y (N, C, grid) from x (N, C, height, width); weight of channel c and tap k at w[c * taps + (flip ? taps-1-k : k)]. */
static int convolve(const Geometry *geometry, long images, long channels, long height, long width, const float *x,
                    const float *w, int flip, const float *bias, float *y, int threads) {
    long taps = geometry->kernel_height * geometry->kernel_width, grid = geometry->height * geometry->width;
    long blocks = (channels + WIDTH - 1) / WIDTH;
    size_t plane = (size_t)geometry->rows * geometry->columns * WIDTH;
    size_t lanes = (size_t)(height * width > grid ? height * width : grid) * WIDTH;
    size_t own = plane + lanes + taps * WIDTH + WIDTH;
    float *scratch = scratch_floats(own * threads);
    if (!scratch) return -1;
    memset(scratch, 0, own * threads * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long task = 0; task < images * blocks; task++) {
        float *my_plane = scratch + own * THREAD_NUMBER, *my_lanes = my_plane + plane;
        float *my_weights = my_lanes + lanes, *my_bias = my_weights + taps * WIDTH;
        long channel = task % blocks * WIDTH, count = smaller(WIDTH, channels - channel), image = task / blocks;
        const float *source = x + (image * channels + channel) * height * width;
        float *target = y + (image * channels + channel) * grid;
        for (long k = 0; k < taps; k++)
            for (long c = 0; c < WIDTH; c++)
                my_weights[k * WIDTH + c] = c < count ? w[(channel + c) * taps + (flip ? taps - 1 - k : k)] : 0;
        for (long c = 0; c < count && bias; c++) my_bias[c] = bias[channel + c];
        to_lanes(my_lanes, source, height * width, count);
        place_lanes(geometry, my_plane, my_lanes, height, width);
        convolve_lanes(geometry, my_plane, my_weights, bias ? my_bias : NULL, my_lanes);
        transpose(target, grid, my_lanes, WIDTH, grid, count);
    }
    free(scratch);
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

int depthwise_forward(const Convolution *shape, const float *x, const float *w, const float *bias, float *y, int threads) {
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
    return convolve(&geometry, shape->images, shape->channels, shape->out_height, shape->out_width, gy, w, 1, NULL, gx, threads);
}

/* -- gradient by the weights: per channel and tap, a sum over (n, i, j) ------------------------------------------ */

/* sum[t] += gy * plane at each tap, for `count` taps and the places [first, last) of the grid. */
INLINE void accumulate_taps(const int count, Vector *sum, const Geometry *geometry, const float *plane,
                            const ptrdiff_t *tap, const float *gy, long first, long last) {
    Vector acc[TAPS_AT_ONCE];
    UNROLL for (int t = 0; t < count; t++) acc[t] = sum[t];
    for (long q = first; q < last;) {
        long i = q / geometry->width, j = q % geometry->width, end = smaller(last, (i + 1) * geometry->width);
        const float *place = plane + (i * geometry->step_height * geometry->columns + j * geometry->step_width) * WIDTH;
        for (; q < end; q++, place += geometry->step_width * WIDTH) {
            Vector factor = vector_load(gy + q * WIDTH);
            UNROLL for (int t = 0; t < count; t++) acc[t] = vector_fma(factor, vector_load(place + tap[t]), acc[t]);
        }
    }
    UNROLL for (int t = 0; t < count; t++) sum[t] = acc[t];
}

/* What has been summed of WIDTH channels: taps vectors each. */
typedef struct {
    float *sum, *total;
    long k; /* number of positions so far */
} Sums;

static void end_chunk(Sums *sums, long taps) {
    for (long t = 0; t < taps; t++) {
        float *total = sums->total + t * WIDTH, *sum = sums->sum + t * WIDTH;
        vector_store(total, sums->k <= CHUNK ? vector_load(sum) : vector_add(vector_load(total), vector_load(sum)));
        vector_store(sum, vector_zero());
    }
}

static void accumulate_image(const Geometry *geometry, const float *plane, const float *gy, Sums *sums) {
    long taps = geometry->kernel_height * geometry->kernel_width, grid = geometry->height * geometry->width;
    for (long first = 0, last; first < grid; first = last) {
        last = smaller(grid, first + CHUNK - sums->k % CHUNK);
        for (long t = 0; t < taps; t += TAPS_AT_ONCE) {
            long count = smaller(TAPS_AT_ONCE, taps - t);
            ptrdiff_t tap[TAPS_AT_ONCE];
            Vector sum[TAPS_AT_ONCE];
            for (long u = 0; u < count; u++) {
                long r = (t + u) / geometry->kernel_width, s = (t + u) % geometry->kernel_width;
                tap[u] = (r * geometry->columns + s) * WIDTH;
                sum[u] = vector_load(sums->sum + (t + u) * WIDTH);
            }
            if (count == TAPS_AT_ONCE) accumulate_taps(TAPS_AT_ONCE, sum, geometry, plane, tap, gy, first, last);
            else
                for (long u = 0; u < count; u++) accumulate_taps(1, sum + u, geometry, plane, tap + u, gy, first, last);
            for (long u = 0; u < count; u++) vector_store(sums->sum + (t + u) * WIDTH, sum[u]);
        }
        sums->k += last - first;
        if (sums->k % CHUNK == 0) end_chunk(sums, taps);
    }
}

int depthwise_weight_gradient(const Convolution *shape, const float *x, const float *gy, float *gw, int threads) {
    Geometry geometry = forward_geometry(shape);
    long channels = shape->channels, taps = shape->kernel_height * shape->kernel_width;
    long place = shape->height * shape->width, grid = shape->out_height * shape->out_width;
    size_t plane = (size_t)(geometry.rows * geometry.columns) * WIDTH;
    size_t own = plane + (place + grid + 2 * taps) * WIDTH;
    float *scratch = scratch_floats(own * threads);
    if (!scratch) return -1;
    memset(scratch, 0, own * threads * sizeof(float));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long channel = 0; channel < channels; channel += WIDTH) {
        float *my_plane = scratch + own * THREAD_NUMBER, *x_lanes = my_plane + plane;
        float *gy_lanes = x_lanes + place * WIDTH;
        Sums sums = {gy_lanes + grid * WIDTH, gy_lanes + (grid + taps) * WIDTH, 0};
        long count = smaller(WIDTH, channels - channel);
        memset(sums.sum, 0, 2 * taps * WIDTH * sizeof(float));
        for (long n = 0; n < shape->images; n++) {
            to_lanes(x_lanes, x + (n * channels + channel) * place, place, count);
            to_lanes(gy_lanes, gy + (n * channels + channel) * grid, grid, count);
            place_lanes(&geometry, my_plane, x_lanes, shape->height, shape->width);
            accumulate_image(&geometry, my_plane, gy_lanes, &sums);
        }
        if (sums.k % CHUNK) {
            sums.k += CHUNK - sums.k % CHUNK;
            end_chunk(&sums, taps);
        }
        for (long c = 0; c < count; c++)
            for (long t = 0; t < taps; t++) gw[(channel + c) * taps + t] = sums.total[t * WIDTH + c];
    }
    free(scratch);
    return 0;
}
