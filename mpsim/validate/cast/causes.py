"""A sentence on the likely cause of a class of mismatches: the first hypothesis that explains all its members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.cast.classify import Kind, Staged
from mpsim.validate.cast.rules import NO_CODE, QUIRKS, Outcome, Rule
from mpsim.validate.grid import Places, places
from mpsim.validate.sources import widened

if TYPE_CHECKING:
    from mpsim.validate.cast.compare import Answers

Array = np.ndarray[Any, Any]

#: What a subject did instead, tried in this order: (sentence, result by its place and by the rule's format)
_TAKEN: tuple[tuple[str, Callable[[Places, Array, Rule], Array]], ...] = (
    ("it is flushed to zero", lambda place, y, rule: np.zeros(y.shape)),
    ("it goes to the smaller magnitude (truncation)", lambda place, y, rule: place.lower),
    ("it goes to the larger magnitude", lambda place, y, rule: place.lower + place.quantum),
    ("the input comes back unrounded", lambda place, y, rule: place.magnitude),
    (
        "the carry into the exponent is lost: the result is half of what it should be",
        lambda place, y, rule: np.abs(y) / 2,
    ),
    ("the result is twice what it should be", lambda place, y, rule: np.abs(y) * 2),
    (
        "the smallest normal number is given for everything below it",
        lambda place, y, rule: np.full(y.shape, rule.format.smallest_normal),
    ),
)


def cause(
    kind: Kind, members: Array, staged: Staged | None, answers: Answers, expected: Outcome, got: Outcome, rule: Rule,
    backend: str,
) -> str:  # fmt: skip
    """The sentence; it says "no single cause found" where no hypothesis explains every member."""
    x = answers.x[members]
    theirs = Outcome(got.values[members], got.keys[members])
    ours = Outcome(expected.values[members], expected.keys[members])
    if staged is not None and kind is staged.kind:
        return staged.sentence()
    if kind is Kind.NAN_CODE:
        return _nan_code(ours.keys, theirs.keys, answers)
    sentence = None
    if kind in (Kind.INFINITY, Kind.NAN):
        sentence = _special(kind, x, theirs.values, rule)
    if sentence is None and kind is Kind.ZERO_SIGN:
        sentence = _zero_sign(x, theirs.values)
    if sentence is None:
        sentence = _other_rule(kind, x, theirs, answers, rule, backend)
    if sentence is None and kind is Kind.OVERFLOW:
        sentence = _overflow(x, theirs.values, rule)
    if sentence is None and np.isfinite(x).all():
        sentence = _taken(kind, x, ours.values, theirs.values, answers, rule)
    return (sentence or "no single cause found") + _which_sign(members, answers)


def _which_sign(members: Array, answers: Answers) -> str:
    """ " (negative inputs only)" where both signs were tried and one is right."""
    x = answers.x[members]
    if np.isnan(x).any() or (x == 0).any():
        return ""
    negative = np.signbit(x)
    tried = set(np.abs(x[:1000]).tolist())
    others = -x[:1000]
    in_corpus = np.isin(others, answers.x)
    if len(tried) and in_corpus.all() and negative.all():
        return " (negative inputs only)"
    return " (positive inputs only)" if in_corpus.all() and not negative.any() else ""


def _other_rule(kind: Kind, x: Array, got: Outcome, answers: Answers, rule: Rule, backend: str) -> str | None:
    """Another mode, overflow policy or peculiarity that gives exactly these results."""
    modes: list[tuple[str, Rule]] = []
    for mode in Mode:
        if not mode.needs_random_bits and not mode.is_legacy and mode is not rule.policy.mode:
            modes.append((f"rounded as {mode.value}", rule.with_(policy=Policy(mode, rule.policy.overflow))))
    overflows: list[tuple[str, Rule]] = []
    for overflow in Overflow:
        if not rule.policy.mode.is_legacy and overflow is not rule.policy.overflow:
            policy = Policy(rule.policy.mode, overflow, rule.policy.random_bit_count)
            overflows.append((f"overflow {overflow.value}", rule.with_(policy=policy)))
    candidates = [*overflows, *modes] if kind in (Kind.OVERFLOW, Kind.INFINITY) else [*modes, *overflows]
    names = [name for name in QUIRKS if name not in rule.quirks]
    candidates += [(QUIRKS[name].sentence, rule.with_(quirks=(*rule.quirks, name))) for name in names]
    for via in ("float32", "tf32", "float16", "bfloat16"):
        sentence = f"bits beyond {via} are dropped before rounding, without a sticky bit"
        candidates.append((sentence, rule.with_(via=via, via_truncates=True)))
    best, most = "", 0
    for sentence, other in candidates:
        if any(QUIRKS[name].reads_payloads for name in other.quirks) and answers.source.name != "float32":
            continue
        keys = other.outcome(x, answers.source, answers.results.space, backend=backend).keys
        explained = int((keys == got.keys).sum())
        if explained == keys.size:
            return sentence
        if explained > most:
            best, most = sentence, explained
    return f"{best} (this explains {most:,} of {x.size:,})" if most > 0.9 * x.size else None


def _special(kind: Kind, x: Array, got: Array, rule: Rule) -> str | None:
    what = "infinity" if kind is Kind.INFINITY else "NaN"
    if kind is Kind.NAN and not np.isnan(x).all():
        return "NaN for a number" if np.isnan(got).all() else None
    for word, value in (("infinity", np.inf), ("the largest number", rule.format.largest), ("zero", 0.0)):
        if (np.abs(got) == value).all():
            return f"{what} becomes {word}{_signs_of(got)}"
    if np.isnan(got).all():
        return f"{what} becomes NaN"
    if np.unique(got).size == 1:
        return f"{what} becomes {float(got[0])!r}"
    return None


def _signs_of(got: Array) -> str:
    negative = np.signbit(got)
    return ", always negative" if negative.all() and got.size > 1 else ""


def _nan_code(expected: Array, got: Array, answers: Answers) -> str:
    digits = -(-answers.format.bits // 4)
    pairs = sorted({(int(e), int(g)) for e, g in zip(expected[:4096], got[:4096], strict=True)})
    words = [
        f"0x{g:0{digits}x} where {f'0x{e:0{digits}x}' if e != NO_CODE else 'no code'} is expected" for e, g in pairs[:2]
    ]
    return "NaN has code " + ", ".join(words) + (f", and {len(pairs) - 2} others" if len(pairs) > 2 else "")


def _zero_sign(x: Array, got: Array) -> str:
    if np.signbit(got).any():
        return "a zero gets a minus sign"
    if (x == 0).all():
        return "-0 loses its sign"
    return "negative numbers that round to zero give +0" + (", and so does -0" if (x == 0).any() else "")


def _overflow(x: Array, got: Array, rule: Rule) -> str | None:
    threshold = rule.format.overflow_threshold[0]
    magnitude = np.abs(widened(x))
    if (magnitude == threshold).all():
        return "the midpoint between the largest number and the next of the grid is decided wrongly"
    if (magnitude <= threshold).all() and (not np.isfinite(got).any() or (magnitude > rule.format.largest).all()):
        return "overflow is decided before rounding, at the largest number, not at the midpoint beyond it"
    if (np.abs(got) == rule.format.largest).all():
        return "some of what overflows saturates"
    if (got == 0).all():
        return f"from {float(magnitude.min()):g} to {float(magnitude.max()):g} everything becomes zero"
    if np.isfinite(got).all() and (magnitude > threshold).any():
        return "results beyond the largest number are not caught: the exponent or code runs over"
    return None


def _taken(kind: Kind, x: Array, expected: Array, got: Array, answers: Answers, rule: Rule) -> str | None:
    place = places(x, rule.format, answers.source)
    if place.near.all():
        return "numbers this close to a tie are taken for ties, or not told apart from them"
    for sentence, result in _TAKEN:
        if (result(place, expected, rule) == np.abs(got)).all():
            return sentence
    wrong_side = np.signbit(got) != np.signbit(expected)
    if wrong_side.all():
        return "the sign of the result is wrong"
    neighbours = (np.abs(got) == place.lower) | (np.abs(got) == place.lower + place.quantum)
    if neighbours.all():
        return "ties go to the other neighbour" if kind is Kind.TIE else "the other neighbour is given"
    return "the result is neither of the two neighbours"
