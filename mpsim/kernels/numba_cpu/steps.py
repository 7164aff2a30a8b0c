"""Any order of summation in Numba: the steps of mpsim.kernels.contractions.steps, for a block of outputs at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from mpsim.kernels.contractions.lowering import Contraction
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.contractions.steps import (
    ADD,
    ALIGNED,
    CLEAR,
    GATHER,
    MULTIPLY,
    RISING,
    ROUND,
    ZERO,
    Steps,
)  # fmt: skip
from mpsim.kernels.numba_cpu.jit import at_most, njit
from mpsim.kernels.numba_cpu.panels import LIMBS, add_exact, round_exact
from mpsim.kernels.numba_cpu.sums import Aligned, instruction, rounded, to_odd

Array = np.ndarray[Any, Any]

#: Outputs of one row that are computed together.
WIDTH = 64


def run(c: Contraction, program: Steps, threads: int) -> Array:
    """Every output of the contraction, by the steps."""
    out = np.zeros(c.out_shape, np.float32)
    with at_most(threads):
        _run(
            *(program.code, program.places, program.registers, program.exact_sums),
            np.array([[*narrow, toward_zero] for narrow, toward_zero in program.sums], np.float64).reshape(-1, 7),
            np.array(program.aligned, np.float64).reshape(-1, 7),
            *(c.a, c.a_group, c.a_row, c.a_k),
            *(c.b, c.b_group, c.b_column, c.b_k),
            *(out.reshape(-1), c.out_group, c.out_row, c.out_column),
        )
    return out


@njit(parallel=True, cache=True)
def _run(
    code: Array, places: Array, registers: int, exact_sums: int, sums: Array, aligned: Array,
    a: Array, a_group: Array, a_row: Array, a_k: Array, b: Array, b_group: Array, b_column: Array, b_k: Array,
    out: Array, out_group: Array, out_row: Array, out_column: Array,
) -> None:  # fmt: skip
    columns = b_column.size
    blocks = (columns + WIDTH - 1) // WIDTH
    for task in prange(a_group.size * a_row.size * blocks):
        block, line = task % blocks, task // blocks
        group, row = line // a_row.size, line % a_row.size
        first, last = block * WIDTH, min((block + 1) * WIDTH, columns)
        r = np.zeros((registers, last - first))
        limbs = np.zeros((exact_sums, last - first, LIMBS), np.int64)
        special = np.zeros((exact_sums, last - first))
        left = a_k + (a_group[group] + a_row[row])
        right = b_column[first:last] + b_group[group]
        for step in range(code.shape[0]):
            _step(code[step], places, sums, aligned, a, left, b, right, b_k, r, limbs, special)
        for j in range(last - first):
            out[out_group[group] + out_row[row] + out_column[first + j]] = np.float32(r[0, j])


@njit(cache=True)
def _step(
    step: Array, places: Array, sums: Array, aligned: Array, a: Array, left: Array, b: Array, right: Array,
    b_k: Array, r: Array, limbs: Array, special: Array,
) -> None:  # fmt: skip
    what, to, x, y, how = step[0], step[1], step[2], step[3], step[4]
    width = r.shape[1]
    if what == MULTIPLY:
        value = np.float64(a[left[x]])
        for j in range(width):
            r[to, j] = value * b[right[j] + b_k[x]]
    elif what == ADD:
        numbers, toward_zero = format_of(sums[how])
        for j in range(width):
            r[to, j] = rounded(to_odd(r[x, j], r[y, j]), numbers, toward_zero)
    elif what == RISING:
        numbers, toward_zero = format_of(sums[how])
        for k in places[x : x + y]:
            value = np.float64(a[left[k]])
            for j in range(width):
                r[to, j] = rounded(to_odd(value * b[right[j] + b_k[k]], r[to, j]), numbers, toward_zero)
    elif what == ROUND:
        numbers, toward_zero = format_of(sums[how])
        for j in range(width):
            r[to, j] = rounded(r[x, j], numbers, toward_zero)
    elif what == ALIGNED:
        add_aligned(places[x : x + y], a, left, b, right, b_k, aligned[how], sums, r[to])
    elif what == ZERO:
        r[to] = 0.0
    elif what == CLEAR:
        limbs[to] = 0
        special[to] = 0.0
    elif what == GATHER:
        for j in range(width):
            if abs(r[x, j]) < np.inf:
                add_exact(limbs[to, j], r[x, j])
            else:
                special[to, j] += r[x, j]
    else:
        for j in range(width):
            r[to, j] = round_exact(limbs[x, j]) if special[x, j] == 0.0 else special[x, j]


@njit(cache=True)
def format_of(row: Array) -> tuple[Narrow, bool]:
    """A format and whether sums are truncated to it, of a row of ``sums``."""
    numbers = Narrow(int(row[0]), int(row[1]), int(row[2]), row[3], row[4], row[5] != 0.0)
    return numbers, row[6] != 0.0


@njit(cache=True)
def add_aligned(
    places: Array, a: Array, left: Array, b: Array, right: Array, b_k: Array, row: Array, sums: Array, total: Array
) -> None:
    """The instructions of an aligned order over the places, one after another."""
    format, toward_zero = format_of(sums[np.int64(row[6])])
    terms: Any = max(1, min(int(row[0]), places.size))
    numbers = Aligned(
        terms, row[1], row[2], row[3], row[4], row[5],
        format.least_exponent, format.shift, format.low, format.largest, format.beyond, format.negative_zero,
        toward_zero,
    )  # fmt: skip
    values, panel = np.empty(terms), np.empty((terms, total.size))
    quanta, plain, exact = np.empty(total.size), np.empty(total.size), np.empty(total.size)
    for first in range(0, places.size, terms):
        few = places[first : first + terms]
        for i in range(few.size):
            values[i] = a[left[few[i]]]
            for j in range(total.size):
                panel[i, j] = b[right[j] + b_k[few[i]]]
        instruction(values[: few.size], panel[: few.size], total, numbers, quanta, plain, exact)
