"""Compares a subject with a rule. It classifies every mismatch and finds the smallest counterexample of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from mpsim.files.records import Record
from mpsim.formats import Format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.validate.answers import NO_CODE, Outcome
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import Answers, ask
from mpsim.validate.cast.causes import Cause, Compared, cause, other_codes
from mpsim.validate.cast.classify import Kind, classify
from mpsim.validate.cast.rules import Rule, is_value
from mpsim.validate.grid import places
from mpsim.validate.sources import Source, widened


class Number(NamedTuple):
    """A number and its bits, which are None if the format has no code for it. Integers of 64 bits are exact."""

    value: float | int
    bits: int | None
    digits: int

    def to_dict(self) -> Record:
        return {"value": self.value, "bits": None if self.bits is None else f"0x{self.bits:0{self.digits}x}"}

    def __str__(self) -> str:
        bits = "no code" if self.bits is None else f"0x{self.bits:0{self.digits}x}"
        return f"{self.value!r} ({bits})"


class Counterexample(NamedTuple):
    """An input, the two results, and the exact midpoint of the two neighbours of the input."""

    input: Number
    expected: Number
    got: Number
    midpoint: Fraction | None

    def to_dict(self) -> Record:
        middle = self.midpoint
        return {
            "input": self.input.to_dict(),
            "expected": self.expected.to_dict(),
            "got": self.got.to_dict(),
            "midpoint": None if middle is None else {"value": float(middle), "exact": str(middle)},
        }


@dataclass(frozen=True)
class Finding:
    """One class of mismatches, with its number, its smallest member and its cause.

    ``cause`` is a sentence for a definition that gives all of these results and all right results, or None.
    ``observed`` is what else is true of all members, or "".
    """

    kind: Kind
    count: int
    smallest: Counterexample
    cause: str | None
    observed: str = ""

    def to_dict(self) -> Record:
        return {
            "class": self.kind.value,
            "count": self.count,
            "smallest": self.smallest.to_dict(),
            "cause": self.cause,
            "observed": self.observed,
        }


class Comparison(NamedTuple):
    """The comparison of a rule with answers. ``findings`` has the classes of mismatches."""

    rule: Rule
    inputs: int
    mismatches: int
    findings: tuple[Finding, ...]

    @property
    def equal(self) -> bool:
        return self.mismatches == 0

    def to_dict(self) -> Record:
        return {
            "rule": self.rule.to_dict(),
            "inputs": self.inputs,
            "mismatches": self.mismatches,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def expected_of(rule: Rule, answers: Answers, backend: str = DEFAULT_BACKEND) -> tuple[Outcome, Outcome]:
    """Returns expected results and answers, with keys that are equal if the results are, given the rule for NaN."""
    space = answers.results.space
    expected = rule.outcome(answers.x, answers.source, space, backend=backend)
    got = answers.results.outcome
    if rule.nan_codes == nans.ANY:
        got = Outcome(got.values, np.where(nans.as_good(expected, got, rule.format), expected.keys, got.keys))
    return expected, got


def count_differences(rule: Rule, answers: Answers, backend: str = DEFAULT_BACKEND) -> int:
    """Counts the answers that differ from the rule."""
    expected, got = expected_of(rule, answers, backend)
    return int((expected.keys != got.keys).sum())


def compare(rule: Rule, answers: Answers, *, shrink: bool = True, backend: str = DEFAULT_BACKEND) -> Comparison:
    """Classifies every mismatch. With ``shrink`` it searches for smaller counterexamples outside the corpus."""
    expected, got = expected_of(rule, answers, backend)
    wrong = expected.keys != got.keys
    if not wrong.any():
        return Comparison(rule, answers.patterns.size, 0, ())
    classes = classify(answers.x, expected, got, rule, answers.source, answers.results.space, backend)
    meant = other_codes(answers, got, rule, backend)
    compared = Compared(rule, answers, expected, got, classes, meant, backend)
    findings: list[Finding] = []
    for kind in Kind:
        members = classes.of(kind)
        if members.any():
            known = [finding.cause for finding in findings if finding.cause is not None]
            findings.append(_finding(kind, members, compared, shrink, known))
    return Comparison(rule, answers.patterns.size, int(wrong.sum()), tuple(findings))


def _finding(kind: Kind, members: Array, compared: Compared, shrink: bool, known: Sequence[str]) -> Finding:
    rule, answers, backend = compared.rule, compared.answers, compared.backend
    found: Cause = cause(kind, members, compared, known)
    one = answers.at(np.array([smallest_of(members, answers)]))
    can_shrink = answers.subject.vectors is None and answers.source.is_float
    if shrink and can_shrink and kind not in _NOT_SHRUNK:
        one = _positive(shrunk(one, kind, answers, rule, backend), rule, backend)
    return Finding(kind, int(members.sum()), counterexample(one, rule, backend), found.sentence, found.observed)


_NOT_SHRUNK = (Kind.NAN, Kind.NAN_CODE, Kind.INFINITY, Kind.TIE)


def magnitude_of(patterns: Array, source: Source) -> Array:
    """Returns patterns without their sign, which rise with the magnitude."""
    return patterns & patterns.dtype.type(source.magnitude_mask)


def smallest_of(members: Array, answers: Answers) -> int:
    """Returns the index of the member with the smallest magnitude, and of two the positive one."""
    at = np.flatnonzero(members)
    patterns = answers.patterns[at]
    if not answers.source.has_magnitudes:
        x = widened(answers.x[at])
        return int(at[np.lexsort((np.signbit(x), np.abs(x)))[0]])
    negative = (patterns & patterns.dtype.type(answers.source.sign_mask)) != 0
    return int(at[np.lexsort((negative, magnitude_of(patterns, answers.source)))[0]])


def _positive(one: Answers, rule: Rule, backend: str) -> Answers:
    """Returns the answer to the pattern without its sign if that is also a mismatch, otherwise ``one``."""
    twin = one.patterns & one.patterns.dtype.type(one.source.magnitude_mask)
    asked = ask(one.subject, one.source, one.format, twin)
    return asked if count_differences(rule, asked, backend) else one


def shrunk(one: Answers, kind: Kind, answers: Answers, rule: Rule, backend: str) -> Answers:
    """Finds the smallest mismatch between that of ``one`` and the next smaller input of its sign in the corpus.

    It probes at even distances, repeatedly, until the preceding number of the source is right, a tie or in the corpus.
    """
    sign_mask, source = answers.source.sign_mask, answers.source
    pattern = int(one.patterns[0])
    sign = pattern & sign_mask
    same_sign = (answers.patterns & answers.patterns.dtype.type(sign_mask)) == sign
    others = magnitude_of(answers.patterns[same_sign], source).astype(np.uint64)
    high = pattern & source.magnitude_mask
    smaller = others[others < high]
    low = int(smaller.max()) if smaller.size else -1
    while high - low > 1:
        count = min(high - low - 1, 4096)
        probes = np.unique(np.array([low + (high - low) * (i + 1) // (count + 1) for i in range(count)], np.uint64))
        probes = probes[(probes < high) & (probes > low)] if low >= 0 else probes[probes < high]
        if not probes.size:
            break
        asked = ask(answers.subject, source, answers.format, (probes | np.uint64(sign)).astype(source.unsigned))
        expected, got = expected_of(rule, asked, backend)
        wrong = expected.keys != got.keys
        if kind is not Kind.ZERO_SIGN:
            wrong &= ~((expected.values == 0) & (got.values == 0))
            wrong &= ~places(asked.x, answers.format, source).tie
        found = np.flatnonzero(wrong)
        if found.size:
            first = int(found[0])
            high, low = int(probes[first]), int(probes[first - 1]) if first else low
            one = asked.at(found[:1])
        else:
            low = int(probes[-1])
    return one


def counterexample(one: Answers, rule: Rule, backend: str = DEFAULT_BACKEND) -> Counterexample:
    """Returns the counterexample of a single answer."""
    source, format = one.source, one.format
    expected, got = expected_of(rule, one, backend)
    given = Number(one.x[0].item(), int(one.patterns[0]), source.digits)
    middle = None
    if math.isfinite(given.value) and given.value != 0:
        middle = exact_middle(one.x, format, source)
    return Counterexample(given, _number(expected, rule, one, True), _number(got, rule, one, False), middle)


def exact_middle(x: Array, format: Format, source: Source) -> Fraction:
    """Returns the midpoint of the neighbours of x, with x's sign, as a fraction."""
    place = places(x, format, source)
    middle = Fraction(float(place.lower[0])) + Fraction(float(place.quantum[0])) / 2
    return -middle if x[0] < 0 else middle


def _number(outcome: Outcome, rule: Rule, answers: Answers, expected: bool) -> Number:
    """Returns a result with its code, which is the answer or, for a subject that returns numbers, the format's."""
    value = float(outcome.values[0])
    keys = outcome.keys if answers.results.space == "codes" else rule.codes(outcome.values, answers.x)
    code = int(keys[0])
    if not expected and answers.results.space == "values" and not _representable(value, rule.format):
        code = NO_CODE
    return Number(value, None if code == NO_CODE else code, -(-rule.format.bits // 4))


def _representable(value: float, format: Format) -> bool:
    return not math.isfinite(value) or bool(is_value(np.array([value]), format)[0])
