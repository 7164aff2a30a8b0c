"""Whether a matrix product sums in one way whatever the number of rows and columns, and wherever a row is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.products.accumulators import Accumulator, Summation
from mpsim.products.tensor_cores import described
from mpsim.rounding import round_to
from mpsim.validate.dot.inputs.matrices import numbers_of_terms
from mpsim.validate.dot.subjects import DotSubject, Model, same

Array = np.ndarray[Any, Any]

#: Terms of these products, at most.
MOST_TERMS = 96
#: Rows and columns of the largest product, and of those it is compared with.
LARGEST = 40
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
SHAPES = (*((m, LARGEST) for m in SIZES), *((LARGEST, n) for n in SIZES), *((size, size) for size in SIZES))


class ShapeDependence(NamedTuple):
    """Shapes (rows, columns) whose results are not those of the largest product, of ``asked`` shapes in all.

    place: an element that differs in the first of them: (row, column, there, in the largest). order: an accumulator
    that gives the results of all these shapes and differs from one that gives the others in the order of sums alone.
    """

    largest: tuple[int, int]
    length: int
    shapes: tuple[tuple[int, int], ...]
    asked: int
    place: tuple[int, int, float, float]
    order: Summation | None = None

    @property
    def words(self) -> str:
        """Which shapes they are, as few words as say it."""
        rows = sorted({m for m, n in self.shapes if n == self.largest[1]})
        columns = sorted({n for m, n in self.shapes if m == self.largest[0]})
        parts = [_below(found, what) for found, what in ((rows, "rows"), (columns, "columns")) if found]
        if {(m, n) for m, n in SHAPES if m in rows or n in columns} != set(self.shapes):
            parts = []  # it is not the rows or the columns alone
        if set(self.shapes) == {(m, n) for m, n in SHAPES if m != n}:
            parts = ["matrices that are not square"]
        few = ", ".join(f"{m} x {n}" for m, n in self.shapes[:4]) + ", ..." * (len(self.shapes) > 4)
        what = "other sums" if self.order is None else "another order"
        found = "" if self.order is None else f": {described(self.order)}"
        return f"{what} for {' and for '.join(parts) if parts else few}{found}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        order = None if self.order is None else described(self.order)
        return {
            "largest": self.largest, "length": self.length, "shapes": self.shapes, "order": order, "words": self.words,
        }  # fmt: skip


class PlaceDependence(NamedTuple):
    """A product of ``side`` rows and columns in which an element depends on where its row and column are.

    place: row, column, the element there, and the same one where all rows and columns are one further on.
    """

    side: int
    length: int
    place: tuple[int, int, float, float]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return self._asdict()


def _below(found: list[int], what: str) -> str:
    tried = [size for size in SIZES if size <= found[-1]]
    if found == tried:
        limit = next((size for size in (*SIZES, LARGEST) if size > found[-1]), LARGEST)
        return f"fewer than {limit if limit == found[-1] + 1 else f'{found[-1] + 1} to {limit}'} {what}"
    return f"{', '.join(map(str, found))} {what}"


def every_number_of_terms(length: int) -> list[int]:
    """K of all products that a subject is asked for besides its probes, each once."""
    return list(dict.fromkeys((*numbers_of_terms(length), min(length, MOST_TERMS))))


class LargestProduct(NamedTuple):
    """The largest product that a subject is asked for: (LARGEST, K) times (K, LARGEST), and its answer."""

    a: Array
    b: Array
    found: Array


def largest_product(subject: DotSubject, length: int, seed: int) -> LargestProduct | None:
    """None for a subject that takes vectors. Raises SubjectError where the subject fails."""
    if subject.form == "dot":
        return None
    a, b = largest_operands(subject, min(length, MOST_TERMS), seed)
    right = np.ascontiguousarray(b.T)
    return LargestProduct(a, right, subject.matmul(a, right))


def shape_dependence(
    subject: DotSubject,
    largest: LargestProduct | None,
    matches: Sequence[Summation] = (),
    backend: str = "compiled",
) -> ShapeDependence | None:
    """The shapes whose results are not those of the largest product; None where every one asked is the same.

    matches: accumulators that the subject is equal to in other matrices. Raises SubjectError where the subject fails on
    a shape.
    """
    if largest is None:
        return None
    a, b, whole = largest.a, largest.b, largest.found
    wrong, place = {}, None
    for m, n in SHAPES:
        part = subject.matmul(np.ascontiguousarray(a[:m]), np.ascontiguousarray(b[:, :n]))
        differ = np.argwhere(~same(part, whole[:m, :n]))
        if len(differ):
            wrong[m, n] = part
            i, j = (int(index) for index in differ[0])
            place = place or (i, j, float(part[i, j]), float(whole[i, j]))
    if place is None:
        return None
    k = a.shape[1]
    order = next(
        (each for each in _other_orders(matches, k) if _gives(each, a, b, wrong, subject.output, backend)), None
    )
    return ShapeDependence((LARGEST, LARGEST), k, tuple(wrong), len(SHAPES), place, order)


def place_dependence(subject: DotSubject, length: int, seed: int = 0) -> PlaceDependence | None:
    """An element that changes where its row and column move, in products of two sizes; None where none does.

    Raises SubjectError where the subject fails.
    """
    if subject.form == "dot":
        return None
    k = min(length, MOST_TERMS)
    a, b = largest_operands(subject, k, seed)
    for side in dict.fromkeys((min(subject.side, LARGEST), LARGEST)):
        left, right = a[:side], b[:side]
        found = subject.matmul(np.ascontiguousarray(left), np.ascontiguousarray(right.T))
        moved = subject.matmul(np.roll(left, 1, 0), np.ascontiguousarray(np.roll(right, 1, 0).T))
        back = np.roll(moved, -1, (0, 1))
        differ = np.argwhere(~same(found, back))
        if len(differ):
            i, j = (int(index) for index in differ[0])
            return PlaceDependence(side, k, (i, j, float(found[i, j]), float(back[i, j])))
    return None


def largest_operands(subject: DotSubject, length: int, seed: int) -> tuple[Array, Array]:
    """Normal numbers of the inputs' format, (LARGEST, length) twice."""
    random = np.random.default_rng(seed)
    shape = (LARGEST, length)
    a, b = (
        round_to(random.standard_normal(shape).astype(np.float32), subject.inputs, backend="reference", threads=1)
        for _ in range(2)
    )
    return (a, b) if as_format(subject.inputs).has_nan else (np.nan_to_num(a), np.nan_to_num(b))


def _other_orders(matches: Sequence[Summation], length: int) -> Iterator[Summation]:
    """Accumulators that differ from a match in the order of its sums alone."""
    for found in matches:
        if not isinstance(found, Accumulator):
            continue
        kinds = {"sequential": ("sequential", "pairwise"), "pairwise": ("pairwise", "sequential")}.get(found.kind, ())
        for kind in kinds if found.format == "float32" else kinds[:1]:
            yield from (replace(found, kind=kind, chunk=chunk) for chunk in (None, *range(1, length)))


def _gives(
    accumulator: Summation, a: Array, b: Array, found: Mapping[tuple[int, int], Array], output: str, backend: str
) -> bool:
    """Whether the accumulator gives every result of these shapes, of the first rows of a and b."""
    model = Model(accumulator, output)
    return all(
        same(part, model.matmul(a[:m], np.ascontiguousarray(b[:, :n]), backend)).all() for (m, n), part in found.items()
    )
