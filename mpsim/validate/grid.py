"""Locates numbers between their neighbours in a format with an unlimited grid, and measures distances in codes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.validate.sources import Source, widened


class Places(NamedTuple):
    """The positions of finite numbers by magnitude. All fields except the flags are float64.

    Args:
        magnitude: |x|.
        lower, quantum: |x| is in [lower, lower + quantum).
        middle: The midpoint of that interval.
        tie: Whether |x| is the midpoint.
        near: Whether |x| is not the midpoint but within one ulp of the source or 2**-10 quanta of it, and less than a
            quarter of a quantum.
        below_normal: Whether |x| is below the smallest normal number.
        beside_power: Whether ``lower`` or ``lower + quantum`` is a power of two that is at least the smallest normal
            number.
    """

    magnitude: Array
    lower: Array
    quantum: Array
    middle: Array
    tie: Array
    near: Array
    below_normal: Array
    beside_power: Array


def places(x: Array, format: Format, source: Source) -> Places:
    """Returns the positions of finite x (float32 or float64).

    >>> from mpsim.formats import FORMATS
    >>> from mpsim.validate.sources import SOURCES
    >>> places(np.float32([1.0625]), FORMATS["float8_e4m3fn"], SOURCES["float32"]).tie
    array([ True])
    """
    magnitude = np.abs(widened(x))
    with np.errstate(under="ignore", over="ignore"):
        exponent = np.frexp(magnitude)[1] - 1
        below = magnitude < format.smallest_normal
        q = np.where(below, format.min_exponent, exponent)
        if format.subnormals or not below.any():
            q = q - format.mantissa_bits
        else:
            q = q - np.where(below, 0, format.mantissa_bits)
        lower = np.ldexp(np.floor(np.ldexp(magnitude, -q)), q)
        quantum = np.ldexp(1.0, q)
        middle = lower + quantum / 2
        distance = np.abs(magnitude - middle)
        ulp = _ulp(magnitude, source)
        near = (distance <= np.maximum(ulp, quantum * 2.0**-10)) & (distance > 0) & (distance < quantum / 4)
        upper = lower + quantum
        power = (_is_power(lower) | _is_power(upper)) & ~below
    return Places(magnitude, lower, quantum, middle, distance == 0, near, below, power)


def _ulp(magnitude: Array, source: Source) -> Array:
    exponent = np.maximum(np.frexp(magnitude)[1] - 1, source.min_exponent)
    return np.ldexp(1.0, exponent - source.mantissa_bits)


def _is_power(values: Array) -> Array:
    return np.asarray(np.frexp(values)[0] == 0.5)


# -- distances ------------------------------------------------------------------------------------------------


def distances(expected: Array, got: Array, format: Format) -> Array:
    """Returns the distances of numbers in codes, i.e. steps between adjacent values of the format, as int64.

    Infinity is one code beyond the largest number. A number between two codes counts as the more distant one. The
    distance between NaN and a number is 2**bits, which exceeds the distance of any two codes.

    >>> from mpsim.formats import FORMATS
    >>> distances(np.float32([1, -0.0, 1, 448]), np.float32([1.125, 0, 1.01, np.inf]), FORMATS["float8_e4m3fn"])
    array([1, 0, 1, 1])
    """
    low, high = _code_places(expected, format)
    other_low, other_high = _code_places(got, format)
    distance = np.maximum(np.abs(other_high - low), np.abs(high - other_low))
    only_one_nan = np.isnan(expected) != np.isnan(got)
    both_nan = np.isnan(expected) & np.isnan(got)
    return np.where(only_one_nan, np.int64(1) << format.bits, np.where(both_nan, 0, distance))


def off_grid(values: Array, format: Format) -> Array:
    """Returns which values are not numbers of the format. Zero, infinity (the overflow mark) and NaN are accepted."""
    low, high = _code_places(values, format)
    return (low != high) | (np.isfinite(values) & (np.abs(values) > format.largest))


def _code_places(values: Array, format: Format) -> tuple[Array, Array]:
    """Returns the positions of the nearest codes at or below, and at or above, each number; 0 for NaN."""
    values = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    magnitude = np.minimum(np.abs(values), 2 * format.largest)
    beyond = magnitude > format.largest
    magnitude = np.minimum(magnitude, format.largest)
    exponent = np.where(magnitude < format.smallest_normal, format.min_exponent, np.frexp(magnitude)[1] - 1)
    scaled = np.ldexp(magnitude, format.mantissa_bits - exponent)  # in quanta of the binade, which is exact
    whole = np.floor(scaled)
    binade = (exponent - format.min_exponent).astype(np.int64) << format.mantissa_bits
    down = binade + whole.astype(np.int64)
    between = whole != scaled
    if not format.subnormals:  # the first number after zero is the smallest normal one
        first = np.int64(1) << format.mantissa_bits
        between = np.where(down < first, magnitude > 0, between)
        down = np.where(down < first, 0, down - first + 1)
    down = down + beyond
    up = down + (between & ~beyond)
    negative = np.signbit(values)
    return np.where(negative, -up, down), np.where(negative, -down, up)
