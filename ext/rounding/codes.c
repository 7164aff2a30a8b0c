/* Codes of formats. Numbers are rounded block by block into the first-level cache and packed there.
 *
 * A format whose normal numbers are normal in float32 has the code of |x| in its float32 pattern: shifted right, the
 * exponent's offset subtracted. Below the smallest normal number the code is |x| in quanta: x + 2^(q + 23) has it in its
 * last bits. Formats of powers of two without a zero have an exponent as code. Other formats, and codes of 8 bytes, take one number at a time. */
#include "rounding/conversions.h"
#include "rounding/patterns.h"
#include "rounding/rounding.h"

static inline uint64_t encode_one(double x, const CodeLayout *c) {
    const uint64_t bits = bits_of(x), a = bits & MAGNITUDE;
    const uint64_t sign = c->has_sign && a != bits ? (uint64_t)1 << (c->bits - 1) : 0;
    if (a > INFINITE) return (uint64_t)c->nan_code | (c->nan_has_sign ? sign : 0);
    if (a == INFINITE) return (uint64_t)c->infinity_code | sign;
    if (a == 0) return c->has_negative_zero ? sign : 0;
    int64_t exponent;
    const uint64_t significand = split(a, &exponent);
    /* |x| in quanta of the smallest normal number's binade, as (binades above it, significand of m + 1 bits) */
    const int64_t top = top_bit(significand), above = top + exponent - c->quantum_exponent - c->mantissa_bits;
    const int64_t drop = above > 0 ? top - c->mantissa_bits : c->quantum_exponent - exponent;
    const uint64_t kept = drop >= 0 ? significand >> drop : significand << -drop;
    if (!c->has_zero) return (uint64_t)above;
    /* the implicit bit of a normal number is added to the lowest bit of the biased exponent */
    return sign | (((uint64_t)(above > 0 ? above : 0) << c->mantissa_bits) + kept);
}

static inline double decode_one(uint64_t code, const CodeLayout *c) {
    const uint64_t width_mask = c->bits < 64 ? ((uint64_t)1 << c->bits) - 1 : ~(uint64_t)0;
    const uint64_t sign_mask = c->has_sign ? (uint64_t)1 << (c->bits - 1) : 0;
    const uint64_t magnitude = code & width_mask & ~sign_mask, sign = code & sign_mask ? ~MAGNITUDE : 0;
    if (c->has_nan && code == (uint64_t)c->nan_code) return number_of(CANONICAL_NAN);
    if (c->infinity_code >= 0 && magnitude == (uint64_t)c->infinity_code) return number_of(INFINITE | sign);
    if (magnitude > (uint64_t)c->largest_code) return number_of(CANONICAL_NAN | sign);
    const uint64_t biased = magnitude >> c->mantissa_bits, implicit = (uint64_t)1 << c->mantissa_bits;
    const uint64_t mantissa = magnitude & (implicit - 1);
    if (biased == 0 && c->has_zero)
        return number_of((c->has_subnormals ? join(mantissa, c->quantum_exponent) : 0) | sign);
    return number_of(join(mantissa | implicit, c->quantum_exponent + (int64_t)biased - c->has_zero) | sign);
}

/* The constants of a format that vectors take. */
typedef struct {
    int shift, sign_shift; /* of the mantissa in float32, and of the sign in a code */
    Integers magnitude_mask, sign_mask, has_sign;
    Integers smallest_normal, first_normal, offset, to_grid, offset_bits;
    Integers largest_code, infinity_code, nan_code, nan_sign, zero_sign, subnormals, low_bits;
} Packing;

static int is_packed(const CodeLayout *c) {
    const int64_t exponent = c->quantum_exponent + c->mantissa_bits;
    const int64_t largest = (c->largest_code >> c->mantissa_bits) - c->has_zero + exponent;
    const int fits = c->bits <= 32 && c->mantissa_bits <= 23 && exponent <= 127 && largest <= 127;
    if (!c->has_zero) return fits && c->mantissa_bits == 0 && !c->has_sign && exponent >= -127;
    return fits && exponent >= -126 && c->quantum_exponent <= 104;
}

