/* Philox4x32-10 (Salmon et al. 2011): four words per counter; the compiler makes vectors of independent counters. */
#include "dispatch.h"
#include "rounding.h"

enum { COUNTERS = 64 };

static void words(const RandomStream *stream, uint64_t first, uint32_t *restrict bits) {
    for (uint32_t i = 0; i < COUNTERS; i++) {
        uint32_t c0 = (uint32_t)first + i, c1 = stream->words[0], c2 = stream->words[1], c3 = stream->words[2];
        uint32_t k0 = stream->key[0], k1 = stream->key[1];
        for (int round = 0; round < 10; round++) {
            uint32_t high0 = (uint32_t)(((uint64_t)c0 * 0xD2511F53u) >> 32), low0 = c0 * 0xD2511F53u;
            uint32_t high1 = (uint32_t)(((uint64_t)c2 * 0xCD9E8D57u) >> 32), low1 = c2 * 0xCD9E8D57u;
            c0 = high1 ^ c1 ^ k0;
            c1 = low1;
            c2 = high0 ^ c3 ^ k1;
            c3 = low0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        bits[4 * i] = c0;
        bits[4 * i + 1] = c1;
        bits[4 * i + 2] = c2;
        bits[4 * i + 3] = c3;
    }
}

void VARIANT_NAME(mpsim_random_block)(const RandomStream *stream, uint64_t first_counter, uint32_t *bits,
                                          size_t size) {
    size_t i = 0;
    for (; i + 4 * COUNTERS <= size; i += 4 * COUNTERS) words(stream, first_counter + i / 4, bits + i);
    if (i < size) {
        uint32_t last[4 * COUNTERS];
        words(stream, first_counter + i / 4, last);
        for (size_t j = i; j < size; j++) bits[j] = last[j - i];
    }
}
