/* Sums as in tensor cores if every product is exact in float32: for operands of float8, float16 and tf32, and of
 * bfloat16 that is neither tiny nor huge. The bits are those of aligned.c, which sums everything else.
 *
 * A product divided by the quantum and truncated is a conversion to int32. c is converted in the same way, and these
 * integers are added. The exponent of a product is the sum of two 16-bit numbers. */
#include "orders/sums.h"

#include <stdlib.h>

#define MOST_VECTORS 4
#define BLOCK 64 /* the least number of k packed together */

typedef int16_t Shorts __attribute__((vector_size(4 * WIDTH)));
typedef int16_t FewShorts __attribute__((vector_size(2 * WIDTH)));
typedef int32_t FewLanes __attribute__((vector_size(2 * WIDTH)));
#define SHORTS (2 * WIDTH)
#define NO_EXPONENT (-8192) /* of a zero. The sum of two of these is below every exponent */

/* An instruction in integers. piece: the number of products whose sum with c fits in 31 bits. narrow_sums: the total is
 * exact in float32, and is truncated to the bits of mask. */
typedef struct {
    int64_t terms, piece, narrow_sums;
    int32_t fraction_bits, least, least_left, least_right, least_sum, mask_left, mask_right, mask, beyond;
    float largest;
    const NarrowFormat *narrow;
    int64_t toward_zero;
} Instruction;

#if defined(VARIANT_avx512)
INLINE Shorts larger_shorts(Shorts a, Shorts b) { return (Shorts)_mm512_max_epi16((__m512i)a, (__m512i)b); }
#elif defined(VARIANT_avx2)
INLINE Shorts larger_shorts(Shorts a, Shorts b) { return (Shorts)_mm256_max_epi16((__m256i)a, (__m256i)b); }
#else
INLINE Shorts larger_shorts(Shorts a, Shorts b) {
    Shorts more = (Shorts)(a > b);
    return (more & a) | (~more & b);
}
#endif

INLINE Lanes larger_lanes(Lanes a, Lanes b) { return (Lanes)larger((Integers)a, (Integers)b); }
INLINE Lanes smaller_lanes(Lanes a, Lanes b) { return (Lanes)smaller((Integers)a, (Integers)b); }
INLINE Lanes where(Lanes mask, Lanes yes, Lanes no) { return (mask & yes) | (~mask & no); }

/* Returns the exponents of float32 numbers, at least ``least``, or NO_EXPONENT for zeros. */
INLINE Lanes exponents_of(Floats x, int32_t least) {
    Lanes exponent = larger_lanes((((Lanes)x >> 23) & 255) - 127, (Lanes){0} + least);
    return where((Lanes)(x == 0), (Lanes){0} + NO_EXPONENT, exponent);
}

/* Returns 2**exponent for -126 <= exponent <= 127. */
INLINE Floats power_of(Lanes exponent) { return (Floats)((exponent + 127) << 23); }

/* Computes x * 2**exponent for -252 <= exponent <= 254. It is exact if the result is a float32 number. */
INLINE Floats scaled(Floats x, Lanes exponent) {
    Lanes first = larger_lanes(smaller_lanes(exponent, (Lanes){0} + 127), (Lanes){0} - 126);
    return x * power_of(first) * power_of(exponent - first);
}

/* Returns the next c of WIDTH columns if the total is exact in float32: truncated to the format. */
INLINE Floats cut_total(Lanes total, Lanes top, const Instruction *n) {
    Floats sum = scaled(__builtin_convertvector(total, Floats), top - n->fraction_bits);
    Lanes kept = (Lanes)sum & n->mask, magnitude = kept & INT32_MAX;
    Lanes beyond = (Lanes)((Floats)magnitude > n->largest);
    return (Floats)where(beyond, n->beyond | (kept & INT32_MIN), kept) + 0.0f;
}

/* Adds the integers of WIDTH columns to their totals. The first ones become the totals. */
INLINE void add_to_total(double *total, Lanes integers, int first) {
    UNROLL for (int i = 0; i < 2; i++) {
        FewLanes part;
        Doubles earlier;
        memcpy(&part, (int32_t *)&integers + i * DOUBLES, sizeof part);
        memcpy(&earlier, total + i * DOUBLES, sizeof earlier);
        Doubles sum = __builtin_convertvector(part, Doubles);
        if (!first) sum += earlier;
        memcpy(total + i * DOUBLES, &sum, sizeof sum);
    }
}

/* Find the largest exponent of a product in each of SHORTS columns, or of twice as many. They are separate functions
 * so that the largest so far stays in registers. */
