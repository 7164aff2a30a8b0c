"""Pairwise summation, of anything that can be added, and over the chunks of a contraction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import add
from typing import TypeVar

import numpy as np

from mpsim.kernels.contractions.lowering import Contraction

T = TypeVar("T")


def in_pairs(values: Iterable[T], add: Callable[[T, T], T]) -> T:
    """Neighbours added in pairs, again and again until one is left, of at least one value.

    A stack holds the sums of 1, 2, 4, ... values that wait for a partner, as the ones of a binary counter; the odd
    ones at the end are added from the shortest up, which is the same as passing them up.

    >>> in_pairs("abcde", lambda x, y: f"({x}{y})")
    '(((ab)(cd))e)'
    """
    waiting: list[T] = []

    def join() -> None:
        right = waiting.pop()
        waiting[-1] = add(waiting[-1], right)

    for number, value in enumerate(values):
        waiting.append(value)
        while number & 1:
            join()
            number >>= 1
    while len(waiting) > 1:
        join()
    return waiting[0]


def sum_in_pairs(c: Contraction, chunk: int, sum_chunk: Callable[[Contraction], np.ndarray]) -> np.ndarray:
    """Results of neighbouring chunks added in pairs (length of k at least 1)."""
    parts = (slice(start, start + chunk) for start in range(0, c.shape[2], chunk))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        results = (sum_chunk(replace(c, a_k=c.a_k[k], b_k=c.b_k[k])) for k in parts)
        return in_pairs(results, add)
