/* A convolution's gradient by the weights: k runs over the many positions (n, i, j), and there are few outputs.
 *
 * The lanes of vectors are output channels: gy is transposed, one block of chunks at a time, to lanes of (k, output).
 * Rows are weights (c, r, s) of one output, read from x at a row's and a step's offset and broadcast. A tile is some
 * rows times two vectors. It stays in registers over a chunk and is then added to its total.
 *
 * x is read from a copy of a block of images, by channel. The copy is padded, and is read in kernel rows of three taps
 * if the kernel has three columns. For small images and finite gy it is not padded, and each tap has only the steps
 * that read x. The sum can then be -0 where the definition gives +0 (convolution.h), so every -0 is computed again in
 * full. */
#include "contraction/convolution.h"
#include "contraction/dense.h"

#include <math.h>
#include <stdlib.h>

enum { CHUNKS_PER_BLOCK = 8, BLOCK_BYTES = 4 << 20, MOST_GROUPS = 12, MOST_POSITIONS = 128, MOST_LISTS = 9 };
enum { WAY_FLOATS = 1024 }; /* channels this far apart share a set of the first-level cache (a way of 4 KiB) */

typedef struct {
    const Convolution *shape;
    const float *x, *gy; /* of the group */
    float *gw;
    int64_t channels, outputs, positions, grid; /* of the group; number of k; k per image */
    int skipping, in_place; /* in_place: x is read directly, without a copy */
    int64_t lists;         /* of steps: one, or one per tap if skipping */
    int64_t taps, groups;  /* per list: a group is `taps` adjacent weights with one pointer */
    int64_t top, left, step_height, step_width; /* of the copy: padding before it; distances of adjacent positions */
    int64_t take_height, take_width;            /* copy every take_height-th row and take_width-th column of x */
    int64_t rows, columns;                      /* of one image of a channel of the copy */
    int64_t image_step, channel_step;
    float *copy, *lanes, *total; /* total: (weights of an output, lane_count) */
    Step *steps;                   /* lists * block */
    int64_t *end;                     /* lists * chunks_per_block: the end of each chunk's steps in its list */
    int64_t *row_offset;         /* of each group in an image */
    int64_t lane_count, chunks_per_block;
} Job;


/* -- one tile ---------------------------------------------------------------------------------------------------- */

typedef struct {
    const float *const *row;
    const Step *step, *end;
    const float *lanes;
    float *total;
    int64_t total_stride;
    int add;
} Tile;

