"""Defines reference kernels: maximum and average over windows, and their gradients. Images are (N, C, H, W)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpsim.errors import UsageError
from mpsim.kernels.reference.reductions import sum_rows

Pair = tuple[int, int]


def pooled_shape(x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> tuple[int, int, int, int]:
    """Returns (N, C, OH, OW): one window each. Only complete windows of the padded image count."""
    rows, columns = ((x_shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return x_shape[0], x_shape[1], rows, columns


def indexed_shape(x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> tuple[int, int, int, int]:
    """Returns ``pooled_shape``, or raises UsageError if a padded image has more elements than an int32 can number.

    >>> indexed_shape((1, 1, 1 << 16, 1 << 15), (2, 2), (2, 2), (0, 0))
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: the maxima of an image have int32 indexes, and 65536 x 32768 elements with padding (0, 0) \
are too many; split the image
    """
    height, width = (x_shape[2 + i] + 2 * padding[i] for i in (0, 1))
    if height * width >= 1 << 31:
        size = f"{x_shape[2]} x {x_shape[3]} elements with padding {padding}"
        raise UsageError(f"the maxima of an image have int32 indexes, and {size} are too many; split the image")
    return pooled_shape(x_shape, kernel, stride, padding)


def _padded(x: NDArray, padding: Pair) -> NDArray:
    return np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))


def _window_element(padded: NDArray, r: int, s: int, size: Pair, stride: Pair) -> NDArray:
    """Returns element (r, s) of every window as a view: (..., H, W) -> (..., OH, OW)."""
    rows, columns = size
    return padded[..., r : r + rows * stride[0] : stride[0], s : s + columns * stride[1] : stride[1]][
        ..., :rows, :columns
    ]


def max_pool2d(x: NDArray, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> tuple[NDArray, NDArray]:
    """Returns the largest element of each window and its position: (y, index = h * W + w, int32).

    The first of equals wins; the first NaN wins over every number; padding takes no part.
    """
    shape = indexed_shape(x.shape, kernel, stride, padding)
    size = shape[2:]
    padded = _padded(x, padding)
    inside = _padded(np.ones((1, 1, *x.shape[2:]), bool), padding)
    place = _padded(np.arange(x.shape[2] * x.shape[3], dtype=np.int32).reshape(1, 1, *x.shape[2:]), padding)
    y = np.full(shape, -np.inf, x.dtype)
    index = np.full(y.shape, -1, np.int32)
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            element = _window_element(padded, r, s, size, stride)
            better = (index < 0) | (element > y) | (np.isnan(element) & ~np.isnan(y))
            better &= _window_element(inside, r, s, size, stride)
            y = np.where(better, element, y)
            index = np.where(better, _window_element(place, r, s, size, stride), index)
    return y, index


@np.errstate(all="ignore")
def max_pool2d_gradient(gy: NDArray, index: NDArray, x_shape: tuple[int, ...], *, threads: int = 1) -> NDArray:
    """Adds gy at the position of its maximum, in rising (i, j) of gy."""
    planes = x_shape[0] * x_shape[1]
    gx = np.zeros((planes, x_shape[2] * x_shape[3]), gy.dtype)
    every = np.arange(planes)
    for gradient, place in zip(gy.reshape(planes, -1).T, index.reshape(planes, -1).T, strict=True):
        gx[every, place] += gradient
    return gx.reshape(x_shape)


@np.errstate(all="ignore")
def avg_pool2d(x: NDArray, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> NDArray:
    """Returns the sum of each window in the order REDUCTION, including padding zeros, divided by the window's size."""
    shape = pooled_shape(x.shape, kernel, stride, padding)
    padded = _padded(x, padding)
    elements = [
        _window_element(padded, r, s, shape[2:], stride).reshape(-1) for r in range(kernel[0]) for s in range(kernel[1])
    ]
    total = sum_rows(np.stack(elements, axis=1))  # (N, C, H, W) -> (N*C*OH*OW, R*S) -> (N*C*OH*OW,)
    return (total / x.dtype.type(len(elements))).reshape(shape)


@np.errstate(all="ignore")
def avg_pool2d_gradient(
    gy: NDArray, x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1
) -> NDArray:
    """Adds gy divided by the window's size to each element of its window, in rising (i, j) of gy.

    An element of x meets its windows in rising (i, j) when it is their element (r, s) in falling (r, s).
    """
    height, width = x_shape[2:]
    share = gy / gy.dtype.type(kernel[0] * kernel[1])
    gx = _padded(np.zeros(x_shape, gy.dtype), padding)
    for r in reversed(range(kernel[0])):
        for s in reversed(range(kernel[1])):
            target = _window_element(gx, r, s, (gy.shape[2], gy.shape[3]), stride)
            target += share
    return gx[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width].copy()
