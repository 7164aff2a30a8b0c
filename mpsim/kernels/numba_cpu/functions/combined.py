"""Computes sums, differences, products and quotients of two arrays, softmax, and sums by index."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import at_most, empty, njit
from mpsim.kernels.numba_cpu.layers import exp32, first_largest
from mpsim.kernels.numba_cpu.normalization import LANES, vector_sum

__all__ = ["divide", "multiply", "softmax", "softmax_gradient", "subtract", "take_gradient"]

Array = NDArray[np.float32]
SUBTRACT, MULTIPLY, DIVIDE = range(3)


@njit(cache=True, parallel=True, error_model="numpy")
def combine(k: int, a: Array, b: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = a[i] - b[i] if k == SUBTRACT else a[i] * b[i] if k == MULTIPLY else a[i] / b[i]


def _combined(k: int, a: Array, b: Array, out: Array | None, threads: int) -> Array:
    y = empty(a.shape) if out is None else out
    with at_most(threads):
        combine(k, a.reshape(-1), b.reshape(-1), y.reshape(-1))
    return y


def subtract(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns a - b. ``out`` may be a or b."""
    return _combined(SUBTRACT, a, b, out, threads)


def multiply(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns a * b. ``out`` may be a or b."""
    return _combined(MULTIPLY, a, b, out, threads)


def divide(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns a / b. ``out`` may be a or b."""
    return _combined(DIVIDE, a, b, out, threads)


@njit(cache=True, parallel=True, error_model="numpy")
def divide_exponentials(x: Array, y: Array) -> None:
    for row in prange(x.shape[0]):
        largest = first_largest(x[row])
        for c in range(x.shape[1]):
            y[row, c] = exp32(x[row, c] - largest)
        total = vector_sum(y[row], np.empty(LANES, np.float32))
        for c in range(x.shape[1]):
            y[row, c] = y[row, c] / total


@njit(cache=True, parallel=True)
def find_softmax_gradient(gy: Array, y: Array, gx: Array) -> None:
    for row in prange(y.shape[0]):
        products = np.empty(y.shape[1], np.float32)
        for c in range(y.shape[1]):
            products[c] = gy[row, c] * y[row, c]
        total = vector_sum(products, np.empty(LANES, np.float32))
        for c in range(y.shape[1]):
            gx[row, c] = (gy[row, c] - total) * y[row, c]


def softmax(x: Array, *, threads: int = 1) -> Array:
    """Returns the softmax of each row: (N, C) -> (N, C)."""
    y = empty(x.shape)
    with at_most(threads):
        divide_exponentials(x, y)
    return y


def softmax_gradient(gy: Array, y: Array, *, threads: int = 1) -> Array:
    """Returns (gy - (the sum of gy * y in the row)) * y."""
    gx = empty(y.shape)
    with at_most(threads):
        find_softmax_gradient(gy, y, gx)
    return gx


@njit(cache=True, parallel=True)
def add_by_index(gy: Array, index: NDArray, gx: Array) -> None:
    for p in prange(gx.shape[0]):
        gx[p, :, :] = np.float32(0)
        for j in range(index.size):
            if index[j] >= 0:
                source, target = gy[p, j], gx[p, index[j]]
                for q in range(target.size):
                    target[q] += source[q]


def take_gradient(gy: Array, index: NDArray, size: int, *, threads: int = 1) -> Array:
    """Adds gy[:, j] at index[j] in rising j, but not where the index is -1: (P, m, Q) -> (P, size, Q)."""
    gx = empty((gy.shape[0], size, gy.shape[2]))
    with at_most(threads):
        add_by_index(gy, index, gx)
    return gx
