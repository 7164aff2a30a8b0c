/* Convolution's gradient by the weights: k runs over the positions (n, i, j), many; the outputs are few.
 *
 * Vector lanes are output channels: gy is transposed, a block of chunks at a time, to lanes of (k, output). Rows are
 * weights (c, r, s) of one output, read from a padded copy of x at rows + k's offset and broadcast. A tile is some
 * kernel rows (c, r), each with all its taps s, times two vectors; its total is added to chunk by chunk. */
#include <stdlib.h>
#include "contraction_depthwise.h"

enum { CHUNKS_PER_BLOCK = 8, BLOCK_BYTES = 4 << 20, MOST_GROUPS = 12, TASKS_PER_THREAD = 8 };

typedef struct {
    const Convolution *shape;
    const float *x, *gy; /* of the group */
    float *gw;
    long channels, outputs, taps; /* of the group; taps: columns s of a kernel row that one pointer serves */
    long groups;                  /* kernel rows: channels * R if taps > 1, else channels * R * S */
    long rows, columns;           /* of a padded channel */
    long positions, grid;         /* all k; k per image */
    int in_place;
    float *padded, *lanes, *total; /* total: (groups * taps, lane_count) */
    ptrdiff_t *k_offset;
    const ptrdiff_t *row_offset; /* of each kernel row in a padded image */
    long lane_count, chunks_per_block;
    ptrdiff_t image_step;
} Job;

static long smaller(long a, long b) { return a < b ? a : b; }
static long larger(long a, long b) { return a > b ? a : b; }

/* -- one tile ---------------------------------------------------------------------------------------------------- */

typedef struct {
    long depth;
    const float *const *row;
    const ptrdiff_t *k_offset;
    const float *lanes;
    float *total;
    ptrdiff_t total_stride;
    int add;
} Tile;

INLINE void accumulate_tile(const int groups, const int taps, const int vectors, const Tile *tile) {
    Vector sum[TILE_ROWS][2];
    const float *row[MOST_GROUPS], *lanes = tile->lanes;
    const ptrdiff_t *offset = tile->k_offset, *end = offset + tile->depth;
    UNROLL for (int g = 0; g < groups; g++) {
        row[g] = tile->row[g];
        UNROLL for (int t = 0; t < taps; t++) sum[g * taps + t][0] = sum[g * taps + t][1] = vector_zero();
    }
    for (; offset < end; offset++, lanes += vectors * WIDTH) {
        Vector right0 = vector_load(lanes), right1 = vectors > 1 ? vector_load(lanes + WIDTH) : right0;
        UNROLL for (int g = 0; g < groups; g++) {
            const float *place = row[g] + *offset;
            UNROLL for (int t = 0; t < taps; t++) {
                Vector factor = vector_splat(place[t]);
                sum[g * taps + t][0] = vector_fma(factor, right0, sum[g * taps + t][0]);
                if (vectors > 1) sum[g * taps + t][1] = vector_fma(factor, right1, sum[g * taps + t][1]);
            }
        }
    }
    UNROLL for (int m = 0; m < groups * taps; m++)
        UNROLL for (int v = 0; v < vectors; v++) {
            float *total = tile->total + m * tile->total_stride + v * WIDTH;
            vector_store(total, tile->add ? vector_add(vector_load(total), sum[m][v]) : sum[m][v]);
        }
}

typedef void (*TileFunction)(const Tile *);
#define TILE_OF(groups, taps) \
    static void tile_##groups##_##taps##_1(const Tile *tile) { accumulate_tile(groups, taps, 1, tile); } \
    static void tile_##groups##_##taps##_2(const Tile *tile) { accumulate_tile(groups, taps, 2, tile); }
#define ENTRY(groups, taps) {tile_##groups##_##taps##_1, tile_##groups##_##taps##_2}
TILE_OF(1, 1) TILE_OF(2, 1) TILE_OF(3, 1) TILE_OF(4, 1) TILE_OF(1, 3)
#if TILE_ROWS > 4
TILE_OF(5, 1) TILE_OF(6, 1) TILE_OF(2, 3)
#endif
#if TILE_ROWS > 6
TILE_OF(7, 1) TILE_OF(8, 1) TILE_OF(9, 1) TILE_OF(10, 1) TILE_OF(11, 1) TILE_OF(12, 1) TILE_OF(3, 3) TILE_OF(4, 3)
#endif

