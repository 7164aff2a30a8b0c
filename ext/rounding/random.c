/* Philox4x32-10 (Salmon et al. 2011) computes four random words from a counter of four words.
 *
 * Each counter has a 64-bit lane in four vectors, one per word. The upper half of a lane is arbitrary. Counters are
 * assigned to lanes so that combining the four words in pairs leaves the results in order. */
#include "rounding/rounding.h"

/* As many groups of counters as fit in the registers: AVX-512 has 32, others 16 (or 32, as on ARM64). */
enum { PAIRS = WIDTH / 2, GROUPS = WIDTH == 16 ? 4 : 2, COUNTERS = PAIRS * GROUPS, WORDS = 4 * COUNTERS };

typedef struct { Integers word[4]; } Counters;

static inline Counters counters_from(uint32_t first, const int64_t upper[3]) {
    uint32_t lanes[WIDTH] = {0};
    Counters c;
    for (int pair = 0; pair < PAIRS; pair++) /* 0, h, 1, h + 1, ... with h = PAIRS / 2 */
        lanes[2 * pair] = first + (uint32_t)(pair / 2 + pair % 2 * (PAIRS / 2));
    c.word[0] = load(lanes);
    for (int i = 0; i < 3; i++) c.word[i + 1] = splat((int32_t)upper[i]);
    return c;
}

static inline void philox_round(Counters *c, Integers key0, Integers key1) {
    const Integers product0 = multiply_halves(c->word[0], splat((int32_t)0xD2511F53u));
    const Integers product1 = multiply_halves(c->word[2], splat((int32_t)0xCD9E8D57u));
    c->word[0] = bit_xor(high_halves(product1), bit_xor(c->word[1], key0));
    c->word[2] = bit_xor(high_halves(product0), bit_xor(c->word[3], key1));
    c->word[1] = product1;
    c->word[3] = product0;
}

static inline void store_words(uint32_t *bits, const Counters *c) {
    const Integers low = join_halves(c->word[0], c->word[1]), high = join_halves(c->word[2], c->word[3]);
    store(bits, first_of_pairs(low, high));
    store(bits + WIDTH, second_of_pairs(low, high));
}

static void words(const RandomStream *stream, uint32_t first, uint32_t *bits) {
    Counters group[GROUPS]; /* independent, so that their multiplications overlap */
    uint32_t key0 = (uint32_t)stream->key[0], key1 = (uint32_t)stream->key[1];
    for (int g = 0; g < GROUPS; g++) group[g] = counters_from(first + (uint32_t)(g * PAIRS), stream->words);
    for (int round = 0; round < 10; round++) {
        const Integers k0 = splat((int32_t)key0), k1 = splat((int32_t)key1);
        for (int g = 0; g < GROUPS; g++) philox_round(&group[g], k0, k1);
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    for (int g = 0; g < GROUPS; g++) store_words(bits + g * 2 * WIDTH, &group[g]);
}

void random_block(const RandomStream *stream, int64_t first_counter, uint32_t *bits, int64_t n) {
    int64_t i = 0;
    for (; i + WORDS <= n; i += WORDS) words(stream, (uint32_t)(first_counter + i / 4), bits + i);
    if (i < n) {
        uint32_t last[WORDS];
        words(stream, (uint32_t)(first_counter + i / 4), last);
        memcpy(bits + i, last, (size_t)(n - i) * sizeof *bits);
    }
}
