"""Elements of matrix products that are summed in one order.

Where all rows are one vector, and all columns another, every element is the same dot product. Elements that differ are
summed in other orders, so the answers to a few such products sort the elements of every shape by their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.products.accumulators import Accumulator, Summation, in_stages
from mpsim.products.tensor_cores import described
from mpsim.validate.dot.inputs.matrices import Vectors, vectors
from mpsim.validate.dot.inputs.packing import region_of
from mpsim.validate.dot.orders.trees import nodes_of_product
from mpsim.validate.dot.subjects import DotSubject, Model, same

Shape = tuple[int, int]
#: Regions of one shape, and other orders, that are looked for at most.
MOST_REGIONS, MOST_ORDERS = 8, 4


class Elsewhere(NamedTuple):
    """Elements that are summed otherwise: how many of each shape, and what gives them; None where nothing does.

    is_reordered: whether it adds in another order than the sums elsewhere, not only with other roundings.
    """

    elements: dict[Shape, int]
    summation: Summation | None
    is_reordered: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether they are all elements of their shapes."""
        return all(count == m * n for (m, n), count in self.elements.items())

    @property
    def size(self) -> int:
        """How many elements they are, of all these shapes."""
        return sum(self.elements.values())

    def to_dict(self) -> dict[str, object]:
        """The fields as JSON values."""
        summation = None if self.summation is None else described(self.summation)
        elements = [[*shape, count] for shape, count in self.elements.items()]
        return {"elements": elements, "accumulator": summation, "another_order": self.is_reordered}


def answers(subject: DotSubject, shape: Shape, pairs: Vectors) -> Array:
    """Every element of products with equal rows and equal columns: float64 (M, N, REPEATS)."""
    m, n = shape
    found = [
        subject.matmul(np.repeat(x[None], m, 0), np.ascontiguousarray(np.repeat(y[:, None], n, 1)))
        for x, y in zip(*pairs, strict=True)
    ]
    return np.stack(found, -1)


def regions(subject: DotSubject, shape: Shape, lengths: Iterable[int], seed: int) -> list[Array]:
    """Masks of the elements that are summed in one order for every number of terms, the largest region first."""
    if subject.form == "dot":
        return [np.ones(shape, bool)]
    found = [answers(subject, shape, vectors(subject.inputs, length, seed)) for length in lengths]
    return sorted(_masks(np.concatenate(found, -1)).values(), key=lambda mask: -int(mask.sum()))


def _masks(found: Array) -> dict[bytes, Array]:
    """Answers -> where they are."""
    m, n, _ = found.shape
    keys = np.array([_key(each) for each in found.reshape(m * n, -1)], object).reshape(m, n)
    return {key: keys == key for key in dict.fromkeys(keys.ravel())}


def _key(found: Array) -> bytes:
    return np.where(np.isnan(found), np.nan, found).tobytes()


def elsewhere(
    subject: DotSubject,
    shapes: Sequence[Shape],
    pairs: Vectors,
    known: Sequence[Summation],
    find: Callable[[Shape, Array], list[Summation]],
) -> tuple[Elsewhere, ...]:
    """What sums the elements of these shapes that no known accumulator gives. find: the accumulators of a region."""
    where: dict[bytes, dict[Shape, Array]] = {}
    for shape in shapes:
        for key, mask in _masks(answers(subject, shape, pairs)).items():
            where.setdefault(key, {})[shape] = mask
    others: dict[Summation | None, dict[Shape, int]] = {}
    found: list[Summation] = []
    searched = 0
    for key, masks in sorted(where.items(), key=lambda each: -sum(int(mask.sum()) for mask in each[1].values())):
        values = np.frombuffer(key)
        if _giving(known, values, pairs, subject.output) is not None:
            continue
        summation = _giving(found, values, pairs, subject.output)
        if summation is None and searched < MOST_ORDERS:
            shape = max(masks, key=lambda each: len(region_of(masks[each]).apart))
            found += find(shape, masks[shape])
            searched += 1
            summation = _giving(found, values, pairs, subject.output)
        counts = others.setdefault(summation, {})
        for shape, mask in masks.items():
            counts[shape] = counts.get(shape, 0) + int(mask.sum())
    return tuple(
        Elsewhere(counts, summation, _reordered(summation, known, pairs.x.shape[1]))
        for summation, counts in others.items()
    )


def _reordered(summation: Summation | None, known: Sequence[Summation], length: int) -> bool:
    if summation is None or not known:
        return False
    trees = [nodes_of_product(in_stages(each), length) for each in (summation, known[0])]
    return trees[0] != trees[1]


def _giving(known: Sequence[Summation], values: Array, pairs: Vectors, output: str) -> Summation | None:
    """The first that gives these answers, an accumulator in short before a product in stages."""
    ordered = sorted(known, key=lambda each: not isinstance(each, Accumulator))
    return next((each for each in ordered if same(values, Model(each, output).dots(*pairs)).all()), None)