static __attribute__((noinline)) void largest_of_one(const int16_t *a, const int16_t *b, int64_t count, int16_t *out) {
    Shorts found = (Shorts){0} + 2 * NO_EXPONENT, column;
    for (int64_t k = 0; k < count; k++) {
        memcpy(&column, b + k * SHORTS, sizeof column);
        found = larger_shorts(found, column + a[k]);
    }
    memcpy(out, &found, sizeof found);
}

static __attribute__((noinline)) void largest_of_two(const int16_t *a, const int16_t *b, int64_t count, int16_t *out) {
    Shorts low = (Shorts){0} + 2 * NO_EXPONENT, high = low, column, next;
    for (int64_t k = 0; k < count; k++) {
        memcpy(&column, b + 2 * k * SHORTS, sizeof column);
        memcpy(&next, b + (2 * k + 1) * SHORTS, sizeof next);
        low = larger_shorts(low, column + a[k]);
        high = larger_shorts(high, next + a[k]);
    }
    memcpy(out, &low, sizeof low);
    memcpy(out + SHORTS, &high, sizeof high);
}

/* Finds the largest exponent of each column among products, c and the least one. */
INLINE void find_top(const float *c, const int16_t *a, const int16_t *b, int64_t count, int vectors,
                     const Instruction *n, Lanes *top) {
    int16_t exponents[MOST_VECTORS / 2 * SHORTS];
    if (vectors > 2)
        largest_of_two(a, b, count, exponents);
    else
        largest_of_one(a, b, count, exponents);
    UNROLL for (int i = 0; i < vectors; i++) {
        FewShorts some;
        memcpy(&some, exponents + i * WIDTH, sizeof some);
        Lanes found = larger_lanes(__builtin_convertvector(some, Lanes), (Lanes){0} + n->least);
        top[i] = larger_lanes(found, exponents_of(vector_load(c + i * WIDTH), n->least_sum));
    }
}

/* Returns the next c of WIDTH columns: total quanta of 2**(top - fraction_bits), rounded. */
INLINE Floats round_total(const double *total, Lanes top, const Instruction *n) {
    float c[WIDTH];
    UNROLL for (int i = 0; i < 2; i++) {
        FewLanes exponent;
        Doubles sum;
        memcpy(&exponent, (int32_t *)&top + i * DOUBLES, sizeof exponent);
        memcpy(&sum, total + i * DOUBLES, sizeof sum);
        sum *= (Doubles)((__builtin_convertvector(exponent, Longs) + (1023 - n->fraction_bits)) << 52);
        store_doubles(c + i * DOUBLES, round_doubles(sum, n->narrow, n->toward_zero) + 0.0);
    }
    return vector_load(c);
}

typedef uint32_t Wrapping __attribute__((vector_size(sizeof(Lanes)))); /* signed lanes must not overflow in C */

/* Computes c after one instruction of ``count`` terms, for ``vectors`` (a constant) vectors of columns. */
INLINE void instruction(float *c, const float *a, const int16_t *a_exponents, const float *b,
                        const int16_t *b_exponents, int64_t count, int vectors, int narrow_sums, const Instruction *n) {
    double total[MOST_VECTORS * WIDTH];
    Lanes top[MOST_VECTORS], sums[MOST_VECTORS];
    Floats inverse[MOST_VECTORS];
    find_top(c, a_exponents, b_exponents, count, vectors, n, top);
    UNROLL for (int i = 0; i < vectors; i++) {
        Lanes exponent = n->fraction_bits - top[i]; /* below 127 unless all products are zero */
        inverse[i] = power_of(smaller_lanes(exponent, (Lanes){0} + 127));
        Floats quanta = scaled(vector_load(c + i * WIDTH), smaller_lanes(exponent, (Lanes){0} + 254));
        sums[i] = __builtin_convertvector(quanta, Lanes);
    }
    for (int64_t first = 0; first < count; first += n->piece) {
        int64_t end = minimum(count, first + n->piece);
        for (int64_t k = first; k < end; k++)
            UNROLL for (int i = 0; i < vectors; i++) {
                Floats product = vector_splat(a[k]) * vector_load(b + (k * vectors + i) * WIDTH);
                /* Wraps only where c is infinite or a NaN, and then nobody reads the sum. */
                sums[i] = (Lanes)((Wrapping)sums[i] +
                                  (Wrapping)__builtin_convertvector(product * inverse[i], Lanes));
            }
        if (narrow_sums) break; /* all fit in one piece */
        UNROLL for (int i = 0; i < vectors; i++) {
            Lanes piece = sums[i];
            add_to_total(total + i * WIDTH, piece, first == 0);
            sums[i] = (Lanes){0};
        }
    }
    UNROLL for (int i = 0; i < vectors; i++) {
        Floats before = vector_load(c + i * WIDTH), after;
        after = narrow_sums ? cut_total(sums[i], top[i], n) : round_total(total + i * WIDTH, top[i], n);
        /* An infinite c, or a NaN, stays: the terms are finite. */
        vector_store(c + i * WIDTH, (Floats)where((Lanes)(before - before == 0), (Lanes)after, (Lanes)before));
    }
}

