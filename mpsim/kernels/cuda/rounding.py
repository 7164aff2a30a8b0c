"""Rounding whole arrays, with counts; patterns.py rounds one pattern.

A thread counts what it rounds, a block adds its threads' counts in shared memory, and each block adds five integers to
the result, so that the counts are exact and no second pass over the array is made. A kernel is compiled for a mode
and a source of random bits; the numbers of the format are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import cuda, typeof, uint32

from mpsim.formats import FORMATS, Format
from mpsim.kernels.cuda.arrays import cleared, empty, to_numpy
from mpsim.kernels.cuda.launch import FAMILIES, Kernel, device_function, kernel
from mpsim.kernels.cuda.patterns import (
    INFINITE,
    MAGNITUDE,
    narrow_numbers,
    narrow_rounder,
    numbers_of_mode,
    round_like_qpytorch,
    wide_rounder,
)
from mpsim.kernels.cuda.philox import STREAM, philox, stream_words
from mpsim.kernels.parameters import LEGACY, Parameters, parameters
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Policy

Array = Any

#: Where random bits come from: nowhere, an array, a stream.
NONE, ARRAY, PHILOX = range(3)
NO_STREAM = NO_COUNTS = (np.uint32(0),) * 5
ONE, FOUR = np.uint64(1), np.uint64(4)


def round_array(
    x: Array,
    format: Format,
    policy: Policy,
    random_bits: Array | Stream | None = None,
    out: Array | None = None,
    *,
    threads: int = 1,
) -> tuple[Array, Array]:
    """x rounded once to the format, into ``out`` (may be x), and the five counts, an int64 array on the device."""
    out = empty(x.shape, x.dtype) if out is None else out
    counts = cleared(empty(5, np.int64))
    if x.size == 0:
        return out, counts
    stream: tuple[np.uint32, ...] = NO_STREAM
    source, bits = NONE, None
    if policy.mode.needs_random_bits and isinstance(random_bits, Stream):
        source, stream = PHILOX, stream_words(random_bits)
    elif policy.mode.needs_random_bits and random_bits is not None:
        source, bits = ARRAY, random_bits.reshape(-1)  # type: ignore[union-attr]
    narrow = narrow_numbers(format, policy) if x.dtype == np.float32 else None
    p = parameters(format, policy, x.dtype.name, own_patterns=True)
    pattern = np.int64 if x.dtype == np.float64 else np.uint32
    patterns, target = x.reshape(-1).view(pattern), out.reshape(-1).view(pattern)
    bits = patterns.view(np.uint32) if bits is None else bits
    numbers: tuple[Any, ...]
    if p.path == LEGACY:
        kernel, numbers = legacy_kernel(source), (p,)
    elif narrow is not None:
        kernel, numbers = narrow_kernel(p.mode, source), numbers_of_mode(p.mode, narrow, p, quantum_pattern(p, 23))
    else:
        width = 52 if x.dtype == np.float64 else 23
        kernel, numbers = wide_kernel(width, source), (p, quantum_pattern(p, width))
    kernel.over(-(-x.size // 4))(patterns, target, bits, stream, numbers, counts)
    return out, counts


def stack_counts(counts: Sequence[Array], *, threads: int = 1) -> np.ndarray:
    """Counts of several calls of ``round_array``, one row each: int64 (n, 5); the device is waited for once."""
    rows = empty((len(counts), 5), np.int64)
    for place, row in enumerate(counts):
        put_counts.over(5)(row, place, rows)
    return to_numpy(rows)


@kernel("int64[::1], int64, int64[:, ::1]")
def put_counts(row, place, rows):  # type: ignore[no-untyped-def]
    for j in range(cuda.grid(1), 5, cuda.gridsize(1)):
        rows[place, j] = row[j]


def quantum_pattern(p: Parameters, width: int) -> int:
    """The pattern of the quantum of the grid below the smallest normal number; 0 where the source has none so small."""
    bias = 1075 if width == 52 else 150
    exponent = p.low_quantum + bias - width
    return exponent << width if exponent > 0 else 1 << max(p.low_quantum + bias - 1, 0)


# -- what the kernels share ---------------------------------------------------------------------------------


@device_function
def random_words(source, bits, stream, i, i1, i2, i3, size):  # type: ignore[no-untyped-def]
    """Random bits of four elements: of a stream, from i on; of an array, those inside; or zeros."""
    if source == PHILOX:
        return philox(i // FOUR, stream)
    if source == ARRAY:
        first = bits[i]
        return (
            first,
            bits[i1] if i1 < size else first,
            bits[i2] if i2 < size else first,
            bits[i3] if i3 < size else first,
        )
    zero = np.uint32(0)
    return zero, zero, zero, zero


@device_function
def counted(tally, a, r, numbers, infinite):  # type: ignore[no-untyped-def]
    """The five counts with one more magnitude ``a`` that became ``r``."""
    overflowed, underflowed, nan, inexact, subnormal = tally
    return (
        np.uint32(overflowed + (a >= numbers.overflow_from)),
        np.uint32(underflowed + (a != 0 and a <= numbers.underflow_to)),
        np.uint32(nan + (a > infinite)),
        np.uint32(inexact + (a <= infinite and r != a)),
        np.uint32(subnormal + (r != 0 and r < numbers.smallest_normal)),
    )


@device_function
def add_counts(shared, counts, tally):  # type: ignore[no-untyped-def]
    """Adds the counts of the block's threads to the result; ``shared``: five uint32 of the block, not set."""
    thread = cuda.threadIdx.x
    if thread == 0:
        for j in range(5):
            shared[j] = 0
    cuda.syncthreads()
    for j in range(5):
        cuda.atomic.add(shared, j, tally[j])
    cuda.syncthreads()
    if thread == 0:
        for j in range(5):
            if shared[j] > 0:
                cuda.atomic.add(counts, j, np.int64(shared[j]))


