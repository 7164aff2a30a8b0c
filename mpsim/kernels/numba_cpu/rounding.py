"""Rounds arrays, draws random bits and checks for finite numbers. Blocks of elements are distributed over threads.

The loops over a block are in pattern_rounding.py; codes.py has the codes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from numba import prange
from numpy import int32

from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.kernels.numba_cpu.jit import at_most, empty, njit
from mpsim.kernels.numba_cpu.pattern_rounding import (
    BY_CHANCE,
    BY_SUM,
    DIRECTED,
    INFINITE,
    MAGNITUDE,
    NEAREST,
    count,
    kind_of,
    round_by_chance,
    round_by_sum,
    round_directed,
    round_like_qpytorch,
    round_nearest,
    round_patterns,
)
from mpsim.kernels.parameters import WIDE, Parameters, parameters
from mpsim.kernels.philox import KEY_STEPS, MULTIPLIERS, ROUNDS, Stream, within_a_stream
from mpsim.kernels.reference.rounding import from_numpy, stack_counts, to_numpy, zeros
from mpsim.policies import Policy

__all__ = [
    "all_finite", "canonical_nan", "from_numpy", "random_bits", "round_array", "stack_counts", "to_numpy", "zeros",
]  # fmt: skip


BLOCK = 4096  # elements that a thread takes at a time; a multiple of 4
MULTIPLIER0, MULTIPLIER1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
KEY_STEP0, KEY_STEP1 = np.uint64(KEY_STEPS[0]), np.uint64(KEY_STEPS[1])
WORD, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
NO_BITS, NO_STREAM = np.empty(0, np.uint32), np.empty(0, np.uint64)


def round_array(
    x: Array,
    format: Format,
    policy: Policy,
    random_bits: Array | Stream | None = None,
    out: Array | None = None,
    *,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Rounds x once to the format, into ``out`` (which may be x), and returns the five counts (see contract.py)."""
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
    """Returns the loop to use and its numbers, which have 32 bits if every number of the loop has 32 bits."""
    numbers = parameters(format, policy, source.name)
    if numbers.path == WIDE:
        return _round, parameters(format, policy, source.name, own_patterns=True)
    narrow = Parameters(*(int32(number) for number in numbers))  # type: ignore[arg-type]
    return partial(_round_narrow, kind_of(policy.mode, numbers)), narrow


@njit(cache=True, parallel=True)
def _round_narrow(kind: int, x: Array, out: Array, bits: Array, stream: Array, p: Parameters) -> Array:
    """Rounds with x, out and parameters in int32, and returns the five counts."""
    blocks = (x.size + BLOCK - 1) // BLOCK
    counts = np.zeros((blocks, 5), np.int64)
    for block in prange(blocks):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.size)
        random = words_of_block(bits, stream, start, stop)
        before, after = x[start:stop].copy(), out[start:stop]
        if kind == NEAREST:
            round_nearest(before, after, random, p)
        elif kind == DIRECTED:
            round_directed(before, after, random, p)
        elif kind == BY_CHANCE:
            round_by_chance(before, after, random, p)
        elif kind == BY_SUM:
            round_by_sum(before, after, random, p)
        else:
            round_like_qpytorch(before, after, random, p)
        counts[block] = count(before, after, MAGNITUDE, INFINITE, p)
    return counts.sum(axis=0)


@njit(cache=True, parallel=True)
def _round(x: Array, out: Array, bits: Array, stream: Array, p: Parameters) -> Array:
    """Rounds to every format, with x and out as int32 or int64 patterns."""
    blocks = (x.size + BLOCK - 1) // BLOCK
    width, infinite = (52, 0x7FF << 52) if x.itemsize == 8 else (23, 0xFF << 23)
    counts = np.zeros((blocks, 5), np.int64)
    for block in prange(blocks):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.size)
        before, after = x[start:stop].astype(np.int64), np.empty(stop - start, np.int64)
        round_patterns(before, after, words_of_block(bits, stream, start, stop), width, p)
        counts[block] = count(before, after, infinite | (1 << width) - 1, infinite, p)
        out[start:stop] = after
    return counts.sum(axis=0)


