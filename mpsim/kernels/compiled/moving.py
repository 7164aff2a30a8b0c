"""Joins, splits and reorders arrays by ext/layers/move.c, with the reference's signatures."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from mpsim import _kernels
from mpsim.errors import UsageError
from mpsim.kernels.compiled.arrays import empty
from mpsim.kernels.compiled.structs import Moving, Triple, packed
from mpsim.kernels.reference import layers as reference

__all__ = ["concatenate", "permute", "place_channels", "slice_channels"]

Array = NDArray[np.float32]


def permute(x: Array, axes: Sequence[int], *, threads: int = 1) -> Array:
    """Returns a contiguous copy with the axes in the given order. It is fast if only the first three axes move."""
    if sorted(axes) != list(range(x.ndim)):  # a wrong order would be read and written outside the arrays
        raise UsageError(f"axes must be an order of 0..{x.ndim - 1}, got {tuple(axes)}")
    moved = len(axes)
    while moved and axes[moved - 1] == moved - 1:
        moved -= 1
    if moved > 3:
        return reference.permute(x, axes)
    y, run = empty([x.shape[axis] for axis in axes]), prod(x.shape[moved:])
    size = _three(y.shape[:moved], 1)
    from_step = _three([prod(x.shape[axis + 1 :]) for axis in axes[:moved]], 0)
    to_step = _three([prod(y.shape[axis + 1 :]) for axis in range(moved)], 0)
    moving = packed(Moving(size, 0, from_step, 0, to_step, run, 0, 0))
    _kernels.move(x.reshape(-1), moving, y.reshape(-1), threads)
    return y


def concatenate(arrays: Sequence[Array], *, threads: int = 1) -> Array:
    """Joins the arrays along axis 1."""
    first, channels = arrays[0], sum(x.shape[1] for x in arrays)
    y, start = empty((first.shape[0], channels, *first.shape[2:])), 0
    for x in arrays:
        _copy(x, 0, y, start, _image(x), 0, 0, threads)
        start += _image(x)
    return y


def slice_channels(x: Array, start: int, stop: int, *, threads: int = 1) -> Array:
    """Returns a contiguous copy of x[:, start:stop]."""
    y, area = empty((x.shape[0], stop - start, *x.shape[2:])), prod(x.shape[2:])
    _copy(x, start * area, y, 0, _image(y), 0, 0, threads)
    return y


def place_channels(gy: Array, start: int, channels: int, *, threads: int = 1) -> Array:
    """Returns gy in the channels from ``start`` and +0 elsewhere: the gradient of slice_channels."""
    gx, before = empty((gy.shape[0], channels, *gy.shape[2:])), start * prod(gy.shape[2:])
    after = _image(gx) - _image(gy) - before
    _copy(gy, 0, gx, before, _image(gy), before, after, threads)
    return gx


def _three(numbers: Sequence[int], before: int) -> Triple:
    """Fills up at most three numbers with ``before`` at the front."""
    first, second, third = (*[before] * (3 - len(numbers)), *numbers)
    return first, second, third


def _image(x: Array) -> int:
    """Returns the number of elements of one image."""
    return prod(x.shape[1:])


def _copy(
    x: Array,
    from_start: int,
    y: Array,
    to_start: int,
    run: int,
    before: int,
    after: int,
    threads: int,
) -> None:
    """Copies a run of each image of x to its place in the image of y."""
    size, from_step, to_step = (x.shape[0], 1, 1), (_image(x), 0, 0), (_image(y), 0, 0)
    moving = packed(Moving(size, from_start, from_step, to_start, to_step, run, before, after))
    _kernels.move(x.reshape(-1), moving, y.reshape(-1), threads)
