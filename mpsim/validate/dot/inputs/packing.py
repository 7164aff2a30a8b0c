"""Rows of dot products as matrices: which elements of one product are asked for several of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
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

    @property
    def sharing(self) -> int:
        """How many dot products of one factor are asked at once, where these are more than of any factors; or 1."""
        most = max(len(self.of_columns), len(self.of_rows))
        return most if most > len(self.apart) else 1


def region_of(mask: Array) -> Region:
    """The elements of a mask."""
    return Region((mask.shape[0], mask.shape[1]), _apart(mask), _first(mask), tuple((i, j) for j, i in _first(mask.T)))


@cache
def diagonal(side: int) -> Region:
    """The diagonal of square matrices."""
    return region_of(np.eye(side, dtype=bool))


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


class Packed(NamedTuple):
    """The dot products of rows start to stop as elements (rows, columns) of one product: the left matrix, and the right
    one transposed."""

    start: int
    stop: int
    left: Array
    right: Array
    rows: Array
    columns: Array


def packed(region: Region, a: Array, b: Array, zero: Array) -> Iterator[Packed]:
    """The dot products of the rows of a and b, words (P, K), as elements of products of matrices. As many as there are
    rows and columns are asked at once, or, of one left or right factor, as many as one row or one column has.

    zero: the word of 0, of which the other rows and columns are made."""
    (m, n), (count, length) = region.shape, a.shape
    ends_a, ends_b = _runs(a), _runs(b)
    start = 0
    while start < count:
        ways = (
            (min(len(region.apart), count - start), region.apart),
            (min(len(region.of_columns), int(ends_a[start]) - start), region.of_columns),
            (min(len(region.of_rows), int(ends_b[start]) - start), region.of_rows),
        )
        asked, places = max(ways, key=lambda way: way[0])
        rows, columns = np.array(places[:asked]).T
        left, right = np.full((m, length), zero), np.full((n, length), zero)
        left[rows], right[columns] = a[start : start + asked], b[start : start + asked]
        yield Packed(start, start + asked, left, right, rows, columns)
        start += asked


def _runs(x: Array) -> Array:
    """For each row, where the rows that are equal to it end that follow it without another in between."""
    last = np.append(np.flatnonzero((x[1:] != x[:-1]).any(axis=1)), len(x) - 1)
    return last[np.searchsorted(last, np.arange(len(x)))] + 1
