"""Rounding, codes and random bits with Numba: the doors. The loops over float32 numbers are in float32_rounding.py and
legacy_rounding.py, those over any other in pattern_rounding.py; codes.py makes a code, random_words.py the words.

Blocks of elements are spread over threads. Functions compile at their first call and are cached on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numba import prange

from mpsim.formats import Format
from mpsim.kernels.numba_cpu.codes import decode_pattern, encode_pattern
from mpsim.kernels.numba_cpu.float32_rounding import (
    BY_CHANCE,
    BY_SUM,
    DIRECTED,
    NEAREST,
    kind_of,
    round_by_chance,
    round_by_sum,
    round_directed,
    round_nearest,
)
from mpsim.kernels.numba_cpu.jit import at_most, empty, njit
from mpsim.kernels.numba_cpu.legacy_rounding import round_like_qpytorch
from mpsim.kernels.numba_cpu.pattern_rounding import round_patterns
from mpsim.kernels.numba_cpu.random_words import NO_BITS, NO_STREAM, fill_from, numbers_of, words_of_block
from mpsim.kernels.parameters import WIDE, CodeLayout, Parameters, code_layout, parameters
from mpsim.kernels.philox import Stream
from mpsim.kernels.reference.rounding import stack_counts
from mpsim.policies import Policy

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
    out = empty(x.shape, x.dtype) if out is None else out
    bits, stream = NO_BITS, NO_STREAM
    if policy.mode.needs_random_bits:
        if isinstance(random_bits, Stream):
            stream = numbers_of(random_bits)
        elif random_bits is not None:
            bits = random_bits.reshape(-1)
    round, numbers = _rounder(format, policy, x.dtype)
    pattern = np.int64 if x.itemsize == 8 else np.int32
    with at_most(threads):
        return out, round(x.reshape(-1).view(pattern), out.reshape(-1).view(pattern), bits, stream, numbers)


@lru_cache(maxsize=1024)
def _rounder(format: Format, policy: Policy, source: np.dtype) -> tuple[Callable[..., Array], Parameters]:
    """The loop that serves, and its numbers: 32-bit ones where every number of the loop has 32 bits."""
    numbers = parameters(format, policy, source.name)
    if numbers.path == WIDE:
        return _round, parameters(format, policy, source.name, own_patterns=True)
    narrow = Parameters(*(np.int32(number) for number in numbers))  # type: ignore[arg-type]
    return partial(_round_narrow, kind_of(policy.mode, numbers)), narrow


@njit(cache=True, parallel=True)
def _round_narrow(kind: int, x: Array, out: Array, bits: Array, stream: Array, p: Parameters) -> Array:
    """x, out and parameters: int32. Gives the five counts."""
    blocks = (x.size + BLOCK - 1) // BLOCK
    counts = np.zeros((blocks, 5), np.int64)
    for block in prange(blocks):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.size)
        random = words_of_block(bits, stream, start, stop)
        patterns = _moved(x[start:stop], out[start:stop])
        if kind == NEAREST:
            counts[block] = round_nearest(patterns, random, p)
        elif kind == DIRECTED:
            counts[block] = round_directed(patterns, random, p)
        elif kind == BY_CHANCE:
            counts[block] = round_by_chance(patterns, random, p)
        elif kind == BY_SUM:
            counts[block] = round_by_sum(patterns, random, p)
        else:
            counts[block] = round_like_qpytorch(patterns, random, p)
    return counts.sum(axis=0)


@njit(cache=True)
def _moved(source: Array, target: Array) -> Array:
    """The target, with the source's elements; the two may be one."""
    if source.ctypes.data != target.ctypes.data:
        for i in range(source.size):
            target[i] = source[i]
    return target


@njit(cache=True, parallel=True)
def _round(x: Array, out: Array, bits: Array, stream: Array, p: Parameters) -> Array:
    """Any format, x and out: int32 or int64 patterns."""
    blocks = (x.size + BLOCK - 1) // BLOCK
    width = 52 if x.itemsize == 8 else 23
    counts = np.zeros((blocks, 5), np.int64)
    for block in prange(blocks):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.size)
        patterns = x[start:stop].astype(np.int64)
        counts[block] = round_patterns(patterns, words_of_block(bits, stream, start, stop), width, p)
        out[start:stop] = patterns
    return counts.sum(axis=0)


def random_bits(stream: Stream, size: int, first: int = 0, *, threads: int = 1) -> Array:
    """Elements first .. first + size - 1 of the stream, uint32."""
    bits = empty(size, np.uint32)
    with at_most(threads):
        fill_from(numbers_of(stream), first, bits)
    return bits


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
