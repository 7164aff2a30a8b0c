"""Numba: the average over windows and its gradient; max_pooling.py has the maximum. Images are (planes, H, W)."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.numba_cpu.reductions import BLOCK, LANES, ZERO, block_sum, halve_16, sum_in_blocks

Array = NDArray[np.float32]
Pair = tuple[int, int]
PLANES = 64  # of one task of average_planes
RUN = 8  # neighbours that are written at once


@njit(cache=True)
def sort_plane(x: Array, stride: Pair, padding: Pair, pitch: int, phases: Array) -> None:
    """Spreads a plane with its padding over phases, so that each element of a window is a run over the windows.

    Row h and column w of the padded plane go to phase h % stride[0] * stride[1] + w % stride[1], and there to place
    h // stride[0] * pitch + w // stride[1]. What lies in the padding is left as it is.
    """
    for h in range(padding[0], padding[0] + x.shape[0]):
        for w in range(padding[1], padding[1] + min(stride[1], x.shape[1])):
            phase = h % stride[0] * stride[1] + w % stride[1]
            to = np.uint64(h // stride[0] * pitch + w // stride[1])  # of no unsigned index is asked if it is negative
            row, column = h - padding[0], w - padding[1]
            count = (x.shape[1] - column + stride[1] - 1) // stride[1]
            if stride[1] == 2:  # a constant step becomes vector code
                for q in range(count):
                    phases[phase, to + np.uint64(q)] = x[row, column + 2 * q]
            else:
                for q in range(count):
                    phases[phase, to + np.uint64(q)] = x[row, column + q * stride[1]]


@njit(cache=True)
def element_of_windows(phases: Array, r: int, s: int, stride: Pair, pitch: int, length: int) -> Array:
    """Element (r, s) of the windows; window (i, j) stands at i * pitch + j of ``length`` places."""
    start = r // stride[0] * pitch + s // stride[1]
    return phases[r % stride[0] * stride[1] + s % stride[1], start : start + length]


@njit(cache=True)
def layout(height: int, width: int, stride: Pair, padding: Pair, rows: int, columns: int) -> tuple[int, int, int]:
    """Pitch of a phase, places of a phase, and how many of them stand for windows."""
    pitch = (width + 2 * padding[1] + stride[1] - 1) // stride[1]
    return pitch, (height + 2 * padding[0] + stride[0] - 1) // stride[0] * pitch, (rows - 1) * pitch + columns


@njit(cache=True)
def add_lanes(lanes: Array) -> None:
    """Row 0 becomes the sum of the rows, their number a power of two, by halving."""
    half = lanes.shape[0] // 2
    while half > 0:
        for k in range(half):
            lane, other = lanes[k], lanes[k + half]
            for j in range(lane.size):
                lane[j] += other[j]
        half //= 2


@njit(cache=True, parallel=True)
def average_tiles(x: Array, y: Array) -> None:
    """Windows of 2 x 2 that tile the image: four lanes, each of one element, halved."""
    planes, rows, columns = y.shape
    for plane in prange(planes):
        for i in range(rows):
            for j in range(columns):
                left = (x[plane, 2 * i, 2 * j] + ZERO) + (x[plane, 2 * i + 1, 2 * j] + ZERO)
                right = (x[plane, 2 * i, 2 * j + 1] + ZERO) + (x[plane, 2 * i + 1, 2 * j + 1] + ZERO)
                y[plane, i, j] = (left + right) / np.float32(4)


@njit(cache=True, parallel=True, error_model="numpy")
def average_even_tiles(x: Array, kernel: Pair, y: Array) -> None:
    """Windows of at most 32 elements that tile the image, their sides powers of two: halving of rows, then of columns.

    Lanes start at +0: no sum is -0.
    """
    planes, rows, columns = y.shape
    for plane in prange(planes):
        lanes = np.empty((kernel[0], x.shape[2]), np.float32)
        total = lanes[0]
        for i in range(rows):
            for r in range(kernel[0]):
                lane, source = lanes[r], x[plane, i * kernel[0] + r]
                for w in range(lane.size):
                    lane[w] = source[w] + ZERO
            add_lanes(lanes)
            half = kernel[1] // 2
            while half > 0:
                for w in range(total.size - half):  # sums that straddle two windows are not used
                    total[w] += total[w + half]
                half //= 2
            for j in range(columns):
                y[plane, i, j] = total[j * kernel[1]] / np.float32(kernel[0] * kernel[1])


@njit(cache=True, parallel=True, error_model="numpy")
def average_small_windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array) -> None:
    """Windows of at most 32 elements: row k of ``lanes`` is element k of each window.

    A lane without elements is +0, and no lane is -0: adding it changes nothing.
    """
    planes, rows, columns = y.shape
    pitch, places, length = layout(x.shape[1], x.shape[2], stride, padding, rows, columns)
    size, width = kernel[0] * kernel[1], 1
    while width < size:
        width *= 2
    for plane in prange(planes):
        phases = np.zeros((stride[0] * stride[1], places), np.float32)
        lanes = np.zeros((width, length), np.float32)
        sort_plane(x[plane], stride, padding, pitch, phases)
        for k in range(size):
            lane, row = lanes[k], element_of_windows(phases, k // kernel[1], k % kernel[1], stride, pitch, length)
            for j in range(length):
                lane[j] = row[j] + ZERO
        add_lanes(lanes)
        for i in range(rows):
            y[plane, i] = lanes[0, i * pitch : i * pitch + columns] / np.float32(size)


@njit(cache=True, error_model="numpy")
def average_window(x: Array, top: int, left: int, kernel: Pair, window: Array, lanes: Array) -> np.float32:
    """The mean of one window, whose elements are copied together."""
    height, width = x.shape
    k = 0
    for h in range(top, top + kernel[0]):
        for w in range(left, left + kernel[1]):
            inside = 0 <= h < height and 0 <= w < width
            window[k] = x[h, w] if inside else ZERO
            k += 1
    return sum_in_blocks(window, lanes) / np.float32(k)


@njit(cache=True, parallel=True, error_model="numpy")
def average_planes(x: Array, area: int, y: Array) -> None:
    """The mean of each whole plane of at most one block; x and y are flat."""
    for task in prange((y.size + PLANES - 1) // PLANES):
        lanes = np.empty(LANES, np.float32)
        for plane in range(task * PLANES, min(y.size, (task + 1) * PLANES)):
            if area == 16:  # as many lanes have elements
                total = halve_16(x, plane * area) + ZERO  # lanes start at +0: no sum is -0
            else:
                total = block_sum(x[plane * area : (plane + 1) * area], lanes)
            y[plane] = total / np.float32(area)


@njit(cache=True, parallel=True)
def average_large_windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array) -> None:
    for plane in prange(x.shape[0]):
        window, lanes = np.empty(kernel[0] * kernel[1], np.float32), np.empty(LANES, np.float32)
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
                y[plane, i, j] = average_window(x[plane], top, left, kernel, window, lanes)


def is_power_of_two(kernel: Pair) -> bool:
    return all(side & (side - 1) == 0 for side in kernel)


def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array) -> None:
    size = kernel[0] * kernel[1]
    if padding == (0, 0) and kernel == x.shape[1:] and size <= BLOCK:
        average_planes(x.reshape(-1), size, y.reshape(-1))
    elif kernel == stride == (2, 2) and padding == (0, 0):
        average_tiles(x, y)
    elif kernel == stride and padding == (0, 0) and size <= LANES and is_power_of_two(kernel):
        average_even_tiles(x, kernel, y)
    elif size <= LANES:
        average_small_windows(x, kernel, stride, padding, y)
    else:
        average_large_windows(x, kernel, stride, padding, y)


@njit(cache=True, parallel=True, error_model="numpy")
def spread_planes(gy: Array, area: int, gx: Array) -> None:
    """Windows that are whole planes: gy is flat, gx (planes, area)."""
    for plane in prange(gy.size):
        share = gy[plane] / np.float32(area) + ZERO
        whole = area - area % RUN
        for start in range(0, whole, RUN):
            for i in range(RUN):
                gx[plane, start + i] = share
        for i in range(whole, area):
            gx[plane, i] = share


@njit(cache=True, parallel=True, error_model="numpy")
def spread_tiles(gy: Array, kernel: Pair, gx: Array) -> None:
    """Windows that tile the image: each element of gx is in one window or none."""
    planes, rows, columns = gy.shape
    size = np.float32(kernel[0] * kernel[1])
    for plane in prange(planes):
        if gx.shape[1] != rows * kernel[0] or gx.shape[2] != columns * kernel[1]:
            gx[plane] = ZERO
        for i in range(rows):
            first = i * kernel[0]
            for j in range(columns):
                share = gy[plane, i, j] / size + ZERO
                if kernel[1] == 2:  # a constant step becomes vector code
                    gx[plane, first, 2 * j] = share
                    gx[plane, first, 2 * j + 1] = share
                else:
                    for s in range(kernel[1]):
                        gx[plane, first, j * kernel[1] + s] = share
            for r in range(1, kernel[0]):
                for w in range(columns * kernel[1]):
                    gx[plane, first + r, w] = gx[plane, first, w]


@njit(cache=True, parallel=True, error_model="numpy")
def spread_windows(gy: Array, kernel: Pair, stride: Pair, padding: Pair, gx: Array) -> None:
    """Within a row of gx, an element meets its windows from left to right as s falls."""
    planes, height, width = gx.shape
    size = np.float32(kernel[0] * kernel[1])
    for plane in prange(planes):
        gx[plane] = ZERO
        shares = np.empty(gy.shape[2], np.float32)
        for i in range(gy.shape[1]):
            for j in range(shares.size):
                shares[j] = gy[plane, i, j] / size
            top = i * stride[0] - padding[0]
            for h in range(max(top, 0), min(top + kernel[0], height)):
                row = gx[plane, h]
                for s in range(kernel[1] - 1, -1, -1):
                    left = s - padding[1]
                    first = max(0, (stride[1] - 1 - left) // stride[1])
                    last = min(shares.size, (width - 1 - left) // stride[1] + 1)
                    if stride[1] == 1:  # a constant step becomes vector code
                        for j in range(first, last):
                            row[j + left] += shares[j]
                    else:
                        for j in range(first, last):
                            row[j * stride[1] + left] += shares[j]


def avg_pool2d_gradient(gy: Array, kernel: Pair, stride: Pair, padding: Pair, gx: Array) -> None:
    if kernel == gx.shape[1:] and padding == (0, 0):
        spread_planes(gy.reshape(-1), kernel[0] * kernel[1], gx.reshape(gy.size, -1))
    elif kernel == stride and padding == (0, 0):
        spread_tiles(gy, kernel, gx)
    else:
        spread_windows(gy, kernel, stride, padding, gx)
