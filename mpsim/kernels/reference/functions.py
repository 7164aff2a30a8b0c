"""Defines reference kernels: functions of one or two arguments, softmax, and copies by index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpsim.kernels import elementary
from mpsim.kernels.elementary.functions import evaluate
from mpsim.kernels.reference.reductions import sum_rows

__all__ = ["divide", "multiply", "softmax", "softmax_gradient", "subtract", "take", "take_gradient", "unary"]


@np.errstate(all="ignore")
def subtract(a: NDArray, b: NDArray, *, out: NDArray | None = None, threads: int = 1) -> NDArray:
    """Returns a - b. ``out`` may be a or b."""
    return np.subtract(a, b, out=out)


@np.errstate(all="ignore")
def multiply(a: NDArray, b: NDArray, *, out: NDArray | None = None, threads: int = 1) -> NDArray:
    """Returns a * b. ``out`` may be a or b."""
    return np.multiply(a, b, out=out)


@np.errstate(all="ignore")
def divide(a: NDArray, b: NDArray, *, out: NDArray | None = None, threads: int = 1) -> NDArray:
    """Returns a / b. ``out`` may be a or b."""
    return np.divide(a, b, out=out)


def unary(
    x: NDArray, function: str, a: float = 0.0, b: float = 0.0, *, out: NDArray | None = None, threads: int = 1
) -> NDArray:
    """Returns the function of each element. ``out`` may be x."""
    y = evaluate(x, function, a, b)
    if out is None:
        return y
    out[...] = y
    return out


@np.errstate(all="ignore")
def softmax(x: NDArray, *, threads: int = 1) -> NDArray:
    """Returns the softmax of each row: (N, C) -> (N, C)."""
    exp = elementary.exp32 if x.dtype == np.float32 else elementary.exp64
    exponentials = exp(x - np.take_along_axis(x, x.argmax(axis=1)[:, None], axis=1))
    return exponentials / sum_rows(exponentials)[:, None]


@np.errstate(all="ignore")
def softmax_gradient(gy: NDArray, y: NDArray, *, threads: int = 1) -> NDArray:
    """Returns (gy - (the sum of gy * y in the row)) * y."""
    return (gy - sum_rows(gy * y)[:, None]) * y


def take(x: NDArray, index: NDArray, *, threads: int = 1) -> NDArray:
    """Returns x[:, index], with +0 where the index is -1: (P, n, Q) -> (P, m, Q)."""
    if x.shape[1] == 0:
        return np.zeros((x.shape[0], index.size, x.shape[2]), x.dtype)
    y = np.ascontiguousarray(x[:, index])
    y[:, index < 0] = 0
    return y


@np.errstate(all="ignore")
def take_gradient(gy: NDArray, index: NDArray, size: int, *, threads: int = 1) -> NDArray:
    """Adds gy[:, j] at index[j] in rising j, but not where the index is -1: (P, m, Q) -> (P, size, Q)."""
    gx = np.zeros((gy.shape[0], size, gy.shape[2]), gy.dtype)
    inside = index >= 0
    np.add.at(gx, (slice(None), index[inside]), gy[:, inside])  # type: ignore[arg-type]
    return gx
