"""Rounding in rational numbers, from a format's five parameters alone: tables of values and neighbours.

Written from docs/semantics.md without mpsim.kernels: another route (no bits, no shifts, no frexp) to one result.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache, lru_cache

from mpsim.formats import Format

HALF = Fraction(1, 2)


def code_value(format: Format, code: int) -> Fraction | str:
    """The number of a code, or "nan", "+inf", "-inf", "-0"."""
    m = format.mantissa_bits
    if format.specials == "e8m0":
        return "nan" if code == 2**format.bits - 1 else Fraction(2) ** (code - format.bias)
    width = format.exponent_bits + m
    negative, magnitude = divmod(code, 2**width)
    field, mantissa = divmod(magnitude, 2**m)
    top_field, last = 2**format.exponent_bits - 1, 2**width - 1
    match format.specials:
        case "ieee" if field == top_field:
            return "nan" if mantissa else ("-inf" if negative else "+inf")
        case "fn" if magnitude == last:
            return "nan"
        case "fnuz" | "p3109" | "p3109_finite" if negative and magnitude == 0:
            return "nan"
        case "p3109" | "p3109_finite" if not format.signed and magnitude == last:
            return "nan"
        case "p3109" if magnitude == last - (not format.signed):
            return "-inf" if negative else "+inf"
    if field == 0:
        value = Fraction(mantissa, 2**m) * Fraction(2) ** (1 - format.bias) * format.subnormals
    else:
        value = (1 + Fraction(mantissa, 2**m)) * Fraction(2) ** (field - format.bias)
    if negative:
        return -value if value else "-0"
    return value


def has(format: Format, what: str) -> bool:
    rows = {
        "inf": ("ieee", "p3109"),
        "nan": ("ieee", "fn", "fnuz", "p3109", "p3109_finite", "e8m0"),
        "-0": ("ieee", "fn", "none"),
    }
    without = what == "nan" and format.specials == "ieee" and format.mantissa_bits == 0
    return format.specials in rows[what] and not without


@cache
def largest(format: Format) -> Fraction:
    """The largest finite number: the last code from the top that is one."""
    code = 2 ** (format.exponent_bits + format.mantissa_bits) - 1
    if format.specials == "ieee":
        code -= 2**format.mantissa_bits
    while isinstance(code_value(format, code), str):
        code -= 1
    value = code_value(format, code)
    assert isinstance(value, Fraction)
    return value


@cache
def smallest_normal(format: Format) -> Fraction:
    return Fraction(2) ** ((0 if format.specials == "e8m0" else 1) - format.bias)


@cache
def smallest(format: Format) -> Fraction:
    whole = format.specials == "e8m0" or not format.subnormals
    return smallest_normal(format) / (1 if whole else 2**format.mantissa_bits)


@lru_cache(1 << 16)
def neighbours(magnitude: Fraction, format: Format) -> tuple[Fraction, Fraction]:
    """The two grid points around a positive number, the lower one possibly the number itself."""
    base = smallest_normal(format)
    if magnitude < base:
        step = smallest(format)
    else:
        for stride in (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1):
            if base * 2**stride <= magnitude:
                base *= 2**stride
        while base * 2 <= magnitude:
            base *= 2
        step = base / 2**format.mantissa_bits
    lower = magnitude // step * step
    return lower, lower + step


@lru_cache(1 << 12)
def one_bit_code(power: Fraction, format: Format) -> int:
    """The code of a power of two: in a format with one significant bit, 1 is the smallest and each next one doubles."""
    code = 1
    while power > smallest_normal(format):
        code, power = code + 1, power / 2
    return code


def p3109_outside(
    value: Fraction | str, format: Format, mode: str, overflow: str, negative: bool, rounded_to_zero: bool
) -> str | Fraction | None:
    """ωSaturate of P3109's Interim Report v4.0, §4.7.5, its patterns in their order; None within the range."""
    top = largest(format)
    extended, signed = format.specials == "p3109", format.signed
    low = -top if signed else Fraction(0)
    infinite = isinstance(value, str)
    below = negative and (infinite or (not rounded_to_zero if not signed else value < low))
    above = not negative and (infinite or value > top)
    if not (below or above):
        return None
    if overflow == "saturate":
        return low if below else top
    if overflow == "saturate_propagate":
        if infinite and extended and (above or signed):
            return "+inf" if above else "-inf"
        return low if below else top
    if infinite:
        if above:
            return "+inf" if extended else top
        if signed:
            return "-inf" if extended else low
        return "-nan"
    if above:
        if mode == "to_odd" and not signed and extended:
            return top
        if mode in ("toward_zero", "down"):
            return top
        return "+inf" if extended else top
    if mode in ("toward_zero", "up"):
        return low
    if signed:
        return "-inf" if extended else low
    return "-nan"


