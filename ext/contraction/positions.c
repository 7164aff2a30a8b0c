/* Multiplies packed weights with image positions (convolution.h). */
#include "contraction/convolution.h"

#include <stdlib.h>

enum { POSITIONS_PER_BLOCK = 512, POSITIONS_PER_BAND = 1024 };

/* The buffers of one thread. */
typedef struct {
    float *padded, *packed, *totals;
    int64_t *lane_offset;
    Panel *panels;
} Workspace;

/* One part of one block: `count` positions of `images` images from `first_image`, with grid rows from `first_row`. */
typedef struct {
    const Positions *positions;
    const Part *part;
    Workspace *space;
    const float *data;
    int64_t image_step; /* distance between images in `data` */
    int64_t first_image, images, first_row, rows, count;
    int64_t run; /* this many lanes, from a multiple of it on, are adjacent in the source */
    int packed, direct;
} Block;


void plan_blocks(Positions *positions, int64_t height, int64_t width, int bands, int threads) {
    int64_t share = (positions->images + threads - 1) / threads;
    positions->images_per_block = maximum(1, minimum(POSITIONS_PER_BLOCK / maximum(1, height * width), share));
    positions->rows_per_block = height;
    if (!bands) return;
    if (height * width > POSITIONS_PER_BAND) positions->rows_per_block = maximum(1, POSITIONS_PER_BAND / width);
    if (positions->images < threads)
        positions->rows_per_block = minimum(positions->rows_per_block, (height + threads - 1) / threads);
}

/* -- the padded copy --------------------------------------------------------------------------------------------- */

/* Copies rows first_row .. first_row + rows - 1 of every channel, with zeros between the elements. */
static void dilate_image(const Source *source, const float *image, float *target, int64_t first_row) {
    for (int64_t channel = 0; channel < source->channels; channel++, image += source->height * source->width)
        for (int64_t r = 0; r < source->rows; r++, target += source->columns) {
            int64_t place = first_row + r - source->top, row = place / source->dilation_height;
            memset(target, 0, source->columns * sizeof(float));
            if (place < 0 || place % source->dilation_height || row >= source->height) continue;
            for (int64_t j = 0, column = source->left; j < source->width; j++, column += source->dilation_width)
                if (column >= 0 && column < source->columns) target[column] = image[row * source->width + j];
        }
}

/* Does the same without zeros between elements. The columns of padding are zeros already. Element p of a phase is image
 * column (phase + p * phases) * take_width - left. */
static void pad_image(const Source *source, const float *image, float *target, int64_t first_row) {
    int64_t step = source->phases * source->take_width;
    for (int64_t phase = 0; phase < source->phases; phase++) {
        Stretch stretch =
            stretch_of(source->left - phase * source->take_width, step, source->width, source->columns);
        float *place = target + phase * source->columns;
        for (int64_t channel = 0; channel < source->channels; channel++)
            for (int64_t r = 0; r < source->rows; r++, place += source->phases * source->columns) {
                int64_t row = (first_row + r) * source->take_height - source->top;
                if (row < 0 || row >= source->height)
                    memset(place, 0, source->columns * sizeof(float));
                else
                    copy_stretch(&stretch, image + (channel * source->height + row) * source->width, step, place);
            }
    }
}

/* -- panels ------------------------------------------------------------------------------------------------------ */

/* Copies `count` rows of one vector, whose lanes are runs of adjacent elements, to a panel. */
INLINE void pack_vector(const int run, float *target, const float *data, const int64_t *lane, const Step *steps,
                        int64_t count) {
    for (int64_t k = 0; k < count; k++, target += PANEL) {
        const float *row = data + steps[k].source;
        UNROLL for (int i = 0; i < WIDTH; i += run) memcpy(target + i, row + lane[i], run * sizeof(float));
    }
}

