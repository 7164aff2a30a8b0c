"""A contraction on a device: the tables of offsets of mpsim/kernels/lowering.py, and images with zeros around.

The tables depend on shapes alone. They are made by the lowering of the CPU once for each geometry, from stand-ins for
the arrays, and stay on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.arrays import device, empty, flattened, from_numpy
from mpsim.kernels.cuda.launch import kernel
from mpsim.kernels.lowering import Contraction, of_matmul
from mpsim.kernels.phases import phases

Array = Any
Pair = tuple[int, int]
GEOMETRIES = 512  # whose tables are kept: a network has a few for each layer


@dataclass(frozen=True)
class Canvas:
    """Where the images of a right factor lie among zeros; the arguments of lowering.place."""

    top: int
    left: int
    height: int
    width: int
    dilation: Pair = (1, 1)


@dataclass(frozen=True)
class Tables:
    """Offsets of the left factor (group, row, k), the right one (group, column, k), and the output, on a device."""

    left: tuple[Array, Array, Array]
    right: tuple[Array, Array, Array]
    out: tuple[Array, Array, Array]
    shape: tuple[int, int, int, int]  # groups, rows, k, columns
    out_shape: tuple[int, ...]
    form: tuple[bool, bool, bool]  # whether elements of neighbouring k lie together in memory, more than those of
    # rows or columns do, on the left and on the right, and whether offsets need 64 bits: as contraction_tile.Form
    canvas: Canvas | None

    def exchanged(self) -> Tables:
        """The same outputs with rows and columns exchanged: a product of two numbers does not mind."""
        groups, rows, length, columns = self.shape
        left_along_k, right_along_k, wide = self.form
        return Tables(
            self.right, self.left, (self.out[0], self.out[2], self.out[1]), (groups, columns, length, rows),
            self.out_shape, (right_along_k, left_along_k, wide), self.canvas,
        )  # fmt: skip


def tables_of(lower: Callable[..., Contraction], *arguments: Any) -> Tables:
    """The tables of a lowering, given its arguments with shapes in place of the two arrays that come first."""
    return _tables(device().number, lower, *arguments)


def phases_of(*arguments: Any) -> tuple[tuple[Tables, Array], ...]:
    """The same of phases.phases: the tables of each, and where its chunks end."""
    return _tables(device().number, phases, *arguments)


@lru_cache(maxsize=GEOMETRIES)
def _tables(number: int, lower: Callable[..., Any], first: Any, second: Any, *others: Any) -> Any:
    canvases: list[Canvas] = []

    def place(x: np.ndarray, *arguments: Any) -> np.ndarray:
        canvases.append(Canvas(*arguments))
        return _stand_in((*x.shape[:2], canvases[0].height, canvases[0].width))

    keywords = {} if lower is of_matmul else {"place": place}
    lowered = lower(_stand_in(first), _stand_in(second), *others, **keywords)
    if isinstance(lowered, Contraction):
        return _moved(lowered, canvases[0] if canvases else None)
    parts = [(part, _on_device(np.unique(ends), False)) for part, ends in lowered]
    return tuple((_moved(part, canvases[0]), ends) for part, ends in parts)


def _moved(c: Contraction, canvas: Canvas | None) -> Tables:
    """The tables of a contraction on the device."""
    all_offsets = (c.a_group, c.a_row, c.a_k, c.b_group, c.b_column, c.b_k, c.out_group, c.out_row, c.out_column)
    wide = max(c.a.size, c.b.size, int(np.prod(c.out_shape))) >= 1 << 31
    moved = [_on_device(table, wide) for table in all_offsets]
    return Tables(
        (moved[0], moved[1], moved[2]), (moved[3], moved[4], moved[5]), (moved[6], moved[7], moved[8]),
        c.shape, tuple(c.out_shape), (_run(c.a_k) >= _run(c.a_row), _run(c.b_k) >= _run(c.b_column), wide),
        canvas,
    )  # fmt: skip


def _on_device(table: np.ndarray, wide: bool) -> Array:
    return from_numpy(table.astype(np.int64 if wide else np.int32))


@lru_cache(maxsize=GEOMETRIES)
def _ends(number: int, length: int, chunk: int) -> Array:
    return _on_device(np.append(np.arange(0, length, chunk), length), False)


def ends_of(length: int, chunk: int) -> Array:
    """0 and where each chunk of k ends, on the device."""
    return _ends(device().number, length, chunk)


def _stand_in(shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


def _run(table: np.ndarray) -> int:
    """How many elements from the first one on are neighbours in memory."""
    apart = np.flatnonzero(np.abs(np.diff(table)) != 1)
    return int(apart[0]) + 1 if apart.size else table.size


def placed(x: Array, canvas: Canvas | None) -> Array:
    """Images (N, C, H, W) on their canvas of +0; what lies outside is cut off. See lowering.place."""
    if canvas is None or (canvas.top, canvas.left, canvas.height, canvas.width) == (0, 0, *x.shape[2:]):
        return x
    result = empty((*x.shape[:2], canvas.height, canvas.width))
    sizes = (x.shape[2], x.shape[3], canvas.height, canvas.width, canvas.top, canvas.left)
    if result.size == 0:
        return result
    if canvas.dilation == (1, 1) and result.size < 1 << 31:
        pad_images.over(result.size)(flattened(x), flattened(result), *sizes)
    else:
        place_images.over(result.size)(flattened(x), flattened(result), *sizes, *canvas.dilation)
    return result


@kernel("float32[::1], float32[::1], int64, int64, int64, int64, int64, int64")
def pad_images(x, result, height, width, canvas_height, canvas_width, top, left):  # type: ignore[no-untyped-def]
    """Row h and column w of x to row top + h and column left + w. Devices divide 32 bits much faster than 64."""
    for i in range(cuda.grid(1), result.size, cuda.gridsize(1)):
        line = np.int64(np.uint32(i) // np.uint32(canvas_width))
        plane = np.int64(np.uint32(line) // np.uint32(canvas_height))
        row, column = line - plane * canvas_height - top, i - line * canvas_width - left
        inside = 0 <= row < height and 0 <= column < width
        result[i] = x[np.uint64((plane * height + row) * width + column)] if inside else np.float32(0)


@kernel("float32[::1], float32[::1], int64, int64, int64, int64, int64, int64, int64, int64")
def place_images(  # type: ignore[no-untyped-def]
    x, result, height, width, canvas_height, canvas_width, top, left, row_dilation, column_dilation
):
    """Row h and column w of x to row top + h*dilation and column left + w*dilation."""
    for i in range(cuda.grid(1), result.size, cuda.gridsize(1)):
        line = i // canvas_width
        row, column = line % canvas_height - top, i % canvas_width - left
        h, w = row // row_dilation, column // column_dilation
        inside = 0 <= h < height and 0 <= w < width and h * row_dilation == row and w * column_dilation == column
        result[i] = x[(line // canvas_height * height + h) * width + w] if inside else np.float32(0)
