"""Computes elementwise kernels and log-softmax.

exp follows mpsim/kernels/elementary/ operation by operation, without branches.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.elementary import EXP_TERMS, LN2_HIGH, LN2_LOW, LOG2_E, SHIFTER
from mpsim.kernels.numba_cpu.functions.unary import log64
from mpsim.kernels.numba_cpu.jit import at_most, empty, njit
from mpsim.kernels.numba_cpu.normalization import LANES, vector_sum

__all__ = [
    "add", "log_softmax", "log_softmax_gradient", "positive", "relu", "relu_gradient", "scale",
]  # fmt: skip

Array = NDArray[np.float32]
ZERO = np.float32(0)
#: Beyond these the float32 exponential is 0 or infinity. The powers of two in between are normal float64 numbers.
EXP32_SMALLEST, EXP32_LARGEST = np.float32(-110), np.float32(100)


@njit(cache=True, parallel=True)
def _add(a: Array, b: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = a[i] + b[i]


@njit(cache=True, parallel=True)
def _scale(x: Array, factor: np.float32, y: Array) -> None:
    for i in prange(y.size):
        y[i] = x[i] * factor


@njit(cache=True, parallel=True)
def _relu(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = ZERO if x[i] <= 0 else x[i]


@njit(cache=True, parallel=True)
def _positive(x: Array, mask: Array) -> None:
    for i in prange(mask.size):
        mask[i] = x[i] > 0


@njit(cache=True, parallel=True)
def _relu_gradient(gy: Array, x: Array, gx: Array) -> None:
    for i in prange(gx.size):
        gx[i] = gy[i] if x[i] > 0 else ZERO


def _flat(x: NDArray) -> NDArray:
    return x.reshape(-1)


def _made(x: Array, out: Array | None) -> Array:
    return empty(x.shape) if out is None else out


def add(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns a + b. ``out`` may be a or b."""
    y = _made(a, out)
    with at_most(threads):
        _add(_flat(a), _flat(b), _flat(y))
    return y


def scale(x: Array, factor: float, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns x times the factor. ``out`` may be x."""
    y = _made(x, out)
    with at_most(threads):
        _scale(_flat(x), np.float32(factor), _flat(y))
    return y


def relu(x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns x where not (x <= 0), so that NaN stays, and +0 elsewhere. ``out`` may be x."""
    y = _made(x, out)
    with at_most(threads):
        _relu(_flat(x), _flat(y))
    return y


def positive(x: Array, *, threads: int = 1) -> NDArray:
    """Returns whether x > 0 as a bool array."""
    mask = np.empty(x.shape, np.bool_)
    with at_most(threads):
        _positive(_flat(x), _flat(mask))
    return mask


def relu_gradient(gy: Array, x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns gy where x > 0 and +0 elsewhere. ``out`` may be gy, and x may be positive(x)."""
    gx = _made(gy, out)
    with at_most(threads):
        _relu_gradient(_flat(gy), _flat(x), _flat(gx))
    return gx


# -- log-softmax --------------------------------------------------------------------------------------------


@njit(cache=True)
def exp32(x):  # type: ignore[no-untyped-def]
    """Computes exp of float32. It has no branches, so that a loop over it becomes vector code."""
    inside = EXP32_SMALLEST if x < EXP32_SMALLEST else EXP32_LARGEST if x > EXP32_LARGEST else x
    t = np.float64(inside)
    shifted = t * LOG2_E + SHIFTER  # its last bits are the integer n
    n = shifted - SHIFTER
    r = (t - n * LN2_HIGH) - n * LN2_LOW
    p = EXP_TERMS[0]
    for term in EXP_TERMS[1:]:
        p = p * r + term
    bits = np.float64(shifted).view(np.int64)
    return np.float32(p * np.int64((bits + 1023) << 52).view(np.float64))


@njit(cache=True)
def log32(x: np.float32) -> np.float32:
    return np.float32(log64(np.float64(x)))


@njit(cache=True)
def first_largest(x: Array) -> np.float32:
    """Returns the index of the first largest number, or of the first NaN if there is one."""
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
    """Returns the logarithm of the softmax of each row: (N, C) -> (N, C)."""
    y = empty(x.shape)
    with at_most(threads):
        take_log_softmax(x, y)
    return y


def log_softmax_gradient(gy: Array, y: Array, *, threads: int = 1) -> Array:
    """Returns gy - exp(y) * (the sum of gy's row)."""
    gx = empty(y.shape)
    with at_most(threads):
        take_gradient(gy, y, gx)
    return gx
