"""A subject against a rule: every mismatch of a corpus classed, the smallest counterexample of each class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import Format
from mpsim.validate.cast.causes import cause
from mpsim.validate.cast.classify import Classes, Kind, classify
from mpsim.validate.cast.rules import NO_CODE, Outcome, Rule, is_value
from mpsim.validate.grid import places
from mpsim.validate.sources import Source
from mpsim.validate.subjects.adapters import Results, Subject

Array = np.ndarray[Any, Any]
CHUNK = 1 << 20


@dataclass(frozen=True)
class Answers:
    """What a subject answered to a corpus of patterns."""

    subject: Subject
    source: Source
    format: Format
    patterns: Array
    x: Array
    results: Results


class Number(NamedTuple):
    """A number and its bits; bits None where the format has no code for it."""

    value: float
    bits: int | None
    digits: int

    def as_json(self) -> dict[str, Any]:
        return {"value": self.value, "bits": None if self.bits is None else f"0x{self.bits:0{self.digits}x}"}

    def __str__(self) -> str:
        bits = "no code" if self.bits is None else f"0x{self.bits:0{self.digits}x}"
        return f"{self.value!r} ({bits})"


class Counterexample(NamedTuple):
    """An input, the two results, and the real midpoint of the two neighbours around the input."""

    input: Number
    expected: Number
    got: Number
    midpoint: Fraction | None

    def as_json(self) -> dict[str, Any]:
        middle = self.midpoint
        return {
            "input": self.input.as_json(),
            "expected": self.expected.as_json(),
            "got": self.got.as_json(),
            "midpoint": None if middle is None else {"value": float(middle), "exact": str(middle)},
        }


@dataclass(frozen=True)
class Finding:
    """One class of mismatches: how many, the smallest, the likely cause."""

    kind: Kind
    count: int
    smallest: Counterexample
    cause: str

    def as_json(self) -> dict[str, Any]:
        return {
            "class": self.kind.value,
            "count": self.count,
            "smallest": self.smallest.as_json(),
            "cause": self.cause,
        }


class Comparison(NamedTuple):
    """A rule against the answers: findings by class, none where everything is equal."""

    rule: Rule
    inputs: int
    mismatches: int
    findings: tuple[Finding, ...]

    @property
    def equal(self) -> bool:
        return self.mismatches == 0

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule.as_json(),
            "inputs": self.inputs,
            "mismatches": self.mismatches,
            "findings": [finding.as_json() for finding in self.findings],
        }


def ask(subject: Subject, source: Source, format: Format, patterns: Array) -> Answers:
    """Runs the subject on patterns. Raises SubjectError where it fails."""
    parts = [subject.run(chunk, source, format) for chunk in chunks(patterns)]
    joined = Outcome(
        np.concatenate([part.outcome.values for part in parts]), np.concatenate([part.outcome.keys for part in parts])
    )
    return Answers(subject, source, format, patterns, source.values(patterns), Results(parts[0].space, joined))


def chunks(patterns: Array) -> Iterator[Array]:
    """Contiguous pieces of at most CHUNK patterns."""
    for start in range(0, max(patterns.size, 1), CHUNK):
        yield np.ascontiguousarray(patterns[start : start + CHUNK])


def expected_of(rule: Rule, answers: Answers, backend: str = "compiled") -> tuple[Outcome, Outcome]:
    """(expected, got) in keys that are equal where the results are, under the rule's view of NaN."""
    space = answers.results.space
    expected = rule.outcome(answers.x, answers.source, space, backend=backend)
    got = answers.results.outcome
    if space == "codes" and rule.nan_codes == "any":
        both = np.isnan(expected.values) & np.isnan(got.values)
        got = Outcome(got.values, np.where(both, expected.keys, got.keys))
    return expected, got


def count_differences(rule: Rule, answers: Answers, backend: str = "compiled") -> int:
    """How many of the answers the rule does not give."""
    expected, got = expected_of(rule, answers, backend)
    return int((expected.keys != got.keys).sum())


def compare(rule: Rule, answers: Answers, *, shrink: bool = True, backend: str = "compiled") -> Comparison:
    """Every mismatch classed; with ``shrink`` the counterexamples are made as small as they go."""
    expected, got = expected_of(rule, answers, backend)
    wrong = expected.keys != got.keys
    if not wrong.any():
        return Comparison(rule, answers.patterns.size, 0, ())
    classes = classify(answers.x, expected, got, rule, answers.source, answers.results.space, backend)
    findings = []
    for kind in Kind:
        members = classes.of(kind)
        if members.any():
            findings.append(_finding(kind, members, classes, expected, got, rule, answers, shrink, backend))
    return Comparison(rule, answers.patterns.size, int(wrong.sum()), tuple(findings))


