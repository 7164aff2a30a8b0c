"""Stores the offset tables of mpsim/kernels/contractions/lowering.py on a device.

The tables depend only on shapes. The CPU's lowering computes them once per geometry, from placeholders for the arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np

from mpsim.kernels.contract import Shape
from mpsim.kernels.contractions.functions import Geometry
from mpsim.kernels.contractions.lowering import Contraction, of_matmul
from mpsim.kernels.contractions.phases import phases
from mpsim.kernels.cuda.contraction.placing import Canvas
from mpsim.kernels.cuda.device.arrays import Array, from_numpy
from mpsim.kernels.cuda.device.devices import device

GEOMETRIES = 512  # whose tables are cached: a network has a few for each layer
Function = TypeVar("Function", bound=Callable[..., Any])
Offsets = tuple[Array, Array, Array]


@dataclass(frozen=True)
class Tables:
    """Offsets of the left factor (group, row, k), the right one (group, column, k), and the output, on a device."""

    left: Offsets
    right: Offsets
    out: Offsets
    shape: tuple[int, int, int, int]  # groups, rows, k, columns
    out_shape: Shape
    form: tuple[bool, bool, bool]  # whether the left and the right factor are contiguous along k rather than along
    # rows or columns, and whether offsets need 64 bits (plan.Form)
    canvas: Canvas | None

    def exchanged(self) -> Tables:
        """Returns tables of the same outputs with the two factors, and so rows and columns, exchanged."""
        groups, rows, length, columns = self.shape
        left_along_k, right_along_k, wide = self.form
        return Tables(
            self.right, self.left, (self.out[0], self.out[2], self.out[1]), (groups, columns, length, rows),
            self.out_shape, (right_along_k, left_along_k, wide), self.canvas,
        )  # fmt: skip


def cached_per_device(function: Function) -> Function:
    """Caches the results of a function of shapes separately for each device."""

    @lru_cache(maxsize=GEOMETRIES)
    def computed(number: int, *arguments: Any) -> Any:
        return function(*arguments)

    return cast(Function, lambda *arguments: computed(device().number, *arguments))


@cached_per_device
def tables_of(lower: Callable[..., Contraction], first: Shape, second: Shape, *options: Any) -> Tables:
    """Returns the tables of a lowering, from the shapes of the two arrays that are its first arguments."""
    place = _Place()
    keywords = {} if lower is of_matmul else {"place": place}
    return _moved(lower(_stand_in(first), _stand_in(second), *options, **keywords), place.canvas)


@cached_per_device
def phases_of(gy: Shape, w: Shape, x_shape: Shape, geometry: Geometry, chunk: int) -> tuple[tuple[Tables, Array], ...]:
    """Returns the tables of each phase (mpsim/kernels/contractions/phases.py) and the ends of its chunks."""
    place = _Place()
    parts = phases(_stand_in(gy), _stand_in(w), x_shape, *geometry, chunk, place)
    return tuple((_moved(part, place.canvas), _on_device(np.unique(ends), False)) for part, ends in parts)


@cached_per_device
def ends_of(length: int, chunk: int) -> Array:
    """Returns 0 and the end of each chunk of k, on the device."""
    return _on_device(np.append(np.arange(0, length, chunk), length), False)


class _Place:
    """Replaces lowering.place and records its arguments."""

    canvas: Canvas | None = None

    def __call__(self, x: np.ndarray, *arguments: Any) -> np.ndarray:
        self.canvas = Canvas(*arguments)
        return _stand_in((*x.shape[:2], self.canvas.height, self.canvas.width))


def _moved(c: Contraction, canvas: Canvas | None) -> Tables:
    """Moves the tables of a contraction to the device."""
    wide = max(c.a.size, c.b.size, int(np.prod(c.out_shape))) >= 1 << 31

    def moved(group: np.ndarray, outer: np.ndarray, inner: np.ndarray) -> Offsets:
        return _on_device(group, wide), _on_device(outer, wide), _on_device(inner, wide)

    return Tables(
        moved(c.a_group, c.a_row, c.a_k), moved(c.b_group, c.b_column, c.b_k),
        moved(c.out_group, c.out_row, c.out_column),
        c.shape, tuple(c.out_shape), (_run(c.a_k) >= _run(c.a_row), _run(c.b_k) >= _run(c.b_column), wide),
        canvas,
    )  # fmt: skip


def _on_device(table: np.ndarray, wide: bool) -> Array:
    return from_numpy(table.astype(np.int64 if wide else np.int32))


def _stand_in(shape: Shape) -> np.ndarray:
    """Returns an array of this shape that allocates no memory."""
    return np.broadcast_to(np.float32(0), shape)


def _run(table: np.ndarray) -> int:
    """Counts the elements, from the first one on, that are adjacent in memory."""
    apart = np.flatnonzero(np.abs(np.diff(table)) != 1)
    return int(apart[0]) + 1 if apart.size else table.size
