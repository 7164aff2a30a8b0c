"""Calls the compiled kernels of functions of one or two arguments, softmax and copies by index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpsim import _kernels
from mpsim.kernels.compiled.arrays import empty
from mpsim.kernels.elementary.functions import NUMBER

__all__ = ["divide", "multiply", "softmax", "softmax_gradient", "subtract", "take", "take_gradient", "unary"]

Array = NDArray[np.float32]


def _combined(kernel: Callable[..., None], a: Array, b: Array, out: Array | None, threads: int) -> Array:
    y = empty(a.shape) if out is None else out
    kernel(a.reshape(-1), b.reshape(-1), y.reshape(-1), y.size, threads)
    return y


def subtract(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns a - b. ``out`` may be a or b."""
    return _combined(_kernels.subtract, a, b, out, threads)


def multiply(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns a * b. ``out`` may be a or b."""
    return _combined(_kernels.multiply, a, b, out, threads)


def divide(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns a / b. ``out`` may be a or b."""
    return _combined(_kernels.divide, a, b, out, threads)


def unary(
    x: Array, function: str, a: float = 0.0, b: float = 0.0, *, out: Array | None = None, threads: int = 1
) -> Array:
    """Returns the function of each element. ``out`` may be x."""
    y = empty(x.shape) if out is None else out
    _kernels.unary(x.reshape(-1), NUMBER[function], a, b, y.reshape(-1), y.size, threads)
    return y


def softmax(x: Array, *, threads: int = 1) -> Array:
    """Returns the softmax of each row: (N, C) -> (N, C)."""
    y = empty(x.shape)
    _kernels.softmax(x.reshape(-1), *x.shape, y.reshape(-1), threads)
    return y


def softmax_gradient(gy: Array, y: Array, *, threads: int = 1) -> Array:
    """Returns (gy - (the sum of gy * y in the row)) * y."""
    gx = empty(y.shape)
    _kernels.softmax_gradient(gy.reshape(-1), y.reshape(-1), *y.shape, gx.reshape(-1), threads)
    return gx


def take(x: Array, index: NDArray, *, threads: int = 1) -> Array:
    """Returns x[:, index], with +0 where the index is -1: (P, n, Q) -> (P, m, Q)."""
    outer, size, run = x.shape
    y = empty((outer, index.size, run))
    _kernels.take(x.reshape(-1), index, y.reshape(-1), outer, size, index.size, run, threads)
    return y


def take_gradient(gy: Array, index: NDArray, size: int, *, threads: int = 1) -> Array:
    """Adds gy[:, j] at index[j] in rising j, but not where the index is -1: (P, m, Q) -> (P, size, Q)."""
    outer, count, run = gy.shape
    gx = empty((outer, size, run))
    _kernels.take_gradient(gy.reshape(-1), index, gx.reshape(-1), outer, size, count, run, threads)
    return gx