/* [taps == 3][groups - 1][vectors - 1] */
static const TileFunction TILES[2][MOST_GROUPS][2] = {
    {ENTRY(1, 1), ENTRY(2, 1), ENTRY(3, 1), ENTRY(4, 1),
#if TILE_ROWS > 4
     ENTRY(5, 1), ENTRY(6, 1),
#endif
#if TILE_ROWS > 6
     ENTRY(7, 1), ENTRY(8, 1), ENTRY(9, 1), ENTRY(10, 1), ENTRY(11, 1), ENTRY(12, 1),
#endif
    },
    {ENTRY(1, 3),
#if TILE_ROWS > 4
     ENTRY(2, 3),
#endif
#if TILE_ROWS > 6
     ENTRY(3, 3), ENTRY(4, 3),
#endif
    },
};

/* -- preparing a block of chunks --------------------------------------------------------------------------------- */

static void pad_channel(const Job *job, const float *source, float *target) {
    const Convolution *shape = job->shape;
    for (long r = 0; r < job->rows; r++, target += job->columns) {
        long row = r - shape->padding_height;
        long first = smaller(shape->padding_width, job->columns);
        long last = smaller(shape->padding_width + shape->width, job->columns);
        if (row < 0 || row >= shape->height) first = last = job->columns;
        for (long j = 0; j < first; j++) target[j] = 0;
        for (long j = first; j < last; j++) target[j] = source[row * shape->width + j - shape->padding_width];
        for (long j = last; j < job->columns; j++) target[j] = 0;
    }
}

/* gy of one image's part of the block [begin, end) of positions, for the panel of outputs from `output`. */
static void pack_lanes(const Job *job, long image, long output, long begin, long end) {
    long first = larger(begin, image * job->grid), last = smaller(end, (image + 1) * job->grid);
    long width = smaller(PANEL, job->lane_count - output), count = smaller(width, job->outputs - output);
    const float *source = job->gy + (image * job->shape->outputs + output) * job->grid + first - image * job->grid;
    transpose(job->lanes + output * (end - begin) + (first - begin) * width, width, source, job->grid, count,
              last - first);
}

static void find_offsets(const Job *job, long begin, long end) {
    long first_image = begin / job->grid;
    for (long k = begin; k < end; k++) {
        long image = k / job->grid - first_image, i = k % job->grid / job->shape->out_width;
        long j = k % job->shape->out_width;
        job->k_offset[k - begin] = image * job->image_step + i * job->shape->stride_height * job->columns +
                                   j * job->shape->stride_width;
    }
}

/* -- multiplying a block ----------------------------------------------------------------------------------------- */

/* Every chunk of the block for the kernel rows [first, last) and the panel of outputs from `output`. */
static void multiply_rows(const Job *job, const float *data, long first, long last, long output, long begin, long end) {
    const float *row[MOST_GROUPS];
    long width = smaller(PANEL, job->lane_count - output);
    Tile tile = {.row = row, .total = job->total + first * job->taps * job->lane_count + output,
                 .total_stride = job->lane_count};
    for (long g = first; g < last; g++) row[g - first] = data + job->row_offset[g];
    for (long k = begin; k < end; k += CHUNK) {
        tile.depth = smaller(CHUNK, end - k);
        tile.k_offset = job->k_offset + k - begin;
        tile.lanes = job->lanes + output * (end - begin) + (k - begin) * width;
        tile.add = k > 0;
        TILES[job->taps > 1][last - first - 1][width > WIDTH](&tile);
    }
}

static void run_blocks(const Job *job, int threads) {
    long panels = (job->lane_count + PANEL - 1) / PANEL, most = smaller(TILE_ROWS, MOST_GROUPS) / job->taps;
    long tiles = (job->groups + most - 1) / most;
    long block = job->chunks_per_block * CHUNK;
    const Convolution *shape = job->shape;
#pragma omp parallel num_threads(threads)
    for (long begin = 0; begin < job->positions; begin += block) {
        long end = smaller(begin + block, job->positions), first_image = begin / job->grid;
        long images = (end - 1) / job->grid - first_image + 1;
        const float *source = job->x + first_image * shape->channels * shape->height * shape->width;
#pragma omp single nowait
        find_offsets(job, begin, end);
#pragma omp for schedule(static) nowait
        for (long t = 0; t < images * job->channels * !job->in_place; t++)
            pad_channel(job, source + (t / job->channels * shape->channels + t % job->channels) * shape->height * shape->width,
                        job->padded + t * job->rows * job->columns);
#pragma omp for schedule(static)
        for (long t = 0; t < images * panels; t++)
            pack_lanes(job, first_image + t / panels, t % panels * PANEL, begin, end);
#pragma omp for schedule(dynamic, 4)
        for (long t = 0; t < panels * tiles; t++)
            multiply_rows(job, job->in_place ? source : job->padded, t % tiles * job->groups / tiles,
                          (t % tiles + 1) * job->groups / tiles, t / tiles * PANEL, begin, end);
    }
}

