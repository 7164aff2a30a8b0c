"""Writes the steps of a chain of instructions, for orders that align their terms (mpsim/products/aligned.py)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.kernels.contractions.steps import (
    ALIGNED,
    LATE,
    LEFT,
    RIGHT,
    SCALED,
    AlignedNumbers,
    LateNumbers,
    ScaledNumbers,
    Term,
    Writer,
)
from mpsim.products.stages import Aligned, AlignedLate, AlignedScaled, Chain

T = TypeVar("T")


class _Least(NamedTuple):
    """The smallest normal numbers of the formats of both operands and of the sums."""

    left: float
    right: float
    sums: float


def chain(writer: Writer, order: Chain, groups: Sequence[Sequence[Term]]) -> int:
    """Returns the register of a chain of instructions, each over the terms of one group."""
    if order.start == "zero":
        to = writer.begin(order.sums)
    else:
        to, groups = writer.rounded(groups[0][0], order.sums), [groups[0][1:], *groups[1:]]
    formats = writer.product.left.format, writer.product.right.format, order.sums.format
    least, how = _Least(*(_smallest_normal(name) for name in formats)), writer.how(order.sums)
    for group in groups:
        ks = [term for term in group if isinstance(term, int)]
        match order:
            case Aligned():
                fraction = 2.0**-order.fraction_bits
                numbers = AlignedNumbers(order.terms, fraction, *least, order.least_scale, how)
                writer.step(ALIGNED, to, *writer.run(ks), _index(writer.aligned, numbers))
            case AlignedLate():
                _late(writer, order, ks, to, least, how)
            case AlignedScaled():
                _scaled(writer, order, ks, to, least, how)
    return to


def _late(writer: Writer, order: AlignedLate, ks: Sequence[int], to: int, least: _Least, how: int) -> None:
    reach = 0.0 if order.reach is None else 2.0**-order.reach
    late = _index(writer.late, LateNumbers(2.0**-order.fraction_bits, 2.0**-order.sum_bits, reach, *least, how))
    for start in range(0, len(ks), order.terms):
        few = ks[start : start + order.terms]
        parts = order.parts.split(len(few))
        places = [len(parts), *map(len, parts), *(few[i] for part in parts for i in part)]
        writer.step(LATE, to, *writer.run(places), late)


def _scaled(writer: Writer, order: AlignedScaled, ks: Sequence[int], to: int, least: _Least, how: int) -> None:
    tables = writer.table(LEFT), writer.table(RIGHT)
    least_scale = _smallest_normal(order.scales)
    numbers = ScaledNumbers(
        order.group is not None, 2.0**-order.fraction_bits, *least, order.least_scale, least_scale, *tables, how
    )
    scaled = _index(writer.scaled, numbers)
    for start in range(0, len(ks), order.terms):
        few = ks[start : start + order.terms]
        if order.group is None:  # each term has its own exponent; those of one block share its scales
            groups = [list(group) for _, group in groupby(few, lambda k: k // order.block)]
        else:
            groups = [list(few[i : i + order.group]) for i in range(0, len(few), order.group)]
        blocks = [{k // order.block for k in group} for group in groups]
        if any(len(each) > 1 for each in blocks):
            raise UsageError(f"{order.group} terms that are added before they are scaled are not of one block of k")
        places = [
            len(groups),
            *map(len, groups),
            *(each.pop() for each in blocks),
            *(k for each in groups for k in each),
        ]
        writer.step(SCALED, to, *writer.run(places), scaled)


def _smallest_normal(name: str) -> float:
    return float(2.0 ** as_format(name).min_exponent)


def _index(numbers: list[T], one: T) -> int:
    if one not in numbers:
        numbers.append(one)
    return numbers.index(one)
