"""Pairwise summation over the chunks of a contraction, given a kernel that sums one chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mpsim.kernels.contractions.lowering import Contraction


def sum_in_pairs(c: Contraction, chunk: int, sum_chunk: Callable[[Contraction], np.ndarray]) -> np.ndarray:
    """Results of neighbouring chunks added in pairs, again and again until one is left (length of k at least 1).

    A stack holds the sums of 1, 2, 4, ... chunks that wait for a partner, as the ones of a binary counter; the odd
    ones at the end are added from the shortest up, which is the same as passing them up.
    """
    waiting: list[np.ndarray] = []
    length = c.shape[2]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for number, start in enumerate(range(0, length, chunk)):
            k = slice(start, start + chunk)
            waiting.append(sum_chunk(replace(c, a_k=c.a_k[k], b_k=c.b_k[k])))
            while number & 1:
                _join(waiting)
                number >>= 1
        while len(waiting) > 1:
            _join(waiting)
    return waiting[0]


def _join(waiting: list[np.ndarray]) -> None:
    right = waiting.pop()
    waiting[-1] = waiting[-1] + right
