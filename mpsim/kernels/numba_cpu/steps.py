"""Sums in any order, by the steps of mpsim.kernels.contractions.steps, for one block of outputs at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from mpsim.kernels.contract import Array
from mpsim.kernels.contractions.lowering import Contraction
from mpsim.kernels.contractions.narrow import STOCHASTIC, TOWARD_ZERO, Narrow
from mpsim.kernels.contractions.steps import (
    ADD,
    ALIGNED,
    CLEAR,
    GATHER,
    LATE,
    LOAD,
    MULTIPLY,
    ODD,
    RISING,
    ROUND,
    SCALED,
    SUBTRACT,
    TIMES,
    TOTAL,
    ZERO,
    Steps,
)
from mpsim.kernels.contractions.tables import Reads
from mpsim.kernels.numba_cpu.jit import at_most, njit
from mpsim.kernels.numba_cpu.panels import LIMBS, add_exact, odd_exact, round_exact
from mpsim.kernels.numba_cpu.rounding import fill, numbers_of
from mpsim.kernels.numba_cpu.sums import (
    Aligned,
    instruction,
    late_instruction,
    power_of,
    rounded,
    scale,
    to_odd,
    two_sum,
    with_sign,
)

#: Outputs of one row that are computed together.
WIDTH = 64


class Sums(NamedTuple):
    """The rounding of sums (mpsim/kernels/contractions/narrow.py) as plain numbers."""

    format: Narrow
    mode: int
    flush_below: float
    random_bits: int
    double: bool


class Random(NamedTuple):
    """The random bits of a block: the stream, the index of each output, and the number of roundings so far."""

    stream: Array
    elements: Array
    roundings: Array


def run(c: Contraction, program: Steps, reads: Reads, threads: int) -> Array:
    """Computes every output of the contraction by the steps."""
    out = np.zeros(c.out_shape, np.float32)
    with at_most(threads):
        _run(
            *(program.code, program.places, program.registers, program.exact_sums, program.result),
            np.array([[*each.format, *each[1:]] for each in program.sums], np.float64).reshape(-1, 10),
            np.array(program.aligned, np.float64).reshape(-1, 7),
            np.array(program.late, np.float64).reshape(-1, 7),
            np.array(program.scaled, np.float64).reshape(-1, 10),
            *(reads.values, reads.places, numbers_of(reads.stream)),
            *(c.a, c.a_group, c.a_row, c.a_k),
            *(c.b, c.b_group, c.b_column, c.b_k),
            *(out.reshape(-1), c.out_group, c.out_row, c.out_column),
        )
    return out


@njit(parallel=True, cache=True)
def _run(
    code: Array, places: Array, registers: int, exact_sums: int, result: int, sums: Array, aligned: Array, late: Array,
    scaled: Array, values: Array, tables: Array, stream: Array,
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
        negative = np.ones((exact_sums, last - first), np.bool_)  # whether every number was -0
        left = a_k + (a_group[group] + a_row[row])
        right = b_column[first:last] + b_group[group]
        elements = out_column[first:last] + (out_group[group] + out_row[row])
        random = Random(stream, elements, np.zeros(1, np.int64))
        sizes, place = (a_group.size, a_row.size, columns), (group, row, first)
        for step in range(code.shape[0]):
            what, to, x, y, how = code[step, 0], code[step, 1], code[step, 2], code[step, 3], code[step, 4]
            if what == LOAD:
                load(values, tables, x, y, sizes, place, r[to])
            elif what == SCALED:
                add_scaled(
                    places[x : x + y], a, left, b, right, b_k, scaled[how], sums, values, tables, sizes, place, r[to]
                )
            else:
                exact = (limbs, special, negative)
                _step(code[step], places, sums, aligned, late, a, left, b, right, b_k, r, exact, random)
        for j in range(last - first):
            out[elements[j]] = np.float32(r[result, j])


@njit(cache=True)
def _step(
    step: Array, places: Array, sums: Array, aligned: Array, late: Array, a: Array, left: Array, b: Array,
    right: Array, b_k: Array, r: Array, exact: tuple[Array, Array, Array], random: Random,
) -> None:  # fmt: skip
    what, to, x, y, how = step[0], step[1], step[2], step[3], step[4]
    width, (limbs, special, negative) = r.shape[1], exact
    if what == MULTIPLY:
        value = np.float64(a[left[x]])
        for j in range(width):
            r[to, j] = value * b[right[j] + b_k[x]]
    elif what == ADD:
        add_rows(r[x], r[y], 1.0, sums_of(sums[how]), random, r[to])
    elif what == SUBTRACT:
        add_rows(r[x], r[y], -1.0, sums_of(sums[how]), random, r[to])
    elif what == RISING:
        rounding, products = sums_of(sums[how]), np.empty(width)
        for k in places[x : x + y]:
            value = np.float64(a[left[k]])
            for j in range(width):
                products[j] = value * b[right[j] + b_k[k]]
            add_rows(products, r[to], 1.0, rounding, random, r[to])
    elif what == ROUND:
        round_row(r[x], sums_of(sums[how]), random, r[to])
    elif what == ALIGNED:
        add_aligned(places[x : x + y], a, left, b, right, b_k, aligned[how], sums, r[to])
    elif what == ZERO:
        r[to] = 0.0
    elif what == TIMES:
        for j in range(width):
            r[to, j] = r[x, j] * r[y, j]
    elif what == CLEAR:
        limbs[to] = 0
        special[to] = 0.0
        negative[to] = True
    elif what == GATHER:
        for j in range(width):
            if how:
                negative[to, j] &= (r[x, j] == 0.0) & np.signbit(r[x, j])
            if abs(r[x, j]) < np.inf:
                add_exact(limbs[to, j], r[x, j])
            else:
                special[to, j] += r[x, j]
    elif what == TOTAL:
        for j in range(width):
            r[to, j] = round_exact(limbs[x, j]) if special[x, j] == 0.0 else special[x, j]
    elif what == ODD:
        for j in range(width):
            total = -0.0 if negative[x, j] else odd_exact(limbs[x, j])
            r[to, j] = total if special[x, j] == 0.0 else special[x, j]
    elif what == LATE:
        for j in range(width):
            r[to, j] = late_instruction(places[x : x + y], a, left, b, right[j], b_k, late[how], sums, r[to, j])


@njit(cache=True)
def load(
    values: Array, tables: Array, which: int, block: int, sizes: tuple[int, int, int], place: tuple[int, int, int],
    total: Array,
) -> None:  # fmt: skip
    """Returns a table's numbers for these outputs and one block. sizes: the numbers of groups, rows and columns. place:
    the group, the row and the first column."""
    groups, rows, columns = sizes
    table = tables[which * (2 + groups + rows + columns) :]
    base = table[0] + table[1] * block + table[2 + place[0]] + table[2 + groups + place[1]]
    for j in range(total.size):
        total[j] = values[base + table[2 + groups + rows + place[2] + j]]


@njit(cache=True)
def add_scaled(
    places: Array, a: Array, left: Array, b: Array, right: Array, b_k: Array, numbers: Array, sums: Array,
    values: Array, tables: Array, sizes: tuple[int, int, int], place: tuple[int, int, int], total: Array,
) -> None:  # fmt: skip
    """Applies an instruction with scales. places: the number of groups, their sizes, their blocks, their terms."""
    fraction, least_left, least_right, least_sum, least, least_scale = numbers[1:7]
    groups, width = places[0], total.size
    scales, powers = np.empty((groups, width)), np.empty((groups, width))
    other, products = np.empty(width), np.zeros((places.size - 1 - 2 * groups, width))
    quanta = np.empty(width)
    for j in range(width):
        quanta[j] = max(scale(total[j], least_sum), least)
    count = 0  # of the values that are aligned
    first = 1 + 2 * groups
    for group in range(groups):
        load(values, tables, int(numbers[7]), places[1 + groups + group], sizes, place, scales[group])
        load(values, tables, int(numbers[8]), places[1 + groups + group], sizes, place, other)
        for j in range(width):
            powers[group, j] = scale(scales[group, j], least_scale) * scale(other[j], least_scale)
            scales[group, j] *= other[j]
        for k in places[first : first + places[1 + group]]:
            value = np.float64(a[left[k]])
            for j in range(width):
                factor = np.float64(b[right[j] + b_k[k]])
                power = powers[group, j]
                if numbers[0] == 0.0:
                    power *= scale(value, least_left) * scale(factor, least_right)
                elif value * factor == 0.0:
                    power = 0.0
                quanta[j] = max(quanta[j], power)
                products[count, j] += value * factor * (scales[group, j] if numbers[0] == 0.0 else 1.0)
            count += numbers[0] == 0.0
        if numbers[0] != 0.0:
            products[count] *= scales[group]
            count += 1
        first += places[1 + group]
    rounding = sums_of(sums[int(numbers[9])])
    for j in range(width):
        plain, quantum, exact = total[j], quanta[j] * fraction, np.trunc(total[j] / (quanta[j] * fraction))
        for i in range(count):
            plain += products[i, j]
            exact += np.trunc(products[i, j] / quantum)
        special = plain if plain != plain else with_sign(rounding.format.beyond, plain)
        result = rounded((exact + 0.0) * quantum, rounding.format, rounding.mode) + 0.0
        total[j] = result if abs(plain) < np.inf else special


@njit(cache=True)
def sums_of(row: Array) -> Sums:
    """Returns the rounding in a row of ``sums``."""
    numbers = Narrow(int(row[0]), int(row[1]), int(row[2]), row[3], row[4], row[5] != 0.0)
    return Sums(numbers, int(row[6]), row[7], int(row[8]), row[9] != 0.0)


@njit(cache=True)
def add_rows(x: Array, y: Array, sign: float, sums: Sums, random: Random, total: Array) -> None:
    """Sets total to x + sign * y, rounded once. total may be x or y."""
    if sums.double:
        for j in range(total.size):
            total[j] = truncated(x[j], sign * y[j]) if sums.mode == TOWARD_ZERO else x[j] + sign * y[j]
    elif sums.mode == STOCHASTIC or sums.flush_below > 0.0:
        for j in range(total.size):
            total[j] = to_odd(x[j], sign * y[j])
        round_row(total, sums, random, total)
    else:
        mode = sums.mode
        for j in range(total.size):
            total[j] = rounded(to_odd(x[j], sign * y[j]), sums.format, mode)


@njit(cache=True)
def round_row(x: Array, sums: Sums, random: Random, total: Array) -> None:
    """Sets total to x rounded. x is exact or rounded to odd, and total may be x."""
    if sums.double:
        total[:] = x
        return
    if sums.mode == STOCHASTIC:
        words, shifted = np.empty(4, np.uint32), random.stream.copy()
        shifted[4] += np.uint64(random.roundings[0] << 8)
        random.roundings[0] += 1
        block = np.int64(-1)
        for j in range(total.size):
            element = random.elements[j]
            if element // 4 != block:
                block = element // 4
                fill(shifted, block, words)
            total[j] = rounded_by(x[j], np.int64(words[element % 4]), sums)
    else:
        for j in range(total.size):
            total[j] = rounded(x[j], sums.format, sums.mode)
    if sums.flush_below > 0.0:
        for j in range(total.size):
            if abs(total[j]) < sums.flush_below:
                total[j] = np.copysign(0.0, total[j]) if sums.format.negative_zero else 0.0


@njit(cache=True)
def rounded_by(s: float, word: int, sums: Sums) -> float:
    """Rounds a number up or down, depending on the lowest random bits of the word."""
    numbers, magnitude = sums.format, abs(s)
    if not magnitude < np.inf:
        return s if s != s else with_sign(numbers.beyond, s)
    exponent = np.float64(magnitude).view(np.int64) >> 52
    c = power_of(numbers.low if exponent < numbers.least_exponent else exponent + numbers.shift)
    quantum, steps = c * 2.0**-52, np.int64(1) << sums.random_bits
    quanta = magnitude / quantum  # exact
    keep = np.floor(quanta)
    up = np.int64((quanta - keep) * steps) + (word & (steps - 1)) >= steps
    value = (keep + (1.0 if up else 0.0)) * quantum
    value = with_sign(numbers.beyond if value > numbers.largest else value, s)
    return value if numbers.negative_zero else value + 0.0


@njit(cache=True)
def truncated(x: float, y: float) -> float:
    """Adds float64 numbers and rounds toward zero."""
    s, error = two_sum(x, y)
    bits = np.float64(s).view(np.int64)
    bits -= 1 if ((error > 0) & (s < 0)) | ((error < 0) & (s > 0)) else 0
    return np.int64(bits).view(np.float64)


@njit(cache=True)
def add_aligned(
    places: Array, a: Array, left: Array, b: Array, right: Array, b_k: Array, row: Array, sums: Array, total: Array
) -> None:
    """Applies the instructions of an aligned order over the places, one after another."""
    rounding = sums_of(sums[np.int64(row[6])])
    format = rounding.format
    terms = max(1, min(int(row[0]), places.size))
    numbers = Aligned(
        terms, row[1], row[2], row[3], row[4], row[5],
        format.least_exponent, format.shift, format.low, format.largest, format.beyond, format.negative_zero,
        rounding.mode,
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
