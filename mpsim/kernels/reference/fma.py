"""Exactly rounded sums of a product and a number, on whole NumPy arrays, from float64 operations."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contractions.narrow import Narrow


def exact_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The products of float32 numbers: 48 bits and exponents from -298 to 255 fit in float64."""
    return a.astype(np.float64) * b


def sum_to_odd(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x + y of float64 arrays rounded to odd: inexact sums get the neighbour whose last bit is 1 (see narrow.py)."""
    s = x + y
    carried = s - x
    error = (x - (s - carried)) + (y - carried)  # TwoSum; NaN where s is not finite, and then nothing moves
    bits = s.view(np.int64)
    outward, inward = (error > 0) & (s > 0) | (error < 0) & (s < 0), (error > 0) & (s < 0) | (error < 0) & (s > 0)
    even = (bits & 1) == 0
    bits += even & outward
    bits -= even & inward
    return s


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a*b + c of float32 arrays with one rounding to float32 (IEEE 754-2019 §5.4.1, fusedMultiplyAdd).

    >>> float(fma(np.float32([1 + 2**-23]), np.float32([1 - 2**-23]), np.float32([-1]))[0]) == -(2**-46)
    True
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return sum_to_odd(exact_product(a, b), c).astype(np.float32)


def narrow_sum(x: np.ndarray, y: np.ndarray, narrow: Narrow) -> np.ndarray:
    """x + y rounded once to a narrow format, nearest even, overflow to infinity; float64 holding float32 numbers."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return round_narrow(sum_to_odd(x, y), narrow)


def round_narrow(s: np.ndarray, narrow: Narrow, toward_zero: bool = False) -> np.ndarray:
    """Numbers that were rounded to odd, rounded to a narrow format; what is too large becomes ``narrow.beyond``."""
    magnitude = np.abs(s)
    exponent = magnitude.view(np.int64) >> 52
    exponent = np.where(exponent < narrow.least_exponent, narrow.low, exponent + narrow.shift)
    c = (np.minimum(exponent, 2046) << 52).view(np.float64)
    if toward_zero:
        quantum = ((np.minimum(exponent, 2046) - 52) << 52).view(np.float64)
        rounded = np.where(np.isfinite(magnitude), np.trunc(magnitude / quantum) * quantum, magnitude)
    else:
        rounded = (magnitude + c) - c
    rounded[rounded > narrow.largest] = narrow.beyond
    signed = np.copysign(rounded, s)
    return signed if narrow.negative_zero else signed + 0.0
