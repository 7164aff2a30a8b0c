/* The structs that Python fills. mpsim/kernels/compiled/structs.py defines each as a NamedTuple, and compares names,
 * offsets and sizes of the fields when it is imported. A field is an int64_t, a double or an array of these. */
#ifndef MPSIM_STRUCTS_H
#define MPSIM_STRUCTS_H

#include <stdint.h>

/* Rounding: mpsim/kernels/parameters.py describes the numbers. Magnitudes are bit patterns without the sign: of float32
 * on the paths NARROW and LEGACY, of float64 on the path WIDE. */
typedef struct {
    int64_t path, mode, mantissa_bits, min_exponent, low_quantum;
    int64_t largest, smallest_normal;
    int64_t positive_overflow, negative_overflow, infinity; /* results of overflow and infinite input */
    int64_t overflow_from, underflow_to;                    /* counted if magnitude >=, and if 0 < magnitude <= */
    int64_t random_bit_count, has_negative_zero, has_sign, has_zero;
    int64_t below_zero, infinity_below_zero; /* results of negative numbers in an unsigned format */
    int64_t by_code, bias;                   /* by_code: the code's parity counts, in formats of one significant bit */
    int64_t scale_exponent, scaled_smallest_normal, scaled_limit, scaled_largest; /* LEGACY */
} RoundingParameters;

/* Codes of a format. A missing code is -1. A 64-bit code may be negative. */
typedef struct {
    int64_t bits, mantissa_bits, quantum_exponent, largest_code, infinity_code, nan_code;
    int64_t has_sign, has_zero, has_negative_zero, has_subnormals, nan_has_sign, has_nan;
} CodeLayout;

/* A Philox stream: the key and the upper words of the counter, each of 32 bits. */
typedef struct {
    int64_t key[2], words[3];
} RandomStream;

typedef struct {
    int64_t images, channels, height, width; /* x: (N, C, H, W) */
    int64_t outputs, out_height, out_width;  /* y: (N, O, OH, OW) */
    int64_t kernel_height, kernel_width;     /* w: (O, C / groups, R, S) */
    int64_t stride_height, stride_width;
    int64_t padding_height, padding_width;
    int64_t groups;
} Convolution;

/* A narrow format of sums: mpsim/kernels/contractions/narrow.py. */
typedef struct {
    int64_t least_exponent, shift, low;
    double largest, beyond;
    int64_t negative_zero;
} NarrowFormat;

/* The rounding of a sum. mode: SUMS_TO_NEAREST and so on (orders/sums.h). */
typedef struct {
    NarrowFormat format;
    int64_t mode;
    double flush_below; /* smaller magnitudes become zeros */
    int64_t random_bits, is_double;
} SumRounding;

/* Sums of aligned, truncated products (Aligned of mpsim/products/aligned.py). */
typedef struct {
    int64_t terms;
    double quantum;                /* 2**-fraction_bits */
    double least_left, least_right; /* the smallest normal numbers of the operands' formats */
    double least_sum;               /* and of that of the sums */
    double least_scale;            /* terms are aligned to this power of two at least */
    int64_t mask_left, mask_right;  /* of the bits of operands */
    int64_t toward_zero;
} AlignedSum;

/* Sums that align c after their products (AlignedLate of mpsim/products/aligned.py). */
typedef struct {
    double quantum, sum_quantum;    /* 2**-fraction_bits, 2**-sum_bits */
    double reach;                   /* c counts from so much of the largest power of two on */
    double least_left, least_right; /* the smallest normal numbers of the operands' formats */
    double least_sum;               /* and of that of the sums */
    int64_t sums;                   /* how they are rounded: the index of a SumRounding */
} LateSum;

/* Sums of aligned, truncated products with scales of blocks (AlignedScaled of mpsim/products/aligned.py). */
typedef struct {
    int64_t grouped;                /* the products of a group are added first */
    double quantum;                 /* 2**-fraction_bits */
    double least_left, least_right; /* the smallest normal numbers of the operands' formats */
    double least_sum;               /* and of that of the sums */
    double least;                   /* terms are aligned to this power of two at least */
    double least_scale;             /* the smallest normal number of the scales' format */
    int64_t left_table, right_table, sums;
} ScaledSum;

/* Images (images, channels, area = height * width). */
typedef struct {
    int64_t images, channels, area;
} Batch;

/* A pooling layer: planes = images * channels, input height and width, output rows and columns, the window. */
typedef struct {
    int64_t planes, height, width, rows, columns;
    int64_t kernel[2], stride[2], padding[2];
} Pooling;

/* Copies of `run` adjacent elements: run (i, j, k) is copied from from_start + i * from_step[0] + j * from_step[1] +
 * k * from_step[2] to the position given by `to`. `before` zeros precede it, and `after` zeros follow. */
typedef struct {
    int64_t size[3], from_start, from_step[3], to_start, to_step[3];
    int64_t run, before, after;
} Moving;

#endif
