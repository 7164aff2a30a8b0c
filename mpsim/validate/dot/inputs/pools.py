"""Tests of a tree's nodes that are asked together: those of subtrees that have no term in common.

Each test leaves one unit or nothing, and these are added exactly. Nothing left of all of them, or a unit of each, is
what every single one left. Otherwise each is asked alone. The idea: group testing (Dorfman 1943).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.validate.dot.inputs.probes import Prober

Pool = list[int]
#: Operands of dot products, (a, b), and the subject's answers.
Asked = tuple[Array, Array, Array]


class Outcome(NamedTuple):
    """What is left of each test, and what was asked."""

    left: Array
    asked: list[Asked]


def pooled(masks: Sequence[int], most: int) -> list[Pool]:
    """The tests in pools of ``most`` at most. masks: of each test, the terms of the node that it is of, as bits.

    >>> pooled([0b11, 0b110, 0b1100], 8)
    [[0, 2], [1]]
    """
    pools: list[Pool] = []
    taken: list[int] = []
    full = 0  # pools before this one take no more
    for test, mask in enumerate(masks):
        place = next((at for at in range(full, len(pools)) if not taken[at] & mask and len(pools[at]) < most), None)
        if place is None:
            pools.append([test])
            taken.append(mask)
        else:
            pools[place].append(test)
            taken[place] |= mask
        while full < len(pools) and len(pools[full]) == most:
            full += 1
    return pools


def ask_pooled(
    prober: Prober, masks: Sequence[int], rows: Callable[[list[Pool]], tuple[Array, Array]], unit: float, most: int
) -> Outcome:
    """Asks a test of each mask, of ``most`` at most at once. rows: the operands of pools of tests. unit: what a test
    leaves, or it leaves nothing."""
    left, asked = np.empty(len(masks)), []
    pools = pooled(masks, most)
    while pools:
        a, b = rows(pools)
        found = prober.ask_numbers(a, b)
        asked.append((a, b, found))
        again: list[Pool] = []
        for pool, value in zip(pools, found.tolist(), strict=True):
            if len(pool) == 1 or value in (0, len(pool) * unit):
                left[pool] = value / len(pool)
            else:
                again += [[test] for test in pool]
        pools = again
    return Outcome(left, asked)
