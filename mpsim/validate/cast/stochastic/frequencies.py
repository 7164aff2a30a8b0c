"""Tests whether a subject that draws its own random bits rounds up with the right frequencies.

It uses the exact two-sided binomial test at each point, and Hoeffding's inequality for the numbers of each binade and
of each sign together, and for those of them nearer to the lower, or to the upper neighbour. Each gets half of
false_alarm_rate, divided by the number of its tests, so that a right subject fails with at most that probability
(Bonferroni).
"""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.validate.cast.stochastic.result import Binade, Frequency

#: The parts of a group.
LOWER, UPPER = "place below 1/2", "place from 1/2 on"


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
    x: Array, groups: list[Array], parts: list[str], share: Array, ups: Array, decided: Array, false_alarm_rate: float
) -> tuple[Binade, ...]:
    """Returns the groups whose deviation has a probability below false_alarm_rate / groups, with their parts' names."""
    found = []
    for group, part in zip(groups, parts, strict=True):
        at = group[decided[group]]
        expected, seen, draws = float(share[at].sum()), int(ups[at].sum()), at.size
        if draws and abs(seen - expected) > np.sqrt(draws / 2 * np.log(2 * len(groups) / false_alarm_rate)):
            smallest, largest = (float(x[at[place(np.abs(x[at]))]]) for place in (np.argmin, np.argmax))
            found.append(Binade((smallest, largest), expected / draws, seen / draws, draws, part))
    return tuple(found)


def groups_of(pools: list[Array], x: Array, place: Array) -> tuple[list[Array], list[str]]:
    """Returns groups of the concatenated pools, as indices, and what part of a pool each is.

    They are each pool and all numbers of each sign; then those of each that are nearer to the lower neighbour, and the
    others: a binade whose numbers go up whatever their place may have the right sum.
    """
    starts = np.cumsum([0, *(pool.size for pool in pools)])
    each = [np.arange(start, start + pool.size) for start, pool in zip(starts, pools, strict=False)]
    whole = [*each, *(np.flatnonzero(np.signbit(x) == negative) for negative in (False, True))]
    groups, parts = list(whole), [""] * len(whole)
    for name, where in ((LOWER, place < 0.5), (UPPER, place >= 0.5)):
        groups += [group[where[group]] for group in whole]
        parts += [name] * len(whole)
    return groups, parts
