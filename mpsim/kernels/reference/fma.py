"""Computes correctly rounded sums of a product and a number on NumPy arrays by float64 operations."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contractions.narrow import NEAREST_AWAY, NEAREST_EVEN, TOWARD_ZERO, Narrow, Rounding


def exact_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the exact products of float32 numbers, whose 48 bits and exponents from -298 to 255 fit in float64."""
    return a.astype(np.float64) * b


def two_sum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rounded sum of float64 arrays, and its error, which is NaN where the sum is not finite (Knuth)."""
    s = x + y
    carried = s - x
    return s, (x - (s - carried)) + (y - carried)


def sum_to_odd(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns x + y of float64 arrays rounded to odd: inexact sums become the neighbour with last bit 1 (narrow.py)."""
    s, error = two_sum(x, y)
    bits = s.view(np.int64)
    outward, inward = (error > 0) & (s > 0) | (error < 0) & (s < 0), (error > 0) & (s < 0) | (error < 0) & (s > 0)
    even = (bits & 1) == 0
    bits += even & outward
    bits -= even & inward
    return s


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Returns a*b + c of float32 arrays with one rounding to float32 (IEEE 754-2019 §5.4.1, fusedMultiplyAdd).

    >>> float(fma(np.float32([1 + 2**-23]), np.float32([1 - 2**-23]), np.float32([-1]))[0]) == -(2**-46)
    True
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return sum_to_odd(exact_product(a, b), c).astype(np.float32)


def narrow_sum(x: np.ndarray, y: np.ndarray, narrow: Narrow) -> np.ndarray:
    """Returns x + y rounded once to a narrow format (nearest even, overflow to infinity) as float64."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return round_narrow(sum_to_odd(x, y), narrow)


def round_narrow(s: np.ndarray, narrow: Narrow, mode: int = NEAREST_EVEN) -> np.ndarray:
    """Rounds numbers that were rounded to odd to a narrow format. Too large ones become ``narrow.beyond``."""
    magnitude = np.abs(s)
    exponent = _exponent_of_c(magnitude, narrow)
    if mode == TOWARD_ZERO:
        quantum = ((exponent - 52) << 52).view(np.float64)
        rounded = np.where(np.isfinite(magnitude), np.trunc(magnitude / quantum) * quantum, magnitude)
    else:
        c = (exponent << 52).view(np.float64)
        rounded = (magnitude + c) - c
        if mode == NEAREST_AWAY:
            rounded += np.where(magnitude - rounded == c * 2.0**-53, c * 2.0**-52, 0.0)
    return _signed(rounded, s, narrow)


def round_stochastic(s: np.ndarray, words: np.ndarray, rounding: Rounding) -> np.ndarray:
    """Does the same, up or down depending on the lowest random bits of the words (docs/semantics.md, "Rounding")."""
    magnitude, steps = np.abs(s), 2.0**rounding.random_bits
    quantum = ((_exponent_of_c(magnitude, rounding.format) - 52) << 52).view(np.float64)
    quanta = magnitude / quantum  # exact
    keep = np.trunc(quanta)
    random = (words & np.uint32(steps - 1)).astype(np.float64)
    keep += np.floor((quanta - keep) * steps) + random >= steps
    return _signed(np.where(np.isfinite(magnitude), keep * quantum, magnitude), s, rounding.format)


def _exponent_of_c(magnitude: np.ndarray, narrow: Narrow) -> np.ndarray:
    exponent = magnitude.view(np.int64) >> 52
    return np.minimum(np.where(exponent < narrow.least_exponent, narrow.low, exponent + narrow.shift), 2046)


def _signed(rounded: np.ndarray, s: np.ndarray, narrow: Narrow) -> np.ndarray:
    """Returns magnitudes with their signs. Too large ones become the format's overflow result."""
    rounded[rounded > narrow.largest] = narrow.beyond
    signed = np.copysign(rounded, s)
    return signed if narrow.negative_zero else signed + 0.0


def truncated_sum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns x + y of float64 arrays rounded toward zero."""
    s, error = two_sum(x, y)
    bits = s.view(np.int64)
    bits -= (error > 0) & (s < 0) | (error < 0) & (s > 0)
    return s
