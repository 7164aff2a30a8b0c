"""Describes casts as data: a rounding policy, an intermediate type, NaN codes and quirks.

A Rule computes the expected result of every input. docs/semantics.md §2 defines the policies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mpsim.files.records import Record
from mpsim.formats import FORMATS, Format
from mpsim.kernels import hosted
from mpsim.kernels.contract import Array
from mpsim.policies import Policy
from mpsim.rounding import round_to
from mpsim.validate.answers import NO_CODE, Outcome, value_keys
from mpsim.validate.cast import nans
from mpsim.validate.cast.nans import NanCodes
from mpsim.validate.grid import places
from mpsim.validate.sources import Source, widened


class Quirk(NamedTuple):
    """Behaviour that no policy describes.

    Args:
        sentence: Its description.
        change: (x, y, format, source) -> y, with float64 arrays.
        reads_payloads: Whether ``change`` reads NaN payloads. Then x has the source's wide type.
        before: Whether it applies before rounding. Then ``change`` receives x as y and returns the x to round.
    """

    sentence: str
    change: Callable[[Array, Array, Format, Source], Array]
    reads_payloads: bool = False
    before: bool = False


def _flush_before(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.where(np.abs(x) < format.smallest_normal, np.copysign(0.0, x), y)


def _flush_after(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.where(np.abs(y) < format.smallest_normal, np.copysign(0.0, y), y)


def _flush_inputs(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.where(np.abs(x) < source.smallest_normal, np.copysign(0.0, x), y)


def _no_negative_zero(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.where(y == 0, 0.0, y)


def _underflow_loses_sign(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.where((y == 0) & (x != 0), 0.0, y)


def _nan_to(value: Callable[[Format], float], signed: bool = False) -> Callable[[Array, Array, Format, Source], Array]:
    def change(x: Array, y: Array, format: Format, source: Source) -> Array:
        replacement = np.copysign(value(format), x) if signed else np.full(x.shape, value(format))
        return np.where(np.isnan(x), replacement, y)

    return change


def _nan_to_opposite_zero(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.where(np.isnan(x), np.where(np.signbit(x), 0.0, -0.0), y)


def _nan_as_number(x: Array, y: Array, format: Format, source: Source) -> Array:
    """Rounds NaN as QPyTorch does on a CPU: half a quantum is added, and a carry into the sign gives zero."""
    carried = x.view(np.uint32) + np.uint32(1 << (22 - format.mantissa_bits))
    negative = np.signbit(x)
    over = (carried >> np.uint32(31)) != negative
    kept = np.copysign(format.largest, x)
    return np.where(np.isnan(x), np.where(over, np.where(negative, 0.0, -0.0), kept), y)


def _zero_loses_sign(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.where(x == 0, 0.0, y)


def _zero_to_smallest(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.where(x == 0, format.smallest, y)


def _sign_ignored(x: Array, y: Array, format: Format, source: Source) -> Array:
    return np.abs(y)


def _infinity_to(value: Callable[[Format], float]) -> Callable[[Array, Array, Format, Source], Array]:
    return lambda x, y, format, source: np.where(np.isinf(x), np.copysign(value(format), x), y)


def _small_powers_up(x: Array, y: Array, format: Format, source: Source) -> Array:
    inside = (x > format.smallest_normal) & (x < 2 * format.smallest_normal)
    return np.where(inside, 2 * format.smallest_normal, y)


def _top_binade_to_zero(x: Array, y: Array, format: Format, source: Source) -> Array:
    top = 2.0 ** (format.max_exponent + 1)
    magnitude = np.abs(x)
    y = np.where(np.isfinite(x) & (magnitude < top) & (np.abs(y) > format.largest), np.copysign(top, x), y)
    return np.where((magnitude >= top) & (magnitude < 2 * top), 0.0, y)


def _carry_lost(x: Array, y: Array, format: Format, source: Source) -> Array:
    finite = np.isfinite(x)
    place = places(np.where(finite, x, 0), format, source)
    upper = place.lower + place.quantum
    carries = finite & (np.frexp(upper)[0] == 0.5) & (np.abs(y) > place.lower) & (upper >= format.smallest_normal)
    carries &= place.magnitude < 2.0 ** (format.max_exponent + 1)
    kept = np.where(place.below_normal, 0.0, np.ldexp(0.5, np.frexp(place.magnitude)[1]))
    return np.where(carries, np.copysign(kept, x), y)


QUIRKS = {
    "flush_before": Quirk("inputs below the smallest normal number become zero", _flush_before),
    "flush_after": Quirk("results below the smallest normal number become zero", _flush_after),
    "flush_inputs": Quirk("subnormal inputs are taken as zero", _flush_inputs),
    "no_negative_zero": Quirk("every zero is +0", _no_negative_zero),
    "zero_loses_sign": Quirk("-0 becomes +0, but a negative underflow gives -0", _zero_loses_sign),
    "underflow_loses_sign": Quirk("negative numbers that round to zero give +0", _underflow_loses_sign),
    "nan_to_negative_zero": Quirk("NaN becomes -0", _nan_to(lambda format: -0.0)),
    "nan_to_opposite_zero": Quirk("NaN becomes zero of the other sign", _nan_to_opposite_zero),
    "nan_as_number": Quirk("NaN is rounded like a number, and clipped", _nan_as_number, reads_payloads=True),
    "nan_to_zero": Quirk("NaN becomes +0", _nan_to(lambda format: 0.0)),
    "nan_to_largest": Quirk("NaN becomes the largest number", _nan_to(lambda format: format.largest)),
    "nan_to_signed_largest": Quirk("NaN becomes the largest number of its sign", _nan_to(lambda f: f.largest, True)),
    "nan_to_infinity": Quirk("NaN becomes infinity of its sign", _nan_to(lambda format: np.inf, True)),
    "infinity_to_nan": Quirk("infinity becomes NaN", _infinity_to(lambda format: np.nan)),
    "infinity_to_largest": Quirk("infinity becomes the largest number", _infinity_to(lambda format: format.largest)),
    "infinity_to_infinity": Quirk("infinity stays infinity", _infinity_to(lambda format: np.inf)),
    "infinity_to_zero": Quirk("infinity becomes zero", _infinity_to(lambda format: 0.0)),
    "carry_lost": Quirk("the carry from the significand into the exponent is lost", _carry_lost),
    "sign_ignored": Quirk("the sign is ignored: magnitudes are rounded", _sign_ignored, before=True),
    "zero_to_smallest": Quirk("zero becomes the smallest number", _zero_to_smallest),
    "small_powers_up": Quirk("between the two smallest numbers everything goes up", _small_powers_up),
    "top_binade_to_zero": Quirk(
        "results beyond the largest number become the next power of two; inputs from there to twice that become zero",
        _top_binade_to_zero,
    ),
}


@dataclass(frozen=True)
class Rule:
    """Describes how a cast to ``format`` treats every input.

    Args:
        format: The target format.
        policy: The rounding mode and overflow policy.
        via: A format to which x is rounded first, or None.
        via_truncates: Whether that rounding is toward zero. Otherwise it is to nearest even.
        nan_codes: The rule for the codes of NaN (``mpsim.validate.cast.nans``).
        quirks: Names of ``QUIRKS``, applied in this order.
    """

    format: Format
    policy: Policy = Policy()
    via: str | None = None
    via_truncates: bool = False
    nan_codes: NanCodes = None
    quirks: tuple[str, ...] = ()

    def with_(self, **changes: Any) -> Rule:
        """Returns this rule with some fields changed."""
        return replace(self, **changes)

    def values(self, x: Array, source: Source, random_bits: Array | None = None, backend: str = "compiled") -> Array:
        """Returns the results for x (of the source's wide type) as float64, including infinity and NaN."""
        with np.errstate(invalid="ignore", over="ignore"):
            for name in self.quirks:
                if QUIRKS[name].before:
                    x = QUIRKS[name].change(x, x, self.format, source)
            staged = x
            if self.via is not None and source.may_pass(FORMATS[self.via]):
                staged = self._staged(x, backend)
            if self.policy.mode.is_legacy:
                staged = staged.astype(np.float32)
            elif not self.format.fits_float32 and staged.dtype == np.float32:
                staged = staged.astype(np.float64)
            count = self.policy.random_bit_count
            y = round_to(
                staged, self.format, self.policy.mode, self.policy.overflow, random_bits=random_bits,
                random_bit_count=count, backend=backend, threads=1,
            ).astype(np.float64)  # fmt: skip
            wide = widened(staged)
            for name in self.quirks:
                quirk = QUIRKS[name]
                if not quirk.before:
                    y = quirk.change(x if quirk.reads_payloads else wide, y, self.format, source)
        return np.asarray(y)

    def _staged(self, x: Array, backend: str) -> Array:
        assert self.via is not None
        mode = "toward_zero" if self.via_truncates else "nearest_even"
        return np.asarray(round_to(x, self.via, mode, "infinity", backend=backend, threads=1))

    def codes(self, values: Array, x: Array, backend: str = "compiled") -> Array:
        """Returns the uint64 codes of results, NO_CODE if there is none. x provides the signs of NaNs."""
        return codes_of(values, x, self.format, self.nan_codes, backend)

    def outcome(
        self, x: Array, source: Source, space: str, random_bits: Array | None = None, backend: str = "compiled"
    ) -> Outcome:
        """Returns the expected results for x in the ``space`` of the subject's answers, "codes" or "values"."""
        values = self.values(x, source, random_bits, backend)
        return Outcome(values, self.codes(values, x, backend) if space == "codes" else value_keys(values))

    def describe(self) -> str:
        """Describes the rule in one phrase."""
        parts = [f"{self.policy.mode.value}, overflow {self.policy.overflow.value}"]
        if self.via:
            parts.append(f"{'truncated' if self.via_truncates else 'rounded'} to {self.via} first")
        parts += [QUIRKS[name].sentence for name in self.quirks]
        if isinstance(self.nan_codes, tuple):
            parts.append(f"NaN codes {self.nan_codes[0]:#x} and {self.nan_codes[1]:#x}")
        if self.nan_codes == nans.PAYLOAD:
            parts.append("NaN keeps its payload")
        return "; ".join(parts)

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""
        codes = [f"{code:#x}" for code in self.nan_codes] if isinstance(self.nan_codes, tuple) else self.nan_codes
        return {
            "format": self.format.name,
            "mode": self.policy.mode.value,
            "overflow": self.policy.overflow.value,
            "random_bit_count": self.policy.random_bit_count,
            "via": self.via,
            "via_truncates": self.via_truncates,
            "nan_codes": codes,
            "quirks": list(self.quirks),
        }


def codes_of(values: Array, x: Array, format: Format, nan_codes: NanCodes, backend: str = "compiled") -> Array:
    """Returns uint64 codes of values of the format, NO_CODE if there is none, and the rule's codes of NaN."""
    nan = np.isnan(values)
    with np.errstate(invalid="ignore"):
        unsigned_negative = (not format.signed) & np.signbit(values)
        beyond = np.abs(values) > format.largest
    without = (beyond & ~(np.isinf(values) & format.has_infinity)) | nan | unsigned_negative
    without |= (values == 0) & (not format.has_zero)
    safe = np.where(without, format.smallest_normal, values)
    codes: Array = hosted(backend).encode_array(np.ascontiguousarray(safe), format).astype(np.uint64)
    codes[without] = NO_CODE
    if format.has_nan:
        codes[nan] = nans.codes(x[nan], format, nan_codes)
    return codes


def is_value(values: Array, format: Format) -> Array:
    """Returns which of the finite numbers are numbers of the format."""
    with np.errstate(invalid="ignore"):
        kept = round_to(np.asarray(values, np.float64), format, "toward_zero", "mark", backend="reference")
    return np.asarray(kept == values)
