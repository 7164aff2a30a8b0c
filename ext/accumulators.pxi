# Contractions for every accumulator but NumPy's; mpsim/kernels/compiled/accumulators.py is the door.
from libc.stdint cimport int32_t, int64_t

cdef extern from "accumulators.h":
    struct contraction_tables:
        const float *a
        const float *b
        float *out
        const int64_t *a_group
        const int64_t *a_row
        const int64_t *a_k
        const int64_t *b_group
        const int64_t *b_column
        const int64_t *b_k
        const int64_t *out_group
        const int64_t *out_row
        const int64_t *out_column
        int64_t groups, rows, length, columns
    struct narrow_format:
        int64_t least_exponent, shift, low
        double largest, beyond
        int negative_zero
    int mpsim_accumulate(const contraction_tables *tables, int kind, int64_t chunk, const narrow_format *narrow,
                         int threads) noexcept nogil
    struct aligned_sum:
        int64_t terms
        double quantum, least_input, least_sum, least_scale
        int32_t mask
        int toward_zero
    int mpsim_accumulate_aligned(const contraction_tables *tables, int64_t chunk, const narrow_format *narrow,
                                 const aligned_sum *aligned, int threads) noexcept nogil


cdef contraction_tables _tables(
        const float[::1] a, const int64_t[::1] a_group, const int64_t[::1] a_row, const int64_t[::1] a_k,
        const float[::1] b, const int64_t[::1] b_group, const int64_t[::1] b_column, const int64_t[::1] b_k,
        float[::1] out, const int64_t[::1] out_group, const int64_t[::1] out_row, const int64_t[::1] out_column):
    cdef contraction_tables t
    t.a, t.a_group, t.a_row, t.a_k = &a[0], &a_group[0], &a_row[0], &a_k[0]
    t.b, t.b_group, t.b_column, t.b_k = &b[0], &b_group[0], &b_column[0], &b_k[0]
    t.out, t.out_group, t.out_row, t.out_column = &out[0], &out_group[0], &out_row[0], &out_column[0]
    t.groups, t.rows, t.length, t.columns = a_group.shape[0], a_row.shape[0], a_k.shape[0], b_column.shape[0]
    return t


cdef narrow_format _narrow(tuple numbers):
    cdef narrow_format narrow
    narrow.least_exponent, narrow.shift, narrow.low = numbers[0], numbers[1], numbers[2]
    narrow.largest, narrow.beyond, narrow.negative_zero = numbers[3], numbers[4], numbers[5]
    return narrow


def accumulate(const float[::1] a, const int64_t[::1] a_group, const int64_t[::1] a_row, const int64_t[::1] a_k,
               const float[::1] b, const int64_t[::1] b_group, const int64_t[::1] b_column, const int64_t[::1] b_k,
               float[::1] out, const int64_t[::1] out_group, const int64_t[::1] out_row,
               const int64_t[::1] out_column, int kind, int64_t chunk, tuple numbers, int threads):
    """Every output of a contraction with at least one output and k; kind 0 fused, 1 separate, 2 narrow, 3 exact."""
    cdef contraction_tables t = _tables(a, a_group, a_row, a_k, b, b_group, b_column, b_k,
                                        out, out_group, out_row, out_column)
    cdef narrow_format narrow = _narrow(numbers)
    cdef int failed
    with nogil:
        failed = mpsim_accumulate(&t, kind, chunk, &narrow, threads)
    if failed:
        raise MemoryError("no memory for the sums of a contraction")


def accumulate_aligned(
        const float[::1] a, const int64_t[::1] a_group, const int64_t[::1] a_row, const int64_t[::1] a_k,
        const float[::1] b, const int64_t[::1] b_group, const int64_t[::1] b_column, const int64_t[::1] b_k,
        float[::1] out, const int64_t[::1] out_group, const int64_t[::1] out_row, const int64_t[::1] out_column,
        int64_t chunk, tuple numbers, tuple aligned_numbers, int threads):
    """Every output of a contraction with at least one output and k, in sums of aligned, truncated products."""
    cdef contraction_tables t = _tables(a, a_group, a_row, a_k, b, b_group, b_column, b_k,
                                        out, out_group, out_row, out_column)
    cdef narrow_format narrow = _narrow(numbers)
    cdef aligned_sum aligned
    cdef int failed
    aligned.terms, aligned.quantum = aligned_numbers[0], aligned_numbers[1]
    aligned.least_input, aligned.least_sum = aligned_numbers[2], aligned_numbers[3]
    aligned.least_scale = aligned_numbers[4]
    aligned.mask, aligned.toward_zero = aligned_numbers[5], aligned_numbers[6]
    with nogil:
        failed = mpsim_accumulate_aligned(&t, chunk, &narrow, &aligned, threads)
    if failed:
        raise MemoryError("no memory for the sums of a contraction")
