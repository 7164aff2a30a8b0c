"""Numba: the maximum over windows and its gradient. Images are (planes, H, W)."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.numba_cpu.reductions import ZERO

Array = NDArray[np.float32]
Pair = tuple[int, int]
MANY = 16  # windows of a plane that are worth the start of a vector loop


@njit(cache=True)
def keep(best: np.float32, where: np.int32, element: np.float32, place: np.int32) -> tuple[np.float32, np.int32]:
    """The largest so far and its place; a greater element replaces it, and NaN does if it is none."""
    less, nan = element <= best, best != best
    kept = best if less else element
    at = where if less else place
    return (best if nan else kept), (where if nan else at)


@njit(cache=True, parallel=True)
def max_tiles(x: Array, y: Array, index: NDArray[np.int32]) -> None:
    """Windows of 2 x 2 that tile the image: nothing is copied before."""
    planes, rows, columns = y.shape
    below = np.int32(x.shape[2])
    for plane in prange(planes):
        for i in range(rows):
            for j in range(columns):
                best, where = keep(x[plane, 2 * i, 2 * j], np.int32(0), x[plane, 2 * i, 2 * j + 1], np.int32(1))
                best, where = keep(best, where, x[plane, 2 * i + 1, 2 * j], below)
                best, where = keep(best, where, x[plane, 2 * i + 1, 2 * j + 1], np.int32(below + 1))
                y[plane, i, j] = best
                index[plane, i, j] = np.int32(where + 2 * (i * below + j))


@njit(cache=True)
def max_at(x: Array, top: int, left: int, kernel: Pair) -> tuple[np.float32, np.int32]:
    """The largest of one window of a plane and its place; what lies outside takes no part."""
    height, width = x.shape
    first_row, first = max(top, 0), max(left, 0)
    best, where = x[first_row, first], np.int32(first_row * width + first)
    for h in range(first_row, min(top + kernel[0], height)):
        for w in range(first, min(left + kernel[1], width)):
            best, where = keep(best, where, x[h, w], np.int32(h * width + w))
    return best, where


@njit(cache=True, parallel=True)
def max_windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array, index: NDArray[np.int32]) -> None:
    """One window after another."""
    planes, rows, columns = y.shape
    for plane in prange(planes):
        for i in range(rows):
            for j in range(columns):
                top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
                y[plane, i, j], index[plane, i, j] = max_at(x[plane], top, left, kernel)


@njit(cache=True)
def runs_of(x: NDArray, stride: Pair, padding: Pair, pitch: int, rows: int, room: NDArray, phases: NDArray) -> None:
    """phases[s, (h % stride[0] * rows + h // stride[0]) * pitch + q] = padded plane's element (h, q * stride[1] + s).

    The padding repeats the edges: no element of it is the first largest of a window.
    """
    height, width = x.shape
    for h in range(height + 2 * padding[0]):
        row, source = room[h % stride[0] * rows + h // stride[0]], x[min(max(h - padding[0], 0), height - 1)]
        inside, after = row[padding[1] :], row[padding[1] + width :]
        for w in range(width):
            inside[w] = source[w]
        for w in range(padding[1]):
            row[w], after[w] = source[0], source[width - 1]
    flat = room.reshape(-1)
    if stride[1] == 2:  # a constant step becomes vector code
        even, odd = phases[0], phases[1]
        for q in range(even.size):
            even[q], odd[q] = flat[2 * q], flat[2 * q + 1]
    else:
        for s in range(stride[1]):
            phase, source = phases[s], flat[s:]
            for q in range(phase.size):
                phase[q] = source[q * stride[1]]


@njit(cache=True)
def keep_larger(elements: Array, places: NDArray[np.int32], best: Array, where: NDArray[np.int32]) -> None:
    """One more element of every window."""
    for j in range(best.size):
        best[j], where[j] = keep(best[j], where[j], elements[j], places[j])


@njit(cache=True)
def max_of_plane(
    phases: Array, places: NDArray[np.int32], kernel: Pair, stride: Pair, pitch: int, y: Array, index: NDArray[np.int32]
) -> None:
    """The largest of each row of a window at all places, then the first largest of those."""
    along, count = phases.shape[1] - (kernel[1] - 1) // stride[1], (y.shape[0] - 1) * pitch + y.shape[1]
    best, where = phases[0, :along].copy(), places[0, :along].copy()
    for s in range(1, kernel[1]):
        start = s // stride[1]
        keep_larger(phases[s % stride[1], start:], places[s % stride[1], start:], best, where)
    largest, found = best[:count].copy(), where[:count].copy()
    high = phases.shape[1] // pitch // stride[0]
    for r in range(1, kernel[0]):
        start = (r % stride[0] * high + r // stride[0]) * pitch
        keep_larger(best[start:], where[start:], largest, found)
    for i in range(y.shape[0]):
        row, at = largest[i * pitch :], found[i * pitch :]
        for j in range(y.shape[1]):
            y[i, j], index[i, j] = row[j], at[j]


@njit(cache=True, parallel=True)
def max_runs(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array, index: NDArray[np.int32]) -> None:
    """All windows of a plane at a time; each element's place takes the ways that the element takes."""
    planes, height, width = x.shape
    high = (height + 2 * padding[0] + stride[0] - 1) // stride[0]
    pitch = (width + 2 * padding[1] + stride[1] - 1) // stride[1]
    shape, size = (stride[0] * high, stride[1] * pitch), stride[0] * high * pitch
    places = np.empty((stride[1], size), np.int32)
    plane_of_places = np.arange(height * width).astype(np.int32).reshape((height, width))
    runs_of(plane_of_places, stride, padding, pitch, high, np.zeros(shape, np.int32), places)
    for plane in prange(planes):
        phases = np.empty((stride[1], size), np.float32)
        runs_of(x[plane], stride, padding, pitch, high, np.zeros(shape, np.float32), phases)
        max_of_plane(phases, places, kernel, stride, pitch, y[plane], index[plane])


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array, index: NDArray[np.int32]) -> None:
    if kernel == stride == (2, 2) and padding == (0, 0):
        max_tiles(x, y, index)
    elif y.shape[1] * y.shape[2] >= MANY:
        max_runs(x, kernel, stride, padding, y, index)
    else:
        max_windows(x, kernel, stride, padding, y, index)


@njit(cache=True, parallel=True)
def max_pool2d_gradient(gy: Array, index: NDArray[np.int32], gx: Array) -> None:
    """gy and index (planes, OH * OW), gx (planes, H * W)."""
    for plane in prange(gx.shape[0]):
        gx[plane] = ZERO
        for i in range(gy.shape[1]):
            gx[plane, index[plane, i]] += gy[plane, i]
