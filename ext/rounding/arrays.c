/* Rounds arrays: pieces are distributed over threads, and the path's kernel rounds each. Counts are integer sums. */
#include "rounding/conversions.h"
#include "rounding/rounding.h"

void to_odd(const double *x, float *out, int64_t n) {
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) store(out + i, load_odd(x + i));
    if (i < n) {
        double rest[WIDTH] = {0};
        float odd[WIDTH];
        memcpy(rest, x + i, (size_t)(n - i) * sizeof *x);
        store(odd, load_odd(rest));
        memcpy(out + i, odd, (size_t)(n - i) * sizeof *out);
    }
}

/* Rounds float32 numbers; counts may be NULL. */
static void round_narrow(const float *x, float *out, int64_t n, const uint32_t *random,
                         const RoundingParameters *parameters, RoundingCounts *counts) {
    RoundingCounts uncounted = {0, 0, 0, 0, 0};
    if (!counts && parameters->path == NARROW && parameters->mode == NEAREST_EVEN) {
        round_uncounted(x, out, n, parameters);
        return;
    }
    RoundBlock *round = parameters->path == WIDE ? round_wide_float32 : round_vectors;
    round(x, out, n, random, parameters, counts ? counts : &uncounted);
}

void round_part(const Rounding *source, int64_t first, int64_t n, float *out32, double *out64, RoundingCounts *counts) {
    const RoundingParameters *parameters = source->parameters;
    RoundingCounts uncounted = {0, 0, 0, 0, 0};
    uint32_t bits[BLOCK];
    const uint32_t *random = source->random ? source->random + first : NULL;
    if (source->stream) {
        random_block(source->stream, first / 4, bits, n);
        random = bits;
    }
    if (source->x32) {
        round_narrow(source->x32 + first, out32, n, random, parameters, counts);
    } else if (parameters->path == WIDE) {
        round_wide_float64(source->x64 + first, out64, n, random, parameters, counts ? counts : &uncounted);
    } else {
        float odd[BLOCK];
        for (int64_t i = 0; i < n; i += BLOCK) {
            const int64_t some = minimum(BLOCK, n - i);
            float *out = out32 ? out32 + i : odd;
            to_odd(source->x64 + first + i, odd, some);
            round_narrow(odd, out, some, NULL, parameters, counts);
            for (int64_t k = 0; out64 && k < some; k++) out64[i + k] = (double)out[k];
        }
    }
}

static void round_all(const Rounding *source, float *out32, double *out64, int64_t n, int64_t *counts, int threads) {
    int64_t all[5] = {0, 0, 0, 0, 0};
    const int64_t piece = source->stream ? BLOCK : PIECE, pieces = (n + piece - 1) / piece;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && pieces > 1) \
    reduction(+ : all[:5])
    for (int64_t i = 0; i < pieces; i++) {
        RoundingCounts one = {0, 0, 0, 0, 0};
        const int64_t first = i * piece;
        const uint64_t environment = float_environment_enter();
        round_part(source, first, minimum(piece, n - first), out32 ? out32 + first : NULL,
                   out64 ? out64 + first : NULL, &one);
        float_environment_leave(environment);
        add_to(all, &one);
    }
    memcpy(counts, all, sizeof all);
}

void KERNEL(round_float32)(const float *x, float *out, int64_t n, const uint32_t *random, const RandomStream *stream,
                           const RoundingParameters *parameters, int64_t *counts, int threads) {
    const Rounding source = {x, NULL, random, stream, parameters};
    round_all(&source, out, NULL, n, counts, threads);
}

void KERNEL(round_float64)(const double *x, double *out, int64_t n, const uint32_t *random, const RandomStream *stream,
                           const RoundingParameters *parameters, int64_t *counts, int threads) {
    const Rounding source = {NULL, x, random, stream, parameters};
    round_all(&source, NULL, out, n, counts, threads);
}

void KERNEL(random_bits)(const RandomStream *stream, int64_t first, uint32_t *bits, int64_t n, int threads) {
    const int64_t started = first % 4, lead = started ? minimum(4 - started, n) : 0;
    if (lead) { /* the remaining words of the first counter */
        uint32_t words[4];
        random_block(stream, first / 4, words, 4);
        memcpy(bits, words + started, (size_t)lead * sizeof *bits);
    }
    const int64_t pieces = (n - lead + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && pieces > 1)
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t start = lead + i * BLOCK;
        random_block(stream, (first + start) / 4, bits + start, minimum(BLOCK, n - start));
    }
}

void KERNEL(canonical_nan_float32)(float *x, int64_t n, int threads) {
    uint32_t *bits = (uint32_t *)x;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > PIECE)
    for (int64_t i = 0; i < n; i++) {
        const uint32_t pattern = bits[i];
        bits[i] = (pattern & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 | (pattern & 0x80000000) : pattern;
    }
}

void KERNEL(canonical_nan_float64)(double *x, int64_t n, int threads) {
    uint64_t *bits = (uint64_t *)x;
    const uint64_t sign = (uint64_t)1 << 63;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > PIECE)
    for (int64_t i = 0; i < n; i++) {
        const uint64_t pattern = bits[i];
        bits[i] = (pattern & ~sign) > (uint64_t)0x7ff << 52 ? (uint64_t)0xfff << 51 | (pattern & sign) : pattern;
    }
}

int64_t KERNEL(all_finite)(const float *x, int64_t n, int threads) {
    const uint32_t *bits = (const uint32_t *)x;
    uint32_t largest = 0;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > PIECE) reduction(max : largest)
    for (int64_t i = 0; i < n; i++) {
        const uint32_t magnitude = bits[i] & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest < 0x7f800000;
}
