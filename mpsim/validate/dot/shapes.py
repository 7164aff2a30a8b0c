"""Whether a matrix product sums in one order whatever the number of rows and columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.rounding import round_to
from mpsim.validate.dot.subjects import DotSubject, same

Array = np.ndarray[Any, Any]

#: Rows and columns of the largest product, and of those it is compared with.
LARGEST = 40
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)


class ShapeDependence(NamedTuple):
    """Shapes (rows, columns) whose results are not those of the largest product, of ``asked`` shapes in all.

    place: an element that differs in the first of them: (row, column, there, in the largest).
    """

    largest: tuple[int, int]
    length: int
    shapes: tuple[tuple[int, int], ...]
    asked: int
    place: tuple[int, int, float, float]

    @property
    def words(self) -> str:
        """Which shapes they are, as few words as say it."""
        rows = sorted({m for m, n in self.shapes if n == self.largest[1]})
        columns = sorted({n for m, n in self.shapes if m == self.largest[0]})
        parts = [_below(found, what) for found, what in ((rows, "rows"), (columns, "columns")) if found]
        few = ", ".join(f"{m} x {n}" for m, n in self.shapes[:4]) + ", ..." * (len(self.shapes) > 4)
        return f"another order for {' and for '.join(parts) if parts else few}"

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"largest": self.largest, "length": self.length, "shapes": self.shapes, "words": self.words}


def _below(found: list[int], what: str) -> str:
    tried = [size for size in SIZES if size <= found[-1]]
    if found == tried:
        limit = next((size for size in (*SIZES, LARGEST) if size > found[-1]), LARGEST)
        return f"fewer than {limit if limit == found[-1] + 1 else f'{found[-1] + 1} to {limit}'} {what}"
    return f"{', '.join(map(str, found))} {what}"


def shape_dependence(subject: DotSubject, length: int, seed: int = 0) -> ShapeDependence | None:
    """The shapes that are summed in another order than the largest; None where every one asked is the same.

    Raises SubjectError where the subject fails on a shape.
    """
    if subject.form == "dot":
        return None
    random = np.random.default_rng(seed)
    k = min(length, 96)
    a, b = (
        round_to(
            random.standard_normal((LARGEST, k)).astype(np.float32), subject.inputs, backend="reference", threads=1
        )
        for _ in range(2)
    )
    if not as_format(subject.inputs).has_nan:
        a, b = np.nan_to_num(a), np.nan_to_num(b)
    whole = subject.matmul(a, np.ascontiguousarray(b.T))
    shapes = [(m, LARGEST) for m in SIZES] + [(LARGEST, n) for n in SIZES] + [(size, size) for size in SIZES]
    wrong, place = [], None
    for m, n in shapes:
        part = subject.matmul(np.ascontiguousarray(a[:m]), np.ascontiguousarray(b[:n].T))
        differ = np.argwhere(~same(part, whole[:m, :n]))
        if len(differ):
            wrong.append((m, n))
            i, j = (int(index) for index in differ[0])
            place = place or (i, j, float(part[i, j]), float(whole[i, j]))
    if place is None:
        return None
    return ShapeDependence((LARGEST, LARGEST), k, tuple(wrong), len(shapes), place)