def _finding(
    kind: Kind, members: Array, classes: Classes, expected: Outcome, got: Outcome, rule: Rule, answers: Answers,
    shrink: bool, backend: str,
) -> Finding:  # fmt: skip
    sentence = cause(kind, members, classes.staged, answers, expected, got, rule, backend)
    at = smallest_of(members, answers)
    pattern = int(answers.patterns[at])
    if shrink and answers.subject.inputs is None and kind not in (Kind.NAN, Kind.NAN_CODE, Kind.INFINITY, Kind.TIE):
        pattern = _positive(shrunk(pattern, kind, answers, rule, backend), answers, rule, backend)
    return Finding(kind, int(members.sum()), counterexample(pattern, rule, answers, backend), sentence)


def magnitude_of(patterns: Array, source: Source) -> Array:
    """Patterns without their sign: they rise with the magnitude."""
    return patterns & patterns.dtype.type(source.sign_mask - 1)


def smallest_of(members: Array, answers: Answers) -> int:
    """Position of the member smallest in magnitude, the positive one of two."""
    at = np.flatnonzero(members)
    patterns = answers.patterns[at]
    negative = (patterns & patterns.dtype.type(answers.source.sign_mask)) != 0
    return int(at[np.lexsort((negative, magnitude_of(patterns, answers.source)))[0]])


def _positive(pattern: int, answers: Answers, rule: Rule, backend: str) -> int:
    """The pattern without its sign if that is a mismatch as well."""
    twin = pattern & (answers.source.sign_mask - 1)
    asked = ask(answers.subject, answers.source, answers.format, np.array([twin], answers.source.unsigned))
    return pattern if count_differences(rule, asked, backend) == 0 else twin


def shrunk(pattern: int, kind: Kind, answers: Answers, rule: Rule, backend: str) -> int:
    """The first mismatch between ``pattern`` and the next smaller input of its sign in the corpus: found by probing
    evenly, again and again, until the neighbour before it in the source is right (or a tie, or in the corpus)."""
    sign_mask, source = answers.source.sign_mask, answers.source
    sign = pattern & sign_mask
    same_sign = (answers.patterns & answers.patterns.dtype.type(sign_mask)) == sign
    others = magnitude_of(answers.patterns[same_sign], source).astype(np.uint64)
    high = pattern & (sign_mask - 1)
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
        else:
            low = int(probes[-1])
    return high | sign


def counterexample(pattern: int, rule: Rule, answers: Answers, backend: str = "compiled") -> Counterexample:
    """Input and results of one pattern."""
    source, format = answers.source, answers.format
    one = np.array([pattern], source.unsigned)
    asked = ask(answers.subject, source, format, one)
    expected, got = expected_of(rule, asked, backend)
    given = Number(float(asked.x[0]), pattern, source.format.bits // 4)
    middle = None
    if math.isfinite(given.value) and given.value != 0:
        middle = exact_middle(asked.x, format, source)
    return Counterexample(given, _number(expected, rule, asked, True), _number(got, rule, asked, False), middle)


def exact_middle(x: Array, format: Format, source: Source) -> Fraction:
    """The midpoint of the neighbours around x, with x's sign, as a fraction."""
    place = places(x, format, source)
    middle = Fraction(float(place.lower[0])) + Fraction(float(place.quantum[0])) / 2
    return -middle if x[0] < 0 else middle


def _number(outcome: Outcome, rule: Rule, answers: Answers, expected: bool) -> Number:
    """A result with its code: the one answered, or for a subject that gives numbers, the format's."""
    value = float(outcome.values[0])
    keys = outcome.keys if answers.results.space == "codes" else rule.codes(outcome.values, answers.x)
    code = int(keys[0])
    if not expected and answers.results.space == "values" and not _representable(value, rule.format):
        code = NO_CODE
    return Number(value, None if code == NO_CODE else code, -(-rule.format.bits // 4))


def _representable(value: float, format: Format) -> bool:
    return not math.isfinite(value) or bool(is_value(np.array([value]), format)[0])
