"""Defines the results of subjects, the verdict of a validation, and the error of a subject that fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from mpsim.errors import MpsimError
from mpsim.files.records import Record
from mpsim.kernels.contract import Array
from mpsim.plugins import remedy
from mpsim.validate.sources import Source

#: Represents a result for which the format has no code.
NO_CODE = 1 << 63


class SubjectError(MpsimError, RuntimeError):
    """The subject cannot be found, called or understood. The message says why and what to do.

    If an optional package is missing, the message ends with the command that installs it.

    >>> from mpsim.validate import open_subject
    >>> try:
    ...     open_subject("no_such_module:cast")
    ... except SubjectError as error:
    ...     print(error)
    cannot import no_such_module: No module named 'no_such_module' (ModuleNotFoundError)
    """

    def __init__(self, message: str = "", argument: str | None = None) -> None:
        super().__init__(message + remedy(message), argument)


class Verdict(Enum):
    """The verdict of a validation. Its value is the exit code of ``mpsim validate``.

    >>> [verdict.value for verdict in (Verdict.EQUAL, Verdict.DIFFERENT, Verdict.UNDECIDED)]
    [0, 1, 2]
    """

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


@dataclass(frozen=True)
class Report(Judged):
    """A report on one subject.

    ``state`` describes what is unusual about the subject's floating-point arithmetic, and ``notes`` how it was called.
    """

    subject: str
    state: tuple[str, ...] = field(default=(), kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @abstractmethod
    def details(self) -> Record:
        """Returns the report as JSON types, without what all reports have."""

    def to_dict(self) -> Record:
        """Returns the entire report as JSON types."""
        return {
            "subject": self.subject,
            "verdict": self.verdict.name.lower(),
            "equal": self.equal,
            **self.details(),
            "floating_point_state": list(self.state),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class ConversionReport(Report):
    """A report on a cast, to a format or to integers.

    ``exhaustive``: whether every input was compared. ``preset``: the declared one.
    """

    source: Source
    exhaustive: bool
    preset: str | None = field(default=None, kw_only=True)

    def shared(self, target: str, inputs: int) -> Record:
        """Returns these fields as JSON types."""
        return {
            "format": target,
            "source": self.source.name,
            "inputs": inputs,
            "exhaustive": self.exhaustive,
            "preset": self.preset,
        }


def optional(part: Any) -> Any:
    """Returns ``part.to_dict()``, or None for a part that a report does not have."""
    return None if part is None else part.to_dict()


class Outcome(NamedTuple):
    """The results of a cast.

    ``values`` are float64 and exact. ``keys`` are uint64 and equal exactly if the results are equal: codes, or, for a
    subject that returns numbers, float64 patterns with a single NaN.
    """

    values: Array
    keys: Array

    def at(self, where: Array | slice) -> Outcome:
        """Returns the results selected by a mask or by indices."""
        return Outcome(self.values[where], self.keys[where])


def value_keys(values: Array) -> Array:
    """Returns the float64 patterns by which numbers are compared. All NaNs have the same pattern."""
    keys = np.asarray(values, np.float64).view(np.uint64).copy()
    keys[np.isnan(values)] = np.uint64(0x7FF8 << 48)
    return keys
