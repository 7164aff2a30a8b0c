"""Rows of dot products as matrices: which elements of one product are asked for several of them at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.kernels.contract import Array

Places = tuple[tuple[int, int], ...]


class Region(NamedTuple):
    """Elements (row, column) of a matrix. apart: in different rows and columns, for any dot products. of_rows and
    of_columns: only in different rows, or columns, for dot products of one right or one left factor."""

    shape: tuple[int, int]
    apart: Places
    of_rows: Places
    of_columns: Places

    @property
    def shares_left(self) -> bool:
        """Whether more dot products of one left factor than of one right factor are asked at once."""
        return len(self.of_columns) >= len(self.of_rows)


def region_of(mask: Array) -> Region:
    """The elements of a mask."""
    return Region((mask.shape[0], mask.shape[1]), _apart(mask), _first(mask), tuple((i, j) for j, i in _first(mask.T)))


def _apart(mask: Array) -> Places:
    found: list[tuple[int, int]] = []
    columns: set[int] = set()
    for i, row in enumerate(mask):
        free = [int(j) for j in np.flatnonzero(row) if int(j) not in columns]
        if free:
            j = i if i in free else free[0]
            found.append((i, j))
            columns.add(j)
    return tuple(found)


def _first(mask: Array) -> Places:
    """The first element of each row that has one."""
    return tuple((i, int(np.argmax(row))) for i, row in enumerate(mask) if row.any())


def packed(region: Region, a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """(left matrix, transposed right matrix, rows, columns) of the first dot products of the rows of a and b: as many
    as there are rows and columns, each of which is an element of the product."""
    places = region.apart
    if len(region.of_columns) > len(places) and _alike(a[: len(region.of_columns)]):
        places = region.of_columns
    elif len(region.of_rows) > len(places) and _alike(b[: len(region.of_rows)]):
        places = region.of_rows
    rows, columns = np.array(places[: len(a)]).T
    (m, n), length = region.shape, a.shape[1]
    left, right = np.zeros((m, length), np.float32), np.zeros((n, length), np.float32)
    left[rows], right[columns] = a[: len(rows)], b[: len(rows)]
    return left, right, rows, columns


def _alike(x: Array) -> bool:
    return bool((x.view(np.uint32) == x[:1].view(np.uint32)).all())
