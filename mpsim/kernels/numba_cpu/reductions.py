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
def add_to_lanes(lanes: Array, lane: int, piece: Array) -> None:
    """Adds consecutive elements of one block, the first of them to the given lane."""
    head = min((LANES - lane) % LANES, piece.size)
    for i in range(head):
        lanes[lane + i] += piece[i]
    rest = piece[head:]
    whole = rest.size - rest.size % LANES
    fours = whole - whole % (4 * LANES)
    for start in range(0, fours, 4 * LANES):  # four rows at a time, in the same order
        for j in range(LANES):
            i = start + j
            lanes[j] = (((lanes[j] + rest[i]) + rest[i + LANES]) + rest[i + 2 * LANES]) + rest[i + 3 * LANES]
    for start in range(fours, whole, LANES):
        for j in range(LANES):
            lanes[j] += rest[start + j]
    for j in range(rest.size - whole):
        lanes[j] += rest[whole + j]


@njit(cache=True)
def close_block(lanes: Array, total: np.float32, count: int) -> np.float32:
    """The total with the block that ends after ``count`` elements; the lanes start anew."""
    half = LANES // 2
    while half > 0:
        for j in range(half):
            lanes[j] += lanes[j + half]
        half //= 2
    block = lanes[0]
    lanes[:] = ZERO
    return block if count <= BLOCK else total + block


@njit(cache=True)
def add_to_sum(lanes: Array, total: np.float32, count: int, piece: Array) -> np.float32:
    """The total of the closed blocks after the piece, which follows ``count`` earlier elements."""
    done = 0
    while done < piece.size:
        take = min(piece.size - done, BLOCK - count % BLOCK)
        add_to_lanes(lanes, count % LANES, piece[done : done + take])
        done += take
        count += take
        if count % BLOCK == 0:
            total = close_block(lanes, total, count)
    return total


@njit(cache=True)
def finish_sum(lanes: Array, total: np.float32, count: int) -> np.float32:
    """The sum of all ``count`` elements."""
    return close_block(lanes, total, count) if count % BLOCK != 0 else total


@njit(cache=True)
def vector_sum(v: Array) -> np.float32:
    lanes = np.zeros(LANES, np.float32)
    return finish_sum(lanes, add_to_sum(lanes, ZERO, 0, v), v.size)


@njit(cache=True)
def sum_of_channel(x: Array, channel: int) -> np.float32:
    images, _, area = x.shape
    lanes, total = np.zeros(LANES, np.float32), ZERO
    for image in range(images):
        total = add_to_sum(lanes, total, image * area, x[image, channel])
    return finish_sum(lanes, total, images * area)


@njit(cache=True)
def sum_of_squared_deviations(x: Array, channel: int, mean: np.float32) -> np.float32:
    images, _, area = x.shape
    lanes, total = np.zeros(LANES, np.float32), ZERO
    squares = np.empty(area, np.float32)
    for image in range(images):
        piece = x[image, channel]
        for i in range(area):
            deviation = piece[i] - mean
            squares[i] = deviation * deviation
        total = add_to_sum(lanes, total, image * area, squares)
    return finish_sum(lanes, total, images * area)


@njit(cache=True)
def sum_of_products(gy: Array, x: Array, channel: int, mean: np.float32, inverse_deviation: np.float32) -> np.float32:
    """The sum of gy * xhat."""
    images, _, area = x.shape
    lanes, total = np.zeros(LANES, np.float32), ZERO
    products = np.empty(area, np.float32)
    for image in range(images):
        piece, gradient = x[image, channel], gy[image, channel]
        for i in range(area):
            products[i] = gradient[i] * ((piece[i] - mean) * inverse_deviation)
        total = add_to_sum(lanes, total, image * area, products)
    return finish_sum(lanes, total, images * area)


@njit(cache=True)
def normalize(x: Array, channel: int, mean: np.float32, factor: np.float32, shift: np.float32, y: Array) -> None:
    for image in range(x.shape[0]):
        piece, result = x[image, channel], y[image, channel]
        for i in range(x.shape[2]):
            result[i] = (piece[i] - mean) * factor + shift


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
        piece, gradient, result = x[image, channel], gy[image, channel], gx[image, channel]
        for i in range(x.shape[2]):
            normalized = (piece[i] - mean) * inverse_deviation
            result[i] = factor * ((gradient[i] - shift_share) - normalized * scale_share)
