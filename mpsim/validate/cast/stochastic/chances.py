"""With what probability a number goes up: the exact one of each variant, and those of ways to be wrong.

The place of |x| between its neighbours is a number from 0 to less than 1. float64 holds it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
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
    if mode is Mode.STOCHASTIC_EQUAL:
        return np.where(place > 0, 0.5, 0.0)
    if count is None:
        return place
    if mode is Mode.STOCHASTIC_B:
        return np.asarray(np.ldexp(np.floor((np.floor(np.ldexp(place, count + 1)) + 1) / 2), -count))
    rounded = np.rint if mode is Mode.STOCHASTIC_C else np.floor  # rint: to nearest even
    return np.asarray(np.ldexp(rounded(np.ldexp(place, count)), -count))


#: place, whether numbers are negative, whether their lower neighbour is odd -> the probability of going up
Chances = Callable[[Array, Array, Array], Array]


class Candidate(NamedTuple):
    """A way to round: in words, and the probability of going up."""

    words: str
    chances: Chances


#: Ways without random bits: in words, and which numbers go up.
_CERTAIN: tuple[tuple[str, Chances], ...] = (
    ("never up: the probability is 0", lambda place, negative, odd: place < 0),
    ("always up: the probability is 1", lambda place, negative, odd: place > 0),
    (
        "nearest even: no random bit decides",
        lambda place, negative, odd: (place > 0.5) | ((place == 0.5) & odd),
    ),
    ("nearest away: no random bit decides", lambda place, negative, odd: place >= 0.5),
    ("rounding up (toward +infinity): no random bit decides", lambda place, negative, odd: (place > 0) & ~negative),
    ("rounding down (toward -infinity): no random bit decides", lambda place, negative, odd: (place > 0) & negative),
)


def candidates() -> Iterator[Candidate]:
    """Ways to round that a subject may follow instead, the simplest first."""
    for words, certain in _CERTAIN:
        yield Candidate(words, partial(_as_numbers, certain))
    yield Candidate("either neighbour alike: the probability is 1/2", lambda place, *_: np.where(place > 0, 0.5, 0.0))
    words = "the first random bit is always 0: the probability is max(2 * place - 1, 0)"
    yield Candidate(words, lambda place, *_: np.maximum(2 * place - 1, 0))
    words = "the first random bit is always 1: the probability is min(2 * place, 1)"
    yield Candidate(words, lambda place, *_: np.minimum(2 * place, 1))
    forms = {"A": "floor({n} * place)", "B": "floor({n} * place + 1/2)", "C": "{n} * place to nearest even"}
    for mode, letter in LETTERS.items():
        for count in range(1, MOST_BITS + 1):
            form, n = forms[letter].format(n=1 << count), 1 << count
            words = f"{count} bits: {count} random bits of variant {letter}, the probability is ({form}) / {n}"
            yield Candidate(words, partial(_of_bits, mode, count))
    yield Candidate("the place itself: more random bits than are declared", lambda place, *_: place)
    for size in range(1, MOST_BIAS + 1):
        for sign, symbol in ((1, "+"), (-1, "-")):
            bias = f"{symbol}1/{1 << size}"
            words = f"biased by {bias}: the probability is the place {bias}, at least 0 and at most 1"
            yield Candidate(words, partial(_biased, sign * 0.5**size))


def _as_numbers(certain: Chances, place: Array, negative: Array, odd: Array) -> Array:
    return np.where(certain(place, negative, odd), 1.0, 0.0)


def _of_bits(mode: Mode, count: int, place: Array, negative: Array, odd: Array) -> Array:
    return chance(place, mode, count)


def _biased(bias: float, place: Array, negative: Array, odd: Array) -> Array:
    return np.where(place > 0, np.clip(place + bias, 0, 1), 0)
