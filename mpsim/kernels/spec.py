"""Defines rounding: one number at a time, in exact integers. Every backend gives these bits.

Source: IEEE 754-2019 §4.3 (rounding), §7.4 (overflow); IEEE P3109 Interim Report v4.0 §4.7 (P3109 formats);
docs/semantics.md. The legacy modes reproduce QPyTorch, including its defects.
"""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from mpsim.formats import FORMATS, Format
from mpsim.policies import Mode, Overflow, Policy

#: The most discarded bits of a fraction before it is rounded. The last one is set if any bit below it is set.
STICKY_BITS = 70


class Exact(NamedTuple):
    """The number significand * 2**exponent, with a non-negative integer significand."""

    significand: int
    exponent: int


def exact(x: float) -> Exact:
    """Returns |x| of a finite x exactly."""
    fraction, exponent = math.frexp(abs(x))
    return Exact(int(fraction * 2**53), exponent - 53)


def is_negative(x: float) -> bool:
    """Returns the sign bit, also of zeros and NaNs."""
    return math.copysign(1.0, x) < 0


def round_value(
    x: float, source: str, format: Format, policy: Policy = Policy(), random_bits: int | None = None
) -> float:
    """Rounds x, a value of ``source`` ("float32" or "float64"), once to ``format``.

    The result is exact in ``source`` and a value of ``format``. Exceptions are the infinity of overflow "mark", and NaN
    in a format without NaN. NaNs are canonical: quiet, without payload, with the sign of x. ``random_bits`` are 32 bits
    for the stochastic modes.

    >>> from mpsim.formats import FORMATS
    >>> round_value(-431.99999999999994, "float64", FORMATS["float8_e4m3fn"])
    -416.0
    """
    if policy.mode.is_legacy:
        return round_like_qpytorch(x, format, policy, random_bits)
    negative = is_negative(x)
    if math.isfinite(x):
        return number(project(exact(x), negative, format, policy, random_bits), negative, format)
    return number(math.nan if math.isnan(x) else project_infinity(negative, format, policy), negative, format)


def round_fraction(
    x: Fraction, negative: bool, format: Format, policy: Policy, random_bits: int | None = None
) -> float:
    """Rounds a fraction once, like ``round_value``, in any mode except QPyTorch's. ``negative`` is the sign, also of a
    zero."""
    return number(project(exact_fraction(x, format), negative, format, policy, random_bits), negative, format)


def number(magnitude: Exact | float, negative: bool, format: Format) -> float:
    """Returns the float64 number of a magnitude and a sign. A zero has the sign only if the format has both zeros."""
    x = math.ldexp(*magnitude) if isinstance(magnitude, Exact) else magnitude
    return math.copysign(x, -1.0 if negative and (x != 0 or format.has_negative_zero) else 1.0)


def exact_fraction(x: Fraction, format: Format) -> Exact:
    """Returns |x| for ``project``. If it is not significand * 2**exponent, it is truncated far below the format's grid,
    and the last bit is set."""
    if x == 0:
        return Exact(0, 0)
    if x.denominator & (x.denominator - 1) == 0:
        return Exact(abs(x.numerator), 1 - x.denominator.bit_length())
    exponent = quantum_exponent(floor_log2(abs(x)), format) - STICKY_BITS
    return Exact(math.floor(abs(x) / Fraction(2) ** exponent) | 1, exponent)


def project(
    x: Exact, negative: bool, format: Format, policy: Policy = Policy(), random_bits: int | None = None
) -> Exact | float:
    """Rounds a finite number of magnitude x. Returns the magnitude: a number of the format, or infinity, or NaN.

    It uses only integers, so it also defines formats whose numbers are not float64 numbers.
    """
    if x.significand == 0:
        return x if format.has_zero else math.nan
    kept = round_unbounded(x, negative, format, policy, random_bits)
    if negative and not format.signed:
        return kept if kept.significand == 0 else below_zero(False, format, policy)
    return overflowed(negative, False, format, policy) if exceeds(kept, largest(format)) else kept


def project_infinity(negative: bool, format: Format, policy: Policy) -> Exact | float:
    """Returns the magnitude to which an infinity is rounded."""
    if negative and not format.signed:
        return below_zero(True, format, policy)
    return overflowed(negative, True, format, policy)