static Packing packing(const CodeLayout *c) {
    Packing p;
    const int64_t exponent = c->quantum_exponent + c->mantissa_bits, quantum = c->quantum_exponent + 23;
    const int32_t magnitude = (int32_t)(((uint64_t)1 << (c->bits - c->has_sign)) - 1);
    const int32_t offset = (int32_t)((exponent + 126) * ((int64_t)1 << c->mantissa_bits)); /* may be below 0 */
    p.shift = (int)(23 - c->mantissa_bits);
    p.sign_shift = (int)(32 - c->bits);
    p.magnitude_mask = splat(magnitude);
    p.has_sign = splat(c->has_sign ? INT32_MIN : 0);
    p.sign_mask = splat(c->has_sign ? (int32_t)((uint32_t)1 << (c->bits - 1)) : 0);
    p.smallest_normal = splat((int32_t)((exponent + 127) << 23));
    p.first_normal = splat((int32_t)1 << c->mantissa_bits);
    p.offset = splat(offset);
    p.offset_bits = splat((int32_t)((exponent + 126) * (1 << 23)));
    p.to_grid = splat((int32_t)((quantum + 127) << 23));
    p.largest_code = splat((int32_t)c->largest_code);
    p.infinity_code = splat((int32_t)c->infinity_code);
    p.nan_code = splat(c->has_nan ? (int32_t)c->nan_code : -1);
    p.nan_sign = splat(c->nan_has_sign ? -1 : 0);
    p.zero_sign = splat(c->has_negative_zero ? -1 : 0);
    p.subnormals = splat(c->has_subnormals ? -1 : 0);
    p.low_bits = splat(0);
    if (!c->has_zero) { /* powers of two: every code is an exponent, and 2^-127 alone is subnormal in float32 */
        p.smallest_normal = splat(0);
        p.first_normal = splat(exponent == -127);
        p.offset = splat((int32_t)(exponent + 127));
        p.offset_bits = splat((int32_t)((exponent + 127) << 23));
        p.low_bits = splat(0x400000);
    }
    return p;
}

typedef struct { Integers nan, infinite; } Strays;

/* Returns the codes of numbers of the format. */
INLINE Integers encode_vector(Integers v, const Packing *p, Strays *strays) {
    const Integers a = bit_and(v, splat(MAGNITUDE_32)), zero = splat(0);
    const Integers sign = shift_right(bit_and(v, p->has_sign), p->sign_shift);
    const Integers low = subtract(float_add(a, p->to_grid), p->to_grid);
    const Integers normal = subtract(shift_right(a, p->shift), p->offset);
    Integers code = choose(greater(p->smallest_normal, a), low, normal);
    code = bit_or(code, choose(greater(code, zero), sign, bit_and(sign, p->zero_sign)));
    const Mask special = greater(a, splat(INFINITE_32 - 1));
    if (__builtin_expect(any(special), 0)) {
        const Mask nan = greater(a, splat(INFINITE_32));
        strays->nan = tally(strays->nan, nan);
        strays->infinite = tally(strays->infinite, equal(a, splat(INFINITE_32)));
        code = choose(special, bit_or(p->infinity_code, sign), code);
        code = choose(nan, bit_or(p->nan_code, bit_and(sign, p->nan_sign)), code);
    }
    return code;
}

INLINE Integers decode_vector(Integers code, const Packing *p) {
    const Integers magnitude = bit_and(code, p->magnitude_mask);
    const Integers sign = shift_left(bit_and(code, p->sign_mask), p->sign_shift);
    const Integers grid = bit_and(float_subtract(add(magnitude, p->to_grid), p->to_grid), p->subnormals);
    const Integers low = bit_or(grid, p->low_bits), normal = add(shift_left(magnitude, p->shift), p->offset_bits);
    Integers value = choose(greater(p->first_normal, magnitude), low, normal);
    const Mask is_nan = equal(code, p->nan_code);
    const Mask special = either(greater(magnitude, p->largest_code), is_nan);
    if (__builtin_expect(any(special), 0)) {
        const Mask infinite = equal(magnitude, p->infinity_code);
        value = choose(special, choose(infinite, splat(INFINITE_32), splat(NAN_32)), value);
        return choose(is_nan, splat(NAN_32), bit_or(value, sign));
    }
    return bit_or(value, sign);
}