def canonical_nan(x: Array, *, threads: int = 1) -> Array:
    """Makes every NaN of x (float32 or float64) quiet and removes its payload, in place. It keeps the sign."""
    with at_most(threads):
        _canonical_nan(x.reshape(-1), x.dtype.type(np.nan))
    return x


@njit(cache=True, parallel=True)
def _canonical_nan(x: Array, nan: float) -> None:
    for i in prange(x.size):
        if x[i] != x[i]:
            x[i] = np.copysign(nan, x[i])


def all_finite(*arrays: Array, threads: int = 1) -> bool:
    """Returns whether no number of the arrays is infinite or NaN."""
    with at_most(threads):
        return all(_count_infinite(x.reshape(-1).view(np.uint32)) == 0 for x in arrays)


@njit(cache=True, parallel=True)
def _count_infinite(patterns: Array) -> int:
    count = 0
    for i in prange(patterns.size):
        count += patterns[i] & np.uint32(0x7FFFFFFF) >= np.uint32(0x7F800000)
    return count


# -- the words of a Philox stream (mpsim/kernels/philox.py) -------------------------------------------------


def random_bits(stream: Stream, size: int, first: int = 0, *, threads: int = 1) -> Array:
    """Returns elements first .. first + size - 1 of the stream, uint32."""
    size, first = within_a_stream(size, first)
    bits = empty(size, np.uint32)
    with at_most(threads):
        fill_from(numbers_of(stream), first, bits)
    return bits


def numbers_of(stream: Stream) -> Array:
    """Returns the key and the upper words of the counter, uint64 (5,)."""
    return np.array([*stream.key, *stream.words], np.uint64)


@njit(cache=True)
def fill(stream: Array, first: int, words: Array) -> None:
    """Computes the words of the counters first, first + 1, .... words.size is a multiple of 4.

    A word is stored in 64 bits, so that products need no high halves and the loop becomes vector code.
    """
    key0, key1, step, tensor, purpose = stream[0], stream[1], stream[2], stream[3], stream[4]
    for i in range(words.size // 4):
        k0, k1 = key0, key1
        c0, c1, c2, c3 = np.uint64(first + i) & WORD, step, tensor, purpose
        for _ in range(ROUNDS):
            p0, p1 = c0 * MULTIPLIER0, c2 * MULTIPLIER1
            c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & WORD, (p0 >> HALF) ^ c3 ^ k1, p0 & WORD
            k0, k1 = (k0 + KEY_STEP0) & WORD, (k1 + KEY_STEP1) & WORD
        words[4 * i] = c0
        words[4 * i + 1] = c1
        words[4 * i + 2] = c2
        words[4 * i + 3] = c3


@njit(cache=True)
def words_of_block(bits: Array, stream: Array, start: int, stop: int) -> Array:
    """Returns uint32 words of elements start .. stop - 1: those passed, the stream's, or any. start % 4 == 0."""
    if bits.size > 0:
        return bits[start:stop]
    words = np.empty((stop - start + 3) // 4 * 4, np.uint32)
    if stream.size > 0:
        fill(stream, start // 4, words)
    return words


@njit(cache=True, parallel=True)
def fill_from(stream: Array, first: int, bits: Array) -> None:
    """Fills an array with elements first, first + 1, ... of the stream."""
    lead = first % 4
    for block in prange((lead + bits.size + BLOCK - 1) // BLOCK):
        words = np.empty(BLOCK, np.uint32)
        fill(stream, first // 4 + block * (BLOCK // 4), words)
        start = max(block * BLOCK - lead, 0)  # of the block's part of the bits
        stop = min((block + 1) * BLOCK - lead, bits.size)
        bits[start:stop] = words[start + lead - block * BLOCK : stop + lead - block * BLOCK]