static void pack_chunk(const Block *block, const Step *steps, int64_t count) {
    const float *data = block->data;
    const int64_t *lane = block->space->lane_offset;
    float *packed = block->space->packed;
    if (block->run >= WIDTH) { /* rising addresses: long runs from memory */
        for (int64_t k = 0; k < count; k++)
            for (int64_t v = 0; v < block->count; v += WIDTH)
                vector_store(packed + v / PANEL * PANEL * CHUNK + k * PANEL + v % PANEL,
                             vector_load(data + steps[k].source + lane[v]));
        return;
    }
    for (int64_t v = 0; v < block->count; v += WIDTH) {
        float *target = packed + v / PANEL * PANEL * CHUNK + v % PANEL;
        if (block->run == 8 && WIDTH > 8) pack_vector(WIDTH > 8 ? 8 : 1, target, data, lane + v, steps, count);
        else if (block->run >= 4 && WIDTH > 4) pack_vector(WIDTH > 4 ? 4 : 1, target, data, lane + v, steps, count);
        else if (block->run >= 2) pack_vector(2, target, data, lane + v, steps, count);
        else pack_vector(1, target, data, lane + v, steps, count);
    }
}

/* Computes the offset of each position of the block in its data. Lanes beyond the last position repeat the first. */
static void find_lanes(const Block *block) {
    int64_t *lane = block->space->lane_offset;
    for (int64_t n = 0; n < block->images; n++)
        for (int64_t i = 0; i < block->rows; i++)
            for (int64_t j = 0; j < block->part->width; j++)
                *lane++ = n * block->image_step + i * block->part->row_step + j;
    for (int64_t v = block->count; v % WIDTH; v++) *lane++ = 0;
}

static void make_panels(const Block *block) {
    const Positions *positions = block->positions;
    const Part *part = block->part;
    int64_t per_image = block->rows * part->width, vectors = (block->count + WIDTH - 1) / WIDTH;
    for (int64_t v = 0; v < vectors; v++) {
        Panel *panel = block->space->panels + v / 2;
        int64_t first = v * WIDTH, image = block->first_image + first / per_image;
        panel->source[v % 2] = block->packed ? block->space->packed + v / 2 * PANEL * CHUNK + v % 2 * WIDTH
                                             : block->data + block->space->lane_offset[first];
        if (block->direct)
            panel->target[v % 2] = positions->target + image * positions->target_image_stride + part->start +
                                   block->first_row * part->row_stride + first % per_image;
        else
            panel->target[v % 2] = block->space->totals + first;
        panel->row_stride = block->direct ? positions->target_channel_stride : vectors * WIDTH;
        if (v % 2 == 0) panel->source[1] = panel->target[1] = NULL;
    }
}

/* Copies the totals of a block to the target. */
static void scatter(const Block *block) {
    const Positions *positions = block->positions;
    const Part *part = block->part;
    int64_t stride = (block->count + WIDTH - 1) / WIDTH * WIDTH;
    for (int64_t m = 0; m < positions->left.rows; m++) {
        const float *total = block->space->totals + m * stride;
        for (int64_t n = 0; n < block->images; n++)
            for (int64_t i = 0; i < block->rows; i++, total += part->width) {
                float *target = positions->target + (block->first_image + n) * positions->target_image_stride +
                                m * positions->target_channel_stride + part->start +
                                (block->first_row + i) * part->row_stride;
                if (part->column_stride == 1)
                    for (int64_t j = 0; j < part->width; j++) target[j] = total[j];
                else
                    for (int64_t j = 0; j < part->width; j++) target[j * part->column_stride] = total[j];
            }
    }
}

static void multiply_block(const Block *block) {
    const LeftMatrix *left = &block->positions->left;
    Step in_panel[CHUNK];
    find_lanes(block);
    make_panels(block);
    for (int64_t chunk = 0; chunk < chunk_count(left->depth); chunk++) {
        int64_t begin = chunk ? block->part->list.end[chunk - 1] : 0, count = block->part->list.end[chunk] - begin;
        const Step *steps = block->part->list.steps + begin;
        if (block->packed) {
            pack_chunk(block, steps, count);
            for (int64_t k = 0; k < count; k++) in_panel[k] = (Step){steps[k].k, k * PANEL};
            steps = in_panel;
        }
        multiply_panels(left, chunk, block->space->panels, (block->count + PANEL - 1) / PANEL, steps, count,
                        block->positions->bias);
    }
    if (!block->direct) scatter(block);
}

/* -- blocks ------------------------------------------------------------------------------------------------------ */

