"""What subjects answer, and what a validation comes to: a verdict, or the error of a subject that fails."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np

from mpsim.errors import MpsimError
from mpsim.kernels.contract import Array

#: Stands for a result that the format has no code for.
NO_CODE = 1 << 63


class SubjectError(MpsimError, RuntimeError):
    """The subject cannot be found, called, or understood; the message says why and what to do."""


class Verdict(Enum):
    """The value is the exit code of ``mpsim validate``."""

    EQUAL = 0
    DIFFERENT = 1
    #: The question cannot be answered from what was there: nothing or too little to compare, or a subject that fails.
    UNDECIDED = 2

    @classmethod
    def of(cls, equal: bool) -> Verdict:
        """EQUAL or DIFFERENT.

        >>> Verdict.of(False).value
        1
        """
        return cls.EQUAL if equal else cls.DIFFERENT


class Outcome(NamedTuple):
    """Results of a cast. values: float64, exact; keys: uint64 that are equal exactly where the results are: codes,
    or (for a subject that gives numbers) float64 patterns with one NaN."""

    values: Array
    keys: Array

    def at(self, where: Array) -> Outcome:
        """The results at some places, by a mask or by indices."""
        return Outcome(self.values[where], self.keys[where])


def value_keys(values: Array) -> Array:
    """float64 patterns, every NaN the same: what numbers are compared by."""
    keys = np.asarray(values, np.float64).view(np.uint64).copy()
    keys[np.isnan(values)] = np.uint64(0x7FF8 << 48)
    return keys
