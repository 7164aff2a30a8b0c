"""Repeats arrays along axes of size 1, and sums over axes, for the ops that broadcast their inputs or reduce axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod

import numpy as np

from mpsim.engine.primitive import Shape
from mpsim.engine.tensor import Array
from mpsim.errors import UsageError
from mpsim.kernels import Kernels


@lru_cache(maxsize=1024)
def broadcast_shape(first: Shape, second: Shape) -> Shape:
    """Returns the common shape of two shapes by NumPy's rules. Raises UsageError if there is none.

    >>> broadcast_shape((2, 3, 4), (3, 1))
    (2, 3, 4)
    """
    try:
        return np.broadcast_shapes(first, second)
    except ValueError:
        raise UsageError(
            f"both inputs must have one shape, or sizes of 1 where they differ, got {first} and {second}"
        ) from None


def expanded(kernels: Kernels, x: Array, shape: Shape) -> Array:
    """Returns x repeated along its axes of size 1 to ``shape``, or x itself if it has this shape."""
    for before, count, after in _copies(tuple(x.shape), shape):
        x = kernels.take(x.reshape(before, 1, after), kernels.from_numpy(np.zeros(count, np.int64)))
    return x.reshape(shape)


@lru_cache(maxsize=1024)
def _copies(old: Shape, shape: Shape) -> list[tuple[int, int, int]]:
    """Returns, for each run of repeated axes, the number of elements before it, in it, and behind it."""
    old, found = (1,) * (len(shape) - len(old)) + old, []
    for first, last in _runs(axis for axis in range(len(shape)) if old[axis] != shape[axis]):
        found.append((prod(old[:first]), prod(shape[first : last + 1]), prod(old[last + 1 :])))
        old = (*old[:first], *shape[first : last + 1], *old[last + 1 :])
    return found


def reduced(kernels: Kernels, x: Array, shape: Shape) -> Array:
    """Returns the sums of x over the axes along which ``shape`` was repeated: the gradient of ``expanded``."""
    padded = (1,) * (len(x.shape) - len(shape)) + tuple(shape)
    axes = tuple(axis for axis in range(len(padded)) if padded[axis] != x.shape[axis])
    return (sums_over(kernels, x, axes) if axes else x).reshape(shape)


def sums_over(kernels: Kernels, x: Array, axes: Sequence[int]) -> Array:
    """Returns the sums over ``axes`` (rising), flat and in the order of the other axes.

    The elements of a sum are added by the REDUCTION of the kernels' contract, in the order of x.
    """
    shape = tuple(x.shape)
    kept = tuple(axis for axis in range(len(shape)) if axis not in axes)
    rows, length = prod(shape[axis] for axis in kept), prod(shape[axis] for axis in axes)
    if kept and kept != tuple(range(kept[0], kept[0] + len(kept))):
        x, kept = kernels.permute(x, (*kept, *axes)), tuple(range(len(kept)))
    before = prod(tuple(x.shape)[: kept[0]]) if kept else 1
    return kernels.channel_sum(x.reshape(before, rows, length // before if before else 0))


def _runs(axes: Iterable[int]) -> list[tuple[int, int]]:
    """Returns the first and last axis of each run of consecutive axes."""
    runs: list[tuple[int, int]] = []
    for axis in axes:
        if runs and runs[-1][1] == axis - 1:
            runs[-1] = (runs[-1][0], axis)
        else:
            runs.append((axis, axis))
    return runs
