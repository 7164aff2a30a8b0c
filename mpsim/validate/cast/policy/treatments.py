"""Declares the fields of a policy besides mode and overflow, with every value that each may have.

docs/semantics.md §2 has the definition. Behaviour that no field describes is a row in ``QUIRKS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.policies import Policy
from mpsim.rounding import round_to
from mpsim.validate.grid import places
from mpsim.validate.sources import Source

#: (x, y, format, source, policy) -> y, with float64 arrays: x the input, y the result so far.
Change = Callable[[Array, Array, Format, Source, Policy], Array]


class Treatment(NamedTuple):
    """One value of a field: its description, and the change of the results, None for the default.

    With ``reads_payloads``, x has the source's wide type.
    """

    sentence: str
    change: Change | None = None
    reads_payloads: bool = False


class Quirk(NamedTuple):
    """Behaviour that no policy describes.

    Args:
        sentence: Its description.
        change: See ``Change``.
        reads_payloads: Whether ``change`` reads NaN payloads. Then x has the source's wide type.
        before: Whether it applies before rounding. Then ``change`` receives x as y and returns the x to round.
    """

    sentence: str
    change: Change
    reads_payloads: bool = False
    before: bool = False


def _flush_before(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    return np.where(np.abs(x) < format.smallest_normal, np.copysign(0.0, x), y)


def _flush_results(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    return np.where(np.abs(y) < format.smallest_normal, np.copysign(0.0, y), y)


def _flush_tiny(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    """With an unlimited exponent, 2x is rounded as x is, and it is normal wherever that matters."""
    small = np.abs(x) < format.smallest_normal
    doubled = 2 * np.where(small, x, 0.0)
    if policy.mode.is_legacy:  # which are defined for float32, the type that x comes from
        doubled = doubled.astype(np.float32)
    rounded = np.asarray(round_to(doubled, format, policy.mode, policy.overflow, threads=1))
    return np.where(small & (np.abs(rounded) < 2 * format.smallest_normal), np.copysign(0.0, x), y)


def flush_inputs(x: Array, source: Source) -> Array:
    """Returns x with its subnormal numbers, if it is a float, replaced by zeros of their signs."""
    if x.dtype.kind != "f":
        return x
    return np.where(np.abs(x) < source.smallest_normal, np.copysign(x.dtype.type(0), x), x)


def _to_zero_of_sign(where: Callable[[Array, Array], Array]) -> Change:
    return lambda x, y, format, source, policy: np.where(where(x, y), 0.0, y)


def _zero_to_smallest(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    return np.where(x == 0, format.smallest, y)


def _underflow_to_smallest(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    return np.where((x != 0) & (y == 0), np.copysign(format.smallest, x), y)


def _nan_to(value: Callable[[Format], float], signed: bool = False) -> Change:
    def change(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
        replacement = np.copysign(value(format), x) if signed else np.full(x.shape, value(format))
        return np.where(np.isnan(x), replacement, y)

    return change


def _nan_to_opposite_zero(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    return np.where(np.isnan(x), np.where(np.signbit(x), 0.0, -0.0), y)


def _nan_truncated(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    nan = np.isnan(x)
    if format.specials != "ieee" or not nan.any():
        return y
    width, mantissa = (32, 23) if x.dtype == np.float32 else (64, 52)
    kept = (x.view(f"uint{width}") & ((1 << mantissa) - 1)) >> max(mantissa - format.mantissa_bits, 0)
    return np.where(nan & (kept == 0), np.copysign(np.inf, x), y)


def _infinity_to(value: Callable[[Format], float]) -> Change:
    return lambda x, y, format, source, policy: np.where(np.isinf(x), np.copysign(value(format), x), y)


#: The fields of a Rule, in the order in which they apply, each with its values. The first value is the default.
FIELDS: dict[str, dict[str, Treatment]] = {
    "subnormal_inputs": {
        "keep": Treatment("subnormal inputs are kept"),
        "flush": Treatment("subnormal inputs are taken as zero"),
    },
    "subnormal_results": {
        "keep": Treatment("subnormal results are kept"),
        "flush": Treatment("results below the smallest normal number become zero", _flush_results),
        "flush_before": Treatment("inputs below the smallest normal number become zero", _flush_before),
        "flush_tiny": Treatment(
            "results that would be below the smallest normal number with an unlimited exponent become zero", _flush_tiny
        ),
    },
    "underflow": {
        "zero": Treatment("numbers that round to zero become zero"),
        "smallest": Treatment("numbers that would round to zero become the smallest number", _underflow_to_smallest),
    },
    "zero": {
        "keep": Treatment("zeros keep their signs"),
        "positive": Treatment("every zero is +0", _to_zero_of_sign(lambda x, y: y == 0)),
        "positive_input": Treatment(
            "-0 becomes +0, but a negative underflow gives -0", _to_zero_of_sign(lambda x, y: x == 0)
        ),
        "positive_underflow": Treatment(
            "negative numbers that round to zero give +0", _to_zero_of_sign(lambda x, y: (y == 0) & (x != 0))
        ),
        "smallest": Treatment("zero becomes the smallest number", _zero_to_smallest),
    },
    "infinity": {
        "overflow": Treatment("infinity becomes what the overflow policy says"),
        "nan": Treatment("infinity becomes NaN", _infinity_to(lambda format: np.nan)),
        "largest": Treatment("infinity becomes the largest number", _infinity_to(lambda format: format.largest)),
        "infinity": Treatment("infinity stays infinity", _infinity_to(lambda format: np.inf)),
        "zero": Treatment("infinity becomes zero", _infinity_to(lambda format: 0.0)),
    },
    "nan": {
        "nan": Treatment("NaN stays NaN"),
        "negative_zero": Treatment("NaN becomes -0", _nan_to(lambda format: -0.0)),
        "opposite_zero": Treatment("NaN becomes zero of the other sign", _nan_to_opposite_zero),
        "zero": Treatment("NaN becomes +0", _nan_to(lambda format: 0.0)),
        "signed_zero": Treatment("NaN becomes zero of its sign", _nan_to(lambda format: 0.0, True)),
        "largest": Treatment("NaN becomes the largest number", _nan_to(lambda format: format.largest)),
        "signed_largest": Treatment(
            "NaN becomes the largest number of its sign", _nan_to(lambda format: format.largest, True)
        ),
        "infinity": Treatment("NaN becomes infinity of its sign", _nan_to(lambda format: np.inf, True)),
        "truncated": Treatment(
            "NaN keeps the upper bits of its payload, and becomes infinity where these are 0", _nan_truncated, True
        ),
    },
}


def default(field: str) -> str:
    """Returns the value that a field has if nothing is declared."""
    return next(iter(FIELDS[field]))


# -- what no field describes ----------------------------------------------------------------------------------


def _nan_as_number(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    """Rounds NaN as QPyTorch does on a CPU: half a quantum is added, and a carry into the sign gives zero."""
    carried = x.view(np.uint32) + np.uint32(1 << (22 - format.mantissa_bits))
    negative = np.signbit(x)
    over = (carried >> np.uint32(31)) != negative
    kept = np.copysign(format.largest, x)
    return np.where(np.isnan(x), np.where(over, np.where(negative, 0.0, -0.0), kept), y)


def _sign_ignored(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    return np.abs(y)


def _negative_to_nan(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    return np.where(x < 0, np.nan, y)


def _negative_to_zero(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    return np.where(x < 0, 0.0, y)


def _small_powers_up(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    inside = (x > format.smallest_normal) & (x < 2 * format.smallest_normal)
    return np.where(inside, 2 * format.smallest_normal, y)


def _top_binade_to_zero(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    top = 2.0 ** (format.max_exponent + 1)
    magnitude = np.abs(x)
    y = np.where(np.isfinite(x) & (magnitude < top) & (np.abs(y) > format.largest), np.copysign(top, x), y)
    return np.where((magnitude >= top) & (magnitude < 2 * top), 0.0, y)


def _carry_lost(x: Array, y: Array, format: Format, source: Source, policy: Policy) -> Array:
    finite = np.isfinite(x)
    place = places(np.where(finite, x, 0), format, source)
    upper = place.lower + place.quantum
    carries = finite & (np.frexp(upper)[0] == 0.5) & (np.abs(y) > place.lower) & (upper >= format.smallest_normal)
    carries &= place.magnitude < 2.0 ** (format.max_exponent + 1)
    kept = np.where(place.below_normal, 0.0, np.ldexp(0.5, np.frexp(place.magnitude)[1]))
    return np.where(carries, np.copysign(kept, x), y)


QUIRKS = {
    "nan_as_number": Quirk("NaN is rounded like a number, and clipped", _nan_as_number, reads_payloads=True),
    "carry_lost": Quirk("the carry from the significand into the exponent is lost", _carry_lost),
    "sign_ignored": Quirk("the sign is ignored: magnitudes are rounded", _sign_ignored, before=True),
    "negative_to_nan": Quirk("every negative number becomes NaN, also one that rounds to zero", _negative_to_nan),
    "negative_to_zero": Quirk("every negative number and negative infinity becomes zero", _negative_to_zero),
    "small_powers_up": Quirk("between the two smallest numbers everything goes up", _small_powers_up),
    "top_binade_to_zero": Quirk(
        "results beyond the largest number become the next power of two; inputs from there to twice that become zero",
        _top_binade_to_zero,
    ),
}
