"""Numba: the words of a Philox stream (mpsim/kernels/philox.py).

A counter's words stand in 64 bits, so that products need no high halves; the loop over counters becomes vector code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.philox import KEY_STEPS, MULTIPLIERS, ROUNDS, Stream

Array = np.ndarray[Any, Any]

BLOCK = 4096  # words that a thread makes at a time; a multiple of 4
MULTIPLIER0, MULTIPLIER1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
KEY_STEP0, KEY_STEP1 = np.uint64(KEY_STEPS[0]), np.uint64(KEY_STEPS[1])
WORD, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
NO_BITS = np.empty(0, np.uint32)
NO_STREAM = np.empty(0, np.uint64)


def numbers_of(stream: Stream) -> Array:
    """The key and the upper words of the counter, uint64 (5,)."""
    return np.array([*stream.key, *stream.words], np.uint64)


@njit(cache=True)
def fill(stream: Array, first: int, words: Array) -> None:
    """The words of the counters first, first + 1, ...; words.size is a multiple of 4."""
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
    """uint32 words of elements start .. stop - 1: those given, or the stream's, or any; start % 4 == 0."""
    if bits.size > 0:
        return bits[start:stop]
    words = np.empty((stop - start + 3) // 4 * 4, np.uint32)
    if stream.size > 0:
        fill(stream, start // 4, words)
    return words


@njit(cache=True, parallel=True)
def fill_from(stream: Array, first: int, bits: Array) -> None:
    """Elements first, first + 1, ... of the stream."""
    lead = first % 4
    for block in prange((lead + bits.size + BLOCK - 1) // BLOCK):
        words = np.empty(BLOCK, np.uint32)
        fill(stream, first // 4 + block * (BLOCK // 4), words)
        start = max(block * BLOCK - lead, 0)  # of the block's part of the bits
        stop = min((block + 1) * BLOCK - lead, bits.size)
        bits[start:stop] = words[start + lead - block * BLOCK : stop + lead - block * BLOCK]
