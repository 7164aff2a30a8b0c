"""Philox4x32-10 (mpsim/kernels/philox.py) for kernels, in 32-bit words."""

from __future__ import annotations

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.device.arrays import Array, empty
from mpsim.kernels.cuda.device.launch import device_function, kernel
from mpsim.kernels.philox import KEY_STEPS, MULTIPLIERS, ROUNDS, Stream, within_a_stream

MULTIPLIER0, MULTIPLIER1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
KEY_STEP0, KEY_STEP1 = np.uint64(KEY_STEPS[0]), np.uint64(KEY_STEPS[1])
WORD, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

#: Key and upper counter words as kernels' arguments, their type in signatures, and the words passed without a stream.
Words = tuple[np.uint32, ...]
STREAM = "UniTuple(uint32, 5)"
NO_STREAM: Words = (np.uint32(0),) * 5


def stream_words(stream: Stream) -> Words:
    """Returns the words of a stream."""
    return tuple(np.uint32(word) for word in (*stream.key, *stream.words))


@device_function
def philox(counter, stream):
    """Computes the four words of a counter below 2**32."""
    k0, k1, c1, c2, c3 = stream
    c0 = np.uint32(counter)
    for _ in range(ROUNDS):
        p0, p1 = np.uint64(c0) * MULTIPLIER0, np.uint64(c2) * MULTIPLIER1
        c0, c2 = np.uint32(np.uint32(p1 >> HALF) ^ c1 ^ k0), np.uint32(np.uint32(p0 >> HALF) ^ c3 ^ k1)
        c1, c3 = np.uint32(p1 & WORD), np.uint32(p0 & WORD)
        k0, k1 = np.uint32((np.uint64(k0) + KEY_STEP0) & WORD), np.uint32((np.uint64(k1) + KEY_STEP1) & WORD)
    return c0, c1, c2, c3


@kernel(f"{STREAM}, int64, uint32[::1]")
def fill_with_bits(stream, first, bits):
    """Computes the four words of a counter in each thread, and writes the requested ones."""
    begin = first // 4
    for group in range(begin + cuda.grid(1), (first + bits.size + 3) // 4, cuda.gridsize(1)):
        words = philox(group, stream)
        place = 4 * group - first
        for j in range(4):
            if 0 <= place + j < bits.size:
                bits[place + j] = words[j]


def random_bits(stream: Stream, size: int, first: int = 0, *, threads: int = 1) -> Array:
    """Returns elements first .. first + size - 1 of the stream as uint32."""
    size, first = within_a_stream(size, first)
    bits = empty(size, np.uint32)
    fill_with_bits.over(size // 4 + 2)(stream_words(stream), first, bits)
    return bits
