"""The exceptions that an operation signals, as flags: IEEE 754-2019 §7, one element at a time, in exact fractions."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.arithmetic import definition
from mpsim.arithmetic.definition import ARITHMETIC, Number, number_of
from mpsim.arithmetic.operations import Asked, Formats, each_element, rounded_to_odd
from mpsim.errors import UsageError
from mpsim.formats import Format
from mpsim.kernels import spec
from mpsim.kernels.contract import Array
from mpsim.kernels.spec import Exact
from mpsim.policies import Mode, Overflow, Policy
from mpsim.process import in_default_environment
from mpsim.rounding import round_to

#: When a result is found to be tiny (§7.5): a choice of each implementation.
TININESS = ("after", "before")
#: Those of float64, in which no number of ``Asked.is_fast`` is tiny.
MOST_EXPONENTS = 11
#: Operations that do not signal, whatever their operands are (§5.5.1).
QUIET = ("negate", "abs", "copysign")


class Flag(IntFlag):
    """The flags of the five exceptions, with the numbers of Berkeley TestFloat.

    >>> Flag.INEXACT | Flag.OVERFLOW
    <Flag.INEXACT|OVERFLOW: 5>
    """

    INEXACT = 1
    UNDERFLOW = 2
    OVERFLOW = 4
    DIVIDE_BY_ZERO = 8
    INVALID = 16


@in_default_environment
def exceptions(
    name: str,
    *codes: ArrayLike,
    formats: Formats,
    result: str | Format | None = None,
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.INFINITY,
    tininess: str = "after",
) -> Array:
    """Return the flags that an operation raises, by IEEE 754-2019 §7 with default exception handling.

    - invalid: a signalling NaN, zero times infinity (in ``fma`` whatever the third operand), a difference of
      infinities, 0 / 0, infinity / infinity, the root of a negative number.
    - divide by zero: a quotient of a finite number and zero; ``reciprocal`` and ``rsqrt`` of zero.
    - overflow: the number rounded as if exponents had no upper end exceeds the largest finite number.
    - underflow: the result is tiny and inexact. Tiny is a number, not zero, below the smallest normal number: the exact
      one (``tininess="before"``), or the one rounded as if exponents had no lower end ("after").
    - inexact: the result is not the exact number.

    Args:
        name, codes, formats, result, mode, overflow: As for ``operate``, without stochastic modes.
        tininess: "after" or "before" rounding.

    Returns:
        A uint8 array of the broadcast shape: sums of 1 for inexact, 2 for underflow, 4 for overflow, 8 for divide by
        zero and 16 for invalid (``Flag``).

    Raises:
        UsageError: As ``operate``, and for formats without the infinities and NaNs of IEEE 754.

    Source: IEEE 754-2019 §7.2 to §7.6, §9.2.1; the numbers of the flags are those of Berkeley TestFloat.

    >>> [str(Flag(int(flags))) for flags in exceptions("divide", [0x3C00, 0x3C00], [0, 0x4200], formats="float16")]
    ['8', '1']
    """
    asked = Asked.of(name, codes, formats, result)
    checks.named("tininess", tininess, TININESS)
    policy = Policy(mode, overflow)  # type: ignore[arg-type]
    for format in (*asked.formats, asked.result):
        if not is_ieee(format):
            raise UsageError(
                f"exceptions are defined for formats with IEEE 754's infinities and NaNs, as float16; got {format}"
            )
    after = tininess == "after"
    if asked.is_fast(policy) and not policy.mode.needs_random_bits:
        return _fast(asked, policy, after)
    return each_element(
        lambda *row: int(flags_of(name, row, asked.formats, asked.result, policy, after)),
        asked.codes,
        np.dtype(np.uint8),
    )


def is_ieee(format: Format) -> bool:
    """Whether exceptions are defined for results of a format."""
    return format.specials == "ieee" and format.has_nan


def flags_of(
    name: str, codes: Sequence[int], formats: Sequence[Format], result: Format, policy: Policy, after: bool
) -> Flag:
    """The flags that an operation on codes raises."""
    numbers = [number_of(code, format) for code, format in zip(codes, formats, strict=True)]
    if name in QUIET and result == formats[0]:
        return Flag(0)
    if any(is_signalling(code, format) for code, format in zip(codes, formats, strict=True)):
        return Flag.INVALID
    x = ARITHMETIC[name][1](*numbers, policy.mode is Mode.DOWN)
    if x.is_nan:
        return Flag.INVALID if is_invalid(name, numbers) else Flag(0)
    if x.is_infinite:
        by_zero = name in ("divide", "reciprocal", "rsqrt") and numbers[-1].is_zero and not numbers[0].is_infinite
        return Flag.DIVIDE_BY_ZERO if by_zero else Flag(0)
    return flags_of_rounding(x, result, policy, after)


def is_invalid(name: str, numbers: Sequence[Number]) -> bool:
    """Whether NaN is the result because the operation has none, and not because an operand is NaN."""
    if not any(x.is_nan for x in numbers):
        return True
    if name == "fma":  # §7.2 c: implementations may differ where the third operand is NaN; here it is signalled
        x, y = numbers[:2]
        return not (x.is_nan or y.is_nan) and definition.multiply(x, y).is_nan
    return False


def is_signalling(code: int, format: Format) -> bool:
    """Whether a code is a NaN whose first mantissa bit is 0 (§6.2.1)."""
    magnitude = code & format.magnitude_mask
    quiet = 1 << (format.mantissa_bits - 1)
    assert format.infinity_code is not None
    return magnitude > format.infinity_code and not magnitude & quiet


def flags_of_rounding(x: Number, format: Format, policy: Policy, after: bool) -> Flag:
    """The flags of rounding a finite number to a format."""
    assert not isinstance(x.value, float)
    if x.is_zero:
        return Flag(0)
    exact = spec.exact_fraction(x.value, format)
    rounded = spec.round_unbounded(exact, x.negative, format, policy, None)
    if spec.exceeds(rounded, spec.largest(format)):
        return Flag.OVERFLOW | Flag.INEXACT
    if not (spec.exceeds(rounded, exact) or spec.exceeds(exact, rounded)):
        return Flag(0)
    considered = rounded_freely(exact, x.negative, format, policy) if after else exact
    tiny = spec.exceeds(Exact(1, format.min_exponent), considered)
    return Flag.UNDERFLOW | Flag.INEXACT if tiny else Flag.INEXACT


def rounded_freely(x: Exact, negative: bool, format: Format, policy: Policy) -> Exact:
    """A magnitude rounded to the format's precision, as if there were exponents without end."""
    shift = x.significand.bit_length() - 1 - format.mantissa_bits
    if shift <= 0:
        return x
    keep, discarded = divmod(x.significand, 1 << shift)
    keep += spec.goes_up(keep % 2 == 1, discarded, shift, negative, policy, None)
    return Exact(keep, x.exponent + shift)


