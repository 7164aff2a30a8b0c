"""Computes the turning points of rounding to a format: its numbers, the midpoints between them, and their neighbours.

Every list of inputs is built from them: the corpus of a cast, its runs, blocks, test vectors, Hypothesis strategies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from mpsim.formats import Format
from mpsim.kernels import spec_codes
from mpsim.kernels.contract import Array


def grid(format: Format, code: int) -> tuple[int, int]:
    """Returns (significand, exponent) of a number of the format's grid, which continues beyond the largest number.

    >>> from mpsim.formats import FORMATS
    >>> grid(FORMATS["float8_e4m3fn"], FORMATS["float8_e4m3fn"].largest_code + 1)
    (15, 5)
    """
    if format.has_zero and not format.subnormals and code >> format.mantissa_bits == 0:
        return 0, format.min_exponent
    return format.split(code)


def point(format: Format, code: int, half: int) -> float:
    """Returns the number of a code, or with ``half`` 1 the midpoint above it. Beyond float64 it is infinity.

    >>> from mpsim.formats import FORMATS
    >>> point(FORMATS["float8_e4m3fn"], FORMATS["float8_e4m3fn"].largest_code, 1)
    464.0
    """
    significand, exponent = grid(format, code)
    try:
        return math.ldexp(2 * significand + half, exponent - 1)
    except OverflowError:
        return math.inf


def numbers(format: Format, codes: Iterable[int] | None = None) -> Array:
    """Returns the different non-negative numbers of codes (by default all), in rising order, as float64."""
    chosen = range(format.largest_code + 1) if codes is None else codes
    return np.array(sorted({spec_codes.decode(code, format) for code in chosen}))


def midpoints(rising: Array) -> Array:
    """Returns the midpoints of consecutive numbers.

    >>> print(midpoints(np.array([1.0, 1.25, 2.0])))
    [1.125 1.625]
    """
    return np.asarray(rising[:-1] + np.diff(rising) / 2)


def with_midpoints(rising: Array) -> Array:
    """Returns numbers and the midpoints between them, in rising order."""
    return np.sort(np.concatenate([rising, midpoints(rising)]))


def beside(magnitudes: Array, dtype: str) -> Array:
    """Returns the predecessors of non-negative numbers in float32 or float64, the numbers, and their successors.

    >>> print(beside(np.array([1.0, 2.0]), "float32"))
    [0.99999994 1.9999999  1.         2.         1.0000001  2.0000002 ]
    """
    with np.errstate(over="ignore", under="ignore"):
        x = magnitudes.astype(dtype)
        return np.concatenate([np.nextafter(x, x.dtype.type(0)), x, np.nextafter(x, x.dtype.type(np.inf))])


def both_signs(magnitudes: Array) -> Array:
    """Returns the different numbers in rising order, followed by their negatives."""
    unique = np.unique(magnitudes)
    return np.concatenate([unique, -unique])


def beside_patterns(pattern: int) -> list[int]:
    """Returns a bit pattern with the patterns before and after it, without negative ones."""
    return [near for near in (pattern - 1, pattern, pattern + 1) if near >= 0]
