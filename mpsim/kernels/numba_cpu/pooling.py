"""Numba: maximum and average over windows. Images are (planes, H, W)."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.reductions import LANES, ZERO, vector_sum

Array = NDArray[np.float32]
Pair = tuple[int, int]


@njit(cache=True)
def largest_of_window(x: Array, top: int, bottom: int, left: int, right: int) -> tuple[np.float32, int]:
    """The first of the largest, or the first NaN, of x[top:bottom, left:right], and its place h * W + w."""
    best, where = x[top, left], top * x.shape[1] + left
    for h in range(top, bottom):
        for w in range(left, right):
            element = x[h, w]
            if element > best or (np.isnan(element) and not np.isnan(best)):
                best, where = element, h * x.shape[1] + w
    return best, where


@njit(cache=True, parallel=True)
def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array, index: NDArray[np.int32]) -> None:
    planes, height, width = x.shape
    for plane in prange(planes):
        for i in range(y.shape[1]):
            top = i * stride[0] - padding[0]
            for j in range(y.shape[2]):
                left = j * stride[1] - padding[1]
                y[plane, i, j], index[plane, i, j] = largest_of_window(
                    x[plane], max(top, 0), min(top + kernel[0], height), max(left, 0), min(left + kernel[1], width)
                )


@njit(cache=True, parallel=True)
def max_pool2d_gradient(gy: Array, index: NDArray[np.int32], gx: Array) -> None:
    """gy and index (planes, OH * OW), gx (planes, H * W)."""
    for plane in prange(gx.shape[0]):
        gx[plane] = ZERO
        for i in range(gy.shape[1]):
            gx[plane, index[plane, i]] += gy[plane, i]


@njit(cache=True)
def window_sum(window: Array, size: int) -> np.float32:
    """The sum of the window in the order REDUCTION; ``window`` has room for 32 elements and is used up."""
    if size > LANES:
        return vector_sum(window, size)
    width = LANES
    while width // 2 >= size:  # a lane without elements is +0, and no lane is -0: adding it changes nothing
        width //= 2
    for k in range(width):
        window[k] = ZERO + window[k] if k < size else ZERO
    while width > 1:
        width //= 2
        for k in range(width):
            window[k] += window[k + width]
    return window[0]


@njit(cache=True, parallel=True, error_model="numpy")
def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array) -> None:
    planes, height, width = x.shape
    size = kernel[0] * kernel[1]
    for plane in prange(planes):
        window = np.empty(max(size, LANES), np.float32)
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                k = 0
                for h in range(i * stride[0] - padding[0], i * stride[0] - padding[0] + kernel[0]):
                    for w in range(j * stride[1] - padding[1], j * stride[1] - padding[1] + kernel[1]):
                        inside = 0 <= h < height and 0 <= w < width
                        window[k] = x[plane, h, w] if inside else ZERO
                        k += 1
                y[plane, i, j] = window_sum(window, size) / np.float32(size)


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