INLINE void accumulate_tile(const int groups, const int taps, const int vectors, const Tile *tile) {
    Floats sum[TILE_ROWS][2];
    const float *row[MOST_GROUPS];
    UNROLL for (int g = 0; g < groups; g++) {
        row[g] = tile->row[g];
        UNROLL for (int t = 0; t < taps; t++) sum[g * taps + t][0] = sum[g * taps + t][1] = vector_zero();
    }
    for (const Step *step = tile->step, *end = tile->end; step < end; step++) {
        const float *lanes = tile->lanes + step->k * vectors * WIDTH;
        Floats right0 = vector_load(lanes), right1 = vectors > 1 ? vector_load(lanes + WIDTH) : right0;
        UNROLL for (int g = 0; g < groups; g++) {
            const float *place = row[g] + step->source;
            UNROLL for (int t = 0; t < taps; t++) {
                Floats factor = vector_splat(place[t]);
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

/* The padding is zero already. */
static void copy_image(const Job *job, const float *source, float *target) {
    const Convolution *shape = job->shape;
    if (job->rows == shape->height && job->columns == shape->width && job->top + job->left == 0 &&
        job->take_width * job->take_height == 1) {
        memcpy(target, source, shape->height * shape->width * sizeof(float));
        return;
    }
    Stretch stretch = stretch_of(job->left, job->take_width, shape->width, job->columns);
    for (int64_t r = 0; r < job->rows; r++) {
        int64_t row = r * job->take_height - job->top;
        if (row >= 0 && row < shape->height)
            copy_stretch(&stretch, source + row * shape->width, job->take_width, target + r * job->columns);
    }
}

/* Transposes gy of one image's part of the block [begin, end) of positions, for the panel of outputs from `output`. */
static void pack_lanes(const Job *job, int64_t image, int64_t output, int64_t begin, int64_t end) {
    int64_t first = maximum(begin, image * job->grid), last = minimum(end, (image + 1) * job->grid);
    int64_t width = minimum(PANEL, job->lane_count - output), count = minimum(width, job->outputs - output);
    const float *source = job->gy + (image * job->shape->outputs + output) * job->grid + first - image * job->grid;
    transpose(job->lanes + output * (end - begin) + (first - begin) * width, width, source, job->grid, count,
              last - first);
}

/* Lists the steps of the positions [begin, end): all of them, or those at which the tap (r, s) of the list reads x. */
static void list_steps(const Job *job, int64_t list, int64_t begin, int64_t end) {
    const Convolution *shape = job->shape;
    int64_t r = list / shape->kernel_width - shape->padding_height;
    int64_t s = list % shape->kernel_width - shape->padding_width;
    Step *steps = job->steps + list * job->chunks_per_block * CHUNK;
    int64_t *ends = job->end + list * job->chunks_per_block, count = 0;
    int64_t image = 0, i = begin % job->grid / shape->out_width, j = begin % shape->out_width;
    if (!job->skipping) r = s = 0;
    for (int64_t k = begin; k < end; k++) {
        int64_t row = i * job->step_height + r, column = j * job->step_width + s;
        if (row >= 0 && row < job->rows && column >= 0 && column < job->columns)
            steps[count++] = (Step){k % CHUNK, image * job->image_step + row * job->columns + column};
        ends[(k - begin) / CHUNK] = count;
        if (++j == shape->out_width) j = 0, i++;
        if (i == shape->out_height) i = 0, image++;
    }
}

/* -- multiplying a block ----------------------------------------------------------------------------------------- */

/* Multiplies every chunk of the block for the groups [first, last) of a list and the panel of outputs from `output`. */
static void multiply_groups(const Job *job, const float *data, int64_t list, int64_t first, int64_t last,
                            int64_t output, int64_t begin, int64_t end) {
    const float *row[MOST_GROUPS];
    const Step *steps = job->steps + list * job->chunks_per_block * CHUNK;
    const int64_t *ends = job->end + list * job->chunks_per_block;
    int64_t width = minimum(PANEL, job->lane_count - output);
    Tile tile = {.row = row, .total_stride = job->lists * job->lane_count,
                 .total = job->total + (first * job->taps * job->lists + list) * job->lane_count + output};
    for (int64_t g = first; g < last; g++) row[g - first] = data + job->row_offset[g];
    for (int64_t k = begin; k < end; k += CHUNK) {
        int64_t chunk = (k - begin) / CHUNK;
        tile.step = steps + (chunk ? ends[chunk - 1] : 0);
        tile.end = steps + ends[chunk];
        tile.lanes = job->lanes + output * (end - begin) + (k - begin) * width;
        tile.add = k > 0;
        TILES[job->taps > 1][last - first - 1][width > WIDTH](&tile);
    }
}

static void run_blocks(const Job *job, int threads) {
    int64_t panels = (job->lane_count + PANEL - 1) / PANEL, most = minimum(TILE_ROWS, MOST_GROUPS) / job->taps;
    int64_t tiles = (job->groups + most - 1) / most;
    int64_t block = job->chunks_per_block * CHUNK;
    const Convolution *shape = job->shape;
#pragma omp parallel num_threads(threads)
    IN_DEFAULT_ENVIRONMENT for (int64_t begin = 0; begin < job->positions; begin += block) {
        int64_t end = minimum(begin + block, job->positions), first_image = begin / job->grid;
        int64_t images = (end - 1) / job->grid - first_image + 1;
        const float *source = job->x + first_image * shape->channels * shape->height * shape->width;
#pragma omp for schedule(static) nowait
        for (int64_t list = 0; list < job->lists; list++) list_steps(job, list, begin, end);
#pragma omp for schedule(static) nowait
        for (int64_t t = 0; t < images * job->channels * !job->in_place; t++)
            copy_image(job, source + (t % images * shape->channels + t / images) * shape->height * shape->width,
                       job->copy + t / images * job->channel_step + t % images * job->rows * job->columns);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < images * panels; t++)
            pack_lanes(job, first_image + t / panels, t % panels * PANEL, begin, end);
#pragma omp for schedule(dynamic, 4)
        for (int64_t t = 0; t < panels * job->lists * tiles; t++) {
            int64_t tile = t / job->lists % tiles;
            multiply_groups(job, job->in_place ? source : job->copy, t % job->lists, tile * job->groups / tiles,
                            (tile + 1) * job->groups / tiles, t / job->lists / tiles * PANEL, begin, end);
        }
    }
}

/* -- a group ----------------------------------------------------------------------------------------------------- */

/* Computes gw[o, c, r, s] by the definition. */
static float element(const Job *job, int64_t o, int64_t c, int64_t r, int64_t s) {
    const Convolution *shape = job->shape;
    float total = 0, sum = 0;
    for (int64_t k = 0; k < job->positions; k++) {
        int64_t image = k / job->grid, i = k % job->grid / shape->out_width;
        int64_t row = i * shape->stride_height + r - shape->padding_height;
        int64_t column = k % shape->out_width * shape->stride_width + s - shape->padding_width;
        int inside = row >= 0 && row < shape->height && column >= 0 && column < shape->width;
        float factor = job->gy[(image * shape->outputs + o) * job->grid + k % job->grid];
        const float *channel = job->x + (image * shape->channels + c) * shape->height * shape->width;
        sum = fmaf(factor, inside ? channel[row * shape->width + column] : 0, sum);
        if ((k + 1) % CHUNK == 0 || k + 1 == job->positions) {
            total = k < CHUNK ? sum : total + sum;
            sum = 0;
        }
    }
    return total;
}

static void settle_weights(const Job *job) {
    const Convolution *shape = job->shape;
    int64_t taps = shape->kernel_height * shape->kernel_width;
    for (int64_t i = 0; i < job->outputs * job->channels * taps; i++)
        if (job->gw[i] == 0 && signbit(job->gw[i]))
            job->gw[i] = element(job, i / taps / job->channels, i / taps % job->channels,
                                 i % taps / shape->kernel_width, i % shape->kernel_width);
}

static void choose_reading(Job *job) {
    const Convolution *shape = job->shape;
    int64_t kernel = shape->kernel_height * shape->kernel_width;
    job->in_place = kernel == 1 && shape->padding_height + shape->padding_width == 0 && shape->stride_height == 1 &&
                    shape->stride_width == 1 && job->grid % WAY_FLOATS != 0;
    job->lists = job->skipping ? kernel : 1;
    job->taps = shape->kernel_width == 3 && !job->skipping ? 3 : 1;
    job->groups = job->channels * (kernel / job->lists / job->taps);
    job->top = job->skipping ? 0 : shape->padding_height;
    job->left = job->skipping ? 0 : shape->padding_width;
    job->take_height = shape->kernel_height == 1 && !job->skipping ? shape->stride_height : 1;
    job->take_width = shape->kernel_width == 1 && !job->skipping ? shape->stride_width : 1;
    job->step_height = shape->stride_height / job->take_height;
    job->step_width = shape->stride_width / job->take_width;
    job->rows = job->skipping ? shape->height : (shape->out_height - 1) * job->step_height + shape->kernel_height;
    job->columns = job->skipping ? shape->width : (shape->out_width - 1) * job->step_width + shape->kernel_width;
    job->lane_count = (job->outputs + WIDTH - 1) / WIDTH * WIDTH;
    size_t copied = (size_t)(job->channels * job->rows * job->columns / maximum(1, job->grid));
    job->chunks_per_block =
        maximum(1, minimum(CHUNKS_PER_BLOCK, BLOCK_BYTES / (CHUNK * sizeof(float) * (job->lane_count + copied))));
}

static int allocate(Job *job) {
    const Convolution *shape = job->shape;
    int64_t block = job->chunks_per_block * CHUNK, per_channel = job->groups / job->channels;
    int64_t images = job->grid ? minimum((block - 2 + job->grid) / job->grid + 1, shape->images) : 0;
    int64_t weights = job->groups * job->taps * job->lists, across = shape->kernel_width / job->taps;
    /* An odd number of cache lines between channels, so that a tile's rows are not all in one set of the cache. */
    job->image_step = job->in_place ? shape->channels * job->grid : job->rows * job->columns;
    job->channel_step = job->in_place ? job->grid : (images * job->image_step + 31) / 32 * 32 + 16;
    job->row_offset = malloc(job->groups * sizeof(int64_t));
    job->steps = malloc(job->lists * block * sizeof(Step));
    job->end = malloc(job->lists * job->chunks_per_block * sizeof(int64_t));
    job->copy = scratch_floats(job->in_place ? 0 : (size_t)job->channels * job->channel_step);
    job->lanes = scratch_floats((size_t)block * job->lane_count);
    job->total = scratch_floats((size_t)weights * job->lane_count);
    if (job->copy && !job->in_place) memset(job->copy, 0, job->channels * job->channel_step * sizeof(float));
    if (!job->row_offset || !job->steps || !job->end || !job->copy || !job->lanes || !job->total) return -1;
    for (int64_t g = 0; g < job->groups; g++) {
        int64_t r = g % per_channel / across, s = g % per_channel % across;
        job->row_offset[g] = g / per_channel * job->channel_step + r * job->columns + s;
    }
    if (job->positions == 0) memset(job->total, 0, (size_t)weights * job->lane_count * sizeof(float));
    return 0;
}

static int weight_gradient_group(const Convolution *shape, const float *x, const float *gy, float *gw, int skipping,
                                 int threads) {
    Job job = {.shape = shape, .x = x, .gy = gy, .gw = gw, .channels = shape->channels / shape->groups,
               .outputs = shape->outputs / shape->groups, .grid = shape->out_height * shape->out_width,
               .skipping = skipping};
    job.positions = shape->images * job.grid;
    choose_reading(&job);
    int failed = allocate(&job);
    if (!failed) {
        run_blocks(&job, threads);
        transpose(gw, job.groups * job.taps * job.lists, job.total, job.lane_count, job.groups * job.taps * job.lists,
                  job.outputs);
        if (job.skipping) settle_weights(&job);
    }
    free(job.row_offset);
    free(job.steps);
    free(job.end);
    aligned_release(job.copy);
    aligned_release(job.lanes);
    aligned_release(job.total);
    return failed ? -1 : 0;
}

int KERNEL(convolution_weight_gradient)(const Convolution *shape, const float *x, const float *gy, float *gw,
                                        int threads) {
    int64_t outputs = shape->outputs / shape->groups, channels = shape->channels / shape->groups;
    if (shape->outputs * channels * shape->kernel_height * shape->kernel_width == 0) return 0;
    if (channels == 1 && outputs == 1 && shape->groups > 1) return depthwise_weight_gradient(shape, x, gy, gw, threads);
    if (groups_are_products(shape))
        return multiply_many(gy, x, gw, shape->groups, outputs, channels, shape->height * shape->width, 0, 1, threads);
    int skipping = shape->kernel_height * shape->kernel_width <= MOST_LISTS &&
                   shape->padding_height + shape->padding_width > 0 && shape->height * shape->width <= MOST_POSITIONS &&
                   is_finite(gy, shape->images * shape->outputs * shape->out_height * shape->out_width);
    for (int64_t g = 0; g < shape->groups; g++)
        if (weight_gradient_group(shape, x + g * channels * shape->height * shape->width,
                                  gy + g * outputs * shape->out_height * shape->out_width,
                                  gw + g * outputs * channels * shape->kernel_height * shape->kernel_width, skipping,
                                  threads))
            return -1;
    return 0;
}
