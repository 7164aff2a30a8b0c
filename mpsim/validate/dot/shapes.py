"""Whether a matrix product sums in one way whatever the number of rows and columns, and wherever a row is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.kernels.contract import Array
from mpsim.products.accumulators import Summation
from mpsim.products.tensor_cores import described, short
from mpsim.rounding import round_to
from mpsim.validate.dot.inputs.matrices import numbers_of_terms
from mpsim.validate.dot.regions import Elsewhere
from mpsim.validate.dot.subjects import DotSubject, same

#: Terms of these products, at most.
MOST_TERMS = 96
#: Rows and columns of the largest product, and of those it is compared with.
LARGEST = 40
#: So few elements may be equal by chance where they are summed otherwise.
FEW_ELEMENTS = 4
#: Rows and columns, and terms, of one product that the accumulators that were found have to give.
WIDE_SIDE, WIDE_TERMS = 132, 33
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
SHAPES = (*((m, LARGEST) for m in SIZES), *((LARGEST, n) for n in SIZES), *((size, size) for size in SIZES))
#: Every other number of rows up to this, of few columns.
MOST_ROWS, FEW_COLUMNS = 64, 8
MORE_ROWS = tuple((m, FEW_COLUMNS) for m in range(1, MOST_ROWS + 1) if m not in (*SIZES, LARGEST))
#: Numbers of rows or columns that are named one by one.
MOST_NAMED = 16
#: Exponents of the powers of two that operands are multiplied by, at most.
SPREAD = 4
#: Shapes of these alone whose sums are looked for.
MOST_MORE = 4


class ShapeDependence(NamedTuple):
    """Shapes (rows, columns) whose results are not those of the largest product, of ``asked`` shapes in all.

    place: an element that differs in the first of them: (row, column, there, in the largest). others: what sums the
    elements of these shapes that no accumulator found for the subject's matrices gives.
    """

    largest: tuple[int, int]
    length: int
    shapes: tuple[tuple[int, int], ...]
    asked: int
    place: tuple[int, int, float, float]
    others: tuple[Elsewhere, ...] = ()

    @property
    def searched(self) -> tuple[tuple[int, int], ...]:
        """The shapes whose sums are looked for."""
        return tuple(shape for shape in self.shapes if shape not in MORE_ROWS) or self.shapes[:MOST_MORE]

    @property
    def depends_on_rows(self) -> bool:
        """Whether a row's results depend on how many other rows there are: not batch-invariant."""
        return bool(_rows(self.shapes, self.largest))

    @property
    def order(self) -> Summation | None:
        """The one accumulator that gives every element of these shapes that is summed otherwise."""
        return self.others[0].summation if len(self.others) == 1 and self.others[0].is_whole else None

    @property
    def words(self) -> str:
        """Which shapes they are, as few words as say it, and what gives their sums."""
        found = "" if self.order is None else f": {short(self.order)}"
        what = "another order" if self.order is not None and self.others[0].is_reordered else "other sums"
        rows = " (not batch-invariant)" if self.depends_on_rows else ""
        return f"{what} for {words_of(self.shapes, self.largest)}{rows}{found}"

    @property
    def lines(self) -> list[str]:
        """What sums which elements, a line each."""
        if self.order is not None:
            return []
        return [
            f"{each.size:,} elements of {words_of(list(each.elements), self.largest)}: "
            + ("not found" if each.summation is None else short(each.summation))
            for each in self.others
        ]

    def to_dict(self) -> dict[str, object]:
        """The fields as JSON values."""
        order = None if self.order is None else described(self.order)
        return {
            "largest": self.largest, "length": self.length, "shapes": self.shapes, "order": order, "words": self.words,
            "others": [each.to_dict() for each in self.others],
        }  # fmt: skip


class PlaceDependence(NamedTuple):
    """A product of ``side`` rows and columns in which an element depends on where its row and column are.

    place: row, column, the element there, and the same one where all rows and columns are one further on. parts: of
    each set of elements that are summed alike, the largest first, how many they are, and what gives them.
    """

    side: int
    length: int
    place: tuple[int, int, float, float]
    parts: tuple[tuple[int, Summation | None], ...] = ()

    @property
    def lines(self) -> list[str]:
        """What sums how many elements, a line each."""
        return [
            f"{count:,} elements: " + ("not found" if summation is None else short(summation))
            for count, summation in self.parts
        ]

    def to_dict(self) -> dict[str, object]:
        """The fields as JSON values."""
        parts = [(count, None if summation is None else described(summation)) for count, summation in self.parts]
        return {**self._asdict(), "parts": parts}


def words_of(shapes: Sequence[tuple[int, int]], largest: tuple[int, int]) -> str:
    """Shapes in as few words as say which they are."""
    rows, columns = _rows(shapes, largest), sorted({n for m, n in shapes if m == largest[0]})
    every_row = sorted({m for m, _ in (*SHAPES, *MORE_ROWS)} - {largest[0]})
    parts = [_below(rows, "rows", every_row)] if rows else []
    parts += [_below(columns, "columns", [*SIZES, LARGEST])] if columns else []
    expected = {(m, n) for m, n in SHAPES if m in rows or n in columns} | {
        each for each in MORE_ROWS if each[0] in rows
    }
    if not set(shapes) <= expected or any(m * n > FEW_ELEMENTS for m, n in expected - set(shapes)):
        parts = []  # it is not the rows or the columns alone
    if set(shapes) == {(m, n) for m, n in SHAPES if m != n}:
        parts = ["matrices that are not square"]
    few = ", ".join(f"{m} x {n}" for m, n in shapes[:4]) + ", ..." * (len(shapes) > 4)
    return " and for ".join(parts) if parts else few


