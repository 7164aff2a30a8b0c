"""Computes every output of a contraction (mpsim/kernels/contractions/lowering.py) in loops over panels of its columns.

A task sums some rows times some columns. It copies the right factor's elements of a stretch of k into a panel, where
the columns are adjacent, and each row adds its products with the panel (sums.py). The tables are unsigned, because
Numba checks every signed index for negative values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from mpsim.kernels.contract import Array
from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.numba_cpu.sums import Numbers, add_chunk, add_products

COLUMNS, ROWS = 128, 64  # of a task
VECTOR = 16  # a panel's width is a multiple of this
LONG_RUN = 8  # adjacent columns that are worth a separate loop
LIMBS, BASE = 19, 298  # of an exact sum
LOW = np.int64(0xFFFFFFFF)


@njit(cache=True, parallel=True)
def contract(
    a: Array, a_group: Array, a_row: Array, a_k: Array, b: Array, b_group: Array, b_column: Array, b_k: Array,
    out: Array, out_group: Array, out_row: Array, out_column: Array, ends: Array, stretch: int, numbers: Numbers,
) -> None:  # fmt: skip
    """Sums over chunks of k, and adds their results in rising order.

    ``ends``: 0 and the end of each chunk. A chunk may be empty. ``stretch``: the number of k in a panel.
    """
    panels, blocks = (b_column.size + COLUMNS - 1) // COLUMNS, (a_row.size + ROWS - 1) // ROWS
    for task in prange(a_group.size * blocks * panels):
        group, row, column = task // panels // blocks, task // panels % blocks * ROWS, task % panels * COLUMNS
        rows = a_group[group] + a_row[row : row + ROWS]
        columns = b_group[group] + b_column[column : column + COLUMNS]
        totals = sum_block(a, rows, a_k, b, columns, b_k, ends, stretch, numbers)
        put(totals, out, out_group[group] + out_row[row : row + ROWS], out_column[column : column + COLUMNS])


@njit(cache=True)
def sum_block(
    a: Array, rows: Array, a_k: Array, b: Array, columns: Array, b_k: Array, ends: Array, stretch: int, numbers: Numbers
) -> Array:
    """Computes the totals of one task: (rows, at least as many columns)."""
    width = (columns.size + VECTOR - 1) // VECTOR * VECTOR
    depth = min(stretch, np.max(np.diff(ends)))
    panel, values = np.zeros((depth, width), b.dtype), np.zeros(depth, a.dtype)
    sums, totals = np.zeros((rows.size, width), b.dtype), np.zeros((rows.size, width), b.dtype)
    starts = run_starts(columns)
    for chunk in range(ends.size - 1):
        for start in range(ends[chunk], ends[chunk + 1], stretch):
            count = min(stretch, ends[chunk + 1] - start)
            gather(b, columns, starts, b_k[start : start + count], panel)
            for row in range(rows.size):
                for k in range(count):
                    values[k] = a[rows[row] + a_k[start + k]]
                add_products(values[:count], panel, sums[row], numbers)
        if ends[chunk] == 0:
            totals[:] = sums
        elif ends[chunk] < ends[chunk + 1]:
            for row in range(rows.size):
                add_chunk(sums[row], totals[row], numbers)
        sums[:] = 0
    return totals


@njit(cache=True)
def run_starts(places: Array) -> Array:
    """Returns the starts of runs of adjacent places, and the number of places."""
    starts = np.empty(places.size + 1, np.int64)
    runs = 0
    for i in range(places.size):
        if i == 0 or places[i] != places[i - 1] + np.uint64(1):
            starts[runs] = i
            runs += 1
    starts[runs] = places.size
    return starts[: runs + 1]


@njit(cache=True)
def gather(b: Array, columns: Array, starts: Array, b_k: Array, panel: Array) -> None:
    """Copies the right factor's elements to panel[k, column]."""
    in_runs = columns.size >= LONG_RUN * (starts.size - 1)
    for k in range(b_k.size):
        target = panel[k]
        if in_runs:
            for run in range(starts.size - 1):
                first, last = starts[run], starts[run + 1]
                copy(b[columns[first] + b_k[k] :], target[first:last])
        else:
            for column in range(columns.size):
                target[column] = b[columns[column] + b_k[k]]


@njit(cache=True)
def copy(source: Array, target: Array) -> None:
    for i in range(target.size):
        target[i] = source[i]


