"""Tests whether a subject that draws its own random bits rounds up with the right frequencies.

It uses the exact two-sided binomial test at each point, and Hoeffding's inequality for the numbers of each binade and
of each sign together. Each gets half of false_alarm_rate, divided by the number of its tests, so that a right subject
fails with at most that probability (Bonferroni).
"""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.validate.cast.stochastic.result import Binade, Frequency


def wrong_points(
    x: Array, share: Array, ups: Array, decided: Array, draws: int, false_alarm_rate: float
) -> tuple[Frequency, ...]:
    """Returns the points whose number of results rounded up is too unlikely. Points without a choice are not tested."""
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
    """Returns the groups whose deviation has a probability below false_alarm_rate / groups."""
    found = []
    for group in groups:
        at = group[decided[group]]
        expected, seen, draws = float(share[at].sum()), int(ups[at].sum()), at.size
        if draws and abs(seen - expected) > np.sqrt(draws / 2 * np.log(2 * len(groups) / false_alarm_rate)):
            smallest, largest = (float(x[at[place(np.abs(x[at]))]]) for place in (np.argmin, np.argmax))
            found.append(Binade((smallest, largest), expected / draws, seen / draws, draws))
    return tuple(found)


def groups_of(pools: list[Array], x: Array) -> list[Array]:
    """Returns the indices of each pool in the concatenated pools, and of all numbers of each sign."""
    starts = np.cumsum([0, *(pool.size for pool in pools)])
    each = [np.arange(start, start + pool.size) for start, pool in zip(starts, pools, strict=False)]
    return [*each, *(np.flatnonzero(np.signbit(x) == negative) for negative in (False, True))]
