"""Kernels that copy elements and do no arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numba import cuda, typeof

from mpsim.errors import UsageError
from mpsim.kernels.cuda.device.arrays import Array, cleared, empty, flattened
from mpsim.kernels.cuda.device.launch import VECTOR, kernel
from mpsim.kernels.cuda.layers.division import DIVISOR, Divisor, check_size, quotient

__all__ = ["concatenate", "permute", "place_channels", "slice_channels"]

AXES = 5


def permute(x: Array, axes: Sequence[int], *, threads: int = 1) -> Array:
    """Returns a contiguous copy with the axes in the given order."""
    if len(axes) > AXES:
        raise UsageError(f"the cuda backend permutes at most {AXES} axes, got {len(axes)}; merge some before")
    check_size(x.size)
    shape = tuple(x.shape[axis] for axis in axes)
    y = empty(shape)
    if y.size:
        strides = [prod(x.shape[axis + 1 :]) for axis in axes]
        absent = AXES - len(axes)
        sizes = tuple(Divisor.of(size) for size in (*[1] * absent, *shape))
        steps = tuple(np.uint32(step) for step in (*[0] * absent, *strides))
        permute_elements.over(y.size)(flattened(x), flattened(y), sizes, steps)
    return y


@kernel((f"{VECTOR}, {VECTOR}", typeof((Divisor.of(1),) * AXES), f"UniTuple(uint32, {AXES})"))
def permute_elements(x, y, sizes, steps):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        rest, place = np.uint32(i), np.uint32(0)
        for k in range(AXES):
            size = sizes[AXES - 1 - k]
            above = quotient(rest, size)
            place += np.uint32(rest - above * size.number) * steps[AXES - 1 - k]
            rest = above
        y[i] = x[place]


def concatenate(arrays: Sequence[Array], *, threads: int = 1) -> Array:
    """Joins the arrays along axis 1."""
    first, channels, start = arrays[0], sum(x.shape[1] for x in arrays), 0
    y = empty((first.shape[0], channels, *first.shape[2:]))
    for x in arrays:
        _copy_channels(x, 0, y, start, x.shape[1])
        start += x.shape[1]
    return y


def slice_channels(x: Array, start: int, stop: int, *, threads: int = 1) -> Array:
    """Returns a contiguous copy of x[:, start:stop]."""
    y = empty((x.shape[0], stop - start, *tuple(x.shape)[2:]))
    _copy_channels(x, start, y, 0, stop - start)
    return y


def place_channels(gy: Array, start: int, channels: int, *, threads: int = 1) -> Array:
    """Computes the gradient of slice_channels: gy in the channels from ``start`` on, and +0 in all others."""
    gx = cleared(empty((gy.shape[0], channels, *tuple(gy.shape)[2:])))
    _copy_channels(gy, 0, gx, start, gy.shape[1])
    return gx


def _copy_channels(x: Array, x_start: int, y: Array, y_start: int, channels: int) -> None:
    """Copies ``channels`` channels of x from ``x_start`` on to y from ``y_start`` on."""
    area = prod(tuple(x.shape)[2:])
    width = channels * area
    check_size(max(x.size, y.size))
    if x.shape[0] * width:
        copy_rows.over(x.shape[0] * width)(
            flattened(x),
            np.uint32(x_start * area),
            np.uint32(x.shape[1] * area),
            flattened(y),
            np.uint32(y_start * area),
            np.uint32(y.shape[1] * area),
            Divisor.of(width),
            x.shape[0] * width,
        )


@kernel((f"{VECTOR}, uint32, uint32, {VECTOR}, uint32, uint32", DIVISOR, "int64"))
def copy_rows(x, x_start, x_pitch, y, y_start, y_pitch, width, count):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = quotient(i, width)
        inside = np.uint32(np.uint32(i) - np.uint32(row * width.number))
        y[y_start + row * y_pitch + inside] = x[x_start + row * x_pitch + inside]
