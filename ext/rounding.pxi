from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "rounding.h":
    ctypedef struct RoundingParameters:
        pass
    ctypedef struct RoundingCounts:
        pass
    ctypedef struct CodeLayout:
        pass
    ctypedef struct RandomStream:
        uint32_t key[2]
        uint32_t words[3]
    void mpsim_round_float32(const float *x, float *out, size_t size, const uint32_t *random, const RandomStream *stream,
                             const RoundingParameters *parameters, RoundingCounts *counts, int threads) noexcept nogil
    void mpsim_round_float64(const double *x, double *out, size_t size, const uint32_t *random,
                             const RandomStream *stream, const RoundingParameters *parameters, RoundingCounts *counts,
                             int threads) noexcept nogil
    void mpsim_random_bits(const RandomStream *stream, uint64_t first, uint32_t *bits, size_t size,
                           int threads) noexcept nogil
    void mpsim_canonical_nan(float *x, size_t size, int threads) noexcept nogil
    void mpsim_canonical_nan_float64(double *x, size_t size, int threads) noexcept nogil
    int mpsim_all_finite(const float *x, size_t size, int threads) noexcept nogil
    uint64_t mpsim_encode(double x, const CodeLayout *layout) noexcept nogil
    double mpsim_decode(uint64_t code, const CodeLayout *layout) noexcept nogil

ctypedef fused Real:
    float
    double

ctypedef fused Code:
    uint8_t
    uint16_t
    uint32_t
    uint64_t


cdef RandomStream random_stream(key, words):
    cdef RandomStream stream
    stream.key[0], stream.key[1] = key
    stream.words[0], stream.words[1], stream.words[2] = words
    return stream


def round_array(const Real[::1] x, Real[::1] out, const int64_t[::1] parameters, int64_t[::1] counts,
                const uint32_t[::1] random, key, words, int threads):
    """x to out; parameters and counts laid out as in ext/rounding.h; random bits given, or of a stream, or None."""
    cdef RandomStream stream
    cdef const RandomStream *stream_or_null = NULL
    cdef const uint32_t *random_or_null = NULL
    cdef size_t size = x.shape[0]
    if size == 0:
        counts[:] = 0
        return
    if key is not None:
        stream = random_stream(key, words)
        stream_or_null = &stream
    elif random is not None:
        random_or_null = &random[0]
    with nogil:
        if Real is float:
            mpsim_round_float32(&x[0], &out[0], size, random_or_null, stream_or_null,
                                <const RoundingParameters *>&parameters[0], <RoundingCounts *>&counts[0], threads)
        else:
            mpsim_round_float64(&x[0], &out[0], size, random_or_null, stream_or_null,
                                <const RoundingParameters *>&parameters[0], <RoundingCounts *>&counts[0], threads)


def encode_array(const Real[::1] x, Code[::1] codes, const int64_t[::1] layout, int threads):
    """Codes of representable numbers; layout as CodeLayout of ext/rounding.h."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            codes[i] = <Code>mpsim_encode(x[i], <const CodeLayout *>&layout[0])


def decode_array(const Code[::1] codes, Real[::1] out, const int64_t[::1] layout, int threads):
    """Numbers of codes; layout as CodeLayout of ext/rounding.h."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(codes.shape[0]):
            out[i] = <Real>mpsim_decode(codes[i], <const CodeLayout *>&layout[0])


def random_bits(key, words, uint64_t first, uint32_t[::1] bits, int threads):
    """Words first, first + 1, ... of the Philox stream with this key and these upper counter words."""
    cdef RandomStream stream = random_stream(key, words)
    if bits.shape[0]:
        with nogil:
            mpsim_random_bits(&stream, first, &bits[0], bits.shape[0], threads)


def canonical_nan(Real[::1] x, int threads):
    """Every NaN becomes quiet, without payload, its sign kept, in place."""
    if x.shape[0]:
        with nogil:
            if Real is float:
                mpsim_canonical_nan(&x[0], x.shape[0], threads)
            else:
                mpsim_canonical_nan_float64(&x[0], x.shape[0], threads)


def all_finite(const float[::1] x, int threads):
    """Whether no number is infinite or NaN."""
    cdef int finite = 1
    if x.shape[0]:
        with nogil:
            finite = mpsim_all_finite(&x[0], x.shape[0], threads)
    return bool(finite)
