"""Random orders by counter: a permutation that depends on nothing but its stream and its size."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.philox import Stream, random_bits


def permutation(stream: Stream, size: int) -> np.ndarray:
    """A random order of 0 .. size - 1, int64 (size,): sorted by 64-bit keys, equal keys by rising number.

    The key of i has the stream's element 2i as its low and 2i + 1 as its high 32 bits.

    >>> permutation(Stream(0, "data_order"), 5).tolist()
    [4, 2, 0, 1, 3]
    """
    words = random_bits(stream, 2 * size).astype(np.uint64).reshape(size, 2)
    return np.argsort(words[:, 1] << np.uint64(32) | words[:, 0], kind="stable")
