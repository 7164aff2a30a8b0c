"""Compares answers with a rule, classifies mismatches, names their causes, and finds the rule of an unknown subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from mpsim.files.records import Record
from mpsim.formats import FORMATS
from mpsim.integers import IntegerOverflow
from mpsim.integers.types import SPECIAL
from mpsim.kernels.contract import Array
from mpsim.policies import PLAIN_MODES, Mode
from mpsim.validate.answers import NO_CODE
from mpsim.validate.cast.classify import Kind
from mpsim.validate.cast.integers.asking import IntegerAnswers
from mpsim.validate.cast.integers.rules import HALVES, IntegerRule, words_of

#: The classes of mismatches and what they mean here.
MEANINGS = {
    Kind.ROUNDING: "rounded to the wrong neighbour, or to none, away from ties",
    Kind.TIE: "halfway between two integers",
    Kind.NEAR_TIE: "just beside the halfway point of two integers",
    Kind.OVERFLOW: "rounded, the input is outside the range of the type",
    Kind.INFINITY: "the input is infinite",
    Kind.NAN: "the input is NaN",
    Kind.NOT_IN_FORMAT: "the answer is not an integer of the type",
}


class IntegerExample(NamedTuple):
    """An input with its bits, and the two results, None for an answer that is not an integer of the type."""

    value: float | int
    bits: str
    expected: int
    got: int | None

    def __str__(self) -> str:
        got = "no integer of the type" if self.got is None else str(self.got)
        return f"{self.value!r} ({self.bits}): expected {self.expected}, got {got}"


class IntegerFinding(NamedTuple):
    """One class of mismatches: how many, the smallest, and the cause, a sentence, or None."""

    kind: Kind
    inputs: int
    smallest: IntegerExample
    cause: str | None

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""
        smallest = self.smallest._asdict()
        return {"class": self.kind.value, "count": self.inputs, "smallest": smallest, "cause": self.cause}


class IntegerComparison(NamedTuple):
    """The comparison of a rule with answers."""

    rule: IntegerRule
    inputs: int
    mismatches: int
    findings: tuple[IntegerFinding, ...]

    @property
    def equal(self) -> bool:
        return self.mismatches == 0

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""
        findings = [finding.to_dict() for finding in self.findings]
        return {"rule": self.rule.to_dict(), "mismatches": self.mismatches, "findings": findings}


def wrong(rule: IntegerRule, answers: IntegerAnswers) -> Array:
    """Returns which answers differ from the rule."""
    found = rule.codes(answers.x, answers.source) != answers.codes
    return found & ~np.isnan(answers.wide) if rule.any_nan else found


def compare(rule: IntegerRule, answers: IntegerAnswers) -> IntegerComparison:
    """Compares a rule with answers, by classes, each with its smallest member and its cause."""
    mismatches = wrong(rule, answers)
    findings = []
    if mismatches.any():
        expected = rule.codes(answers.x, answers.source)
        kinds = classes(rule, answers, mismatches, expected)
        for kind, members in kinds.items():
            named = cause(kind, rule, answers, members, mismatches)
            findings.append(IntegerFinding(kind, int(members.sum()), _smallest(answers, members, expected), named))
    return IntegerComparison(rule, answers.x.size, int(mismatches.sum()), tuple(findings))


def beyond(answers: IntegerAnswers) -> Array:
    """Returns which finite inputs may leave the range: those beyond the last half."""
    wide, target = answers.wide, answers.target
    with np.errstate(invalid="ignore"):
        return np.isfinite(wide) & ((wide >= target.most + 0.5) | (wide <= target.least - 0.5))


def classes(rule: IntegerRule, answers: IntegerAnswers, mismatches: Array, expected: Array) -> dict[Kind, Array]:
    """Returns the mismatches of each class that has some."""
    wide = answers.wide
    nan, infinite, outside = np.isnan(wide), np.isinf(wide), beyond(answers)
    plain = mismatches & ~nan & ~infinite & ~outside
    none = plain & (answers.codes == np.uint64(NO_CODE)) & (answers.target.bits < 64)
    plain &= ~none
    with np.errstate(invalid="ignore", over="ignore"):
        rest = np.abs(wide) - np.floor(np.abs(wide))
        tie = rest == 0.5
        near = (np.abs(rest - 0.5) <= np.maximum(2.0**-10, np.spacing(np.abs(wide).astype(answers.source.wide)))) & ~tie
    far = plain & ~tie & ~near
    found = {Kind.ROUNDING: plain, Kind.TIE: plain & False, Kind.NEAR_TIE: plain & False}
    if not far.any():
        found = {Kind.ROUNDING: far, Kind.TIE: plain & tie, Kind.NEAR_TIE: plain & near}
    found |= {
        Kind.OVERFLOW: mismatches & outside, Kind.INFINITY: mismatches & infinite, Kind.NAN: mismatches & nan,
        Kind.NOT_IN_FORMAT: none,
    }  # fmt: skip
    return {kind: members for kind, members in found.items() if members.any()}


def _smallest(answers: IntegerAnswers, members: Array, expected: Array) -> IntegerExample:
    at = np.flatnonzero(members)
    wide = answers.wide[at]
    first = int(at[np.lexsort((np.signbit(wide), np.abs(wide)))[0]])
    target, code = answers.target, int(answers.codes[first])
    got = None if code == NO_CODE and target.bits < 64 else target.number(code)
    bits = f"0x{int(answers.patterns[first]):0{answers.source.digits}x}"
    return IntegerExample(answers.x[first].item(), bits, target.number(int(expected[first])), got)


def cause(kind: Kind, rule: IntegerRule, answers: IntegerAnswers, members: Array, mismatches: Array) -> str | None:
    """Returns the change of one property that gives every answer of a class and every right one, or None.

    A change that concerns the numbers may give NaN another result: the class of NaN has causes of its own.
    """
    right = ~mismatches if kind is Kind.NAN and not rule.any_nan else ~mismatches & ~np.isnan(answers.wide)
    where = members | right
    x, codes = answers.x[where], answers.codes[where]
    for sentence, other in changes(kind, rule, answers):
        if np.array_equal(other.codes(x, answers.source), codes):
            return sentence
    return None


def changes(kind: Kind, rule: IntegerRule, answers: IntegerAnswers) -> Iterator[tuple[str, IntegerRule]]:
    """Yields rules that differ in one property that concerns a class, with a sentence for each."""
    if kind is Kind.NAN:
        for special in SPECIAL:
            yield f"NaN becomes {words_of(special)}", rule.with_(nan=special, any_nan=False)
        for number in nan_number(answers):
            yield f"NaN becomes {number}", rule.with_(nan=number, any_nan=False, via=None)
    if kind in (Kind.OVERFLOW, Kind.INFINITY, Kind.NAN):
        for other in outsides(rule):
            yield _words_of_outside(other), other
    if kind is Kind.INFINITY:
        for special in SPECIAL:
            yield f"infinity becomes {words_of(special)}", rule.with_(infinity=special)
    if kind in (Kind.INFINITY, Kind.NAN):
        return
    for mode in PLAIN_MODES:
        if mode is not rule.policy.mode:
            yield f"rounded as {mode.value}", rule.with_(mode=mode)
    for half, sentence in HALVES.items():
        yield sentence, rule.with_(half=half)
    for name in narrower(answers):
        yield f"x is rounded to nearest even to {name} first: two roundings", rule.with_(rounded_to=name)
    if answers.target.zero_point:
        yield "the zero point is added before rounding, in float32", rule.with_(zero_point_first=True)


def _words_of_outside(rule: IntegerRule) -> str:
    if rule.via is None:
        return f"overflow {rule.policy.overflow.value}"
    kept = "the low bits are kept" if rule.then == "wrap" else "the range is cut"
    return f"x becomes {rule.via} first (overflow {rule.policy.overflow.value}), of which {kept}"


def narrower(answers: IntegerAnswers) -> list[str]:
    """Returns the formats to which x may have been rounded first."""
    names = ("float64", "float32", "float16", "bfloat16")
    return [name for name in names if answers.source.may_pass(FORMATS[name])]


def outsides(rule: IntegerRule) -> Iterator[IntegerRule]:
    """Yields the rules for numbers outside the range: by overflow policy, and by way of a wider integer type."""
    for overflow in IntegerOverflow:
        if not (overflow is IntegerOverflow.WRAP and rule.target.layout == "sign_magnitude"):
            yield rule.with_(overflow=overflow, via=None)
    for name in ("int32", "int64", "int16", "uint32", "uint64"):
        if int(name.lstrip("uint")) > rule.target.bits:
            for then in ("wrap", "saturate") if rule.target.layout == "twos_complement" else ("saturate",):
                for overflow in IntegerOverflow:
                    yield rule.with_(overflow=overflow, via=name, then=then)


def nan_number(answers: IntegerAnswers) -> list[int]:
    """Returns the number of every NaN if there is exactly one."""
    codes = np.unique(answers.codes[np.isnan(answers.wide)])
    if codes.size != 1 or (int(codes[0]) == NO_CODE and answers.target.bits < 64):
        return []
    return [answers.target.number(int(codes[0]))]


def find(target_rule: IntegerRule, answers: IntegerAnswers) -> IntegerRule:
    """Finds the rule of the answers, or the nearest one, each property from the inputs that distinguish its values."""
    wide, outside = answers.wide, beyond(answers)
    rule = target_rule.with_(any_nan=not np.isnan(wide).any())
    inside = np.isfinite(wide) & ~outside
    middles = [rule.with_(mode=mode) for mode in PLAIN_MODES]
    middles += [rule.with_(mode=mode, rounded_to=name) for name in narrower(answers) for mode in PLAIN_MODES]
    middles += [rule.with_(half=half, mode=Mode.NEAREST_AWAY) for half in HALVES]
    if rule.target.zero_point:
        middles += [rule.with_(mode=mode, zero_point_first=True) for mode in PLAIN_MODES]
    rule = _best(middles, answers, inside)
    rule = _best(outsides(rule), answers, ~np.isnan(wide))
    if _count(rule, answers, outside):
        rule = _best(outsides(rule), answers, np.isfinite(wide))
    rule = _best([rule, *(rule.with_(infinity=special) for special in SPECIAL)], answers, np.isinf(wide))
    specials = [rule.with_(nan=special) for special in SPECIAL]
    specials += [rule.with_(nan=number) for number in nan_number(answers) if rule.via is None]
    return _best(specials, answers, np.isnan(wide))


def _count(rule: IntegerRule, answers: IntegerAnswers, where: Array) -> int:
    return int((rule.codes(answers.x[where], answers.source) != answers.codes[where]).sum())


def _best(rules: Iterable[IntegerRule], answers: IntegerAnswers, where: Array) -> IntegerRule:
    """Returns the first rule with the fewest differences there."""
    found, fewest = None, -1
    for rule in rules:
        count = _count(rule, answers, where)
        if found is None or count < fewest:
            found, fewest = rule, count
        if not fewest:
            break
    assert found is not None
    return found
