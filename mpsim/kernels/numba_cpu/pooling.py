"""Computes maxima and averages over windows of images, and their gradients. Inside, images are (planes, H, W).

The rows and columns of a padded plane are sorted into phases by their remainders by the stride. So element (r, s) of
all the windows of a plane is one run of neighbours, window (i, j) at place i * pitch + j.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import at_most, empty, njit
from mpsim.kernels.numba_cpu.normalization import BLOCK, LANES, ZERO, vector_sum
from mpsim.kernels.reference.pooling import indexed_shape, pooled_shape

__all__ = ["avg_pool2d", "avg_pool2d_gradient", "max_pool2d", "max_pool2d_gradient"]

Array = NDArray[np.float32]
Places = NDArray[np.int32]
Pair = tuple[int, int]

PLANES = 64  # of one task, where a window is a whole plane
MANY = 16  # windows of a plane that are worth sorting it


class Layout(NamedTuple):
    """The positions of the elements of a padded plane in its phases."""

    down: int  # strides
    right: int
    top: int  # padding
    left: int
    pitch: int
    places: int  # of a phase
    length: int  # of a run


def layout_of(x: NDArray, stride: Pair, padding: Pair, y: NDArray) -> Layout:
    high, pitch = ((x.shape[1 + i] + 2 * padding[i] + stride[i] - 1) // stride[i] for i in (0, 1))
    return Layout(*stride, *padding, pitch, high * pitch, (y.shape[1] - 1) * pitch + y.shape[2])


@njit(cache=True)
def sort_plane(x: NDArray, layout: Layout, phases: NDArray) -> None:
    """Copies the elements of a plane to their phases. Padding elements are not changed."""
    down, right = layout.down, layout.right
    for phase in range(down * right):
        first_row, first = (phase // right - layout.top) % down, (phase % right - layout.left) % right
        place = (first_row + layout.top) // down * layout.pitch + (first + layout.left) // right
        count = max(0, (x.shape[1] - first + right - 1) // right)
        for h in range(first_row, x.shape[0], down):
            source, target = x[h, first:], phases[phase, place : place + count]
            if right == 2:  # a constant step becomes vector code
                for q in range(count):
                    target[q] = source[2 * q]
            else:
                for q in range(count):
                    target[q] = source[q * right]
            place += layout.pitch


@njit(cache=True)
def element_of_windows(phases: NDArray, r: int, s: int, layout: Layout) -> NDArray:
    """Returns element (r, s) of all windows."""
    phase = r % layout.down * layout.right + s % layout.right
    start = r // layout.down * layout.pitch + s // layout.right
    return phases[phase, start : start + layout.length]


@njit(cache=True)
def copy_windows(source: NDArray, pitch: int, target: NDArray) -> None:
    """Sets target[i, j] to source[i * pitch + j]."""
    for i in range(target.shape[0]):
        target[i] = source[i * pitch : i * pitch + target.shape[1]]


@njit(cache=True)
def larger(best: np.float32, where: np.int32, element: np.float32, place: np.int32) -> tuple[np.float32, np.int32]:
    """Returns the largest element so far and its place. A greater element replaces it, and NaN replaces a number."""
    less, nan = element <= best, best != best
    kept, at = best if less else element, where if less else place
    return (best if nan else kept), (where if nan else at)


@njit(cache=True, parallel=True)
def find_maxima(x: Array, kernel: Pair, layout: Layout, y: Array, index: Places) -> None:
    """Compares one element of all windows of a plane after another. Padding elements are not greater."""
    first, origin = places_of_windows(x.shape[2], layout)
    for plane in prange(x.shape[0]):
        phases = np.full((layout.down * layout.right, layout.places), np.float32(-np.inf))
        sort_plane(x[plane], layout, phases)
        best, where = np.full(layout.length, np.float32(-np.inf)), first.copy()
        for r in range(kernel[0]):
            for s in range(kernel[1]):
                elements, place = element_of_windows(phases, r, s, layout), np.int32(r * x.shape[2] + s)
                for j in range(best.size):
                    best[j], where[j] = larger(best[j], where[j], elements[j], np.int32(origin[j] + place))
        copy_windows(best, layout.pitch, y[plane])
        copy_windows(where, layout.pitch, index[plane])


@njit(cache=True)
def places_of_windows(width: int, layout: Layout) -> tuple[Places, Places]:
    """Returns the position in the image of each window, and of its first element."""
    first, origin = np.empty(layout.length, np.int32), np.empty(layout.length, np.int32)
    for window in range(first.size):
        row = window // layout.pitch * layout.down - layout.top
        column = window % layout.pitch * layout.right - layout.left
        first[window], origin[window] = max(row, 0) * width + max(column, 0), row * width + column
    return first, origin


@njit(cache=True, parallel=True)
def find_maxima_of_windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, y: Array, index: Places) -> None:
    """Finds the maxima of one window after another."""
    for plane in prange(x.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
                y[plane, i, j], index[plane, i, j] = find_maximum(x[plane], top, left, kernel)


@njit(cache=True)
def find_maximum(x: Array, top: int, left: int, kernel: Pair) -> tuple[np.float32, np.int32]:
    height, width = x.shape
    first_row, first = max(top, 0), max(left, 0)
    best, where = x[first_row, first], np.int32(first_row * width + first)
    for h in range(first_row, min(top + kernel[0], height)):
        for w in range(first, min(left + kernel[1], width)):
            best, where = larger(best, where, x[h, w], np.int32(h * width + w))
    return best, where


@njit(cache=True, parallel=True)
def find_maxima_of_tiles(x: Array, y: Array, index: Places) -> None:
    """Finds the maxima of windows of 2 x 2 that tile the image, which is faster without phases."""
    planes, rows, columns = y.shape
    below = np.int32(x.shape[2])
    for plane in prange(planes):
        for i in range(rows):
            for j in range(columns):
                best, where = larger(x[plane, 2 * i, 2 * j], np.int32(0), x[plane, 2 * i, 2 * j + 1], np.int32(1))
                best, where = larger(best, where, x[plane, 2 * i + 1, 2 * j], below)
                best, where = larger(best, where, x[plane, 2 * i + 1, 2 * j + 1], np.int32(below + 1))
                y[plane, i, j] = best
                index[plane, i, j] = np.int32(where + 2 * (i * below + j))


@njit(cache=True, parallel=True)
def add_at(gy: Array, index: Places, gx: Array) -> None:
    """gy and index (planes, OH * OW), gx (planes, H * W)."""
    for plane in prange(gx.shape[0]):
        gx[plane] = ZERO
        for i in range(gy.shape[1]):
            gx[plane, index[plane, i]] += gy[plane, i]


@njit(cache=True, parallel=True, error_model="numpy")
def average_planes(x: Array, y: Array) -> None:
    """Averages windows that are entire planes: x (planes, area), y is flat."""
    for task in prange((y.size + PLANES - 1) // PLANES):
        lanes = np.empty(LANES, np.float32)
        for plane in range(task * PLANES, min(y.size, (task + 1) * PLANES)):
            y[plane] = vector_sum(x[plane], lanes) / np.float32(x.shape[1])


@njit(cache=True, parallel=True, error_model="numpy")
def average_windows(x: Array, kernel: Pair, layout: Layout, y: Array) -> None:
    """Averages windows. Row k of ``lanes`` is lane k of each window."""
    size, count = kernel[0] * kernel[1], LANES
    while count >= 2 * size:  # lanes without elements are +0, and no lane is -0
        count //= 2
    for plane in prange(x.shape[0]):
        phases = np.zeros((layout.down * layout.right, layout.places), np.float32)
        sort_plane(x[plane], layout, phases)
        lanes, total = np.empty((count, layout.length), np.float32), np.zeros(layout.length, np.float32)
        for start in range(0, size, BLOCK):
            lanes[:] = ZERO
            for k in range(start, min(start + BLOCK, size)):
                lanes[k % LANES] += element_of_windows(phases, k // kernel[1], k % kernel[1], layout)
            half = count // 2
            while half > 0:
                for k in range(half):
                    lanes[k] += lanes[k + half]
                half //= 2
            total += lanes[0]
        copy_windows(total / np.float32(size), layout.pitch, y[plane])


@njit(cache=True, parallel=True, error_model="numpy")
def spread_planes(gy: Array, area: int, gx: Array) -> None:
    """Computes the gradient for windows that are entire planes: gy is flat, gx (planes, area)."""
    for plane in prange(gy.size):
        share = gy[plane] / np.float32(area) + ZERO
        for i in range(area):
            gx[plane, i] = share


@njit(cache=True, parallel=True, error_model="numpy")
def spread_tiles(gy: Array, kernel: Pair, gx: Array) -> None:
    """Computes the gradient for windows that tile the image: each element of gx is in at most one window."""
    planes, rows, columns = gy.shape
    size = np.float32(kernel[0] * kernel[1])
    for plane in prange(planes):
        gx[plane, rows * kernel[0] :] = ZERO
        for i in range(rows):
            line = gx[plane, i * kernel[0]]
            line[columns * kernel[1] :] = ZERO
            for j in range(columns):
                share = gy[plane, i, j] / size + ZERO
                for s in range(kernel[1]):
                    line[j * kernel[1] + s] = share
            for r in range(1, kernel[0]):
                gx[plane, i * kernel[0] + r] = line


@njit(cache=True, parallel=True, error_model="numpy")
def spread_windows(gy: Array, kernel: Pair, stride: Pair, padding: Pair, gx: Array) -> None:
    """Computes the gradient for any windows. Falling s visits the windows of an element from left to right."""
    size = np.float32(kernel[0] * kernel[1])
    for plane in prange(gx.shape[0]):
        gx[plane] = ZERO
        for i in range(gy.shape[1]):
            shares = gy[plane, i] / size
            top = i * stride[0] - padding[0]
            for h in range(max(top, 0), min(top + kernel[0], gx.shape[1])):
                for s in range(kernel[1] - 1, -1, -1):
                    left = s - padding[1]
                    first = max(0, -(left // stride[1]))
                    last = min(shares.size, (gx.shape[2] - 1 - left) // stride[1] + 1)
                    share, row = shares[first:last], gx[plane, h, left + first * stride[1] :]
                    for j in range(share.size):
                        row[j * stride[1]] += share[j]


def _planes(x: NDArray) -> NDArray:
    """(N, C, H, W) -> (N*C, H, W)."""
    return x.reshape(-1, *x.shape[2:])


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> tuple[Array, NDArray]:
    """Returns the largest element of each window and its position: (y, index = h * W + w, int32)."""
    y = empty(indexed_shape(x.shape, kernel, stride, padding))
    index = empty(y.shape, np.int32)
    with at_most(threads):
        if kernel == stride == (2, 2) and padding == (0, 0):
            find_maxima_of_tiles(_planes(x), _planes(y), _planes(index))
        elif y.shape[2] * y.shape[3] < MANY:
            find_maxima_of_windows(_planes(x), kernel, stride, padding, _planes(y), _planes(index))
        else:
            layout = layout_of(_planes(x), stride, padding, _planes(y))
            find_maxima(_planes(x), kernel, layout, _planes(y), _planes(index))
    return y, index


def max_pool2d_gradient(gy: Array, index: NDArray, x_shape: tuple[int, ...], *, threads: int = 1) -> Array:
    """Adds gy at the position of its maximum, in rising (i, j) of gy."""
    gx = empty(x_shape)
    planes = x_shape[0] * x_shape[1]
    with at_most(threads):
        add_at(gy.reshape(planes, -1), index.reshape(planes, -1), gx.reshape(planes, -1))
    return gx


def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> Array:
    """Returns the mean of each window, including padding zeros."""
    y = empty(pooled_shape(x.shape, kernel, stride, padding))
    with at_most(threads):
        if kernel == x.shape[2:] and padding == (0, 0):
            average_planes(x.reshape(y.size, -1), y.reshape(-1))
        else:
            average_windows(_planes(x), kernel, layout_of(_planes(x), stride, padding, _planes(y)), _planes(y))
    return y


def avg_pool2d_gradient(
    gy: Array, x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1
) -> Array:
    """Adds gy divided by the window's size to each element of its window, in rising (i, j) of gy."""
    gx = empty(x_shape)
    with at_most(threads):
        if kernel == x_shape[2:] and padding == (0, 0):
            spread_planes(gy.reshape(-1), kernel[0] * kernel[1], gx.reshape(gy.size, -1))
        elif kernel == stride and padding == (0, 0):
            spread_tiles(_planes(gy), kernel, _planes(gx))
        else:
            spread_windows(_planes(gy), kernel, stride, padding, _planes(gx))
    return gx
