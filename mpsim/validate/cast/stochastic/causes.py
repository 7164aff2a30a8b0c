"""Why the frequencies of a subject with its own random bits are wrong: what gives all of them, if anything known does.

A candidate is rejected by what has a probability below the false-alarm rate, as the declared frequencies are. The
simplest that is not rejected is the cause, and the others are listed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.validate.cast.stochastic.chances import candidates


class Seen(NamedTuple):
    """What was observed at numbers that have a choice.

    Attributes:
        place, negative, odd: Their places, signs, and whether the lower neighbour's code is odd.
        ups: How often each went up; draws: how often each was rounded.
        groups: Indices of numbers that are tested together.
    """

    place: Array
    negative: Array
    odd: Array
    ups: Array
    draws: int
    groups: tuple[Array, ...] = ()

    def at(self, chosen: Array) -> Seen:
        """What was observed at some of the numbers."""
        return Seen(self.place[chosen], self.negative[chosen], self.odd[chosen], self.ups[chosen], self.draws)

    def beside(self, other: Seen) -> Seen:
        """Both observations, of equal draws and without groups."""
        columns = (np.concatenate(pair) for pair in zip(self[:4], other[:4], strict=True))
        place, negative, odd, ups = columns
        return Seen(place, negative, odd, ups, self.draws)


def explanations(points: Seen, spread: Seen, rate: float) -> tuple[str, ...]:
    """What gives every frequency, in words, the simplest first."""
    of_points, of_spread = ((seen.place, seen.negative, seen.odd) for seen in (points, spread))
    return tuple(
        each.words
        for each in candidates()
        if _fits_points(points, each.chances(*of_points), rate / 2)
        and _fits_groups(spread, each.chances(*of_spread), rate / 2)
    )


def _fits_points(seen: Seen, chances: Array, rate: float) -> bool:
    """Whether no point goes up so often, or so rarely, that this has a probability below the rate."""
    from scipy.stats import binom

    tails = np.minimum(binom.cdf(seen.ups, seen.draws, chances), binom.sf(seen.ups - 1, seen.draws, chances))
    return bool((2 * tails >= rate / max(seen.ups.size, 1)).all())


def _fits_groups(seen: Seen, chances: Array, rate: float) -> bool:
    """The same for the sums of groups of numbers, by Hoeffding's inequality; certain results must be as they are."""
    if ((chances == 0) & (seen.ups > 0)).any() or ((chances == 1) & (seen.ups < 1)).any():
        return False
    for group in seen.groups:
        expected, ups, draws = float(chances[group].sum()), int(seen.ups[group].sum()), group.size
        if draws and abs(ups - expected) > np.sqrt(draws / 2 * np.log(2 * len(seen.groups) / rate)):
            return False
    return True


def one_word_for_all(calls: list[tuple[Array, Array]]) -> bool:
    """Whether the elements of each call share one random word, and calls have different ones.

    calls: The places and whether the numbers went up, of the elements of each call.
    """
    ends = []
    for place, up in calls:
        highest_down = float(place[~up].max(initial=0.0))
        lowest_up = float(place[up].min(initial=1.0))
        if highest_down >= lowest_up:
            return False
        ends.append((highest_down, lowest_up))
    return max(low for low, _ in ends) >= min(high for _, high in ends)  # no one threshold is that of all calls
