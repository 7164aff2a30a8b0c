"""Computes sums in the specified order (REDUCTION in mpsim/kernels/contract.py) and batch normalization.

Inside, images are (N, C, area). A loop never reads one array and writes another that may be the same: LLVM makes
vector code of it only where the two are apart, so results go through a buffer.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import at_most, empty, njit

__all__ = ["batch_norm", "batch_norm_gradient", "batch_norm_inference", "channel_sum", "total_sum"]

Array = NDArray[np.float32]

BLOCK, LANES = 4096, 32
ROWS = 8  # of elements that are added while the lanes stay in registers
ZERO, ONE = np.float32(0), np.float32(1)


@njit(cache=True)
def block_sum(v: Array, lanes: Array) -> np.float32:
    """Returns the sum of at most BLOCK elements. ``lanes`` is a buffer of LANES numbers."""
    lanes[:] = ZERO
    whole = v.size - v.size % (ROWS * LANES)
    for first in range(0, whole, ROWS * LANES):
        many = v[first : first + ROWS * LANES]
        for j in range(LANES):
            lane = lanes[j]
            for row in range(ROWS):
                lane += many[row * LANES + j]
            lanes[j] = lane
    for first in range(whole, v.size, LANES):
        few = v[first : first + LANES]
        for j in range(few.size):
            lanes[j] += few[j]
    half = LANES // 2
    while half >= max(1, v.size):  # lanes without elements are +0, and no lane is -0
        half //= 2
    while half > 0:
        for j in range(half):
            lanes[j] += lanes[j + half]
        half //= 2
    return lanes[0]


@njit(cache=True)
def vector_sum(v: Array, lanes: Array) -> np.float32:
    """Returns the sum of all elements. ``lanes`` is a buffer of LANES numbers."""
    total = ZERO
    for start in range(0, v.size, BLOCK):
        part = block_sum(v[start : start + BLOCK], lanes)
        total = part if start == 0 else total + part
    return total


@njit(cache=True)
def block_of_channel(x: Array, channel: int, start: int, buffer: Array) -> Array:
    """Copies at most BLOCK elements of the channel, from ``start``, image after image, into ``buffer``."""
    area, done = x.shape[2], 0
    size, image, first = min(BLOCK, x.shape[0] * area - start), start // area, start % area
    while done < size:
        take = min(area - first, size - done)
        source, target = x[image, channel, first:], buffer[done : done + take]
        for i in range(take):
            target[i] = source[i]
        done, image, first = done + take, image + 1, 0
    return buffer[:size]


@njit(cache=True)
def sum_of_channel(x: Array, channel: int, buffer: Array, lanes: Array) -> np.float32:
    total = ZERO
    for start in range(0, x.shape[0] * x.shape[2], BLOCK):
        part = block_sum(block_of_channel(x, channel, start, buffer), lanes)
        total = part if start == 0 else total + part
    return total


@njit(cache=True)
def sum_of_squares(x: Array, channel: int, mean: np.float32, buffer: Array, lanes: Array) -> np.float32:
    """Returns the sum of (x - mean) * (x - mean)."""
    total = ZERO
    for start in range(0, x.shape[0] * x.shape[2], BLOCK):
        block = block_of_channel(x, channel, start, buffer)
        for i in range(block.size):
            deviation = block[i] - mean
            block[i] = deviation * deviation
        part = block_sum(block, lanes)
        total = part if start == 0 else total + part
    return total


@njit(cache=True)
def sum_of_products(
    gy: Array, x: Array, channel: int, mean: np.float32, inverse: np.float32, buffer: Array, other: Array, lanes: Array
) -> np.float32:
    """Returns the sum of gy * ((x - mean) * inverse)."""
    total = ZERO
    for start in range(0, x.shape[0] * x.shape[2], BLOCK):
        block = block_of_channel(x, channel, start, buffer)
        gradients = block_of_channel(gy, channel, start, other)
        for i in range(block.size):
            block[i] = gradients[i] * ((block[i] - mean) * inverse)
        part = block_sum(block, lanes)
        total = part if start == 0 else total + part
    return total


@njit(cache=True, parallel=True)
def sum_channels(x: Array, sums: Array) -> None:
    for channel in prange(sums.size):
        sums[channel] = sum_of_channel(x, channel, np.empty(BLOCK, np.float32), np.empty(LANES, np.float32))


@njit(cache=True, parallel=True, error_model="numpy")
def find_statistics(x: Array, epsilon: np.float32, mean: Array, variance: Array, inverse: Array) -> None:
    n = np.float32(x.shape[0] * x.shape[2])
    for channel in prange(mean.size):
        buffer, lanes = np.empty(BLOCK, np.float32), np.empty(LANES, np.float32)
        mean[channel] = sum_of_channel(x, channel, buffer, lanes) / n
        variance[channel] = sum_of_squares(x, channel, mean[channel], buffer, lanes) / n
        inverse[channel] = ONE / np.sqrt(variance[channel] + epsilon)


@njit(cache=True, parallel=True)
def normalize(x: Array, mean: Array, inverse: Array, scale: Array, shift: Array, y: Array) -> None:
    """Sets y to (x - mean) * (inverse * scale) + shift."""
    for image in prange(x.shape[0]):
        row = np.empty(x.shape[2], np.float32)
        for channel in range(x.shape[1]):
            center, factor, offset = mean[channel], inverse[channel] * scale[channel], shift[channel]
            source, target = x[image, channel], y[image, channel]
            for i in range(row.size):
                row[i] = (source[i] - center) * factor + offset
            for i in range(row.size):
                target[i] = row[i]


@njit(cache=True, parallel=True)
def find_parameter_gradients(gy: Array, x: Array, mean: Array, inverse: Array, gscale: Array, gshift: Array) -> None:
    for channel in prange(mean.size):
        buffer, other, lanes = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(LANES, np.float32)
        gshift[channel] = sum_of_channel(gy, channel, buffer, lanes)
        gscale[channel] = sum_of_products(gy, x, channel, mean[channel], inverse[channel], buffer, other, lanes)


@njit(cache=True, parallel=True, error_model="numpy")
def find_input_gradient(
    gy: Array, x: Array, mean: Array, inverse: Array, scale: Array, gscale: Array, gshift: Array, gx: Array
) -> None:
    """Sets gx to (inverse * scale) * ((gy - gshift / n) - xhat * (gscale / n))."""
    n = np.float32(x.shape[0] * x.shape[2])
    for image in prange(x.shape[0]):
        row = np.empty(x.shape[2], np.float32)
        for channel in range(x.shape[1]):
            center, inverse_deviation, factor = mean[channel], inverse[channel], inverse[channel] * scale[channel]
            by_shift, by_scale = gshift[channel] / n, gscale[channel] / n
            source, gradient, target = x[image, channel], gy[image, channel], gx[image, channel]
            for i in range(row.size):
                xhat = (source[i] - center) * inverse_deviation
                row[i] = factor * ((gradient[i] - by_shift) - xhat * by_scale)
            for i in range(row.size):
                target[i] = row[i]


def _batch(x: Array) -> Array:
    """(N, C, ...) -> (N, C, area)."""
    return x.reshape(*x.shape[:2], -1)


def channel_sum(x: Array, *, threads: int = 1) -> Array:
    """Returns the sum over n, then over the trailing axes: (N, C, ...) -> (C,)."""
    sums = np.empty(x.shape[1], np.float32)
    with at_most(threads):
        sum_channels(_batch(x), sums)
    return sums


def total_sum(x: Array, *, threads: int = 1) -> float:
    """Returns the sum of all elements as a Python float."""
    return float(vector_sum(x.reshape(-1), np.empty(LANES, np.float32)))


def batch_norm(
    x: Array, scale: Array, shift: Array, epsilon: float, *, out: Array | None = None, threads: int = 1
) -> tuple[Array, Array, Array, Array]:
    """Normalizes in training: (y, mean, biased variance, inverse deviation). ``out`` may be x."""
    y = empty(x.shape) if out is None else out
    mean, variance, inverse = (np.empty(x.shape[1], np.float32) for _ in range(3))
    with at_most(threads):
        find_statistics(_batch(x), np.float32(epsilon), mean, variance, inverse)
        normalize(_batch(x), mean, inverse, scale, shift, _batch(y))
    return y, mean, variance, inverse


def batch_norm_inference(
    x: Array,
    mean: Array,
    variance: Array,
    scale: Array,
    shift: Array,
    epsilon: float,
    *,
    out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Normalizes with the given mean and variance. ``out`` may be x."""
    y = empty(x.shape) if out is None else out
    with np.errstate(all="ignore"), at_most(threads):
        inverse = ONE / np.sqrt(variance + np.float32(epsilon))
        normalize(_batch(x), mean, inverse, scale, shift, _batch(y))
    return y


def batch_norm_gradient(
    gy: Array,
    x: Array,
    mean: Array,
    inverse_deviation: Array,
    scale: Array,
    *,
    out: Array | None = None,
    threads: int = 1,
) -> tuple[Array, Array, Array]:
    """Returns the gradients of batch_norm: (gx, gscale, gshift). ``out`` may be gy or x."""
    gx = empty(x.shape) if out is None else out
    gscale, gshift = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
    with at_most(threads):
        find_parameter_gradients(_batch(gy), _batch(x), mean, inverse_deviation, gscale, gshift)
        find_input_gradient(_batch(gy), _batch(x), mean, inverse_deviation, scale, gscale, gshift, _batch(gx))
    return gx, gscale, gshift