def floor_log2(x: Fraction) -> int:
    """Returns the exponent e with 2**e <= x < 2**(e + 1), by integers."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    return exponent if x >= Fraction(2) ** exponent else exponent - 1


def same_layout(source: str, format: Format) -> bool:
    """Returns whether the format equals the source, so that every finite number is on its grid."""
    return replace(format, name=source) == FORMATS[source]


def round_unbounded(x: Exact, negative: bool, format: Format, policy: Policy, random_bits: int | None) -> Exact:
    """Rounds a magnitude that is not zero to the format's grid, continued upward without bound: keep * 2**q."""
    significand, exponent = x
    q = quantum_exponent(significand.bit_length() - 1 + exponent, format)
    shift = q - exponent
    if shift <= 0:  # every bit of x is on the grid
        return x
    keep, discarded = divmod(significand, 1 << shift)
    keep += goes_up(format.is_odd(keep, q), discarded, shift, negative, policy, random_bits)
    return Exact(keep if format.has_zero else max(keep, 1), q)


def quantum_exponent(exponent: int, format: Format) -> int:
    """Returns q. The grid around a number with this exponent consists of the multiples of 2**q."""
    if exponent < format.min_exponent and not format.subnormals:
        return format.min_exponent  # zero and the smallest normal number only
    return max(exponent, format.min_exponent) - format.mantissa_bits


def goes_up(odd: bool, discarded: int, shift: int, negative: bool, policy: Policy, random_bits: int | None) -> bool:
    """Returns whether keep + discarded / 2**shift, 0 <= discarded < 2**shift, is rounded to keep + 1 instead of keep.
    odd: whether keep is the odd one of the two."""
    if discarded == 0:
        return False
    half = 1 << (shift - 1)
    match policy.mode:
        case Mode.NEAREST_EVEN:
            return discarded > half or (discarded == half and odd)
        case Mode.NEAREST_AWAY:
            return discarded >= half
        case Mode.NEAREST_ZERO:
            return discarded > half
        case Mode.TOWARD_ZERO:
            return False
        case Mode.UP:
            return not negative
        case Mode.DOWN:
            return negative
        case Mode.TO_ODD:
            return not odd
        case Mode.STOCHASTIC | Mode.STOCHASTIC_B | Mode.STOCHASTIC_C | Mode.STOCHASTIC_EQUAL:
            assert policy.random_bit_count is not None and random_bits is not None
            return goes_up_by_chance(discarded, shift, policy.mode, policy.random_bit_count, random_bits)
    raise AssertionError(policy.mode)


def goes_up_by_chance(discarded: int, shift: int, mode: Mode, k: int, random_bits: int) -> bool:
    """Decides ``goes_up`` by the low k random bits: variants A, B, C of P3109 v4.0 §4.7.4, or the first bit alone."""
    word, one = random_bits % (1 << k), 1 << k
    if mode is Mode.STOCHASTIC_EQUAL:
        return 2 * word >= one
    if mode is Mode.STOCHASTIC_B:
        return (discarded << k + 1 >> shift) + 2 * word + 1 >= 2 * one
    chance, rest = divmod(discarded << k, 1 << shift)
    if mode is Mode.STOCHASTIC_C:  # the discarded part is rounded to nearest even at k bits
        chance += 2 * rest > 1 << shift or (2 * rest == 1 << shift and chance % 2 == 1)
    return chance + word >= one


def exceeds(a: Exact, b: Exact) -> bool:
    """Returns whether a > b."""
    low = min(a.exponent, b.exponent)
    return a.significand << (a.exponent - low) > b.significand << (b.exponent - low)


def largest(format: Format) -> Exact:
    """Returns the largest finite number."""
    return Exact(*format.split(format.largest_code))


def overflowed(negative: bool, infinite: bool, format: Format, policy: Policy) -> Exact | float:
    """Returns the magnitude for a number that is infinite or was rounded beyond the largest number."""
    match policy.overflow:
        case Overflow.MARK:
            return math.inf
        case Overflow.SATURATE:
            return largest(format)
        case Overflow.SATURATE_PROPAGATE:
            return end_of_range(format) if infinite else largest(format)
    inward = {
        Mode.TOWARD_ZERO: True,
        Mode.UP: negative,
        Mode.DOWN: not negative,
        Mode.TO_ODD: not format.is_p3109 or format.largest_code % 2 == 1,  # P3109 §4.7.5: infinity where it is odd
    }
    if not infinite and inward.get(policy.mode, False):  # IEEE 754-2019 §7.4
        return largest(format)
    return end_of_range(format)


def below_zero(infinite: bool, format: Format, policy: Policy) -> Exact | float:
    """Returns the magnitude for a negative number that was not rounded to zero in an unsigned format (P3109 §4.7.5)."""
    saturates = policy.overflow in (Overflow.SATURATE, Overflow.SATURATE_PROPAGATE)
    inward = policy.overflow is Overflow.INFINITY and policy.mode in (Mode.TOWARD_ZERO, Mode.UP) and not infinite
    return Exact(0, 0) if format.has_zero and (saturates or inward) else math.nan


