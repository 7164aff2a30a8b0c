"""Rounding, codes and random bits with Numba; pattern_rounding.py rounds a block, codes.py makes a code.

Blocks of elements are spread over threads. Functions compile at their first call and are cached on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit, prange

from mpsim.formats import Format
from mpsim.kernels.numba_cpu.codes import decode_pattern, encode_pattern
from mpsim.kernels.numba_cpu.pattern_rounding import round_patterns
from mpsim.kernels.numba_cpu.threads import at_most
from mpsim.kernels.parameters import LEGACY, CodeLayout, Parameters, code_layout, parameters
from mpsim.kernels.philox import KEY_STEPS, MULTIPLIERS, ROUNDS, Stream
from mpsim.kernels.reference.rounding import stack_counts
from mpsim.policies import Mode, Policy

__all__ = [
    "all_finite",
    "canonical_nan",
    "decode_array",
    "encode_array",
    "from_numpy",
    "random_bits",
    "round_array",
    "stack_counts",
    "to_numpy",
    "zeros",
]

Array = np.ndarray[Any, Any]

BLOCK = 4096  # elements that a thread takes at a time; a multiple of 4
QPYTORCH_STOCHASTIC = Mode.QPYTORCH_STOCHASTIC.number
NO_BITS = np.empty(0, np.uint32)
NO_STREAM = np.empty(0, np.uint64)
MULTIPLIER0, MULTIPLIER1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
KEY_STEP0, KEY_STEP1 = np.uint64(KEY_STEPS[0]), np.uint64(KEY_STEPS[1])
WORD, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
FOUR = np.uint64(4)


def round_array(
    x: Array,
    format: Format,
    policy: Policy,
    random_bits: Array | Stream | None = None,
    out: Array | None = None,
    *,
    threads: int = 1,
) -> tuple[Array, Array]:
    """x rounded once to the format, into ``out`` (may be x), and the five counts; see contract.py."""
    out = np.empty_like(x) if out is None else out
    bits, stream = NO_BITS, NO_STREAM
    if policy.mode.needs_random_bits:
        if isinstance(random_bits, Stream):
            stream = _stream_words(random_bits)
        elif random_bits is not None:
            bits = random_bits.reshape(-1)
    numbers = parameters(format, policy, x.dtype.name, own_patterns=True)
    source, target = x.reshape(-1), out.reshape(-1)
    with at_most(threads):
        if numbers.path == LEGACY:
            return out, _round_like_qpytorch(source, target, bits, stream, numbers)
        pattern = f"int{8 * x.itemsize}"
        return out, _round(source.view(pattern), target.view(pattern), bits, stream, numbers)


def _stream_words(stream: Stream) -> Array:
    return np.array([*stream.key, *stream.words], np.uint64)


@njit(cache=True, parallel=True)
def _round(x: Array, out: Array, bits: Array, stream: Array, p: Parameters) -> Array:
    """x, out: int32 or int64 patterns."""
    blocks = (x.size + BLOCK - 1) // BLOCK
    width = 52 if x.itemsize == 8 else 23
    counts = np.zeros((blocks, 5), np.int64)
    for block in prange(blocks):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.size)
        patterns = x[start:stop].astype(np.int64)
        counts[block] = round_patterns(patterns, _random_block(bits, stream, start, stop), width, p)
        out[start:stop] = patterns
    return counts.sum(axis=0)


@njit(cache=True, parallel=True)
def _round_like_qpytorch(x: Array, out: Array, bits: Array, stream: Array, p: Parameters) -> Array:
    """QPyTorch's float32 algorithm, defects included: spec.round_like_qpytorch."""
    blocks = (x.size + BLOCK - 1) // BLOCK
    counts = np.zeros((blocks, 5), np.int64)
    dropped = 23 - p.mantissa_bits
    half = (1 << dropped) >> 1
    magnitude, infinite = 0x7FFFFFFF, 0x7F800000
    up, down = np.float32(2.0**p.scale_exponent), np.float32(2.0**-p.scale_exponent)
    smallest_normal = np.full(1, p.scaled_smallest_normal, np.int32).view(np.float32)[0]
    for block in prange(blocks):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.size)
        random = _random_block(bits, stream, start, stop)
        source = x[start:stop].copy()
        scaled = source * up
        offset = np.empty_like(scaled)
        low = np.abs(scaled) < smallest_normal
        for i in range(stop - start):
            offset[i] = np.copysign(smallest_normal, scaled[i]) if low[i] else np.float32(0)
            if low[i]:
                scaled[i] += offset[i]
        patterns = scaled.view(np.int32)
        for i in range(stop - start):
            drawn = random[i] & ((1 << dropped) - 1)
            added = drawn if p.mode == QPYTORCH_STOCHASTIC else half
            sign, size = int(patterns[i]) & ~magnitude, int(patterns[i]) & magnitude
            size = (size + added) >> dropped << dropped
            if size >= p.scaled_limit and not low[i]:
                size = p.scaled_largest
            patterns[i] = np.int32(sign | (size & magnitude))
        before, after = source.view(np.int32), patterns
        overflowed = underflowed = nan = inexact = subnormal = 0
        for i in range(stop - start):
            if low[i]:
                scaled[i] -= offset[i]
            scaled[i] *= down
            a = before[i] & magnitude
            if a > infinite:
                scaled[i] = np.float32(-0.0)
            r = after[i] & magnitude
            overflowed += a >= p.overflow_from
            underflowed += a != 0 and a <= p.underflow_to
            nan += a > infinite
            inexact += a <= infinite and r != a
            subnormal += r != 0 and r < p.smallest_normal
            out[start + i] = scaled[i]
        counts[block] = (overflowed, underflowed, nan, inexact, subnormal)
    return counts.sum(axis=0)


