"""Defines the results of subjects, the verdict of a validation, and the error of a subject that fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import NamedTuple

import numpy as np

from mpsim.errors import MpsimError
from mpsim.kernels.contract import Array
from mpsim.plugins import remedy

#: Represents a result for which the format has no code.
NO_CODE = 1 << 63


class SubjectError(MpsimError, RuntimeError):
    """The subject cannot be found, called or understood. The message says why and what to do.

    If an optional package is missing, the message ends with the command that installs it.
    """

    def __init__(self, message: str = "", argument: str | None = None) -> None:
        super().__init__(message + remedy(message), argument)


class Verdict(Enum):
    """The verdict of a validation. Its value is the exit code of ``mpsim validate``."""

    EQUAL = 0
    DIFFERENT = 1
    #: There is not enough to compare, or the subject fails.
    UNDECIDED = 2

    @classmethod
    def of(cls, equal: bool) -> Verdict:
        """Returns EQUAL or DIFFERENT.

        >>> Verdict.of(False).value
        1
        """
        return cls.EQUAL if equal else cls.DIFFERENT


class Judged(ABC):
    """A report that has a verdict."""

    @property
    @abstractmethod
    def verdict(self) -> Verdict:
        """The verdict of the validation."""

    @property
    def equal(self) -> bool:
        """Whether the verdict is EQUAL."""
        return self.verdict is Verdict.EQUAL


class Outcome(NamedTuple):
    """The results of a cast.

    ``values`` are float64 and exact. ``keys`` are uint64 and equal exactly if the results are equal: codes, or, for a
    subject that returns numbers, float64 patterns with a single NaN.
    """

    values: Array
    keys: Array

    def at(self, where: Array) -> Outcome:
        """Returns the results selected by a mask or by indices."""
        return Outcome(self.values[where], self.keys[where])


def value_keys(values: Array) -> Array:
    """Returns the float64 patterns by which numbers are compared. All NaNs have the same pattern."""
    keys = np.asarray(values, np.float64).view(np.uint64).copy()
    keys[np.isnan(values)] = np.uint64(0x7FF8 << 48)
    return keys
