"""Exact quotients of arrays, as float64 numbers that round to any narrower format as the exact ones do."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contract import Array

#: Exponents of quotients are kept within these. Elements and scales lie far inside.
_FAR = 1000
_SPLITTER = 2.0**27 + 1


def exact_quotient(x: Array, divisor: Array) -> Array:
    """Returns x / divisor, which is not negative, rounded to odd in float64: inexact quotients get an odd last bit.

    Rounding such a number to a format of at most 51 bits, in any mode, gives what the exact quotient gives.
    Source: Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums" (rounding to odd).
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        above, up = np.frexp(x)
        below, down = np.frexp(divisor)
        found = above / below  # in [1/2, 2), or special
        rest = _remainder(above, found, below)
        even = (found.view(np.int64) & 1) == 0
        moved = np.nextafter(found, np.where(rest > 0, np.inf, -np.inf))
        odd = np.where(np.isfinite(found) & (rest != 0) & even, moved, found)
        return np.asarray(np.ldexp(odd, np.clip(up - down, -_FAR, _FAR)))


def exact_product(x: Array, y: Array) -> Array:
    """Returns x * y rounded to odd in float64, like ``exact_quotient``. Neither is near the ends of float64's range."""
    found = x * y
    with np.errstate(invalid="ignore", over="ignore"):
        error = _error(x, y, found)
    even = (found.view(np.int64) & 1) == 0
    moved = np.nextafter(found, np.where(error > 0, np.inf, -np.inf))
    return np.asarray(np.where((error != 0) & even & np.isfinite(found), moved, found))


def _remainder(x: Array, quotient: Array, divisor: Array) -> Array:
    """Returns x - quotient * divisor, exactly."""
    product = quotient * divisor
    return np.asarray((x - product) - _error(quotient, divisor, product))


def _error(x: Array, y: Array, product: Array) -> Array:
    """Returns x * y - product, exactly. Source: Dekker 1971 (the product in two parts)."""
    high, low = _halves(x)
    left, right = _halves(y)
    return np.asarray(((high * left - product) + high * right + low * left) + low * right)


def _halves(x: Array) -> tuple[Array, Array]:
    scaled = _SPLITTER * x
    high = scaled - (scaled - x)
    return high, x - high


def exact_difference(high: Array, low: Array) -> Array:
    """Returns high - low of float64 numbers, rounded to odd. high is not negative and low not positive."""
    found = high - low
    part = found - high
    rest = (high - (found - part)) + (-low - part)
    even = (found.view(np.int64) & 1) == 0
    moved = np.nextafter(found, np.where(rest > 0, np.inf, -np.inf))
    return np.asarray(np.where((rest != 0) & even & np.isfinite(found), moved, found))
