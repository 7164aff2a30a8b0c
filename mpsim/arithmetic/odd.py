"""Operations on float64 arrays, rounded to odd, so that rounding the result again gives one rounding.

A number is rounded to odd at some bit: an inexact result keeps the bits above, and its last bit is 1 (Boldo and
Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd"). Operands are
float32 numbers or narrower ones of at most 24 significant bits, whose exponents lie within +-479.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.kernels.reference.fma import sum_to_odd, two_sum

#: Significant bits of a quotient, a root and a reciprocal root.
QUOTIENT_BITS, ROOT_BITS, RECIPROCAL_ROOT_BITS = 38, 26, 19


def sum_of_three(x: Array, y: Array, z: Array) -> Array:
    """x + y + z rounded to odd."""
    high, low = two_sum(y, z)
    top, rest = two_sum(x, high)
    return np.where(np.isfinite(top), sum_to_odd(top, sum_to_odd(rest, low)), top)


def quotient(x: Array, y: Array) -> Array:
    """x / y, 38 significant bits."""
    left, left_exponent = significand(x, 24)
    right, right_exponent = significand(y, 24)
    found, remainder = np.divmod(left << 38, np.where(right == 0, 1, right))
    magnitude = np.ldexp((found | (remainder != 0)).astype(np.float64), left_exponent - right_exponent - 38)
    ordinary = (left != 0) & (right != 0)
    return np.where(ordinary, np.copysign(magnitude, np.sign(x) * np.sign(y)), x / y)


def square_root(x: Array) -> Array:
    """The square root, 26 significant bits."""
    value, half = even_exponent(x, 52)
    found = floor_root(value)
    magnitude = np.ldexp((found | (found * found != value)).astype(np.float64), half - 26)
    return np.where(np.isfinite(x) & (x > 0), magnitude, np.sqrt(x))


def reciprocal_square_root(x: Array) -> Array:
    """1 / the square root, 19 significant bits."""
    value, half = even_exponent(x, 26)
    value = np.maximum(value, 1)
    found = floor_root((1 << 62) // value)
    exact = found * found * value == 1 << 62
    magnitude = np.ldexp((found | ~exact).astype(np.float64), -half - 18)
    return np.where(np.isfinite(x) & (x > 0), magnitude, 1.0 / np.sqrt(x))


def significand(x: Array, bits: int) -> tuple[Array, Array]:
    """(s, e), int64, with |x| = s * 2**e and ``bits`` bits in s; zero for infinities and NaN."""
    fraction, exponent = np.frexp(np.where(np.isfinite(x), np.abs(x), 0.0))
    return np.ldexp(fraction, bits).astype(np.int64), exponent.astype(np.int64) - bits


def even_exponent(x: Array, bits: int) -> tuple[Array, Array]:
    """(v, h), int64, with |x| = v * 2**(2 h - bits) and 2**(bits - 2) <= v < 2**bits."""
    fraction, exponent = np.frexp(np.where(np.isfinite(x), np.abs(x), 0.0))
    half = (exponent.astype(np.int64) + 1) // 2
    return np.ldexp(fraction, bits + exponent - 2 * half).astype(np.int64), half


def floor_root(value: Array) -> Array:
    """floor(sqrt(value)) of int64 numbers below 2**53."""
    found = np.sqrt(value.astype(np.float64)).astype(np.int64)
    found -= found * found > value
    return found + ((found + 1) * (found + 1) <= value)


def minimum(x: Array, y: Array) -> Array:
    """The smaller number, -0 being less than +0; NaN where either is."""
    first = (x < y) | ((x == 0) & (y == 0) & np.signbit(x))
    return np.where(np.isnan(x) | np.isnan(y), np.nan, np.where(first, x, y))


def maximum(x: Array, y: Array) -> Array:
    """The larger number, +0 being more than -0; NaN where either is."""
    return -minimum(-x, -y)


def minimum_magnitude(x: Array, y: Array) -> Array:
    """The number of smaller magnitude; of two equal ones, the smaller."""
    equal = np.abs(x) == np.abs(y)
    chosen = np.where(equal, minimum(x, y), np.where(np.abs(x) < np.abs(y), x, y))
    return np.where(np.isnan(x) | np.isnan(y), np.nan, chosen)


def maximum_magnitude(x: Array, y: Array) -> Array:
    """The number of larger magnitude; of two equal ones, the larger."""
    equal = np.abs(x) == np.abs(y)
    chosen = np.where(equal, maximum(x, y), np.where(np.abs(x) > np.abs(y), x, y))
    return np.where(np.isnan(x) | np.isnan(y), np.nan, chosen)


Extremum = Callable[[Array, Array], Array]


def of_numbers(extremum: Extremum) -> Extremum:
    """The variant in which a NaN gives way to a number."""
    return lambda x, y: np.where(np.isnan(x), y, np.where(np.isnan(y), x, extremum(x, y)))


def of_finite(extremum: Extremum) -> Extremum:
    """The variant in which infinities and NaN give way to finite numbers."""

    def chosen(x: Array, y: Array) -> Array:
        numbers = ~(np.isnan(x) | np.isnan(y))
        one = np.where(np.isinf(x) & ~np.isinf(y), y, np.where(np.isinf(y) & ~np.isinf(x), x, np.nan))
        return np.where(numbers & (np.isinf(x) != np.isinf(y)), one, of_numbers(extremum)(x, y))

    return chosen


def clamp(x: Array, low: Array, high: Array) -> Array:
    """x held between low and high (P3109 §4.11.4)."""
    held = np.where(x <= low, low, np.where(x >= high, high, x))
    one_bound = (low == high) & np.isinf(low)
    nothing = np.isnan(x) | np.isnan(low) | np.isnan(high) | (low > high)
    nothing |= ~one_bound & ((high == -np.inf) | (low == np.inf))
    return np.where(nothing, np.nan, held)


#: name -> (function, significant bits of a result that is not exact; 0 where every result is exact)
OPERATIONS: dict[str, tuple[Callable[..., Array], int]] = {
    "convert": (lambda x: x, 0),
    "negate": (np.negative, 0),
    "abs": (np.abs, 0),
    "copysign": (np.copysign, 0),
    "add": (sum_to_odd, 53),
    "subtract": (lambda x, y: sum_to_odd(x, -y), 53),
    "multiply": (np.multiply, 0),
    "divide": (quotient, QUOTIENT_BITS),
    "fma": (lambda x, y, z: sum_to_odd(x * y, z), 53),
    "faa": (sum_of_three, 53),
    "sqrt": (square_root, ROOT_BITS),
    "reciprocal": (lambda x: quotient(np.ones_like(x), x), QUOTIENT_BITS),
    "rsqrt": (reciprocal_square_root, RECIPROCAL_ROOT_BITS),
    "minimum": (minimum, 0),
    "maximum": (maximum, 0),
    "minimum_number": (of_numbers(minimum), 0),
    "maximum_number": (of_numbers(maximum), 0),
    "minimum_magnitude": (minimum_magnitude, 0),
    "maximum_magnitude": (maximum_magnitude, 0),
    "minimum_magnitude_number": (of_numbers(minimum_magnitude), 0),
    "maximum_magnitude_number": (of_numbers(maximum_magnitude), 0),
    "minimum_finite": (of_finite(minimum), 0),
    "maximum_finite": (of_finite(maximum), 0),
    "clamp": (clamp, 0),
}
