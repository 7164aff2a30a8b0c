"""Pairwise summation of any values, and of the chunks of a contraction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import add
from typing import TypeVar

import numpy as np

from mpsim.kernels.contractions.lowering import Contraction

T = TypeVar("T")


def in_pairs(values: Iterable[T], add: Callable[[T, T], T]) -> T:
    """Adds neighbours in pairs, repeatedly, until one value is left. There must be at least one value.

    A stack has the sums of 1, 2, 4, ... values that wait for a partner, like the ones of a binary counter. At the end
    the remaining sums are added from the shortest up, which is equivalent.

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
    """Adds the results of neighbouring chunks in pairs. k must have at least one element."""
    parts = (slice(start, start + chunk) for start in range(0, c.shape[2], chunk))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        results = (sum_chunk(replace(c, a_k=c.a_k[k], b_k=c.b_k[k])) for k in parts)
        return in_pairs(results, add)
