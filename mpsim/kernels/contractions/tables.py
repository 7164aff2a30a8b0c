"""Tables of offsets for numbers that a product reads besides its operands: C, beta, alpha, scales, bias, or a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.kernels.contractions.beside import Beside
from mpsim.kernels.contractions.lowering import Contraction, offsets
from mpsim.kernels.contractions.steps import ALPHA, BETA, BIAS, LEFT, RIGHT, SUM, C
from mpsim.kernels.philox import Stream


class Table(NamedTuple):
    """One table: for output (g, m, p) and block j, values[step * j + group[g] + row[m] + column[p]]."""

    values: np.ndarray
    step: int
    group: np.ndarray
    row: np.ndarray
    column: np.ndarray


@dataclass(frozen=True)
class Reads:
    """The tables that a program reads, in its order, and the stream of its random bits."""

    tables: tuple[Table, ...]
    stream: Stream

    def columns(self, start: int, stop: int) -> Reads:
        """Returns the tables of some of the columns."""
        return replace(self, tables=tuple(each._replace(column=each.column[start:stop]) for each in self.tables))

    @property
    def values(self) -> np.ndarray:
        """The values of all tables, one after another."""
        return np.concatenate([np.zeros(0, np.float32), *(table.values for table in self.tables)])

    @property
    def places(self) -> np.ndarray:
        """For each table: the start of its values, the step, and the offsets of groups, rows and columns; int64."""
        found, first = [np.zeros(0, np.int64)], 0
        for values, step, group, row, column in self.tables:
            found += [np.array([first, step], np.int64), group, row, column]
            first += values.size
        return np.concatenate(found)


def given_of(beside: Beside, bias: Array | None) -> frozenset[int]:
    """Returns the tables that exist."""
    given = {C: beside.c, LEFT: beside.left_scale, RIGHT: beside.right_scale, BIAS: bias}
    return frozenset({ALPHA, BETA, SUM, *(table for table, value in given.items() if value is not None)})


def reads_of(
    which: Sequence[int], c: Contraction, beside: Beside, bias: Array | None, total: Array | None = None
) -> Reads:
    """Returns the tables of a contraction that is a matrix product or, only with a bias, a convolution."""
    return Reads(tuple(_table(each, c, beside, bias, total) for each in which), beside.stream)


def _table(which: int, c: Contraction, beside: Beside, bias: Array | None, total: Array | None) -> Table:
    none = [np.zeros(axis.size, np.int64) for axis in (c.out_group, c.out_row, c.out_column)]
    if which in (C, SUM):
        values = beside.c if which == C else total
        assert values is not None
        return Table(values.reshape(-1), 0, c.out_group, c.out_row, c.out_column)
    if which in (ALPHA, BETA):
        return Table(np.array([beside.alpha if which == ALPHA else beside.beta], np.float32), 0, *none)
    if which == BIAS:
        assert bias is not None
        if len(c.out_shape) == 2:
            return Table(bias, 0, none[0], none[1], c.out_column)
        area, outputs = c.out_shape[2] * c.out_shape[3], c.out_shape[1]
        return Table(bias, 0, c.out_group // area % outputs, c.out_row // area % outputs, none[2])
    scale = beside.left_scale if which == LEFT else beside.right_scale
    rows, columns = scale.shape
    if which == LEFT:  # (M or 1, blocks or 1)
        along = np.arange(c.out_row.size, dtype=np.int64) * columns if rows > 1 else none[1]
        return Table(scale.reshape(-1), int(columns > 1), none[0], along, none[2])
    along = c.out_column if columns > 1 else none[2]
    return Table(scale.reshape(-1), columns * (rows > 1), none[0], none[1], along)


def over(out_shape: tuple[int, ...]) -> Contraction:
    """Returns a contraction without terms that has these outputs."""
    rows, columns = out_shape if len(out_shape) == 2 else (out_shape[0] * out_shape[1], out_shape[2] * out_shape[3])
    one, nothing = offsets((1, 0)), np.zeros(0, np.float32)
    row, column = offsets((rows, 1)), offsets((columns, 1))
    return Contraction(
        nothing, one, np.zeros_like(row), offsets((0, 1)), nothing, one, np.zeros_like(column), offsets((0, 1)),
        out_shape, one, row * columns, column,
    )  # fmt: skip
