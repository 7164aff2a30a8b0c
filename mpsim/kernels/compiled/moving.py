"""Joining, splitting and reordering arrays, compiled (ext/simd_layers_move.c); signatures of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from mpsim import _kernels
from mpsim.kernels.compiled.arrays import empty
from mpsim.kernels.reference import layers as reference

__all__ = ["concatenate", "permute", "place_channels", "slice_channels"]

Array = NDArray[np.float32]
_NONE = (0, 0, 0)


def permute(x: Array, axes: Sequence[int], *, threads: int = 1) -> Array:
    """A contiguous copy with the axes in the given order; fast where the last ones stay and at most three move."""
    moved = len(axes)
    while moved and axes[moved - 1] == moved - 1:
        moved -= 1
    if moved > 3:
        return reference.permute(x, axes)
    y, run = empty([x.shape[axis] for axis in axes]), prod(x.shape[moved:])
    steps = [prod(x.shape[axis + 1 :]) for axis in axes[:moved]], [prod(y.shape[i + 1 :]) for i in range(moved)]
    from_steps, to_steps = ((*_NONE[moved:], *step) for step in steps)
    sizes = (*(1, 1, 1)[moved:], *y.shape[:moved])
    _kernels.layer_move(x.reshape(-1), sizes, from_steps, 0, y.reshape(-1), to_steps, 0, run, 0, 0, threads)
    return y


def concatenate(arrays: Sequence[Array], *, threads: int = 1) -> Array:
    """The arrays joined along axis 1."""
    first, channels = arrays[0], sum(x.shape[1] for x in arrays)
    y, start = empty((first.shape[0], channels, *first.shape[2:])), 0
    for x in arrays:
        _copy(x, 0, y, start, _image(x), 0, 0, threads)
        start += _image(x)
    return y


def slice_channels(x: Array, start: int, stop: int, *, threads: int = 1) -> Array:
    """A contiguous copy of x[:, start:stop]."""
    y, area = empty((x.shape[0], stop - start, *x.shape[2:])), prod(x.shape[2:])
    _copy(x, start * area, y, 0, _image(y), 0, 0, threads)
    return y


def place_channels(gy: Array, start: int, channels: int, *, threads: int = 1) -> Array:
    """+0 everywhere but in the channels from ``start`` on, which are gy: the gradient of slice_channels."""
    gx, before = empty((gy.shape[0], channels, *gy.shape[2:])), start * prod(gy.shape[2:])
    after = _image(gx) - _image(gy) - before
    _copy(gy, 0, gx, before, _image(gy), before, after, threads)
    return gx


def _image(x: Array) -> int:
    """Elements of one image."""
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
    """A run of each image of x to its place in the image of y."""
    sizes, from_steps, to_steps = (x.shape[0], 1, 1), (_image(x), 0, 0), (_image(y), 0, 0)
    moved = x.reshape(-1), sizes, from_steps, from_start, y.reshape(-1), to_steps, to_start
    _kernels.layer_move(*moved, run, before, after, threads)