@njit(cache=True)
def put(totals: Array, out: Array, rows: Array, columns: Array) -> None:
    """Stores the totals in the output."""
    starts = run_starts(columns)
    in_runs = columns.size >= LONG_RUN * (starts.size - 1)
    for row in range(rows.size):
        source = totals[row]
        if in_runs:
            for run in range(starts.size - 1):
                first, last = starts[run], starts[run + 1]
                place = rows[row] + columns[first]
                copy(source[first:last], out[place : place + np.uint64(last - first)])
        else:
            for column in range(columns.size):
                out[rows[row] + columns[column]] = source[column]


# -- exact sums: mpsim/kernels/reference/exact.py explains their digits -------------------------------------


@njit(cache=True, parallel=True)
def contract_exactly(
    a: Array, a_group: Array, a_row: Array, a_k: Array, b: Array, b_group: Array, b_column: Array, b_k: Array,
    out: Array, out_group: Array, out_row: Array, out_column: Array,
) -> None:  # fmt: skip
    """Computes every output correctly rounded."""
    for task in prange(a_group.size * b_column.size):
        group, column = task // b_column.size, task % b_column.size
        right = b_k + (b_group[group] + b_column[column])
        for row in range(a_row.size):
            left = a_k + (a_group[group] + a_row[row])
            out[out_group[group] + out_row[row] + out_column[column]] = exact_dot(a, left, b, right)


@njit(cache=True)
def exact_dot(a: Array, left: Array, b: Array, right: Array) -> np.float32:
    """Computes the correctly rounded dot product of the elements at these places."""
    limbs = np.zeros(LIMBS, np.int64)
    special = 0.0
    for k in range(left.size):
        product = np.float64(a[left[k]]) * np.float64(b[right[k]])
        if math.isfinite(product):
            add_exact(limbs, product)
        else:
            special += product
    return round_exact(limbs) if special == 0.0 else np.float32(special)


@njit(cache=True)
def add_exact(limbs: Array, product: float) -> None:
    """Adds a finite product of float32 numbers to the digits."""
    bits: Any = np.float64(product).view(np.int64)
    shift = (bits >> 52 & 2047) - (1023 + 47 - BASE)
    if shift == -(1023 + 47 - BASE):
        return  # a zero: no product is subnormal in float64
    integer = (bits & ((1 << 52) - 1) | 1 << 52) >> 5  # |product| = integer * 2**(shift - BASE)
    if shift < 0:
        integer, shift = integer >> -shift, 0
    sign = -1 if bits < 0 else 1
    limb, shift = shift >> 5, shift & 31
    lower, upper = (integer & LOW) << shift, (integer >> 32) << shift
    limbs[limb] += sign * (lower & LOW)
    limbs[limb + 1] += sign * ((lower >> 32) + (upper & LOW))
    limbs[limb + 2] += sign * (upper >> 32)


@njit(cache=True)
def round_exact(limbs: Array) -> np.float32:
    """Rounds the digits' value once to float32: to 53 bits to odd, then to nearest even."""
    return np.float32(odd_exact(limbs))


@njit(cache=True)
def odd_exact(limbs: Array) -> float:
    """Rounds the digits' value to odd to float64."""
    carry(limbs)
    negative = limbs[LIMBS - 1] < 0
    if negative:
        for i in range(LIMBS):
            limbs[i] = -limbs[i]
        carry(limbs)
    top = LIMBS - 1
    while top > 1 and limbs[top] == 0:
        top -= 1
    high = np.uint64(limbs[top]) << np.uint64(32) | np.uint64(limbs[top - 1])
    sticky = False
    for i in range(top - 1):
        sticky |= limbs[i] != 0
    if high >= np.uint64(1 << 53):
        sticky |= high & np.uint64(2047) != 0
        high = high >> np.uint64(11) << np.uint64(11)
        high |= np.uint64(sticky) << np.uint64(11)
    else:
        high |= np.uint64(sticky)
    magnitude = math.ldexp(np.float64(high), 32 * (top - 1) - BASE)
    return -magnitude if negative else magnitude


@njit(cache=True)
def carry(limbs: Array) -> None:
    """Carries until every digit is in 0 .. 2**32 - 1, except the highest, which keeps the sign."""
    for i in range(LIMBS - 1):
        limbs[i + 1] += limbs[i] >> 32
        limbs[i] &= LOW