def goes_up(position: Fraction, odd: bool, negative: bool, mode: str, word: int, words: int) -> bool:
    """Whether a mode takes the upper neighbour; word: one of a number of random words."""
    match mode:
        case "nearest_even":
            return position > HALF or (position == HALF and odd)
        case "nearest_away":
            return position >= HALF
        case "nearest_zero":
            return position > HALF
        case "toward_zero":
            return False
        case "up":
            return not negative
        case "down":
            return negative
        case "to_odd":
            return not odd
        case "stochastic":
            return math.floor(position * words) + word >= words
        case "stochastic_b":
            return math.floor(position * words * 2) + 2 * word + 1 >= 2 * words
        case "stochastic_c":
            return round(position * words) + word >= words
        case "stochastic_equal":
            return word >= HALF * words
    raise AssertionError(mode)


def round_magnitude(
    magnitude: Fraction, negative: bool, format: Format, mode: str, random: int = 0, random_bit_count: int = 32
) -> Fraction:
    """The neighbour that the mode takes, on a grid without upper end."""
    lower, upper = neighbours(magnitude, format)
    position = (magnitude - lower) / (upper - lower)  # in [0, 1)
    odd = lower / (upper - lower) % 2 == 1
    if format.specials.startswith("p3109") and format.mantissa_bits == 0 and lower:
        odd = one_bit_code(lower, format) % 2 == 1
    up = goes_up(position, odd, negative, mode, random % 2**random_bit_count, 2**random_bit_count)
    result = upper if up and position else lower
    return smallest_normal(format) if format.specials == "e8m0" and result == 0 else result


def round_value(
    x: float, format: Format, mode: str, overflow: str, random: int = 0, random_bit_count: int = 32
) -> str | Fraction:
    """x rounded: a number, or "+nan", "-nan", "+inf", "-inf", "-0"."""
    negative = math.copysign(1, x) < 0
    sign = "-" if negative else "+"
    p3109 = format.specials.startswith("p3109")
    if math.isnan(x) or (format.specials == "e8m0" and (negative or x == 0)):
        return sign + "nan"
    top = largest(format)
    if p3109 and overflow != "mark":
        value: Fraction | str = sign + "inf"
        if math.isfinite(x):
            value = Fraction(0)
            if x:
                value = round_magnitude(abs(Fraction(x)), negative, format, mode, random, random_bit_count)
            value = -value if negative else value
        end = p3109_outside(value, format, mode, overflow, negative, value == 0)
        return value if end is None else end
    if not format.signed and negative:
        magnitude = Fraction(0)
        if math.isfinite(x) and x:
            magnitude = round_magnitude(abs(Fraction(x)), negative, format, mode, random, random_bit_count)
        to_zero = "saturate" in overflow or (
            math.isfinite(x) and overflow == "infinity" and mode in ("toward_zero", "up")
        )
        return Fraction(0) if to_zero or (magnitude == 0 and math.isfinite(x)) else "-nan"
    if math.isfinite(x):
        if x == 0:
            magnitude = Fraction(0)
        else:
            magnitude = round_magnitude(abs(Fraction(x)), negative, format, mode, random, random_bit_count)
        if magnitude == 0:
            return "-0" if negative and has(format, "-0") else Fraction(0)
        if magnitude <= top:
            return -magnitude if negative else magnitude
    end = -top if negative else top
    special = sign + "inf" if has(format, "inf") else sign + "nan" if has(format, "nan") else end
    if overflow == "mark":
        return sign + "inf"
    if overflow == "saturate" or (overflow == "saturate_propagate" and math.isfinite(x)):
        return end
    toward_zero = mode in ("toward_zero", "to_odd") or mode == ("up" if negative else "down")
    return end if overflow == "infinity" and toward_zero and math.isfinite(x) else special


def counts(x: float, result: str | Fraction, format: Format) -> tuple[bool, ...]:
    """(overflowed, underflowed, nan, inexact, subnormal)."""
    if math.isnan(x):
        return True, False, True, False, False
    subnormal = isinstance(result, Fraction) and 0 < abs(result) < smallest_normal(format)
    if math.isinf(x):
        same = result == ("+inf" if x > 0 else "-inf")
        return True, False, False, not same, subnormal
    overflowed = x != 0 and round_magnitude(abs(Fraction(x)), False, format, "nearest_even") > largest(format)
    underflowed = 0 < abs(Fraction(x)) <= smallest(format) / 2
    same = result == Fraction(x) or (x == 0 and result == "-0")
    return overflowed, underflowed, False, not same, subnormal


def as_float(value: str | Fraction) -> float:
    if isinstance(value, str):
        return math.copysign(float(value[1:]), float(value[0] + "1"))
    return value.numerator / value.denominator
