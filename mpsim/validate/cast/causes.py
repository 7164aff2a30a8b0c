"""Finds the cause of a class of mismatches, i.e. a definition that explains it and changes no right result there.

A sentence that holds for every member but is not such a definition is an observation. Without either, the class is
reported as unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.policies import PLAIN_MODES, Overflow, Policy
from mpsim.rounding import decode
from mpsim.validate.answers import NO_CODE, Outcome
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import Answers
from mpsim.validate.cast.classify import Classes, Kind, Staged, staged_outcome
from mpsim.validate.cast.policy.treatments import FIELDS, QUIRKS
from mpsim.validate.cast.rules import Rule
from mpsim.validate.grid import Places, places
from mpsim.validate.readings import alike, meaning
from mpsim.validate.sources import SOURCES, widened


class Cause(NamedTuple):
    """The cause of a class. ``sentence`` is the definition, or None. ``observed`` is true of every member, or ""."""

    sentence: str | None
    observed: str = ""


#: The number of inputs on which a definition is tried first.
SAMPLE = 256
#: Observations, in this order: a sentence, and the result that it describes for a place, the expected result and a
#: rule.
_OBSERVED: tuple[tuple[str, Callable[[Places, Array, Rule], Array]], ...] = (
    ("every result is zero", lambda place, y, rule: np.zeros(y.shape)),
    ("every result is the neighbour of smaller magnitude", lambda place, y, rule: place.lower),
    ("every result is the neighbour of larger magnitude", lambda place, y, rule: place.lower + place.quantum),
    ("every input comes back unrounded", lambda place, y, rule: place.magnitude),
    (
        "every result is half of what it should be, as where a carry into the exponent is lost",
        lambda place, y, rule: np.abs(y) / 2,
    ),
    ("every result is twice what it should be", lambda place, y, rule: np.abs(y) * 2),
    (
        "every result is the smallest normal number",
        lambda place, y, rule: np.full(y.shape, rule.format.smallest_normal),
    ),
)


@dataclass(frozen=True, eq=False)
class Compared:
    """What is known of answers that differ from a rule. ``meant``: what ``other_codes`` found of every answer."""

    rule: Rule
    answers: Answers
    expected: Outcome
    got: Outcome
    classes: Classes
    meant: str | None
    backend: str


def cause(kind: Kind, members: Array, compared: Compared, known: Sequence[str] = ()) -> Cause:
    """Finds the cause of a class, whose members are given as a mask.

    ``known`` are the causes of other classes. They are tried first, because one defect that explains two classes is
    more likely than two defects.
    """
    rule, answers, got, backend = compared.rule, compared.answers, compared.got, compared.backend
    asked, ours, theirs = answers.at(members), compared.expected.at(members), got.at(members)
    right = (compared.expected.keys == got.keys) & _region(kind, widened(answers.x), rule)
    sign, staged = _which_sign(asked, answers), compared.classes.staged
    if staged is not None and kind is staged.kind and _explains(staged, members | right, answers, got, rule, backend):
        return Cause(staged.sentence())
    if compared.meant is not None:
        return Cause(compared.meant)
    if kind is Kind.NAN_CODE:
        return Cause(None, _nan_code(ours.keys, theirs.keys, answers))
    others = sorted(_other_rules(kind, rule, answers), key=lambda row: row[0] not in known)
    explaining = [row for row in others if _gives(row[1], asked, theirs, backend)]
    for words, part in _parts(members, answers, rule):
        for sentence, other in explaining:
            if _gives(other, answers.at(right & part), got.at(right & part), backend):
                return Cause(sentence + words + sign)
    observed = _observed(kind, asked, ours.values, theirs.values, rule)
    return Cause(None, observed + sign if observed else "")


def other_codes(answers: Answers, got: Outcome, rule: Rule, backend: str) -> str | None:
    """Returns words if codes of the source, or of the result, are read as those of another format, which explains
    every answer."""
    source = answers.source
    if not source.is_float and source.integer is None:
        for other in alike(source.format):

            def read(where: Array | slice, other: Format = other) -> Outcome:
                x = np.asarray(decode(answers.patterns[where], other, np.float64, threads=1))
                return rule.outcome(x, SOURCES["float64"], answers.results.space, backend=backend)

            if _equal(read, got, lambda found, got: _all_equal(found, got, rule)):
                return f"codes of {source.name} are read as {meaning(other)}"
    if answers.results.space == "codes":
        for other in alike(rule.format):
            changed = rule.with_(format=other)

            def encoded(where: Array | slice, changed: Rule = changed) -> Outcome:
                return changed.outcome(answers.x[where], source, "codes", backend=backend)

            if other.fits_float32 and _equal(encoded, got, lambda found, got: np.array_equal(found.keys, got.keys)):
                return f"results are encoded as {meaning(other)}"
    return None


def _equal(outcome: Callable[[Array | slice], Outcome], got: Outcome, same: Callable[[Outcome, Outcome], bool]) -> bool:
    """Returns whether the outcome for every input is the same. A few of them refute most."""
    size = got.keys.size
    few: Array | slice = np.unique(np.linspace(0, size - 1, SAMPLE).astype(int))
    return all(
        same(outcome(where), got.at(where)) for where in ((few, slice(None)) if size > SAMPLE else (slice(None),))
    )


def _all_equal(found: Outcome, got: Outcome, rule: Rule) -> bool:
    equal = found.keys == got.keys
    if rule.nan_codes == nans.ANY:
        equal |= nans.as_good(found, got, rule.format)
    return bool(equal.all())


def _region(kind: Kind, x: Array, rule: Rule) -> Array:
    """Returns the inputs that a cause of this class concerns. It must not change right results among them."""
    if kind in (Kind.NAN, Kind.NAN_CODE):
        return np.isnan(x)
    with np.errstate(invalid="ignore"):
        beyond = np.abs(x) > rule.format.largest
    return beyond if kind in (Kind.OVERFLOW, Kind.INFINITY) else np.isfinite(x) & ~beyond


def _parts(members: Array, answers: Answers, rule: Rule) -> Iterator[tuple[str, Array]]:
    """Yields the inputs that a cause may concern, with words for them: all inputs, or the side of the smallest normal
    number that contains every member."""
    yield "", np.ones(members.shape, bool)
    with np.errstate(invalid="ignore"):
        below = np.abs(widened(answers.x)) < rule.format.smallest_normal
    for words, part in (
        (", but not below the smallest normal number", ~below),
        (", but only below the smallest normal number", below),
    ):
        if (part | ~members).all():
            yield words, part


def _gives(rule: Rule, asked: Answers, got: Outcome, backend: str) -> bool:
    """Returns whether the rule gives exactly these results."""

    def given(where: Array | slice) -> Outcome:
        return rule.outcome(asked.x[where], asked.source, asked.results.space, backend=backend)

    return _equal(given, got, lambda found, got: _all_equal(found, got, rule))


def _explains(staged: Staged, where: Array, answers: Answers, got: Outcome, rule: Rule, backend: str) -> bool:
    """Returns whether a double rounding gives every result there, except signs of zeros and overflow, which have
    separate classes."""
    asked, theirs = answers.at(where), got.at(where)
    inside = np.isfinite(asked.x) & (np.abs(widened(asked.x)) <= rule.format.largest)
    asked, theirs = asked.at(inside), theirs.at(inside)
    found = staged_outcome(staged, asked.x, rule, answers.source, answers.results.space, backend)
    zeros = (found.values == 0) & (theirs.values == 0)
    return bool(((found.keys == theirs.keys) | zeros).all())


def _which_sign(asked: Answers, answers: Answers) -> str:
    """Returns e.g. " (negative inputs only)" if both signs were tried and only one is wrong."""
    x = asked.x
    if np.isnan(x).any() or (x == 0).any():
        return ""
    negative = np.signbit(x)
    in_corpus = np.isin(-x[:1000], answers.x)
    if in_corpus.all() and negative.all():
        return " (negative inputs only)"
    return " (positive inputs only)" if in_corpus.all() and not negative.any() else ""


def _other_rules(kind: Kind, rule: Rule, answers: Answers) -> Iterator[tuple[str, Rule]]:
    """Yields rules that differ in one property: mode, overflow, a field, a quirk, or bits dropped before rounding."""
    modes: list[tuple[str, Rule]] = []
    for mode in PLAIN_MODES:
        if mode is not rule.policy.mode:
            modes.append((f"rounded as {mode.value}", rule.with_(policy=Policy(mode, rule.policy.overflow))))
    overflows: list[tuple[str, Rule]] = []
    for overflow in Overflow:
        if not rule.policy.mode.is_legacy and overflow is not rule.policy.overflow:
            policy = Policy(rule.policy.mode, overflow, rule.policy.random_bit_count)
            overflows.append((f"overflow {overflow.value}", rule.with_(policy=policy)))
    yield from [*overflows, *modes] if kind in (Kind.OVERFLOW, Kind.INFINITY) else [*modes, *overflows]
    for field, values in FIELDS.items():
        for value, treatment in values.items():
            if value != getattr(rule, field):
                yield treatment.sentence, rule.with_(**{field: value})
    for name, quirk in QUIRKS.items():
        if name not in rule.quirks and not (quirk.reads_payloads and answers.source.name != "float32"):
            yield quirk.sentence, rule.with_(quirks=(*rule.quirks, name))
    for via in ("float64", "float32", "tf32", "float16", "bfloat16"):
        sentence = f"bits beyond {via} are dropped before rounding, without a sticky bit"
        yield sentence, rule.with_(via=via, via_truncates=True)


def _nan_code(expected: Array, got: Array, answers: Answers) -> str:
    digits = -(-answers.format.bits // 4)
    pairs = sorted({(int(e), int(g)) for e, g in zip(expected[:4096], got[:4096], strict=True)})
    words = [
        f"0x{g:0{digits}x} where {f'0x{e:0{digits}x}' if e != NO_CODE else 'no code'} is expected" for e, g in pairs[:2]
    ]
    return "NaN has code " + ", ".join(words) + (f", and {len(pairs) - 2} others" if len(pairs) > 2 else "")


# -- observations ---------------------------------------------------------------------------------------------


def _observed(kind: Kind, asked: Answers, expected: Array, got: Array, rule: Rule) -> str:
    """Returns a sentence that is true of every member, or ""."""
    x = widened(asked.x)
    if kind in (Kind.INFINITY, Kind.NAN):
        return _of_specials(kind, x, got, rule)
    if kind is Kind.ZERO_SIGN:
        return _of_zero_signs(x, got)
    if kind is Kind.OVERFLOW and (words := _of_overflow(x, got, rule)):
        return words
    return _of_neighbours(asked, expected, got, rule) if np.isfinite(x).all() else ""


def _of_specials(kind: Kind, x: Array, got: Array, rule: Rule) -> str:
    what = "infinity" if kind is Kind.INFINITY else "NaN"
    if kind is Kind.NAN and not np.isnan(x).all():
        return "NaN for a number" if np.isnan(got).all() else ""
    for word, value in (("infinity", np.inf), ("the largest number", rule.format.largest), ("zero", 0.0)):
        if (np.abs(got) == value).all():
            negative = ", always negative" if np.signbit(got).all() and got.size > 1 else ""
            return f"{what} becomes {word}{negative}"
    if np.isnan(got).all():
        return f"{what} becomes NaN"
    results = list(dict.fromkeys(repr(float(value)) for value in got[~np.isnan(got)]))
    return f"{what} becomes {', '.join(results)}" if len(results) <= 4 else ""


def _of_zero_signs(x: Array, got: Array) -> str:
    if np.signbit(got).all():
        return "a zero gets a minus sign"
    if np.signbit(got).any():
        return ""
    if (x == 0).all():
        return "-0 loses its sign"
    return "negative numbers that round to zero give +0" + (", and so does -0" if (x == 0).any() else "")


def _of_overflow(x: Array, got: Array, rule: Rule) -> str:
    threshold, largest = rule.format.overflow_threshold[0], rule.format.largest
    magnitude = np.abs(x)
    if not np.isfinite(magnitude).all():
        return ""
    if (magnitude == threshold).all():
        return "the midpoint between the largest number and the next of the grid is decided wrongly"
    if ((magnitude > largest) & (magnitude <= threshold) & ~np.isfinite(got)).all():
        return "beyond the largest number everything overflows, also what rounds to it"
    if (np.abs(got) == largest).all():
        return "every result is the largest number"
    if (got == 0).all():
        return f"every result is zero, for inputs from {float(magnitude.min()):g} to {float(magnitude.max()):g}"
    if np.isfinite(got).all() and (np.abs(got) < largest).all() and (magnitude > largest).all():
        return "every result is a smaller number than the largest, as where the exponent or the code runs over"
    return ""


def _of_neighbours(asked: Answers, expected: Array, got: Array, rule: Rule) -> str:
    place = places(asked.x, rule.format, asked.source)
    with np.errstate(invalid="ignore", over="ignore"):
        if place.near.all() and (np.abs(got) == np.abs(rule.values(place.middle, SOURCES["float64"]))).all():
            return "inputs this close to a tie are treated as ties"
        for sentence, result in _OBSERVED:
            if (result(place, expected, rule) == np.abs(got)).all():
                return sentence
        if ((got == -expected) & (got != 0)).all():
            return "every result has the wrong sign"
        beside = (np.abs(got) == place.lower) | (np.abs(got) == place.lower + place.quantum)
    if beside.all():
        return "every result is the other of the two neighbours"
    return "no result is one of the two neighbours" if not beside.any() else ""
