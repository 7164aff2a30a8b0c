"""Defines reference kernels: sums in the specified order, and batch norm, which uses them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096
LANES = 32


@np.errstate(all="ignore")
def sum_rows(rows: NDArray) -> NDArray:
    """Returns the sum of each row in the order REDUCTION of the contract (for float64 in any order).

    Shapes: (rows, n) -> (rows,).

    >>> sum_rows(np.ones((2, 5000), np.float32))
    array([5000., 5000.], dtype=float32)
    """
    count, length = rows.shape
    if rows.dtype != np.float32:
        return rows.sum(axis=1)
    total = np.zeros(count, np.float32)
    for start in range(0, length, BLOCK):
        block = _block_sum(rows[:, start : start + BLOCK])
        total = block if start == 0 else total + block
    return total


def _block_sum(block: NDArray) -> NDArray:
    """Sums (rows, n <= 4096) -> (rows,) in 32 lanes, then by halving."""
    count, length = block.shape
    width = LANES
    while width // 2 >= length:  # a lane without elements is +0, and no lane is -0: adding it changes nothing
        width //= 2
    lanes = np.zeros((count, width), np.float32)
    for start in range(0, length, width):
        part = block[:, start : start + width]
        lanes[:, : part.shape[1]] += part
    while width > 1:
        width //= 2
        lanes = lanes[:, :width] + lanes[:, width:]
    return lanes[:, 0]


def _by_channel(x: NDArray) -> NDArray:
    """(N, C, ...) -> (C, N * ...), in the order n, then the trailing axes."""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def _along_channels(values: NDArray, x: NDArray) -> NDArray:
    """(C,) -> (1, C, 1, ...), to meet x of shape (N, C, ...)."""
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def channel_sum(x: NDArray, *, threads: int = 1) -> NDArray:
    """Returns the sum over n, then over the trailing axes: (N, C, ...) -> (C,)."""
    return sum_rows(_by_channel(x))


def total_sum(x: NDArray, *, threads: int = 1) -> float:
    """Returns the sum of all elements as a Python float."""
    return float(sum_rows(x.reshape(1, -1))[0])


@np.errstate(all="ignore")
def batch_norm(
    x: NDArray, scale: NDArray, shift: NDArray, epsilon: float, *, out: NDArray | None = None, threads: int = 1
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Normalizes in training: (y, mean, biased variance, inverse deviation), the last three of shape (C,)."""
    n = x.dtype.type(x.size // x.shape[1])
    mean = channel_sum(x) / n
    centered = x - _along_channels(mean, x)
    variance = channel_sum(centered * centered) / n
    inverse_deviation = _inverse_deviation(variance, epsilon)
    y = np.multiply(centered, _along_channels(inverse_deviation * scale, x), out=out)
    y += _along_channels(shift, x)
    return y, mean, variance, inverse_deviation


@np.errstate(all="ignore")
def batch_norm_inference(
    x: NDArray,
    mean: NDArray,
    variance: NDArray,
    scale: NDArray,
    shift: NDArray,
    epsilon: float,
    *,
    out: NDArray | None = None,
    threads: int = 1,
) -> NDArray:
    """Normalizes with the given mean and variance."""
    factor = _inverse_deviation(variance, epsilon) * scale
    y = np.multiply(x - _along_channels(mean, x), _along_channels(factor, x), out=out)
    y += _along_channels(shift, x)
    return y


def _inverse_deviation(variance: NDArray, epsilon: float) -> NDArray:
    number = variance.dtype.type
    return number(1) / np.sqrt(variance + number(epsilon))


@np.errstate(all="ignore")
def batch_norm_gradient(
    gy: NDArray,
    x: NDArray,
    mean: NDArray,
    inverse_deviation: NDArray,
    scale: NDArray,
    *,
    out: NDArray | None = None,
    threads: int = 1,
) -> tuple[NDArray, NDArray, NDArray]:
    """Returns the gradients of batch_norm: (gx, gscale, gshift)."""
    n = x.dtype.type(x.size // x.shape[1])
    normalized = (x - _along_channels(mean, x)) * _along_channels(inverse_deviation, x)
    gshift = channel_sum(gy)
    gscale = channel_sum(gy * normalized)
    centered = (gy - _along_channels(gshift / n, x)) - normalized * _along_channels(gscale / n, x)
    gx = np.multiply(_along_channels(inverse_deviation * scale, x), centered, out=out)
    return gx, gscale, gshift


@np.errstate(all="ignore")
def update_running(running: NDArray, batch: NDArray, momentum: float, correction: float, *, threads: int = 1) -> None:
    """Updates running = (1 - momentum) * running + momentum * (batch * correction) in place."""
    number = running.dtype.type
    kept = number(1) - number(momentum)
    running[...] = kept * running + number(momentum) * (batch * number(correction))