INLINE Integers load_codes(const uint8_t *codes, const int size) {
    return size == 1 ? load_bytes(codes) : size == 2 ? load_shorts(codes) : load(codes);
}

INLINE void store_codes(uint8_t *codes, Integers a, const int size) {
    if (size == 1) store_bytes(codes, a);
    else if (size == 2) store_shorts(codes, a);
    else store(codes, a);
}

/* Encodes n numbers. Adds the numbers of NaNs and infinities to strays. */
INLINE void encode_packed(const float *x, int64_t n, uint8_t *codes, const int size, const CodeLayout *layout,
                          int64_t *strays) {
    const Packing p = packing(layout);
    Strays found = {splat(0), splat(0)};
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) store_codes(codes + i * size, encode_vector(load(x + i), &p, &found), size);
    if (i < n) {
        float rest[WIDTH] = {0};
        uint8_t last[4 * WIDTH];
        memcpy(rest, x + i, (size_t)(n - i) * sizeof *x);
        store_codes(last, encode_vector(load(rest), &p, &found), size);
        memcpy(codes + i * size, last, (size_t)((n - i) * size));
    }
    strays[0] += total(found.nan);
    strays[1] += total(found.infinite);
}

INLINE void decode_packed(const uint8_t *codes, int64_t n, float *out, const int size, const CodeLayout *layout) {
    const Packing p = packing(layout);
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) store(out + i, decode_vector(load_codes(codes + i * size, size), &p));
    if (i < n) {
        float rest[WIDTH];
        uint8_t last[4 * WIDTH] = {0};
        memcpy(last, codes + i * size, (size_t)((n - i) * size));
        store(rest, decode_vector(load_codes(last, size), &p));
        memcpy(out + i, rest, (size_t)(n - i) * sizeof *out);
    }
}

/* Returns code i of an array of unsigned integers of `size` bytes. */
static inline uint64_t code_at(const uint8_t *codes, int64_t i, int64_t size) {
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (size) {
    case 1: return codes[i];
    case 2: memcpy(&two, codes + 2 * i, 2); return two;
    case 4: memcpy(&four, codes + 4 * i, 4); return four;
    default: memcpy(&eight, codes + 8 * i, 8); return eight;
    }
}

static inline void put_code(uint8_t *codes, int64_t i, int64_t size, uint64_t code) {
    const uint16_t two = (uint16_t)code;
    const uint32_t four = (uint32_t)code;
    switch (size) {
    case 1: codes[i] = (uint8_t)code; break;
    case 2: memcpy(codes + 2 * i, &two, 2); break;
    case 4: memcpy(codes + 4 * i, &four, 4); break;
    default: memcpy(codes + 8 * i, &code, 8);
    }
}

/* One loop for each size of a code, so that the size is a compile-time constant. */
#define FOR_SIZE(statement)                     \
    switch (size) {                             \
    case 1: { enum { SIZE = 1 }; statement } break; \
    case 2: { enum { SIZE = 2 }; statement } break; \
    case 4: { enum { SIZE = 4 }; statement } break; \
    default: { enum { SIZE = 8 }; statement }   \
    }

void encode_numbers(const float *x, int64_t n, uint8_t *codes, int64_t size, const CodeLayout *layout, int64_t *strays) {
    FOR_SIZE(encode_packed(x, n, codes, SIZE, layout, strays);)
}

void decode_numbers(const uint8_t *codes, int64_t size, int64_t n, float *out, const CodeLayout *layout) {
    FOR_SIZE(decode_packed(codes, n, out, SIZE, layout);)
}

static void count_strays(const double *x, int64_t n, int64_t *strays) {
    for (int64_t i = 0; i < n; i++) {
        const uint64_t a = bits_of(x[i]) & MAGNITUDE;
        strays[0] += a > INFINITE;
        strays[1] += a == INFINITE;
    }
}