def _fast(asked: Asked, policy: Policy, after: bool) -> Array:
    """By float64 arrays: the exact number rounded to odd says whether it is tiny, and differs from what is inexact."""
    _, codes, formats, result = asked
    if asked.name in QUIET and result == formats[0]:
        return np.zeros(codes[0].shape, np.uint8)
    values = asked.values()
    numbers = np.logical_and.reduce([~np.isnan(value) for value in values])
    name, values, total = rounded_to_odd(asked.name, values)
    with np.errstate(all="ignore"):
        invalid = np.isnan(total) & numbers
        if name == "fma":
            invalid |= np.isnan(values[0] * values[1]) & ~np.isnan(values[0]) & ~np.isnan(values[1])
    shape, total = total.shape, np.atleast_1d(total)
    finite = np.where(np.isfinite(total), total, 0.0)
    rounded = round_to(finite, result, policy.mode, "mark")
    overflow, inexact = np.isinf(rounded), rounded != finite
    freely = Format("", MOST_EXPONENTS, result.mantissa_bits)
    considered = round_to(finite, freely, policy.mode, "mark") if after else finite
    tiny = (np.abs(considered) < result.smallest_normal) & inexact
    by_zero = np.isinf(total) & np.isfinite(values[0]) & (values[-1] == 0) & (name in ("divide", "reciprocal", "rsqrt"))
    signalling = np.logical_or.reduce([_signalling(array, each) for array, each in zip(codes, formats, strict=True)])
    flags = Flag.INEXACT * inexact | Flag.UNDERFLOW * tiny | Flag.OVERFLOW * overflow | Flag.DIVIDE_BY_ZERO * by_zero
    flags = np.where(np.atleast_1d(signalling), Flag.INVALID, flags | Flag.INVALID * np.atleast_1d(invalid))
    return np.asarray(flags.astype(np.uint8)).reshape(shape)


def _signalling(codes: Array, format: Format) -> Array:
    """``is_signalling`` of each code."""
    magnitude = codes & codes.dtype.type(format.magnitude_mask)
    quiet = codes.dtype.type(1 << (format.mantissa_bits - 1))
    return np.asarray((magnitude > codes.dtype.type(format.infinity_code or 0)) & (magnitude & quiet == 0))
