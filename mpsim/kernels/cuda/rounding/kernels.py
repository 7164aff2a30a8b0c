"""Rounds arrays, with counts. narrow.py and wide.py round one pattern.

A thread counts what it rounds, a block adds the counts of its threads in shared memory, and each block adds five
integers to the result. The counts are therefore exact and need no second pass over the array. Each mode and source of
random bits has its own compiled kernel. The format's numbers are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numba import cuda, typeof, uint32

from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels.cuda.device.arrays import INT64, UINT32, Array, flattened, like
from mpsim.kernels.cuda.device.intrinsics import shift_right
from mpsim.kernels.cuda.device.launch import Kernel, device_function, family
from mpsim.kernels.cuda.rounding.counts import NONE_YET, new_row
from mpsim.kernels.cuda.rounding.narrow import narrow_paths, narrow_rounder, round_like_qpytorch
from mpsim.kernels.cuda.rounding.numbers import legacy_numbers, narrow_numbers, numbers_of_mode, quantum_pattern
from mpsim.kernels.cuda.rounding.philox import NO_STREAM, STREAM, philox, stream_words
from mpsim.kernels.cuda.rounding.wide import Paths, wide_paths
from mpsim.kernels.parameters import LEGACY, parameters
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy

#: Sources of random bits: none, an array, a stream.
NONE, ARRAY, PHILOX = range(3)
#: Registers per thread of the kernels without random bits. With 32 all threads of a multiprocessor are resident.
REGISTERS = 32
QPYTORCH = as_format("fp_4_3_4")
ONE, FOUR = np.uint64(1), np.uint64(4)
NO32, ONE32, TWO32, FOUR32, EIGHT32 = (np.uint32(n) for n in (0, 1, 2, 4, 8))


def round_array(
    x: Array,
    format: Format,
    policy: Policy,
    random_bits: Array | Stream | None = None,
    out: Array | None = None,
    *,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Rounds x once to the format. Returns ``out`` (may be x) and the five counts, an int64 array on the device."""
    out, counts = like(x, out), new_row()
    if x.size == 0:
        return out, counts
    source, bits, stream = NONE, x, NO_STREAM
    if policy.mode.needs_random_bits:
        if isinstance(random_bits, Stream):
            source, stream = PHILOX, stream_words(random_bits)
        elif random_bits is not None:
            source, bits = ARRAY, random_bits
    kernel, numbers = kernel_for(format, policy, x.dtype == np.float64, source)
    pattern = INT64 if x.dtype == np.float64 else UINT32
    arrays = flattened(x, pattern), flattened(out, pattern), flattened(bits, UINT32)
    kernel.over(-(-x.size // 4))(*arrays, stream, numbers, counts)
    return out, counts


def kernel_for(format: Format, policy: Policy, wide: bool, source: int) -> tuple[Kernel, tuple[object, ...]]:
    """Returns the kernel that rounds float32 or (``wide``) float64 arrays, and its numeric arguments."""
    p = parameters(format, policy, "float64" if wide else "float32", own_patterns=True)
    if p.path == LEGACY:
        return legacy_kernel(p.mode, source), legacy_numbers(format, policy)
    narrow = None if wide else narrow_numbers(format, policy)
    if narrow is not None:
        return narrow_kernel(p.mode, source), numbers_of_mode(p.mode, narrow, p, quantum_pattern(p, 23))
    width = 52 if wide else 23
    return wide_kernel(width, source), (p, quantum_pattern(p, width))


# -- parts shared by the kernels ----------------------------------------------------------------------------


@device_function
def random_words(source, bits, stream, i, i1, i2, i3):
    """Returns the random bits of four elements: from a stream (from i on), from an array, or zeros."""
    if source == PHILOX:
        return philox(i // FOUR, stream)
    if source == ARRAY:
        return bits[i], bits[i1], bits[i2], bits[i3]
    zero = np.uint32(0)
    return zero, zero, zero, zero


@device_function
def add_counts(shared, counts, tally):
    """Adds the counts of the block's threads to the result. ``shared`` has five uninitialized uint32."""
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


@device_function
def take(found, out, place, bit, left):
    """Writes the result if the fast path found it, else sets the bit in ``left``. Returns (left, tally)."""
    result, resolved, tally = found
    if resolved:
        out[place] = result
        return left, tally
    return np.uint32(left | bit), tally


def rounding_kernel(name: str, source: int, width: int, paths: Paths, types: tuple[object, ...]) -> Kernel:
    """Returns a kernel that rounds patterns with ``width`` fraction bits.

    A thread loads four patterns before it rounds the first, so that it waits for memory once. They lie a grid apart, so
    that a warp loads and stores whole lines. With a stream they are the four elements of a counter. Elements that the
    fast path does not resolve follow in a loop: unrolled, it would need more registers, so that fewer threads were
    resident.
    """
    number = np.int64 if name == "wide" else np.uint32
    streamed = source == PHILOX
    fast, full = paths

    def round_patterns(x, out, bits, stream, numbers, counts):
        shared = cuda.shared.array(5, uint32)
        tally = NONE_YET
        size, threads, thread = np.uint64(x.size), np.uint64(cuda.gridsize(1)), np.uint64(cuda.grid(1))
        apart, last = ONE if streamed else threads, size - ONE
        i = FOUR * thread if streamed else thread
        while i < size:
            i1, i2, i3 = i + apart, i + apart + apart, i + apart + apart + apart
            if i3 < size:
                p, p1, p2, p3 = number(x[i]), number(x[i1]), number(x[i2]), number(x[i3])
                w, w1, w2, w3 = random_words(source, bits, stream, i, i1, i2, i3)
                left, tally = take(fast(p, w, numbers, tally), out, i, ONE32, NO32)
                left, tally = take(fast(p1, w1, numbers, tally), out, i1, TWO32, left)
                left, tally = take(fast(p2, w2, numbers, tally), out, i2, FOUR32, left)
                left, tally = take(fast(p3, w3, numbers, tally), out, i3, EIGHT32, left)
            else:  # the end of the array
                w, w1, w2, w3 = random_words(source, bits, stream, i, min(i1, last), min(i2, last), last)
                left = np.uint32(ONE32 | (TWO32 if i1 < size else NO32) | (FOUR32 if i2 < size else NO32))
            place = i
            while left != NO32:
                if left & ONE32 != NO32:
                    out[place], tally = full(number(x[place]), w, numbers, tally)
                left = shift_right(left, ONE32)
                place += apart
                w, w1, w2 = w1, w2, w3
            i += FOUR * threads
        add_counts(shared, counts, tally)

    pattern = "int64[::1]" if width == 52 else "uint32[::1]"
    arguments = (f"{pattern}, {pattern}, uint32[::1], {STREAM}", types, "int64[::1]")
    registers = REGISTERS if source == NONE and width == 23 else None
    return Kernel(round_patterns, [arguments], f"rounding.kernels.{name}{width}[{source}]", registers)


@cache
def narrow_kernel(mode: int, source: int) -> Kernel:
    """Returns the kernel for float32 and the formats of ``narrow_numbers``."""
    n, p = narrow_numbers(FORMATS["float8_e4m3fn"], Policy()), parameters(FORMATS["float32"], Policy(), "float32")
    assert n is not None
    numbers = typeof(numbers_of_mode(mode, n, p, 0))
    return rounding_kernel(list(Mode)[mode].value, source, 23, narrow_paths(mode, narrow_rounder(mode)), numbers)


@cache
def wide_kernel(width: int, source: int) -> Kernel:
    """Returns the kernel for every format and all modes except the legacy ones."""
    numbers = typeof((parameters(FORMATS["float32"], Policy(), "float32"), 0))
    return rounding_kernel("wide", source, width, wide_paths(width), numbers)


@cache
def legacy_kernel(mode: int, source: int) -> Kernel:
    """Returns the kernel for a legacy mode."""
    numbers = typeof(legacy_numbers(QPYTORCH, Policy(list(Mode)[mode], Overflow.SATURATE)))
    return rounding_kernel(list(Mode)[mode].value, source, 23, narrow_paths(mode, round_like_qpytorch), numbers)


@family
def rounding_kernels() -> Iterator[Kernel]:
    """Yields every kernel of this file."""
    for mode in list(Mode)[: Mode.STOCHASTIC.number]:
        yield narrow_kernel(mode.number, NONE)
    for source in (NONE, ARRAY, PHILOX):
        yield narrow_kernel(Mode.STOCHASTIC.number, source)
        yield wide_kernel(23, source)
        yield wide_kernel(52, source)
        yield legacy_kernel(Mode.QPYTORCH_STOCHASTIC.number, source)
    yield legacy_kernel(Mode.QPYTORCH_NEAREST.number, NONE)
