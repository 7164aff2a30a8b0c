"""Where a number lies between its neighbours in a format whose grid goes on upward without end."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import Format
from mpsim.validate.sources import Source

Array = np.ndarray[Any, Any]


class Places(NamedTuple):
    """Of finite numbers, by magnitude (all float64 but the flags).

    lower, quantum: |x| is in [lower, lower + quantum). middle: the midpoint. tie: |x| is it. near: |x| is not, but
    within one ulp of the source or 2**-10 quanta of it. below_normal: |x| is less than the smallest normal number.
    beside_power: lower or lower + quantum is a power of two, not below the smallest normal number.
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
    """Places of finite x (float32 or float64).

    >>> from mpsim.formats import FORMATS
    >>> from mpsim.validate.sources import SOURCES
    >>> places(np.float32([1.0625]), FORMATS["float8_e4m3fn"], SOURCES["float32"]).tie
    array([ True])
    """
    magnitude = np.abs(np.asarray(x, np.float64))
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
        near = (distance <= np.maximum(ulp, quantum * 2.0**-10)) & (distance > 0)
        upper = lower + quantum
        power = (_is_power(lower) | _is_power(upper)) & ~below
    return Places(magnitude, lower, quantum, middle, distance == 0, near, below, power)


def _ulp(magnitude: Array, source: Source) -> Array:
    exponent = np.maximum(np.frexp(magnitude)[1] - 1, source.format.min_exponent)
    return np.ldexp(1.0, exponent - source.format.mantissa_bits)


def _is_power(values: Array) -> Array:
    return np.asarray(np.frexp(values)[0] == 0.5)