def end_of_range(format: Format) -> Exact | float:
    """Returns infinity if the format has it, else NaN if it has that, else the largest number. For P3109's finite
    formats it is the largest number, although they have NaN."""
    if format.has_infinity:
        return math.inf
    return largest(format) if format.is_p3109 or not format.has_nan else math.nan


def own_infinity(format: Format) -> float:
    """Returns ``end_of_range`` as a float64 number."""
    return number(end_of_range(format), False, format)


# -- counts -------------------------------------------------------------------------------------------------


def counts(x: float, result: float, format: Format) -> tuple[bool, bool, bool, bool, bool]:
    """Returns (overflowed, underflowed, nan, inexact, subnormal) for x and its rounded result.

    overflowed: |x| is at least the smallest magnitude that nearest_even rounds beyond the largest number, or x is NaN,
    in any mode. underflowed: 0 < |x| <= half the smallest positive number. nan: x is NaN. inexact: x is not NaN and the
    result is not x. subnormal: 0 < |result| < the smallest normal number.
    """
    if math.isnan(x):
        return True, False, True, False, 0 < abs(result) < format.smallest_normal
    overflowed, underflowed = math.isinf(x), False
    if math.isfinite(x):
        significand, exponent = largest(format)
        midpoint = Exact(2 * significand + 1, exponent - 1)
        ties_overflow = format.is_odd(significand, exponent)
        overflowed = not exceeds(midpoint, exact(x)) if ties_overflow else exceeds(exact(x), midpoint)
        smallest = exact(format.smallest)
        underflowed = x != 0 and not exceeds(exact(x), Exact(smallest.significand, smallest.exponent - 1))
    return overflowed, underflowed, False, result != x, 0 < abs(result) < format.smallest_normal


# -- legacy: QPyTorch ---------------------------------------------------------------------------------------


def legacy_applies(format: Format) -> bool:
    """Returns whether the qpytorch modes support the format: fp_E_M_B with M <= 22 and |B| <= 126, or a similar one
    (signed, with subnormals, every code a number or E = 8) within float32. They do not change float32."""
    if same_layout("float32", format):
        return True
    if not (format.signed and format.subnormals and format.fits_float32):
        return False
    if format.mantissa_bits > 22 or abs(extra_bias(format)) > 126:
        return False
    return format.specials == "none" or (format.specials == "ieee" and format.exponent_bits == 8)


def extra_bias(format: Format) -> int:
    """Returns B of fp_E_M_B: the bias minus (2**(E - 1) - 1)."""
    assert format.bias is not None
    return format.bias - (2 ** (format.exponent_bits - 1) - 1)


def to_float32(x: float) -> float:
    """Rounds x to nearest even in float32, with overflow to infinity. This equals one float32 operation if x is exact,
    or is a float64 sum or product of float32 numbers: the double rounding is harmless because 53 >= 2 * 24 + 2."""
    return round_value(x, "float64", FORMATS["float32"])


def round_like_qpytorch(x: float, format: Format, policy: Policy, random_bits: int | None) -> float:
    """QPyTorch's float_quantize with exponent bits E and mantissa bits m, after scaling by 2**B (paper §4.1)."""
    if same_layout("float32", format):
        return math.copysign(math.nan, x) if math.isnan(x) else x
    if math.isnan(x):
        return -0.0  # a GPU's 0x7fffffff: the added half carries into the sign
    bias, m = extra_bias(format), format.mantissa_bits
    t = to_float32(x * 2.0**bias)
    added = 1 << (22 - m)
    if policy.mode is Mode.QPYTORCH_STOCHASTIC:
        assert random_bits is not None
        added = random_bits % (1 << (23 - m))
    smallest_normal = 2.0 ** (2 - 2 ** (format.exponent_bits - 1))
    if abs(t) < smallest_normal:
        shift = math.copysign(smallest_normal, t)
        result = add_and_truncate(to_float32(t + shift), added, m) - shift
    else:
        result = add_and_truncate(t, added, m)
        if format.exponent_bits < 8 and abs(result) >= 2.0 ** (2 ** (format.exponent_bits - 1) + 1):
            clipped = math.inf if policy.overflow is Overflow.MARK else format.largest * 2.0**bias
            result = math.copysign(clipped, t)
    return to_float32(result * 2.0**-bias)


def add_and_truncate(x: float, added: int, mantissa_bits: int) -> float:
    """Adds ``added`` to the float32 pattern of x, and clears its last 23 - mantissa_bits bits."""
    pattern = struct.unpack("<I", struct.pack("<f", x))[0] + added
    dropped = 23 - mantissa_bits
    return struct.unpack("<f", struct.pack("<I", pattern >> dropped << dropped))[0]
