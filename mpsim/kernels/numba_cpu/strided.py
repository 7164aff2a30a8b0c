"""Where a convolution's gradient by the input, summed without the zeros of its dilation, must be summed again."""

from __future__ import annotations

import numpy as np
from numba import prange

from mpsim.kernels.numba_cpu.jit import njit

NEGATIVE_ZERO = np.uint32(0x80000000)


@njit(cache=True, parallel=True)
def count_equal(patterns, wanted):  # type: ignore[no-untyped-def]
    count = 0
    for i in prange(patterns.size):
        count += patterns[i] == wanted
    return count


def unsettled(out: np.ndarray) -> np.ndarray:
    """The places (n, h, w), numbered in rising order, where a channel of (N, C, H, W) is -0."""
    patterns = out.view(np.uint32)
    if not count_equal(patterns.reshape(-1), NEGATIVE_ZERO):
        return np.empty(0, np.int64)
    return np.flatnonzero((patterns == NEGATIVE_ZERO).any(axis=1))
