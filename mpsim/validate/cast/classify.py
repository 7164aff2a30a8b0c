"""Classifies mismatches by where they occur and where they do not.

A wrong tie whose surroundings are right is a defect in ties. A wrong tie is not, if everything around it is wrong too.
The class of a mismatch therefore depends on the entire corpus.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from mpsim.formats import FORMATS
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.policies import Mode
from mpsim.validate.answers import Outcome, value_keys
from mpsim.validate.cast.rules import Rule, is_value
from mpsim.validate.grid import Places, places
from mpsim.validate.sources import Source, widened


class Kind(StrEnum):
    """The classes of mismatches, in the order of a report."""

    ROUNDING = "rounding"
    TIE = "tie"
    NEAR_TIE = "near_tie"
    DOUBLE_ROUNDING = "double_rounding"
    SUBNORMAL = "subnormal"
    SUBNORMAL_INPUT = "subnormal_input"
    POWER_OF_TWO = "power_of_two_edge"
    OVERFLOW = "overflow_edge"
    INFINITY = "infinity"
    NAN = "nan"
    NAN_CODE = "nan_code"
    ZERO_SIGN = "sign_of_zero"
    NOT_IN_FORMAT = "not_in_format"


MEANINGS = {
    Kind.ROUNDING: "rounded to the wrong neighbour, or to none, away from ties",
    Kind.TIE: "halfway between two numbers of the format",
    Kind.NEAR_TIE: "just beside the halfway point of two numbers",
    Kind.DOUBLE_ROUNDING: "rounded to another type first",
    Kind.SUBNORMAL: "below the smallest normal number",
    Kind.SUBNORMAL_INPUT: "the input is zero or subnormal in its own format, and the result is not",
    Kind.POWER_OF_TWO: "next to a power of two, where exponent or spacing changes",
    Kind.OVERFLOW: "at or beyond the largest number",
    Kind.INFINITY: "the input is infinite",
    Kind.NAN: "NaN in, or NaN out for a number",
    Kind.NAN_CODE: "NaN, with another code",
    Kind.ZERO_SIGN: "zero of the other sign",
    Kind.NOT_IN_FORMAT: "the result is not a number of the format",
}


class Staged(NamedTuple):
    """A double rounding that explains mismatches.

    ``via`` is the first type, ``truncates`` and ``shifted`` describe the conversion to it, and ``mode`` is the final
    mode. ``also`` are further types that explain the mismatches.
    """

    via: str
    truncates: bool
    mode: Mode
    shifted: bool = False
    also: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """The class. Truncation is not a rounding, but it hides on which side of a tie x is."""
        return Kind.NEAR_TIE if self.truncates else Kind.DOUBLE_ROUNDING

    def sentence(self) -> str:
        first = " or ".join((self.via, *self.also))
        if self.truncates:
            return f"bits beyond {first} are dropped before rounding, without a sticky bit"
        if self.shifted:
            return (
                "below the smallest normal number x + smallest normal is rounded to float32, then to the format: "
                f"two roundings, the second {self.mode.value}"
            )
        return f"x is rounded to nearest even to {first} first, then rounded ({self.mode.value}): two roundings"


class Classes(NamedTuple):
    """The class of each input as an index in ``list(Kind)``, -1 if it is right, and the double rounding found."""

    kinds: Array
    staged: Staged | None

    def of(self, kind: Kind) -> Array:
        """Returns which inputs have this class."""
        return np.asarray(self.kinds == list(Kind).index(kind))


def classify(
    x: Array, expected: Outcome, got: Outcome, rule: Rule, source: Source, space: str, backend: str = DEFAULT_BACKEND
) -> Classes:
    """Classifies every mismatch of a corpus x (of the source's wide type) with ``rule``."""
    kinds = np.full(x.shape, -1, np.int8)
    wrong = expected.keys != got.keys
    staged = None
    if wrong.any():
        wide = widened(x)
        rest = _mark_specials(kinds, wide, expected.values, got.values, wrong, rule)
        inside = np.isfinite(wide) & (np.abs(wide) <= rule.format.largest)
        rest = _mark_subnormal_inputs(kinds, wide, rest, rule, source)
        if rest.any():
            at = np.flatnonzero(inside)
            place = places(x[at], rule.format, source)
            staged = find_staged(
                x[at], _taken(expected, at), _taken(got, at), rest[at], place, rule, source, space, backend
            )
            inner = kinds[at]
            if staged is not None:
                explained = staged_outcome(staged, x[at], rule, source, space, backend).keys != expected.keys[at]
                _mark(inner, rest[at] & explained & ~place.tie, staged.kind)
            _mark_rounding(inner, rest[at] & (inner < 0), place)
            kinds[at] = inner
            _move_edge(kinds, staged, x, got.keys, rule, source, space, backend)
    return Classes(kinds, staged)


def _mark(kinds: Array, where: Array, kind: Kind) -> None:
    kinds[where & (kinds < 0)] = list(Kind).index(kind)


def _mark_specials(kinds: Array, x: Array, expected: Array, got: Array, wrong: Array, rule: Rule) -> Array:
    """Marks mismatches that do not concern rounding, and returns the others."""
    format = rule.format
    nan_in, both_nan = np.isnan(x), np.isnan(expected) & np.isnan(got)
    _mark(kinds, wrong & both_nan, Kind.NAN_CODE)
    _mark(kinds, wrong & nan_in, Kind.NAN)
    _mark(kinds, wrong & np.isinf(x), Kind.INFINITY)
    _mark(kinds, wrong & (expected == 0) & (got == 0), Kind.ZERO_SIGN)
    beyond = (np.abs(x) > format.largest) | np.isinf(got) | (np.abs(expected) > format.largest)
    at_largest = (np.abs(x) == format.largest) & (np.abs(got) != np.abs(expected))
    _mark(kinds, wrong & (beyond | at_largest), Kind.OVERFLOW)
    _mark(kinds, wrong & (np.isnan(got) | np.isnan(expected)), Kind.NAN)
    rest = wrong & (kinds < 0)
    if rest.any():
        at = np.flatnonzero(rest)
        _mark(kinds, _scattered(at[~is_value(got[at], format)], kinds.shape), Kind.NOT_IN_FORMAT)
    return wrong & (kinds < 0)


def _mark_subnormal_inputs(kinds: Array, x: Array, rest: Array, rule: Rule, source: Source) -> Array:
    """Marks mismatches if all of them have zeros or subnormal inputs of a source with a smaller range than the format,
    and returns the others."""
    if source.smallest_normal <= rule.format.smallest_normal or (rest & (np.abs(x) >= source.smallest_normal)).any():
        return rest
    _mark(kinds, rest, Kind.SUBNORMAL_INPUT)
    return rest & False


def _move_edge(
    kinds: Array, staged: Staged | None, x: Array, got: Array, rule: Rule, source: Source, space: str, backend: str
) -> None:
    """Moves mismatches at the midpoint beyond the largest number, which is also a tie, to the class of other ties."""
    edge, order = list(Kind).index(Kind.OVERFLOW), list(Kind)
    at = np.flatnonzero((kinds == edge) & np.isfinite(x))
    place = places(x[at], rule.format, source)
    beside = place.lower <= rule.format.largest
    moved = np.full(at.shape, edge, np.int8)
    for kind, flags in ((Kind.TIE, place.tie), (Kind.NEAR_TIE, place.near)):
        if (kinds == order.index(kind)).any():
            moved[beside & flags] = order.index(kind)
    if staged is not None:
        same = staged_outcome(staged, x[at], rule, source, space, backend).keys == got[at]
        moved[beside & same & ~place.tie] = order.index(staged.kind)
    kinds[at] = moved


def _scattered(at: Array, shape: tuple[int, ...]) -> Array:
    flags = np.zeros(shape, bool)
    flags[at] = True
    return flags


def _mark_rounding(kinds: Array, rest: Array, place: Places) -> None:
    """Marks ties, near-ties and regions. A region is blamed if it is wrong in its entirety and the others are not."""
    clean = ~(place.below_normal | place.beside_power)
    regions = ((place.below_normal, Kind.SUBNORMAL), (place.beside_power, Kind.POWER_OF_TWO))
    far = rest & ~place.tie & ~place.near
    if (far & clean).any():
        _mark(kinds, rest, Kind.ROUNDING)
        return
    for flags, kind in ((place.tie, Kind.TIE), (place.near, Kind.NEAR_TIE)):
        wrong = rest & flags
        everywhere = (wrong & clean).any() or (not (flags & clean).any() and not far.any())
        for region, region_kind in regions:
            if wrong[region].any() and not everywhere and not (wrong & ~region).any():
                _mark(kinds, wrong, region_kind)
        in_far_region = np.zeros(rest.shape, bool)
        for region, _ in regions:
            if (far & region).any():
                in_far_region |= region
        _mark(kinds, wrong & ~(in_far_region & (not everywhere)), kind)
    for region, region_kind in regions:
        _mark(kinds, rest & region, region_kind)
    _mark(kinds, rest, Kind.ROUNDING)


# -- double rounding ----------------------------------------------------------------------------------------


def stages(rule: Rule, source: Source) -> list[str]:
    """Returns the types between the source and the format through which x may have passed, widest first."""
    names = ("float64", "float32", "float16", "tf32", "bfloat16")
    between = [
        name
        for name in names
        if FORMATS[name].mantissa_bits < source.mantissa_bits
        and FORMATS[name].mantissa_bits > rule.format.mantissa_bits
    ]
    return between


def find_staged(
    x: Array, expected: Outcome, got: Outcome, rest: Array, place: Places, rule: Rule, source: Source, space: str,
    backend: str,
) -> Staged | None:  # fmt: skip
    """Finds a double rounding that agrees with the subject wherever it differs from one rounding, and that explains
    every mismatch next to a tie.

    Of several it returns the one that explains most, with those that explain the same. ``rest`` are the mismatches to
    explain. Signs of zeros are not among them.
    """
    if not (rest & ~place.tie).any() or rule.policy.mode.is_legacy or rule.policy.mode.needs_random_bits:
        return None
    modes = dict.fromkeys((rule.policy.mode, Mode.NEAREST_EVEN, Mode.NEAREST_AWAY))
    candidates = [
        Staged(via, truncates, mode) for via in stages(rule, source) for mode in modes for truncates in (False, True)
    ]
    if source.name == "float32" and rule.format.fits_float32 and rule.format.subnormals:
        candidates += [Staged("float32", False, mode, shifted=True) for mode in modes]
    beside = rest & place.near
    found: Staged | None = None
    explained = np.zeros(x.shape, bool)
    for candidate in candidates:
        staged = staged_outcome(candidate, x, rule, source, space, backend)
        predicted = _differ(staged, expected) & ~place.tie
        if not predicted.any() or (predicted & _differ(staged, got)).any() or not (predicted >= beside).all():
            continue
        if found is not None and candidate[1:4] == found[1:4] and np.array_equal(predicted, explained):
            found = found._replace(also=(*found.also, candidate.via))
        elif predicted.sum() > explained.sum():
            found, explained = candidate, predicted
    return found


def _taken(outcome: Outcome, at: Array) -> Outcome:
    return Outcome(outcome.values[at], outcome.keys[at])


def _differ(a: Outcome, b: Outcome) -> Array:
    """Returns where results differ by more than the sign of a zero."""
    return np.asarray((a.keys != b.keys) & ~((a.values == 0) & (b.values == 0)))


def staged_outcome(staged: Staged, x: Array, rule: Rule, source: Source, space: str, backend: str) -> Outcome:
    policy = type(rule.policy)(staged.mode, rule.policy.overflow)
    if staged.shifted:
        return _shifted_outcome(x, rule.with_(policy=policy), source, space, backend)
    changed = rule.with_(policy=policy, via=staged.via, via_truncates=staged.truncates)
    return changed.outcome(x, source, space, backend=backend)


def _shifted_outcome(x: Array, rule: Rule, source: Source, space: str, backend: str) -> Outcome:
    """Returns x + s rounded to float32 and then to the format, minus s, where s is the smallest normal number."""
    smallest = np.float32(rule.format.smallest_normal)
    plain = rule.values(x, source, backend=backend)
    rounded = rule.values(x + np.copysign(smallest, x), source, backend=backend) - np.copysign(smallest, widened(x))
    values = np.where(np.abs(x) < smallest, np.copysign(rounded, x), plain)
    return Outcome(values, value_keys(values) if space == "values" else rule.codes(values, x, backend))