/* Determines how one part of a block is read and written. */
static void choose_paths(Block *block) {
    const Part *part = block->part;
    int64_t per_image = block->rows * part->width;
    int64_t unit = part->row_step == part->width ? per_image : part->width;
    block->count = block->images * per_image;
    for (block->run = 1; block->run < WIDTH && unit % (2 * block->run) == 0;) block->run *= 2;
    block->packed = block->run < WIDTH || (block->positions->source.in_place && block->positions->left.tiles > 2);
    block->direct = part->column_stride == 1 && part->row_stride == part->width && per_image % WIDTH == 0;
}

static void run_block(const Positions *positions, Workspace *space, int64_t first_image, int64_t first_row) {
    const Source *source = &positions->source;
    int64_t grid_height = positions->parts[0].height;
    Block block = {.positions = positions, .space = space, .first_image = first_image,
                   .images = minimum(positions->images_per_block, positions->images - first_image)};
    int64_t padded_image = source->channels * source->rows * source->phases * source->columns;
    int bands = positions->rows_per_block < grid_height;
    int dilated = source->dilation_height > 1 || source->dilation_width > 1;
    int64_t row_step = positions->parts[0].row_step;
    block.image_step = source->in_place ? source->image_stride : padded_image;
    if (source->in_place) {
        block.data = source->images + first_image * source->image_stride + first_row * row_step;
    } else {
        for (int64_t n = 0; n < block.images; n++)
            (dilated ? dilate_image : pad_image)(
                source, source->images + (first_image + n) * source->image_stride, space->padded + n * padded_image,
                first_row * row_step / (source->phases * source->columns));
        block.data = space->padded;
    }
    for (int64_t p = 0; p < positions->part_count; p++) {
        block.part = positions->parts + p;
        block.first_row = bands ? first_row : 0;
        block.rows = bands ? minimum(positions->rows_per_block, grid_height - first_row) : block.part->height;
        choose_paths(&block);
        if (block.count) multiply_block(&block);
    }
    for (int64_t n = 0; positions->with_zeros && n < block.images; n++)
        resolve_zero_signs(positions->with_zeros, first_image + n);
}

static int allocate_workspace(const Positions *positions, Workspace *space) {
    const Source *source = &positions->source;
    int64_t count = 0, row_limit = positions->rows_per_block;
    size_t padded = source->in_place ? 0 : (size_t)positions->images_per_block * source->channels * source->rows *
                                               source->phases * source->columns;
    for (int64_t p = 0; p < positions->part_count; p++) {
        const Part *part = positions->parts + p;
        count = maximum(count, positions->images_per_block * minimum(part->height, row_limit) * part->width);
    }
    count = (count + PANEL - 1) / PANEL * PANEL;
    *space = (Workspace){
        .padded = scratch_floats(padded),
        .packed = scratch_floats((size_t)count * CHUNK),
        .totals = scratch_floats((size_t)count * positions->left.rows),
        .lane_offset = malloc((count + 1) * sizeof(int64_t)),
        .panels = malloc((count / PANEL + 1) * sizeof(Panel)),
    };
    if (space->padded) memset(space->padded, 0, padded * sizeof(float));
    return space->padded && space->packed && space->totals && space->lane_offset && space->panels ? 0 : -1;
}

static void free_workspace(Workspace *space) {
    aligned_release(space->padded);
    aligned_release(space->packed);
    aligned_release(space->totals);
    free(space->lane_offset);
    free(space->panels);
}

int multiply_positions(const Positions *positions, int threads) {
    int64_t height = maximum(1, positions->parts[0].height);
    int64_t bands = (height + positions->rows_per_block - 1) / maximum(1, positions->rows_per_block);
    int64_t blocks = (positions->images + positions->images_per_block - 1) / positions->images_per_block * bands;
    Workspace *spaces = calloc(threads, sizeof(Workspace));
    int failed = spaces == NULL;
    for (int t = 0; t < threads && !failed; t++) failed = allocate_workspace(positions, spaces + t);
    if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int64_t block = 0; block < blocks; block++)
            IN_DEFAULT_ENVIRONMENT run_block(positions, spaces + THREAD_NUMBER,
                                             block / bands * positions->images_per_block,
                                             block % bands * positions->rows_per_block);
    }
    for (int t = 0; spaces && t < threads; t++) free_workspace(spaces + t);
    free(spaces);
    return failed ? -1 : 0;
}