/* -- a group ----------------------------------------------------------------------------------------------------- */

static Job make_job(const Convolution *shape, const float *x, const float *gy, float *gw) {
    Job job = {.shape = shape, .x = x, .gy = gy, .gw = gw, .channels = shape->channels / shape->groups,
               .outputs = shape->outputs / shape->groups, .taps = shape->kernel_width == 3 && TILE_ROWS >= 3 ? 3 : 1,
               .grid = shape->out_height * shape->out_width};
    job.groups = job.channels * shape->kernel_height * (shape->kernel_width / job.taps);
    job.positions = shape->images * job.grid;
    job.in_place = shape->padding_height == 0 && shape->padding_width == 0;
    job.rows = job.in_place ? shape->height : (shape->out_height - 1) * shape->stride_height + shape->kernel_height;
    job.columns = job.in_place ? shape->width : (shape->out_width - 1) * shape->stride_width + shape->kernel_width;
    job.image_step = (job.in_place ? shape->channels : job.channels) * job.rows * job.columns;
    job.lane_count = (job.outputs + WIDTH - 1) / WIDTH * WIDTH;
    size_t per_chunk = CHUNK * sizeof(float) *
                       (job.lane_count + (job.in_place ? 0 : (size_t)(job.channels * job.rows * job.columns) / larger(1, job.grid)));
    job.chunks_per_block = larger(1, smaller(CHUNKS_PER_BLOCK, BLOCK_BYTES / per_chunk));
    return job;
}

static int weight_gradient_group(const Convolution *shape, const float *x, const float *gy, float *gw, int threads) {
    Job job = make_job(shape, x, gy, gw);
    long block = job.chunks_per_block * CHUNK, weights = job.groups * job.taps;
    long images = job.grid ? smaller((block - 2 + job.grid) / job.grid + 1, shape->images) : 0;
    ptrdiff_t *row_offset = malloc((job.groups + 1) * sizeof(ptrdiff_t));
    job.row_offset = row_offset;
    job.k_offset = malloc(block * sizeof(ptrdiff_t));
    job.padded = scratch_floats(job.in_place ? 0 : (size_t)images * job.channels * job.rows * job.columns);
    job.lanes = scratch_floats((size_t)block * job.lane_count);
    job.total = scratch_floats((size_t)weights * job.lane_count);
    int failed = !row_offset || !job.k_offset || !job.padded || !job.lanes || !job.total;
    if (!failed) {
        long per_row = shape->kernel_width / job.taps;
        for (long g = 0; g < job.groups; g++)
            row_offset[g] = (g / per_row / shape->kernel_height * job.rows + g / per_row % shape->kernel_height) *
                                job.columns + g % per_row;
        if (job.positions == 0) memset(job.total, 0, (size_t)weights * job.lane_count * sizeof(float));
        run_blocks(&job, threads);
        transpose(gw, weights, job.total, job.lane_count, weights, job.outputs);
    }
    free(row_offset);
    free(job.k_offset);
    free(job.padded);
    free(job.lanes);
    free(job.total);
    return failed ? -1 : 0;
}

int VARIANT_NAME(contraction_weight_gradient)(const Convolution *shape, const float *x, const float *gy, float *gw,
                                              int threads) {
    long outputs = shape->outputs / shape->groups, channels = shape->channels / shape->groups;
    if (shape->outputs * channels * shape->kernel_height * shape->kernel_width == 0) return 0;
    if (channels == 1 && outputs == 1 && shape->groups > 1) return depthwise_weight_gradient(shape, x, gy, gw, threads);
    for (long g = 0; g < shape->groups; g++)
        if (weight_gradient_group(shape, x + g * channels * shape->height * shape->width,
                                  gy + g * outputs * shape->out_height * shape->out_width,
                                  gw + g * outputs * channels * shape->kernel_height * shape->kernel_width, threads))
            return -1;
    return 0;
}