def _rows(shapes: Sequence[tuple[int, int]], largest: tuple[int, int]) -> list[int]:
    """The numbers of rows that alone set these shapes apart."""
    return sorted({m for m, n in shapes if n == largest[1] or (m, n) in MORE_ROWS})


def _below(found: list[int], what: str, asked: Sequence[int]) -> str:
    """asked: every number that was asked beside the largest, in rising order."""
    if found == [size for size in asked if size <= found[-1]]:
        limit = next((size for size in sorted((*asked, LARGEST)) if size > found[-1]), LARGEST)
        return f"fewer than {limit if limit == found[-1] + 1 else f'{found[-1] + 1} to {limit}'} {what}"
    if len(found) > 1 and found == [size for size in asked if found[0] <= size <= found[-1]]:
        return f"{found[0]} to {found[-1]} {what}"
    return f"{', '.join(map(str, found[:MOST_NAMED]))}{', ...' * (len(found) > MOST_NAMED)} {what}"


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
    return _product(subject, min(length, MOST_TERMS), seed, LARGEST)


def wide_product(subject: DotSubject, seed: int) -> LargestProduct | None:
    """A product of more rows and columns than any other, of WIDE_TERMS; None for a subject that takes vectors."""
    return _product(subject, WIDE_TERMS, seed, WIDE_SIDE)


def _product(subject: DotSubject, length: int, seed: int, side: int) -> LargestProduct | None:
    if subject.form == "dot":
        return None
    a, b = largest_operands(subject, length, seed, side)
    right = np.ascontiguousarray(b.T)
    return LargestProduct(a, right, subject.matmul(a, right))


def shape_dependence(subject: DotSubject, largest: LargestProduct | None) -> ShapeDependence | None:
    """The shapes whose results are not those of the largest product; None where every one asked is the same.

    Raises SubjectError where the subject fails on a shape.
    """
    if largest is None:
        return None
    a, b, whole = largest
    wrong, place = [], None
    rows = np.concatenate([a, a])  # of more than LARGEST, the first ones again
    known = np.concatenate([whole, whole])
    for m, n in (*SHAPES, *MORE_ROWS):
        left, right = np.ascontiguousarray(rows[:m]), np.ascontiguousarray(b[:, :n])
        part = subject.matmul(left, right)
        if (m, n) == (LARGEST, FEW_COLUMNS):
            few = np.concatenate([part, part])
        differ = np.argwhere(~same(part, (few if (m, n) in MORE_ROWS else known)[:m, :n]))
        if len(differ):
            subject.check_steady(f"{m} x {n}", part, subject.matmul(left, right))
            wrong.append((m, n))
            i, j = (int(index) for index in differ[0])
            place = place or (i, j, float(part[i, j]), float(known[i, j]))
    if place is None:
        return None
    subject.check_steady(f"{LARGEST} x {LARGEST}", whole, subject.matmul(a, b))
    return ShapeDependence((LARGEST, LARGEST), a.shape[1], tuple(wrong), len(SHAPES) + len(MORE_ROWS), place)


def place_dependence(subject: DotSubject, length: int, seed: int = 0) -> PlaceDependence | None:
    """An element that changes where its row and column move, in products of two sizes; None where none does.

    Raises SubjectError where the subject fails.
    """
    if subject.form == "dot":
        return None
    k = min(length, MOST_TERMS)
    a, b = largest_operands(subject, k, seed)
    for side in dict.fromkeys((min(subject.side, LARGEST), LARGEST)):
        pairs = [(np.roll(a[:side], by, 0), np.ascontiguousarray(np.roll(b[:side], by, 0).T)) for by in (0, 1)]
        found, moved = (subject.matmul(left, right) for left, right in pairs)
        back = np.roll(moved, -1, (0, 1))
        differ = np.argwhere(~same(found, back))
        if len(differ):
            for (left, right), answer in zip(pairs, (found, moved), strict=True):
                subject.check_steady(f"{side} x {side}", answer, subject.matmul(left, right))
            i, j = (int(index) for index in differ[0])
            return PlaceDependence(side, k, (i, j, float(found[i, j]), float(back[i, j])))
    return None


def largest_operands(subject: DotSubject, length: int, seed: int, side: int = LARGEST) -> tuple[Array, Array]:
    """Numbers of the inputs' format, (side, length) twice, normal ones times powers of two: so that sums of few narrow
    products are rounded."""
    random = np.random.default_rng(seed)
    shape = (2, side, length)
    spread = np.ldexp(random.standard_normal(shape), random.integers(-SPREAD, SPREAD + 1, shape)).astype(np.float32)
    a, b = round_to(spread, subject.inputs, threads=1)
    return (a, b) if as_format(subject.inputs).has_nan else (np.nan_to_num(a), np.nan_to_num(b))
