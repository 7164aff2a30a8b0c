"""Numba: sums in the written order (REDUCTION of the contract), and batch norm. Images are (N, C, area)."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Array = NDArray[np.float32]
BLOCK = 4096
LANES = 32
ZERO = np.float32(0)
ONE = np.float32(1)


@njit(cache=True)
def block_sum(v: Array, size: int) -> np.float32:
    """The sum of the first ``size`` <= 4096 elements: 32 lanes, then halving."""
    lanes = np.zeros(LANES, np.float32)
    whole = size - size % LANES
    for start in range(0, whole, LANES):
        for j in range(LANES):
            lanes[j] += v[start + j]
    for j in range(size - whole):
        lanes[j] += v[whole + j]
    half = LANES // 2
    while half > 0:
        for j in range(half):
            lanes[j] += lanes[j + half]
        half //= 2
    return lanes[0]


@njit(cache=True)
def vector_sum(v: Array, size: int) -> np.float32:
    """The sum of the first ``size`` elements: blocks in rising order, the first is the total."""
    total = block_sum(v, min(size, BLOCK))
    for start in range(BLOCK, size, BLOCK):
        total += block_sum(v[start:], min(size - start, BLOCK))
    return total


@njit(cache=True)
def gather(x: Array, channel: int, first: int, buffer: Array) -> int:
    """Copies a block, elements first, first + 1, ... of the channel, into the buffer; returns how many there are."""
    images, _, area = x.shape
    size = min(BLOCK, images * area - first)
    image, offset, done = first // area, first % area, 0
    while done < size:
        length = min(area - offset, size - done)
        for i in range(length):
            buffer[done + i] = x[image, channel, offset + i]
        done += length
        image += 1
        offset = 0
    return size


@njit(cache=True)
def sum_of_channel(x: Array, channel: int) -> np.float32:
    buffer = np.empty(BLOCK, np.float32)
    total = ZERO
    for first in range(0, x.shape[0] * x.shape[2], BLOCK):
        block = block_sum(buffer, gather(x, channel, first, buffer))
        total = block if first == 0 else total + block
    return total


@njit(cache=True)
def sum_of_squared_deviations(x: Array, channel: int, mean: np.float32) -> np.float32:
    buffer = np.empty(BLOCK, np.float32)
    total = ZERO
    for first in range(0, x.shape[0] * x.shape[2], BLOCK):
        size = gather(x, channel, first, buffer)
        for i in range(size):
            deviation = buffer[i] - mean
            buffer[i] = deviation * deviation
        block = block_sum(buffer, size)
        total = block if first == 0 else total + block
    return total


@njit(cache=True)
def sum_of_products(gy: Array, x: Array, channel: int, mean: np.float32, inverse_deviation: np.float32) -> np.float32:
    """The sum of gy * xhat."""
    buffer, products = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    total = ZERO
    for first in range(0, x.shape[0] * x.shape[2], BLOCK):
        size = gather(x, channel, first, buffer)
        gather(gy, channel, first, products)
        for i in range(size):
            products[i] *= (buffer[i] - mean) * inverse_deviation
        block = block_sum(products, size)
        total = block if first == 0 else total + block
    return total


@njit(cache=True)
def normalize(x: Array, channel: int, mean: np.float32, factor: np.float32, shift: np.float32, y: Array) -> None:
    for image in range(x.shape[0]):
        for i in range(x.shape[2]):
            y[image, channel, i] = (x[image, channel, i] - mean) * factor + shift


@njit(cache=True, parallel=True)
def channel_sums(x: Array, sums: Array) -> None:
    for c in prange(x.shape[1]):
        sums[c] = sum_of_channel(x, c)


@njit(cache=True, parallel=True, error_model="numpy")
def batch_norm(
    x: Array,
    scale: Array,
    shift: Array,
    epsilon: np.float32,
    y: Array,
    mean: Array,
    variance: Array,
    inverse_deviation: Array,
) -> None:
    n = np.float32(x.shape[0] * x.shape[2])
    for c in prange(x.shape[1]):
        mean[c] = sum_of_channel(x, c) / n
        variance[c] = sum_of_squared_deviations(x, c, mean[c]) / n
        inverse_deviation[c] = ONE / np.sqrt(variance[c] + epsilon)
        normalize(x, c, mean[c], inverse_deviation[c] * scale[c], shift[c], y)


@njit(cache=True, parallel=True, error_model="numpy")
def batch_norm_inference(
    x: Array, mean: Array, variance: Array, scale: Array, shift: Array, epsilon: np.float32, y: Array
) -> None:
    for c in prange(x.shape[1]):
        inverse_deviation = ONE / np.sqrt(variance[c] + epsilon)
        normalize(x, c, mean[c], inverse_deviation * scale[c], shift[c], y)


@njit(cache=True, parallel=True, error_model="numpy")
def batch_norm_gradient(
    gy: Array,
    x: Array,
    mean: Array,
    inverse_deviation: Array,
    scale: Array,
    gx: Array,
    gscale: Array,
    gshift: Array,
) -> None:
    n = np.float32(x.shape[0] * x.shape[2])
    for c in prange(x.shape[1]):
        gshift[c] = sum_of_channel(gy, c)
        gscale[c] = sum_of_products(gy, x, c, mean[c], inverse_deviation[c])
        input_gradient(gy, x, c, mean[c], inverse_deviation[c], scale[c], gshift[c] / n, gscale[c] / n, gx)


@njit(cache=True)
def input_gradient(
    gy: Array,
    x: Array,
    channel: int,
    mean: np.float32,
    inverse_deviation: np.float32,
    scale: np.float32,
    shift_share: np.float32,
    scale_share: np.float32,
    gx: Array,
) -> None:
    factor = inverse_deviation * scale
    for image in range(x.shape[0]):
        for i in range(x.shape[2]):
            normalized = (x[image, channel, i] - mean) * inverse_deviation
            gx[image, channel, i] = factor * ((gy[image, channel, i] - shift_share) - normalized * scale_share)
