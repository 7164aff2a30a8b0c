"""Whether a subject with random bits of its own goes up as often as it should.

The test of frequencies is the exact two-sided binomial test at each point, and Hoeffding's inequality for the numbers
of each binade and of each sign together. Either has half of false_alarm_rate, over the number of its tests, so that a
right subject fails with at most that probability (Bonferroni).
"""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.validate.cast.stochastic.result import Binade, Frequency


def wrong_points(
    x: Array, share: Array, ups: Array, decided: Array, draws: int, false_alarm_rate: float
) -> tuple[Frequency, ...]:
    """The points whose count of ups is too unlikely; where both ends are one result there is nothing to count."""
    from scipy.stats import binomtest

    wrong = []
    for row in np.flatnonzero(decided):
        probability = float(binomtest(int(ups[row]), draws, float(share[row])).pvalue)
        if probability < false_alarm_rate / x.size:
            wrong.append(Frequency(float(x[row]), float(share[row]), int(ups[row]) / draws, draws, probability))
    return tuple(wrong)


def wrong_binades(
    x: Array, groups: list[Array], share: Array, ups: Array, decided: Array, false_alarm_rate: float
) -> tuple[Binade, ...]:
    """The groups of numbers whose ups are further from what is expected than they are with probability false_alarm_rate
    / groups."""
    found = []
    for group in groups:
        at = group[decided[group]]
        expected, seen, draws = float(share[at].sum()), int(ups[at].sum()), at.size
        if draws and abs(seen - expected) > np.sqrt(draws / 2 * np.log(2 * len(groups) / false_alarm_rate)):
            smallest, largest = (float(x[at[place(np.abs(x[at]))]]) for place in (np.argmin, np.argmax))
            found.append(Binade((smallest, largest), expected / draws, seen / draws, draws))
    return tuple(found)


def groups_of(pools: list[Array], x: Array) -> list[Array]:
    """Indices, in the pools one after the other, of each pool, and of all numbers of each sign."""
    starts = np.cumsum([0, *(pool.size for pool in pools)])
    each = [np.arange(start, start + pool.size) for start, pool in zip(starts, pools, strict=False)]
    return [*each, *(np.flatnonzero(np.signbit(x) == negative) for negative in (False, True))]