# -- random bits --------------------------------------------------------------------------------------------


def random_bits(stream: Stream, size: int, first: int = 0, *, threads: int = 1) -> Array:
    """Elements first .. first + size - 1 of the stream, uint32."""
    bits = np.empty(size, np.uint32)
    with at_most(threads):
        _random_bits(_stream_words(stream), first, bits)
    return bits


@njit(cache=True)
def _philox(counter: int, stream: Array) -> tuple[np.uint64, ...]:
    """The four words of a counter; stream: key and upper counter words, uint64."""
    k0, k1 = stream[0], stream[1]
    c0, c1, c2, c3 = np.uint64(counter) & WORD, stream[2], stream[3], stream[4]
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIER0, c2 * MULTIPLIER1
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & WORD, (p0 >> HALF) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + KEY_STEP0) & WORD, (k1 + KEY_STEP1) & WORD
    return c0, c1, c2, c3


@njit(cache=True)
def _random_block(bits: Array, stream: Array, start: int, stop: int) -> Array:
    """int64 random bits of elements start .. stop - 1: those given, or the stream's, or zeros; start % 4 == 0."""
    if bits.size > 0:
        return bits[start:stop].astype(np.int64)
    chosen = np.zeros(BLOCK, np.int64)
    if stream.size > 0:
        for group in range((stop - start + 3) // 4):
            c0, c1, c2, c3 = _philox(start // 4 + group, stream)
            chosen[4 * group] = c0
            chosen[4 * group + 1] = c1
            chosen[4 * group + 2] = c2
            chosen[4 * group + 3] = c3
    return chosen


@njit(cache=True, parallel=True)
def _random_bits(stream: Array, first: int, bits: Array) -> None:
    blocks = (bits.size + BLOCK - 1) // BLOCK
    for block in prange(blocks):
        for i in range(block * BLOCK, min((block + 1) * BLOCK, bits.size)):
            word = first + i
            if i == block * BLOCK or word % 4 == 0:
                words = _philox(word // 4, stream)
            bits[i] = words[word % 4]


# -- codes --------------------------------------------------------------------------------------------------


def encode_array(x: Array, format: Format, *, threads: int = 1) -> Array:
    """Codes of the values of the format in x, in the smallest unsigned integers that hold them."""
    codes = np.empty(x.shape, f"uint{format.code_bits}")
    with at_most(threads):
        _encode(x.reshape(-1), codes.reshape(-1), code_layout(format))
    return codes


def decode_array(codes: Array, format: Format, dtype: type | np.dtype, *, threads: int = 1) -> Array:
    """The values of the codes, exactly, as float32 or float64."""
    out = np.empty(codes.shape, dtype)
    with at_most(threads):
        _decode(codes.reshape(-1).astype(np.int64), out.reshape(-1), code_layout(format))
    return out


@njit(cache=True, parallel=True)
def _encode(x: Array, codes: Array, layout: CodeLayout) -> None:
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.size)
        patterns = x[start:stop].astype(np.float64).view(np.int64)
        for i in range(start, stop):
            codes[i] = encode_pattern(patterns[i - start], layout)


@njit(cache=True, parallel=True)
def _decode(codes: Array, out: Array, layout: CodeLayout) -> None:
    for block in prange((codes.size + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, codes.size)
        wide = np.empty(stop - start, np.float64)
        patterns = wide.view(np.int64)
        for i in range(start, stop):
            patterns[i - start] = decode_pattern(codes[i], layout)
            out[i] = wide[i - start]


# -- the rest -----------------------------------------------------------------------------------------------


def from_numpy(array: Array, *, threads: int = 1) -> Array:
    """The array itself if it is contiguous, else a contiguous copy."""
    return np.ascontiguousarray(array)


def to_numpy(array: Array, *, threads: int = 1) -> Array:
    """The array itself."""
    return array


def zeros(shape: int | Sequence[int], *, threads: int = 1) -> Array:
    """float32 array of +0."""
    return np.zeros(shape, np.float32)


def canonical_nan(x: Array, *, threads: int = 1) -> Array:
    """x, float32 or float64, with every NaN made quiet and without payload, its sign kept, in place."""
    with at_most(threads):
        _canonical_nan(x.reshape(-1), x.dtype.type(np.nan))
    return x


@njit(cache=True, parallel=True)
def _canonical_nan(x: Array, nan: float) -> None:
    for i in prange(x.size):
        if x[i] != x[i]:
            x[i] = np.copysign(nan, x[i])


def all_finite(*arrays: Array, threads: int = 1) -> bool:
    """Whether no number of the arrays is infinite or NaN."""
    with at_most(threads):
        return all(_count_infinite(x.reshape(-1).view(np.uint32)) == 0 for x in arrays)


@njit(cache=True, parallel=True)
def _count_infinite(patterns: Array) -> int:
    count = 0
    for i in prange(patterns.size):
        count += patterns[i] & np.uint32(0x7FFFFFFF) >= np.uint32(0x7F800000)
    return count
