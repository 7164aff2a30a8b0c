"""With what probability a number goes up: the exact one of each variant, and those of ways to be wrong.

The place of |x| between its neighbours is a number from 0 to less than 1. float64 holds it exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.policies import Mode

#: P3109's letters of the variants.
LETTERS = {Mode.STOCHASTIC: "A", Mode.STOCHASTIC_B: "B", Mode.STOCHASTIC_C: "C"}
#: Numbers of random bits and sizes of a bias that are considered as causes.
MOST_BITS, MOST_BIAS = 16, 10


def chance(place: Array, mode: Mode, count: int | None) -> Array:
    """The share of the words with which a number goes up, by P3109 v4.0 §4.7.4; without a count the place itself.

    >>> [float(chance(np.array([0.3125]), mode, 3)[0]) for mode in LETTERS]
    [0.25, 0.375, 0.25]
    """
    if count is None:
        return place
    if mode is Mode.STOCHASTIC_B:
        return np.asarray(np.ldexp(np.floor((np.floor(np.ldexp(place, count + 1)) + 1) / 2), -count))
    rounded = np.rint if mode is Mode.STOCHASTIC_C else np.floor  # rint: to nearest even
    return np.asarray(np.ldexp(rounded(np.ldexp(place, count)), -count))


class Candidate(NamedTuple):
    """A way to round: in words, and the probability of going up at each number."""

    words: str
    chances: Array


def candidates(place: Array, negative: Array, odd: Array) -> Iterator[Candidate]:
    """Ways to round that a subject may follow instead, the simplest first. odd: whether the lower neighbour is."""
    one, none = np.ones_like(place), np.zeros_like(place)
    inside = place > 0
    yield Candidate("never up: the probability is 0", none)
    yield Candidate("always up: the probability is 1", np.where(inside, one, none))
    yield Candidate("nearest even: no random bit decides", np.where((place > 0.5) | ((place == 0.5) & odd), one, none))
    yield Candidate("nearest away: no random bit decides", np.where(place >= 0.5, one, none))
    yield Candidate("rounding up (toward +infinity): no random bit decides", np.where(inside & ~negative, one, none))
    yield Candidate("rounding down (toward -infinity): no random bit decides", np.where(inside & negative, one, none))
    yield Candidate("either neighbour alike: the probability is 1/2", np.where(inside, 0.5, 0.0))
    yield Candidate("the first random bit is always 0: the probability is max(2 * place - 1, 0)",
                    np.maximum(2 * place - 1, 0))  # fmt: skip
    yield Candidate("the first random bit is always 1: the probability is min(2 * place, 1)", np.minimum(2 * place, 1))
    for mode, letter in LETTERS.items():
        for count in range(1, MOST_BITS + 1):
            what = {"A": "floor({n} * place)", "B": "floor({n} * place + 1/2)", "C": "{n} * place to nearest even"}
            words = what[letter].format(n=1 << count)
            yield Candidate(
                f"{count} bits: {count} random bits of variant {letter}, the probability is ({words}) / {1 << count}",
                chance(place, mode, count),
            )
    yield Candidate("the place itself: more random bits than are declared", place)
    for size in range(1, MOST_BIAS + 1):
        for sign, symbol in ((1, "+"), (-1, "-")):
            bias = f"{symbol}1/{1 << size}"
            words = f"biased by {bias}: the probability is the place {bias}, at least 0 and at most 1"
            yield Candidate(words, np.where(inside, np.clip(place + sign * 0.5**size, 0, 1), 0))