/* Truncates the significands of ``count`` numbers, a multiple of WIDTH, and writes their exponents. */
static void convert(float *x, int16_t *exponents, int64_t count, int32_t mask, int32_t least) {
    for (int64_t i = 0; i < count; i += WIDTH) {
        Floats kept = (Floats)((Lanes)vector_load(x + i) & mask);
        FewShorts found = __builtin_convertvector(exponents_of(kept, least), FewShorts);
        vector_store(x + i, kept);
        memcpy(exponents + i, &found, sizeof found);
    }
}

/* The buffers of a thread: a block of the panel and of a row, the c of every row, and their totals. */
typedef struct {
    float *panel, *row, *sums, *totals;
    int16_t *panel_exponents, *row_exponents;
} Memory;

/* Runs the instructions of one block of k for every row, on ``vectors`` (a constant) vectors of columns. */
INLINE void sum_block(const Tables *t, int64_t group, int64_t start, int64_t stop, int64_t first, int64_t count,
                      int vectors, const Instruction *n, const Memory *m) {
    const float *a = t->a + t->a_group[group], *b = t->b + t->b_group[group];
    const int64_t columns = vectors * WIDTH, exponents = (vectors + 1) / 2 * SHORTS;
    for (int64_t k = 0; k < count; k++) {
        const float *from = b + t->b_k[first + k];
        float *to = m->panel + k * columns;
        for (int64_t p = start; p < stop; p++) to[p - start] = from[t->b_column[p]];
        for (int64_t p = stop - start; p < columns; p++) to[p] = 0;
        convert(to, m->panel_exponents + k * exponents, columns, n->mask_right, n->least_right);
    }
    const int64_t padded = (count + WIDTH - 1) / WIDTH * WIDTH;
    for (int64_t r = 0; r < t->rows; r++) {
        const float *from = a + t->a_row[r];
        float *c = m->sums + r * columns;
        for (int64_t k = 0; k < count; k++) m->row[k] = from[t->a_k[first + k]];
        for (int64_t k = count; k < padded; k++) m->row[k] = 0;
        convert(m->row, m->row_exponents, padded, n->mask_left, n->least_left);
        for (int64_t k = 0; k < count; k += n->terms) {
            const int64_t terms = minimum(count - k, n->terms);
            const float *values = m->panel + k * columns;
            const int16_t *their = m->panel_exponents + k * exponents;
            if (n->narrow_sums)
                instruction(c, m->row + k, m->row_exponents + k, values, their, terms, vectors, 1, n);
            else
                instruction(c, m->row + k, m->row_exponents + k, values, their, terms, vectors, 0, n);
        }
    }
}

/* Computes the totals of one panel, at most rows x MOST_VECTORS * WIDTH. */
static void sum_panel(const Tables *t, int64_t group, int64_t start, int64_t stop, int64_t chunk, int64_t block,
                      const Instruction *n, const Memory *m) {
    int64_t vectors = stop - start <= WIDTH ? 1 : stop - start <= 2 * WIDTH ? 2 : 4, columns = vectors * WIDTH;
    int64_t outputs = t->rows * columns;
    for (int64_t begin = 0; begin < t->length; begin += chunk) {
        int64_t end = minimum(t->length, begin + chunk);
        memset(m->sums, 0, sizeof(float) * (size_t)outputs);
        for (int64_t first = begin; first < end; first += block) {
            int64_t count = minimum(end - first, block);
            if (vectors == 1)
                sum_block(t, group, start, stop, first, count, 1, n, m);
            else if (vectors == 2)
                sum_block(t, group, start, stop, first, count, 2, n, m);
            else
                sum_block(t, group, start, stop, first, count, 4, n, m);
        }
        for (int64_t i = 0; i < outputs; i++) m->totals[i] = begin == 0 ? m->sums[i] : m->totals[i] + m->sums[i];
    }
    for (int64_t r = 0; r < t->rows; r++) {
        float *out = t->out + t->out_group[group] + t->out_row[r];
        for (int64_t p = start; p < stop; p++) out[t->out_column[p]] = m->totals[r * columns + p - start];
    }
}

