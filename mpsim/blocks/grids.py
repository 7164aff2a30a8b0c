"""Arrays as grids of groups, and back."""

from __future__ import annotations

import math

import numpy as np

from mpsim.blocks.quantizers.groups import Group, Tensor
from mpsim.kernels.contract import Array


class Grid:
    """How an array of a shape is cut into groups along an axis.

    Arrays of groups have the shape (matrices, rows of groups, columns of groups, elements of a group).
    """

    def __init__(self, shape: tuple[int, ...], axis: int, group: Group) -> None:
        self.shape, self.axis = shape, axis
        self.whole = isinstance(group, Tensor)
        moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
        matrix = (1, math.prod(shape)) if self.whole else (moved[-2] if len(moved) > 1 else 1, moved[-1])
        self.moved, self.matrix = moved, matrix
        self.matrices = 1 if self.whole else math.prod(moved[:-2])
        rows, columns = group.shape
        self.group = (max(matrix[0], 1) if rows is None else rows, max(matrix[1], 1) if columns is None else columns)
        self.counts = (-(-matrix[0] // self.group[0]), -(-matrix[1] // self.group[1]))

    def split(self, array: Array) -> Array:
        """Returns the groups of an array of the shape, with zeros in place of what is missing at the ends."""
        flat = array if self.whole else np.moveaxis(array, self.axis, -1)
        matrices = flat.reshape(self.matrices, *self.matrix)  # (matrices, R, C)
        (rows, columns), (down, across) = self.group, self.counts
        missing = (down * rows - self.matrix[0], across * columns - self.matrix[1])
        if any(missing):
            matrices = np.pad(matrices, ((0, 0), (0, missing[0]), (0, missing[1])))
        tiles = matrices.reshape(self.matrices, down, rows, across, columns).swapaxes(2, 3)
        return tiles.reshape(self.matrices, down, across, rows * columns)

    def join(self, groups: Array) -> Array:
        """Returns the array whose groups these are."""
        (rows, columns), (down, across) = self.group, self.counts
        tiles = groups.reshape(self.matrices, down, across, rows, columns).swapaxes(2, 3)
        matrices = tiles.reshape(self.matrices, down * rows, across * columns)
        flat = matrices[:, : self.matrix[0], : self.matrix[1]]
        if self.whole:
            return np.ascontiguousarray(flat.reshape(self.shape))
        return np.ascontiguousarray(np.moveaxis(flat.reshape(self.moved), -1, self.axis))

    @property
    def scales_shape(self) -> tuple[int, ...]:
        """The shape of one number a group: the array's, with fewer rows and columns."""
        if self.whole:
            return (1,) * len(self.shape)
        ends = self.counts if len(self.shape) > 1 else self.counts[1:]
        moved = (*self.moved[:-2], *ends)
        return (*moved[: self.axis], moved[-1], *moved[self.axis : -1])

    def join_scales(self, scales: Array) -> Array:
        """Returns one number a group, (matrices, rows, columns), in ``scales_shape``."""
        if self.whole:
            return scales.reshape(self.scales_shape)
        ends = self.counts if len(self.shape) > 1 else self.counts[1:]
        return np.ascontiguousarray(np.moveaxis(scales.reshape(*self.moved[:-2], *ends), -1, self.axis))

    def split_scales(self, scales: Array) -> Array:
        """Returns the numbers of ``join_scales`` as (matrices, rows, columns)."""
        moved = scales if self.whole else np.moveaxis(scales, self.axis, -1)
        return moved.reshape(self.matrices, *self.counts)

    def largest(self, array: Array, of_rows: bool) -> Array:
        """Returns the largest finite magnitude of the array, (1, 1, 1), or of each row, (matrices, rows, 1)."""
        finite = np.abs(np.where(np.isfinite(array), array, 0))
        if not of_rows:
            return finite.max(initial=0.0).reshape(1, 1, 1)
        rows = np.moveaxis(finite, self.axis, -1).reshape(self.matrices, *self.matrix)
        return np.asarray(rows.max(-1, initial=0.0, keepdims=True))
