"""Calls block quantisers under test, which map blocks to dequantised values, or to codes and scales."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.blocks.quantizers.elements import Element
from mpsim.kernels.contract import Array
from mpsim.rounding import decode
from mpsim.validate.blocks.expected import Expected

#: In place of a scale that is not a number of the scale's format.
NO_CODE = 0xFFFFFFFE


class BlockAnswers(NamedTuple):
    """What came back for blocks (n, size). type: of the values, in which ``values`` (float64, exact) are; "" for
    codes. codes (n, size), scales and zero points (n, 1) as uint32 or integers; the other of the kinds is None."""

    type: str
    values: Array | None
    codes: Array | None = None
    scales: Array | None = None
    points: Array | None = None

    def differ(self, expected: Expected) -> Array:
        """Returns which elements differ. A wrong scale makes all elements of its block differ.

        Of a block whose scale is NaN only the scale counts, and any NaN code stands for NaN. Values are expected as the
        answer's type holds them: the exact number in float64, else that rounded once.
        """
        if self.values is not None:
            wanted = expected.values(self.type)
            with np.errstate(invalid="ignore"):
                same = (wanted == self.values) & (np.signbit(wanted) == np.signbit(self.values))
            return np.asarray(~(same | (np.isnan(wanted) & np.isnan(self.values))))
        assert self.codes is not None
        wrong = (expected.codes != self.codes) & ~np.isnan(expected.scale_numbers)
        element = expected.quantizer.element
        if isinstance(element, Element) and element.row.has_nan:
            nan = [np.isnan(decode(each, element.row, backend="reference")) for each in (expected.codes, self.codes)]
            wrong &= ~(nan[0] & nan[1])
        wrong = wrong | (expected.scales != self.scales)
        if self.points is not None and expected.points is not None:
            wrong = wrong | ((expected.points != self.points) & ~np.isnan(expected.scale_numbers))
        return np.asarray(wrong)

    def equals(self, other: BlockAnswers) -> bool:
        """Returns whether both are equal. All NaNs count as equal."""
        for ours, theirs in zip(self[1:], other[1:], strict=True):
            if ours is None or theirs is None:
                if ours is not theirs:
                    return False
            elif not np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
                return False
        return True

    def at(self, rows: Array) -> BlockAnswers:
        """Returns the answers for some of the blocks."""
        parts = (None if part is None else part[rows] for part in self[1:])
        return BlockAnswers(self.type, *parts)