static int64_t largest_of(const int64_t *offsets, int64_t count) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) found = maximum(found, offsets[i]);
    return found;
}

/* Returns whether every number is zero or has an exponent from -50 to 60: then a product of two is exact in float32,
 * and so is a product divided by the smallest quantum. */
static int are_moderate(const float *x, int64_t count) {
    const uint32_t least = (uint32_t)(127 - 50) << 23, range = (uint32_t)111 << 23;
    uint32_t outside = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= INT32_MAX;
        outside |= (uint32_t)(bits - least >= range) & (uint32_t)(bits != 0);
    }
    return !outside;
}

static int32_t exponent_of(double power) {
    int64_t bits;
    memcpy(&bits, &power, sizeof bits);
    return (int32_t)(bits >> 52) - 1023;
}

/* Converts an instruction to integers. piece is 0 if that is impossible. */
static Instruction numbers_of(const NarrowFormat *narrow, const AlignedSum *sum) {
    Instruction n = {
        .terms = sum->terms,
        .fraction_bits = -exponent_of(sum->quantum),
        .least = exponent_of(sum->least_scale),
        .least_left = exponent_of(sum->least_left),
        .least_right = exponent_of(sum->least_right),
        .least_sum = exponent_of(sum->least_sum),
        .mask_left = (int32_t)sum->mask_left,
        .mask_right = (int32_t)sum->mask_right,
        .largest = (float)narrow->largest,
        .narrow = narrow,
        .toward_zero = sum->toward_zero,
    };
    int bits = __builtin_popcount((uint32_t)n.mask_left) + __builtin_popcount((uint32_t)n.mask_right) - 2 * 9 + 2;
    if (bits > 24 || n.fraction_bits < 0 || n.fraction_bits > 26 || n.least_sum < -126 || n.least < -1000) return n;
    n.piece = ((INT64_C(1) << (31 - n.fraction_bits)) - 3) / 4; /* (4 * piece + 2) * 2**fraction_bits < 2**31 */
    float beyond = (float)narrow->beyond;
    memcpy(&n.beyond, &beyond, sizeof beyond);
    int64_t mantissa_bits = 52 - narrow->shift;
    int has_subnormals = narrow->low == narrow->least_exponent + narrow->shift;
    n.narrow_sums = n.toward_zero && n.least_sum == -126 && has_subnormals &&
                    (4 * n.terms + 2) << n.fraction_bits <= INT64_C(1) << 24 && n.fraction_bits <= 23;
    n.mask = (int32_t)(UINT32_MAX << (23 - mantissa_bits));
    return n;
}

int accumulate_aligned_floats(const Tables *t, int64_t chunk, const NarrowFormat *narrow, const AlignedSum *sum,
                              int threads) {
    const Instruction n = numbers_of(narrow, sum);
    int64_t a_size = largest_of(t->a_group, t->groups) + largest_of(t->a_row, t->rows) + largest_of(t->a_k, t->length);
    int64_t b_size = largest_of(t->b_group, t->groups) + largest_of(t->b_column, t->columns) +
                     largest_of(t->b_k, t->length);
    if (!n.piece || !are_moderate(t->a, a_size + 1) || !are_moderate(t->b, b_size + 1)) return 1;
    int64_t most = MOST_VECTORS * WIDTH, panels = (t->columns + most - 1) / most;
    int64_t block = n.terms < BLOCK ? BLOCK / n.terms * n.terms : n.terms;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        const uint64_t environment = float_environment_enter();
        int64_t outputs = t->rows * most, row = (block + WIDTH - 1) / WIDTH * WIDTH;
        float *memory = malloc(sizeof(float) * (size_t)(2 * outputs + block * most + row));
        int16_t *exponents = malloc(sizeof(int16_t) * (size_t)(block * most + row));
        failed = !memory || !exponents;
        const Memory m = {memory,
                          memory + block * most,
                          memory + block * most + row,
                          memory + block * most + row + outputs,
                          exponents,
                          exponents + block * most};
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < t->groups * panels; task++) {
            if (failed) continue;
            int64_t start = task % panels * most;
            sum_panel(t, task / panels, start, minimum(start + most, t->columns), chunk, block, &n, &m);
        }
        free(memory);
        free(exponents);
        float_environment_leave(environment);
    }
    return failed ? -1 : 0;
}
