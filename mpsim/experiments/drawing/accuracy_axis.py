"""Provides an axis that is linear in the logarithm of the error, so that accuracies of 10 and 97 % are readable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Percentage points added to the error, so that 100 % has a finite position.
OFFSET = 2.0
#: The ticks with priority (10 % is the accuracy of guessing in most datasets here), and the steps of the other ticks.
FIRST = (10, 50, 90)
STEPS = (50, 10, 5, 1, 0.5, 0.1, 0.05, 0.01)
#: The least distance of two ticks, and the margin beyond the outermost values, as shares of the axis.
BETWEEN, MARGIN = 0.07, 0.06


def forward(accuracy: ArrayLike) -> np.ndarray:
    """Returns the position of an accuracy in percent. Above 100 %, i.e. in the margin, it is a straight line.

    >>> float(forward(100.0)), round(float(forward(82.0)), 6)
    (-0.0, -1.0)
    """
    error = 100.0 - np.asarray(accuracy, float)
    return np.where(error >= 0, -np.log10((np.maximum(error, 0) + OFFSET) / OFFSET), -error / (OFFSET * np.log(10)))


def inverse(place: ArrayLike) -> np.ndarray:
    """Returns the accuracy at a position.

    >>> [round(float(inverse(forward(value))), 9) for value in (0.0, 75.6, 98.0, 100.0, 103.0)]
    [0.0, 75.6, 98.0, 100.0, 103.0]
    """
    place = np.asarray(place, float)
    error = OFFSET * (10.0 ** np.maximum(-place, 0) - 1)
    return np.where(place <= 0, 100.0 - error, 100.0 + place * (OFFSET * np.log(10)))


def ticks(low: float, high: float) -> list[float]:
    """Returns round accuracies from ``low`` to ``high`` in rising order. If space is limited, the roundest are chosen.

    >>> ticks(8.0, 98.0)
    [10.0, 30.0, 50.0, 70.0, 80.0, 85.0, 90.0, 93.0, 95.0, 97.0, 98.0]
    """
    least = BETWEEN * float(forward(high) - forward(low))

    def apart(one: float, other: float, share: float = 1.0) -> bool:
        return abs(float(forward(one) - forward(other))) >= share * least

    chosen: list[float] = [value for value in FIRST if low <= value <= high]
    for step in STEPS:
        for number in range(int(np.ceil(low / step)), int(np.floor(min(high, 100) / step)) + 1):
            value = round(number * step, 6)
            if apart(value, value - step, 0.35) and all(apart(value, other) for other in chosen):
                chosen.append(value)
    return [float(value) for value in sorted(chosen)]


def use(axes: Axes, accuracies: list[float]) -> None:
    """Sets this scale on the axes, with space for all of the accuracies (in percent)."""
    low, high = float(forward(min(accuracies))), float(forward(max(accuracies)))
    margin = MARGIN * (high - low) or 0.02
    bottom, top = float(inverse(low - margin)), float(inverse(high + margin))
    axes.set_yscale("function", functions=(forward, inverse))
    axes.set_ylim(bottom, top)
    chosen = ticks(bottom, top)
    axes.set_yticks(chosen, [f"{value:g}" for value in chosen])
    axes.set_yticks([], minor=True)
