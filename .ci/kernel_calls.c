/* Runs calls of kernels that kernel_calls.py wrote, on every variant that runs here, and prints a line for each: where
 * there is no Python of this machine. A line has the CRC-32 of the results' bytes, and for a rounding its counts. */
#include "common/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 1 << 16, SOURCES = 2 };
enum { END, ROUND, CODES, MATMUL, UNARY, LOG_SOFTMAX };

static FILE *calls;
static float source[SOURCES][NUMBERS], rounded[NUMBERS], decoded[NUMBERS];
static uint32_t words[NUMBERS];
static uint8_t codes[NUMBERS * 8];

static void get(void *to, size_t size) {
    if (fread(to, 1, size, calls) != size) {
        fprintf(stderr, "the file of calls ends early\n");
        exit(2);
    }
}

static int64_t number(void) {
    int64_t value;
    get(&value, sizeof value);
    return value;
}

static float *floats(int64_t count) {
    float *made = malloc(sizeof *made * count);
    if (!made) exit(2);
    get(made, sizeof *made * count);
    return made;
}

static uint32_t crc(const void *bytes, int64_t size) {
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
            table[i] = value;
        }
    uint32_t value = 0xffffffff;
    for (int64_t i = 0; i < size; i++) value = value >> 8 ^ table[(value ^ ((const uint8_t *)bytes)[i]) & 255];
    return ~value;
}

static void print(const void *bytes, int64_t size) { printf("%08x\n", (unsigned)crc(bytes, size)); }

static void round_all(const Kernels *kernels) {
    int64_t which = number(), random = number(), counts[5];
    RoundingParameters parameters;
    get(&parameters, sizeof parameters);
    kernels->round_float32(source[which], rounded, NUMBERS, random ? words : NULL, NULL, &parameters, counts, 1);
    printf("%08x", (unsigned)crc(rounded, sizeof rounded));
    for (int i = 0; i < 5; i++) printf(" %lld", (long long)counts[i]);
    printf("\n");
}

/* Encodes the finite numbers of the last rounding, and decodes them. */
static void encode_all(const Kernels *kernels) {
    int64_t size = number(), count = 0;
    CodeLayout layout;
    get(&layout, sizeof layout);
    for (int64_t i = 0; i < NUMBERS; i++)
        if (rounded[i] - rounded[i] == 0) rounded[count++] = rounded[i];
    kernels->encode_float32(rounded, count, codes, size, &layout);
    kernels->decode_float32(codes, size, count, decoded, &layout);
    printf("%08x ", (unsigned)crc(codes, count * size));
    print(decoded, count * 4);
}

static void multiply(const Kernels *kernels) {
    int64_t rows = number(), depth = number(), columns = number();
    float *a = floats(rows * depth), *b = floats(depth * columns), *c = malloc(sizeof *c * rows * columns);
    if (!c || kernels->matmul(a, b, NULL, c, rows, columns, depth, 0, 0, 1)) exit(2);
    print(c, sizeof *c * rows * columns);
    free(a), free(b), free(c);
}

static void apply(const Kernels *kernels) {
    int64_t function = number();
    float ends[2];
    get(ends, sizeof ends);
    kernels->unary(source[0], function, ends[0], ends[1], decoded, NUMBERS, 1);
    kernels->canonical_nan_float32(decoded, NUMBERS, 1);
    for (int i = 0; i < NUMBERS; i++) ((uint8_t *)(decoded + i))[3] &= 0x7f; /* the sign of a NaN is not defined */
    print(decoded, sizeof decoded);
}

static void log_softmax(const Kernels *kernels) {
    int64_t rows = number(), columns = number();
    float *x = floats(rows * columns), *y = malloc(sizeof *y * rows * columns);
    if (!y) exit(2);
    kernels->log_softmax(x, rows, columns, y, 1);
    print(y, sizeof *y * rows * columns);
    free(x), free(y);
}

static void run(const Kernels *kernels) {
    rewind(calls);
    get(source, sizeof source);
    get(words, sizeof words);
    for (int64_t call; (call = number()) != END;) {
        if (call == ROUND) round_all(kernels);
        else if (call == CODES) encode_all(kernels);
        else if (call == MATMUL) multiply(kernels);
        else if (call == UNARY) apply(kernels);
        else log_softmax(kernels);
    }
}

int main(int count, char **arguments) {
    if (count != 2 || !(calls = fopen(arguments[1], "rb"))) return 2;
    for (int variant = 0; mpsim_variant_name(variant); variant++) {
        if (!mpsim_variant_runs(variant)) continue;
        mpsim_force_variant(variant);
        printf("variant %s\n", mpsim_variant_name(variant));
        run(mpsim_kernels());
    }
    return 0;
}
