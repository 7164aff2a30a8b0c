"""What a validation of stochastic rounding found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpsim.files.records import Record
from mpsim.formats import Format
from mpsim.integers import IntegerPolicy
from mpsim.kernels.contract import Array
from mpsim.policies import Policy
from mpsim.validate.answers import NO_CODE, Report, Verdict, optional
from mpsim.validate.cast.compare import Comparison, Counterexample, Number
from mpsim.validate.cast.rules import codes_of, is_value
from mpsim.validate.sources import Source

ALL_BITS = 32


@dataclass(frozen=True)
class Frequency:
    """A point whose frequency of going up is not the expected one."""

    input: float
    expected_share: float
    share: float
    draws: int
    probability: float

    def to_dict(self) -> Record:
        return dict(vars(self))


@dataclass(frozen=True)
class Binade:
    """Numbers of a binade and sign, of those below the smallest normal number, or of all of a sign, that do not go up
    as often as they should. ends: those of the smallest and the largest magnitude. part: which of them, "" for all."""

    ends: tuple[float, float]
    expected_share: float
    share: float
    draws: int
    part: str = ""

    def to_dict(self) -> Record:
        return dict(vars(self))


@dataclass(frozen=True)
class StochasticReport(Report):
    """Given bits: trials compared exactly. Without: results that are neither neighbour, and wrong frequencies.

    policy: the declared one, or its default. certain: the inputs that no random bit decides. smallest: the smallest
    input whose result is wrong, with the random word where bits were given. binades: those with wrong frequencies, of
    ``spread`` numbers of all binades, each rounded once. causes: what gives every frequency, or every trial, the
    simplest first; none where nothing known does.
    """

    source: str
    format: str
    policy: Policy | IntegerPolicy
    bits_given: bool
    random_bit_count: int | None
    trials: int
    mismatches: int
    smallest: Counterexample | None
    word: int | None
    points: int
    frequencies: tuple[Frequency, ...]
    false_alarm_rate: float | None
    certain: Comparison | None = None
    spread: int = 0
    binades: tuple[Binade, ...] = ()
    causes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        certain = self.certain is None or self.certain.equal
        return Verdict.of(self.mismatches == 0 and not self.frequencies and not self.binades and certain)

    def details(self) -> Record:
        fields = {name: value for name, value in vars(self).items() if name not in Report.__dataclass_fields__}
        fields["policy"] = {"mode": self.policy.mode.value, "overflow": self.policy.overflow.value}
        fields["smallest"] = optional(self.smallest)
        fields["frequencies"] = [frequency.to_dict() for frequency in self.frequencies]
        fields["binades"] = [binade.to_dict() for binade in self.binades]
        fields["certain"] = optional(self.certain)
        return fields


def example_of(
    pattern: np.unsignedinteger, x: Array, expected: float, got: float, format: Format, source: Source
) -> Counterexample:
    given = Number(float(x[0]), int(pattern), source.digits)
    return Counterexample(given, _shown(expected, x, format), _shown(got, x, format), None)


def _shown(value: float, x: Array, format: Format) -> Number:
    digits = -(-format.bits // 4)
    if np.isfinite(value) and not is_value(np.array([value]), format)[0]:
        return Number(value, None, digits)
    code = int(codes_of(np.array([value]), x, format, None)[0])
    return Number(value, None if code == NO_CODE else code, digits)
