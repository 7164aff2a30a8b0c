"""Numba: log-softmax and its gradient; exp and log operation by operation as mpsim.kernels.elementary has them."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mpsim.kernels.elementary import (
    EXP_LARGEST,
    EXP_SMALLEST,
    EXP_TERMS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_TERMS,
    ROOT_HALF,
    SHIFTER,
)
from mpsim.kernels.numba_cpu.reductions import vector_sum

Array = NDArray[np.float32]
SMALLEST_EXPONENT = -1000
POWERS_OF_TWO = np.ldexp(1.0, np.arange(SMALLEST_EXPONENT, -SMALLEST_EXPONENT))


@njit(cache=True)
def exp32(x: np.float32) -> np.float32:
    if math.isnan(x):
        return x
    if x > EXP_LARGEST:
        return np.float32(np.inf)
    if x < EXP_SMALLEST:
        return np.float32(0)
    t = np.float64(x)
    n = (t * LOG2_E + SHIFTER) - SHIFTER
    r = (t - n * LN2_HIGH) - n * LN2_LOW
    p = EXP_TERMS[0]
    for term in EXP_TERMS[1:]:
        p = p * r + term
    whole = int(n)
    half = whole >> 1
    return np.float32((p * POWERS_OF_TWO[half - SMALLEST_EXPONENT]) * POWERS_OF_TWO[whole - half - SMALLEST_EXPONENT])


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
def log_softmax(x: Array, y: Array) -> None:
    rows, columns = x.shape
    for row in prange(rows):
        largest = first_largest(x[row])
        for c in range(columns):
            y[row, c] = exp32(x[row, c] - largest)
        logarithm = log32(vector_sum(y[row]))
        for c in range(columns):
            y[row, c] = (x[row, c] - largest) - logarithm


@njit(cache=True, parallel=True)
def log_softmax_gradient(gy: Array, y: Array, gx: Array) -> None:
    rows, columns = y.shape
    for row in prange(rows):
        total = vector_sum(gy[row])
        for c in range(columns):
            gx[row, c] = gy[row, c] - exp32(y[row, c]) * total
