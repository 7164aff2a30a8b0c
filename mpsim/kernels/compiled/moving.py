"""Joins, splits and reorders arrays by ext/layers/move.c, with the reference's signatures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
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
    """Returns a contiguous copy with the axes in the given order. It is fast if at most three parts move."""
    shape, moving = _moving(x.shape, tuple(axes))
    if moving is None:
        return reference.permute(x, axes)
    y = empty(shape)
    _kernels.move(x.reshape(-1), moving, y.reshape(-1), threads)
    return y


@lru_cache(maxsize=1024)
def _moving(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[tuple[int, ...], bytes | None]:
    """Returns the shape of a permuted copy, and the struct Moving, or None if it has more than three moving parts.

    A part consists of axes that follow each other before and after. The last one is copied as a run if it stays last.
    """
    if sorted(axes) != list(range(len(shape))):  # a wrong order would be read and written outside the arrays
        raise UsageError(f"axes must be an order of 0..{len(shape) - 1}, got {axes}")
    parts: list[list[int]] = []
    for axis in axes:
        if parts and parts[-1][-1] == axis - 1:
            parts[-1].append(axis)
        else:
            parts.append([axis])
    run = prod(shape[axis] for axis in parts.pop()) if parts and parts[-1][-1] == len(shape) - 1 else 1
    permuted = tuple(shape[axis] for axis in axes)
    if len(parts) > 3:
        return permuted, None
    sizes = [prod(shape[axis] for axis in part) for part in parts]
    from_step = [prod(shape[part[-1] + 1 :]) for part in parts]
    to_step = [run * prod(sizes[place + 1 :]) for place in range(len(parts))]
    return permuted, packed(Moving(_three(sizes, 1), 0, _three(from_step, 0), 0, _three(to_step, 0), run, 0, 0))


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
