/* Whole arrays: pieces spread over threads, each rounded by the kernel of its path; counts are sums of integers. */
#include "dispatch.h"
#include "float_environment.h"
#include "rounding.h"

#include <string.h>

/* Elements of a piece. With a stream, its random bits stay in the first-level cache. Multiples of 256. */
enum { PIECE = 1 << 16, STREAM_PIECE = 2048 };

typedef struct {
    const float *x32; /* one pair of these is used */
    float *out32;
    const double *x64;
    double *out64;
    const uint32_t *random;
    const RandomStream *stream;
    const RoundingParameters *parameters;
} Job;

static RoundingCounts round_piece(const Job *job, size_t first, size_t size) {
    RoundingCounts counts = {0, 0, 0, 0, 0};
    uint32_t bits[STREAM_PIECE];
    const uint32_t *random = job->random ? job->random + first : NULL;
    const uint64_t environment = float_environment_enter();
    if (job->stream) {
        DISPATCH(mpsim_random_block)(job->stream, first / 4, bits, size);
        random = bits;
    }
    if (job->x64) {
        mpsim_round_wide_float64(job->x64 + first, job->out64 + first, size, random, job->parameters, &counts);
    } else {
        RoundBlock *round = job->parameters->path == WIDE ? mpsim_round_wide_float32 : DISPATCH(mpsim_round_block);
        round(job->x32 + first, job->out32 + first, size, random, job->parameters, &counts);
    }
    float_environment_leave(environment);
    return counts;
}

static void round_all(const Job *job, size_t size, RoundingCounts *counts, int threads) {
    int64_t overflowed = 0, underflowed = 0, nan = 0, inexact = 0, subnormal = 0;
    const size_t piece = job->stream ? STREAM_PIECE : PIECE;
    const int64_t pieces = (int64_t)((size + piece - 1) / piece);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && pieces > 1) \
    reduction(+ : overflowed, underflowed, nan, inexact, subnormal)
    for (int64_t i = 0; i < pieces; i++) {
        const size_t first = (size_t)i * piece, rest = size - first;
        const RoundingCounts one = round_piece(job, first, rest < piece ? rest : piece);
        overflowed += one.overflowed;
        underflowed += one.underflowed;
        nan += one.nan;
        inexact += one.inexact;
        subnormal += one.subnormal;
    }
    *counts = (RoundingCounts){overflowed, underflowed, nan, inexact, subnormal};
}

void mpsim_round_float32(const float *x, float *out, size_t size, const uint32_t *random, const RandomStream *stream,
                         const RoundingParameters *parameters, RoundingCounts *counts, int threads) {
    const Job job = {x, out, NULL, NULL, random, stream, parameters};
    round_all(&job, size, counts, threads);
}

void mpsim_round_float64(const double *x, double *out, size_t size, const uint32_t *random,
                         const RandomStream *stream, const RoundingParameters *parameters, RoundingCounts *counts,
                         int threads) {
    const Job job = {NULL, NULL, x, out, random, stream, parameters};
    round_all(&job, size, counts, threads);
}

void mpsim_random_bits(const RandomStream *stream, uint64_t first, uint32_t *bits, size_t size, int threads) {
    const size_t lead = first % 4 ? 4 - first % 4 : 0; /* words of a counter begun before */
    if (lead) {
        uint32_t words[4];
        DISPATCH(mpsim_random_block)(stream, first / 4, words, 4);
        memcpy(bits, words + first % 4, (lead < size ? lead : size) * sizeof *bits);
        if (lead >= size) return;
        mpsim_random_bits(stream, first + lead, bits + lead, size - lead, threads);
        return;
    }
    const int64_t pieces = (int64_t)((size + STREAM_PIECE - 1) / STREAM_PIECE);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && pieces > 1)
    for (int64_t i = 0; i < pieces; i++) {
        const size_t start = (size_t)i * STREAM_PIECE, rest = size - start;
        const size_t piece = rest < STREAM_PIECE ? rest : STREAM_PIECE;
        DISPATCH(mpsim_random_block)(stream, (first + start) / 4, bits + start, piece);
    }
}

void mpsim_canonical_nan(float *x, size_t size, int threads) {
    uint32_t *bits = (uint32_t *)x;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && size > PIECE)
    for (size_t i = 0; i < size; i++) {
        const uint32_t pattern = bits[i];
        bits[i] = (pattern & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 | (pattern & 0x80000000) : pattern;
    }
}

void mpsim_canonical_nan_float64(double *x, size_t size, int threads) {
    uint64_t *bits = (uint64_t *)x;
    const uint64_t sign = (uint64_t)1 << 63;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && size > PIECE)
    for (size_t i = 0; i < size; i++) {
        const uint64_t pattern = bits[i];
        bits[i] = (pattern & ~sign) > (uint64_t)0x7ff << 52 ? (uint64_t)0xfff << 51 | (pattern & sign) : pattern;
    }
}

int mpsim_all_finite(const float *x, size_t size, int threads) {
    const uint32_t *bits = (const uint32_t *)x;
    uint32_t largest = 0;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && size > PIECE) reduction(max : largest)
    for (size_t i = 0; i < size; i++) {
        const uint32_t magnitude = bits[i] & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest < 0x7f800000;
}