# -- the kernels --------------------------------------------------------------------------------------------


def rounding_kernel(name: str, source: int, width: int, round_pattern: Any, types: tuple[Any, ...]) -> Kernel:
    """A kernel that rounds patterns of ``width`` fraction bits with ``round_pattern(pattern, random, numbers)``.

    A thread loads four patterns before it rounds the first, so that it waits for the memory once. They lie a grid
    apart, so that a warp's loads and stores are whole lines; with a stream they are the four of a counter.
    """
    number = np.int64 if name == "wide" else np.uint32
    magnitude = {"wide": np.int64((1 << width + 11 if width == 52 else 1 << 31) - 1)}.get(name, MAGNITUDE)
    infinite = {"wide": np.int64(0x7FF << 52 if width == 52 else 0xFF << 23)}.get(name, INFINITE)
    streamed = source == PHILOX

    def round_patterns(x, out, bits, stream, numbers, counts):  # type: ignore[no-untyped-def]
        shared = cuda.shared.array(5, uint32)
        tally = NO_COUNTS
        size, threads, thread = np.uint64(x.size), np.uint64(cuda.gridsize(1)), np.uint64(cuda.grid(1))
        apart = ONE if streamed else threads
        i = FOUR * thread if streamed else thread
        while i < size:
            i1, i2, i3 = i + apart, i + apart + apart, i + apart + apart + apart
            first = number(x[i])
            patterns = (
                first,
                number(x[i1]) if i1 < size else first,
                number(x[i2]) if i2 < size else first,
                number(x[i3]) if i3 < size else first,
            )
            chosen = random_words(source, bits, stream, i, i1, i2, i3, size)
            for j in range(4):
                place = i + np.uint64(j) * apart
                if place < size:
                    result = round_pattern(patterns[j], chosen[j], numbers)
                    out[place] = result
                    tally = counted(tally, patterns[j] & magnitude, number(result) & magnitude, numbers[0], infinite)
            i += FOUR * threads
        add_counts(shared, counts, tally)

    pattern = "int64[::1]" if width == 52 else "uint32[::1]"
    arguments = (f"{pattern}, {pattern}, uint32[::1], {STREAM}", types, "int64[::1]")
    return Kernel(round_patterns, (arguments,), f"round[{name}{width}, {source}]")


@cache
def narrow_kernel(mode: int, source: int) -> Kernel:
    """For float32 and the formats of ``narrow_numbers``."""
    n, p = narrow_numbers(FORMATS["float8_e4m3fn"], Policy()), parameters(FORMATS["float32"], Policy(), "float32")
    assert n is not None
    numbers = typeof(numbers_of_mode(mode, n, p, 0))
    return rounding_kernel(list(Mode)[mode].value, source, 23, narrow_rounder(mode), numbers)


@cache
def wide_kernel(width: int, source: int) -> Kernel:
    """For every format and mode but the legacy ones."""
    numbers = typeof((parameters(FORMATS["float32"], Policy(), "float32"), 0))
    return rounding_kernel("wide", source, width, wide_rounder(width), numbers)


@cache
def legacy_kernel(source: int) -> Kernel:
    """For the legacy modes."""
    numbers = typeof((parameters(FORMATS["float32"], Policy(), "float32"),))
    return rounding_kernel("legacy", source, 23, round_like_qpytorch, numbers)


def rounding_kernels() -> Iterator[Kernel]:
    """Every kernel of this file."""
    for mode in list(Mode)[: Mode.STOCHASTIC.number]:
        yield narrow_kernel(mode.number, NONE)
    for source in (NONE, ARRAY, PHILOX):
        yield narrow_kernel(Mode.STOCHASTIC.number, source)
        yield wide_kernel(23, source)
        yield wide_kernel(52, source)
        yield legacy_kernel(source)


FAMILIES.append(rounding_kernels)
