"""Log-softmax and its gradient; exp and log operation by operation as mpsim/kernels/elementary.py has them."""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.elementary import (
    EXP_TERMS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_TERMS,
    ROOT_HALF,
    SHIFTER,
)
from mpsim.kernels.numba_cpu.jit import at_most, empty, njit
from mpsim.kernels.numba_cpu.normalization import LANES, vector_sum

__all__ = ["log_softmax", "log_softmax_gradient"]

Array = NDArray[np.float32]
#: Beyond these a float32 exponential is 0 or infinity, and all powers of two between are normal float64 numbers.
EXP32_SMALLEST, EXP32_LARGEST = np.float32(-110), np.float32(100)


@njit(cache=True)
def exp32(x):  # type: ignore[no-untyped-def]
    """Without branches, so that a loop over it becomes vector code."""
    inside = EXP32_SMALLEST if x < EXP32_SMALLEST else EXP32_LARGEST if x > EXP32_LARGEST else x
    t = np.float64(inside)
    shifted = t * LOG2_E + SHIFTER  # its last bits are the whole number n
    n = shifted - SHIFTER
    r = (t - n * LN2_HIGH) - n * LN2_LOW
    p = EXP_TERMS[0]
    for term in EXP_TERMS[1:]:
        p = p * r + term
    bits = np.float64(shifted).view(np.int64)
    return np.float32(p * np.int64((bits + 1023) << 52).view(np.float64))


@njit(cache=True, error_model="numpy")
def log32(x: np.float32) -> np.float32:
    if x == 0:
        return np.float32(-np.inf)
    if not x > 0 or math.isinf(x):
        return np.float32(np.nan) if x < 0 else x
    f, exponent = math.frexp(np.float64(x))
    if f < ROOT_HALF:
        f = 2.0 * f
        exponent -= 1
    k = np.float64(exponent)
    s = (f - 1.0) / (f + 1.0)
    z = s * s
    p = LOG_TERMS[0]
    for term in LOG_TERMS[1:]:
        p = p * z + term
    return np.float32(k * LN2_HIGH + ((2.0 * s + (s * z) * p) + k * LN2_LOW))


@njit(cache=True)
def first_largest(x: Array) -> np.float32:
    """The first of the largest; the first NaN if there is one."""
    largest = x[0]
    for element in x[1:]:
        if element > largest or (math.isnan(element) and not math.isnan(largest)):
            largest = element
    return largest


@njit(cache=True, parallel=True)
def take_log_softmax(x: Array, y: Array) -> None:
    rows, columns = x.shape
    for row in prange(rows):
        largest = first_largest(x[row])
        for c in range(columns):
            y[row, c] = exp32(x[row, c] - largest)
        logarithm = log32(vector_sum(y[row], np.empty(LANES, np.float32)))
        for c in range(columns):
            y[row, c] = (x[row, c] - largest) - logarithm


@njit(cache=True, parallel=True)
def take_gradient(gy: Array, y: Array, gx: Array) -> None:
    rows, columns = y.shape
    for row in prange(rows):
        total = vector_sum(gy[row], np.empty(LANES, np.float32))
        for c in range(columns):
            gx[row, c] = gy[row, c] - exp32(y[row, c]) * total


def log_softmax(x: Array, *, threads: int = 1) -> Array:
    """Logarithm of the softmax of each row: (N, C) -> (N, C)."""
    y = empty(x.shape)
    with at_most(threads):
        take_log_softmax(x, y)
    return y


def log_softmax_gradient(gy: Array, y: Array, *, threads: int = 1) -> Array:
    """gy - exp(y) * (the sum of gy's row)."""
    gx = empty(y.shape)
    with at_most(threads):
        take_gradient(gy, y, gx)
    return gx
