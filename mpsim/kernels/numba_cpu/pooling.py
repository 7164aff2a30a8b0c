"""Numba: maximum and average over windows. Images are (planes, H, W)."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.reductions import LANES, ZERO, vector_sum

Array = NDArray[np.float32]
Pair = tuple[int, int]


@njit(cache=True)
def columns_inside(columns: int, stride: int, offset: int, width: int) -> Pair:
    """The j of range(columns) with 0 <= j * stride + offset < width, as first and last + 1."""
    first = max(0, -(offset // stride))
    last = min(columns, (width - 1 - offset) // stride + 1) if offset < width else 0
    return first, max(first, last)


@njit(cache=True)
def max_row(x: Array, top: int, kernel: Pair, stride: int, padding: int, y: Array, index: NDArray[np.int32]) -> None:
    """One row of windows, from image row ``top`` on: each starts as its first element, then all are considered."""
    height, width = x.shape
    start = max(top, 0)
    for j in range(y.size):
        left = max(j * stride - padding, 0)
        y[j], index[j] = x[start, left], start * width + left
    for h in range(start, min(top + kernel[0], height)):
        for s in range(kernel[1]):
            offset = s - padding
            first, last = columns_inside(y.size, stride, offset, width)
            row = x[h, first * stride + offset :]
            place = h * width + first * stride + offset
            for j in range(last - first):
                element, best, where = row[j * stride], y[first + j], index[first + j]
                replaces = not element <= best  # greater, or one of them is NaN
                stays = best != best
                y[first + j] = best if stays else element if replaces else best
                index[first + j] = where if stays else place + j * stride if replaces else where


@njit(cache=True, parallel=True)
def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array, index: NDArray[np.int32]) -> None:
    for plane in prange(x.shape[0]):
        for i in range(y.shape[1]):
            top = i * stride[0] - padding[0]
            max_row(x[plane], top, kernel, stride[1], padding[1], y[plane, i], index[plane, i])


@njit(cache=True, parallel=True)
def max_pool2d_gradient(gy: Array, index: NDArray[np.int32], gx: Array) -> None:
    """gy and index (planes, OH * OW), gx (planes, H * W)."""
    for plane in prange(gx.shape[0]):
        gx[plane] = ZERO
        for i in range(gy.shape[1]):
            gx[plane, index[plane, i]] += gy[plane, i]


@njit(cache=True, error_model="numpy")
def average_row(x: Array, top: int, kernel: Pair, stride: int, padding: int, lanes: Array, y: Array) -> None:
    """One row of windows of at most 32 elements: row k of ``lanes`` is element k of each window.

    A lane without elements is +0, and no lane is -0: adding it changes nothing.
    """
    height, width = x.shape
    size = kernel[0] * kernel[1]
    lanes[:] = ZERO
    for k in range(size):
        h, offset, lane = top + k // kernel[1], k % kernel[1] - padding, lanes[k]
        first, last = columns_inside(y.size, stride, offset, width)
        if 0 <= h < height and first < last:
            row = x[h, first * stride + offset :]
            for j in range(last - first):
                lane[first + j] += row[j * stride]
    half = lanes.shape[0] // 2
    while half > 0:
        for k in range(half):
            lane, other = lanes[k], lanes[k + half]
            for j in range(y.size):
                lane[j] += other[j]
        half //= 2
    for j in range(y.size):
        y[j] = lanes[0, j] / np.float32(size)


@njit(cache=True, error_model="numpy")
def average_window(x: Array, top: int, left: int, kernel: Pair, window: Array) -> np.float32:
    """The mean of one window, whose elements are copied together."""
    height, width = x.shape
    k = 0
    for h in range(top, top + kernel[0]):
        for w in range(left, left + kernel[1]):
            inside = 0 <= h < height and 0 <= w < width
            window[k] = x[h, w] if inside else ZERO
            k += 1
    return vector_sum(window) / np.float32(k)


@njit(cache=True, parallel=True)
def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array) -> None:
    size = kernel[0] * kernel[1]
    width = 1
    while width < min(size, LANES):
        width *= 2
    for plane in prange(x.shape[0]):
        lanes, window = np.empty((width, y.shape[2]), np.float32), np.empty(size, np.float32)
        for i in range(y.shape[1]):
            top = i * stride[0] - padding[0]
            if size <= LANES and y.shape[2] > 2:  # else a row is too short to be worth its lanes
                average_row(x[plane], top, kernel, stride[1], padding[1], lanes, y[plane, i])
            else:
                for j in range(y.shape[2]):
                    y[plane, i, j] = average_window(x[plane], top, j * stride[1] - padding[1], kernel, window)


@njit(cache=True, parallel=True, error_model="numpy")
def avg_pool2d_gradient(gy: Array, kernel: Pair, stride: Pair, padding: Pair, gx: Array) -> None:
    planes, height, width = gx.shape
    size = np.float32(kernel[0] * kernel[1])
    for plane in prange(planes):
        gx[plane] = ZERO
        for i in range(gy.shape[1]):
            top = i * stride[0] - padding[0]
            for j in range(gy.shape[2]):
                left = j * stride[1] - padding[1]
                share = gy[plane, i, j] / size
                for h in range(max(top, 0), min(top + kernel[0], height)):
                    for w in range(max(left, 0), min(left + kernel[1], width)):
                        gx[plane, h, w] += share