/* Rounds numbers first .. first + n - 1 of a source, at most BLOCK, unless it has no parameters, and encodes them. */
static void encode_block(const Rounding *source, int64_t first, int64_t n, uint8_t *codes, int64_t size,
                         const CodeLayout *layout, int64_t *strays) {
    float narrow[BLOCK];
    double wide[BLOCK];
    const float *x = source->x32 ? source->x32 + first : narrow;
    const double *y = source->x64 ? source->x64 + first : wide;
    int is_wide = !source->x32;
    if (source->parameters) {
        is_wide = is_wide && source->parameters->path == WIDE;
        round_part(source, first, n, is_wide ? NULL : narrow, is_wide ? wide : NULL, NULL);
        x = narrow, y = wide;
    }
    if (is_packed(layout) && size <= 4) {
        if (is_wide) {
            for (int64_t i = 0; i < n; i++) narrow[i] = (float)y[i];
            x = narrow;
        }
        encode_numbers(x, n, codes, size, layout, strays);
    } else {
        if (!is_wide) {
            for (int64_t i = 0; i < n; i++) wide[i] = (double)x[i];
            y = wide;
        }
        count_strays(y, n, strays);
        FOR_SIZE(for (int64_t i = 0; i < n; i++) put_code(codes, i, SIZE, encode_one(y[i], layout));)
    }
}

/* strays: the numbers of NaNs and of infinities that were encoded. */
static void encode_all(const Rounding *source, int64_t n, uint8_t *codes, int64_t size, const CodeLayout *layout,
                       int64_t *strays, int threads) {
    int64_t nan = 0, infinite = 0;
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > PIECE) \
    reduction(+ : nan, infinite)
    for (int64_t i = 0; i < blocks; i++) {
        int64_t found[2] = {0, 0};
        const int64_t first = i * BLOCK;
        const uint64_t environment = float_environment_enter();
        encode_block(source, first, minimum(BLOCK, n - first), codes + first * size, size, layout, found);
        float_environment_leave(environment);
        nan += found[0];
        infinite += found[1];
    }
    strays[0] = nan;
    strays[1] = infinite;
}

void KERNEL(encode_float32)(const float *x, int64_t n, const uint32_t *random, const RandomStream *stream,
                            const RoundingParameters *parameters, uint8_t *codes, int64_t size,
                            const CodeLayout *layout, int64_t *strays, int threads) {
    const Rounding source = {x, NULL, random, stream, parameters};
    encode_all(&source, n, codes, size, layout, strays, threads);
}

void KERNEL(encode_float64)(const double *x, int64_t n, const uint32_t *random, const RandomStream *stream,
                            const RoundingParameters *parameters, uint8_t *codes, int64_t size,
                            const CodeLayout *layout, int64_t *strays, int threads) {
    const Rounding source = {NULL, x, random, stream, parameters};
    encode_all(&source, n, codes, size, layout, strays, threads);
}

/* Decodes at most BLOCK codes to one of the two arrays. */
static void decode_block(const uint8_t *codes, int64_t size, int64_t n, float *narrow, double *wide,
                         const CodeLayout *layout) {
    if (is_packed(layout) && size <= 4) {
        float buffer[BLOCK];
        float *out = narrow ? narrow : buffer;
        decode_numbers(codes, size, n, out, layout);
        for (int64_t i = 0; wide && i < n; i++) wide[i] = (double)out[i];
    } else if (narrow) {
        FOR_SIZE(for (int64_t i = 0; i < n; i++) narrow[i] = (float)decode_one(code_at(codes, i, SIZE), layout);)
    } else {
        FOR_SIZE(for (int64_t i = 0; i < n; i++) wide[i] = decode_one(code_at(codes, i, SIZE), layout);)
    }
}

static void decode_all(const uint8_t *codes, int64_t size, int64_t n, float *narrow, double *wide,
                       const CodeLayout *layout, int threads) {
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
    (void)threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > PIECE)
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t first = i * BLOCK;
        const uint64_t environment = float_environment_enter();
        decode_block(codes + first * size, size, minimum(BLOCK, n - first), narrow ? narrow + first : NULL,
                     wide ? wide + first : NULL, layout);
        float_environment_leave(environment);
    }
}

void KERNEL(decode_float32)(const uint8_t *codes, int64_t size, int64_t n, float *out, const CodeLayout *layout,
                            int threads) {
    decode_all(codes, size, n, out, NULL, layout, threads);
}

void KERNEL(decode_float64)(const uint8_t *codes, int64_t size, int64_t n, double *out, const CodeLayout *layout,
                            int threads) {
    decode_all(codes, size, n, NULL, out, layout, threads);
}
