/* Groups of numbers that share a scale: their largest magnitudes, their quotients rounded to codes, and products. */
#include "rounding/conversions.h"
#include "rounding/rounding.h"

/* How a number and what goes with its group give the number that is rounded. MULTIPLY is by powers of two, which is
 * exact: in float32 too, unless a product is too small. */
enum Arithmetic { DIVIDE, MULTIPLY, DIVIDE_IN_FLOAT32, MULTIPLY_IN_FLOAT32 };

/* Returns the largest magnitude as a pattern: a NaN's if there is one. */
INLINE int32_t largest_pattern(const float *x, const int64_t size) {
    Integers found = splat(0);
    int32_t rest = 0, lanes[WIDTH];
    int64_t i = 0;
    for (; i + WIDTH <= size; i += WIDTH) found = larger(found, bit_and(load(x + i), splat(MAGNITUDE_32)));
    store(lanes, found);
    for (int lane = 0; lane < WIDTH; lane++) rest = lanes[lane] > rest ? lanes[lane] : rest;
    for (; i < size; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        rest = (bits & MAGNITUDE_32) > rest ? bits & MAGNITUDE_32 : rest;
    }
    return rest;
}

void KERNEL(group_largest)(const float *x, int64_t groups, int64_t size, float *largest, int threads) {
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && groups * size > PIECE)
    for (int64_t g = 0; g < groups; g++) {
        const float *group = x + g * size;
        const int32_t found = size == 16   ? largest_pattern(group, 16)
                              : size == 32 ? largest_pattern(group, 32)
                                           : largest_pattern(group, size);
        memcpy(largest + g, &found, sizeof found);
    }
}

/* Zeros with the signs of numbers, +0 for NaN. */
static void signed_zeros(const float *x, float *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = x[i] != x[i] ? 0.0f : __builtin_copysignf(0.0f, x[i]);
}

/* Computes n <= BLOCK numbers of one group. */
INLINE void quotients(const float *x, double factor, int64_t n, float *out, int arithmetic) {
    double wide[BLOCK];
    const float narrow = (float)factor;
    if (factor != factor) {
        signed_zeros(x, out, n);
    } else if (arithmetic == DIVIDE_IN_FLOAT32) {
        for (int64_t i = 0; i < n; i++) out[i] = x[i] / narrow;
    } else if (arithmetic == MULTIPLY_IN_FLOAT32 || (arithmetic == MULTIPLY && factor >= 1)) {
        for (int64_t i = 0; i < n; i++) out[i] = x[i] * narrow;
    } else {
        if (arithmetic == DIVIDE)
            for (int64_t i = 0; i < n; i++) wide[i] = (double)x[i] / factor;
        else
            for (int64_t i = 0; i < n; i++) wide[i] = (double)x[i] * factor;
        to_odd(wide, out, n);
    }
}

/* Rounds and encodes numbers first .. first + n - 1, which are in whole groups or in one. */
static void quantize_block(const float *x, int64_t first, int64_t n, int64_t size, const double *factors,
                           int arithmetic, const RoundingParameters *parameters, uint8_t *codes, int64_t code_size,
                           const CodeLayout *layout, RoundingCounts *counts) {
    float numbers[BLOCK];
    int64_t strays[2] = {0, 0};
    for (int64_t i = 0; i < n;) {
        const int64_t some = minimum(n - i, size - (first + i) % size);
        quotients(x + first + i, factors[(first + i) / size], some, numbers + i, arithmetic);
        i += some;
    }
    round_vectors(numbers, numbers, n, NULL, parameters, counts);
    encode_numbers(numbers, n, codes + first * code_size, code_size, layout, strays);
}

void KERNEL(quantize_groups)(const float *x, int64_t groups, int64_t size, const double *factors, int arithmetic,
                             const RoundingParameters *parameters, uint8_t *codes, int64_t code_size,
                             const CodeLayout *layout, int64_t *counts, int threads) {
    int64_t all[5] = {0, 0, 0, 0, 0};
    const int64_t n = groups * size, block = size < BLOCK ? BLOCK / size * size : BLOCK;
    const int64_t blocks = (n + block - 1) / block;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > PIECE) \
    reduction(+ : all[:5])
    for (int64_t i = 0; i < blocks; i++) {
        RoundingCounts one = {0, 0, 0, 0, 0};
        const uint64_t environment = float_environment_enter();
        quantize_block(x, i * block, minimum(block, n - i * block), size, factors, arithmetic, parameters, codes,
                       code_size, layout, &one);
        float_environment_leave(environment);
        add_to(all, &one);
    }
    memcpy(counts, all, sizeof all);
}

/* Writes the numbers of codes times what goes with their group, each product rounded once. */
void KERNEL(dequantize_groups)(const uint8_t *codes, int64_t code_size, int64_t groups, int64_t size,
                               const double *factors, const CodeLayout *layout, float *out, int threads) {
    const int64_t n = groups * size, blocks = (n + BLOCK - 1) / BLOCK;
    const int32_t canonical = NAN_32;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > PIECE)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * BLOCK, count = minimum(BLOCK, n - first);
        const uint64_t environment = float_environment_enter();
        float *numbers = out + first;
        decode_numbers(codes + first * code_size, code_size, count, numbers, layout);
        for (int64_t i = 0; i < count;) {
            const int64_t some = minimum(count - i, size - (first + i) % size);
            const double factor = factors[(first + i) / size];
            for (int64_t k = i; k < i + some; k++) {
                float product = (float)((double)numbers[k] * factor);
                if (product != product) memcpy(&product, &canonical, sizeof product);
                numbers[k] = product;
            }
            i += some;
        }
        float_environment_leave(environment);
    }
}
