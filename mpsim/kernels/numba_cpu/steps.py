"""Any order of summation in Numba: the steps of mpsim.kernels.steps, for a block of outputs at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from mpsim.kernels.lowering import Contraction
from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.numba_cpu.threads import at_most
from mpsim.kernels.steps import (
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

Array = np.ndarray[Any, Any]

#: Outputs of one row that are computed together.
WIDTH = 64
#: Digits of 32 bits of an exact sum, and the weight of the lowest, 2**-BASE (mpsim/kernels/reference/exact.py).
LIMBS, BASE = 19, 298
MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
EXPONENT_BITS = np.int64(0x7FF0000000000000)


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
        limbs = np.zeros((exact_sums, LIMBS, last - first), np.int64)
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
        for j in range(width):
            r[to, j] = rounded(to_odd(r[x, j], r[y, j]), sums[how])
    elif what == RISING:
        for k in places[x : x + y]:
            value = np.float64(a[left[k]])
            for j in range(width):
                r[to, j] = rounded(to_odd(value * b[right[j] + b_k[k]], r[to, j]), sums[how])
    elif what == ROUND:
        for j in range(width):
            r[to, j] = rounded(r[x, j], sums[how])
    elif what == ALIGNED:
        numbers, terms = aligned[how], np.int64(aligned[how, 0])
        r[to] = 0.0
        for first in range(x, x + y, terms):
            for j in range(width):
                few = places[first : min(first + terms, x + y)]
                r[to, j] = instruction(few, a, left, b, right[j], b_k, r[to, j], numbers, sums[np.int64(numbers[6])])
    elif what == ZERO:
        r[to] = 0.0
    elif what == CLEAR:
        limbs[to] = 0
        special[to] = 0.0
    elif what == GATHER:
        for j in range(width):
            gather(limbs[to], special[to], j, r[x, j])
    else:
        for j in range(width):
            r[to, j] = total(limbs[x], special[x, j], j)


@njit(cache=True)
def to_odd(x: float, y: float) -> Any:
    """x + y rounded to odd: an inexact sum becomes the neighbour whose last bit is 1 (mpsim/kernels/narrow.py)."""
    s = x + y
    carried = s - x
    error = (x - (s - carried)) + (y - carried)
    bits: Any = np.float64(s).view(np.int64)
    outward = 1 if (error > 0) == (s > 0) else -1
    bits += outward if (bits & 1 == 0) & ((error > 0) | (error < 0)) else 0
    return np.int64(bits).view(np.float64)


@njit(cache=True)
def rounded(s: float, format: Array) -> Any:
    """A number that was rounded to odd, rounded to a format; too large a magnitude becomes what lies beyond."""
    least_exponent, shift, low, largest, beyond, negative_zero, toward_zero = format
    magnitude = abs(s)
    exponent: Any = np.float64(magnitude).view(np.int64) >> 52
    biased = np.int64(low) if exponent < least_exponent else min(exponent + np.int64(shift), np.int64(2046))
    c: Any = np.int64(biased << 52).view(np.float64)
    value = (magnitude + c) - c
    if toward_zero != 0.0 and value > magnitude:
        value -= c * 2.0**-52
    if value > largest:
        value = beyond
    signed = with_sign(value, s)
    return signed if negative_zero != 0.0 else signed + 0.0


@njit(cache=True)
def with_sign(value: float, x: float) -> Any:
    """|value| with the sign of x."""
    bits: Any = np.float64(value).view(np.int64) & MAGNITUDE
    return np.int64(bits | (np.float64(x).view(np.int64) & ~MAGNITUDE)).view(np.float64)


@njit(cache=True)
def instruction(
    places: Array, a: Array, left: Array, b: Array, at: int, b_k: Array, c: float, numbers: Array, format: Array
) -> Any:
    """c plus the products at the places: aligned, truncated, added exactly, rounded once."""
    fraction, least_left, least_right, least_sum, least = numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    largest, plain = max(scale(c, least_sum), least), c
    for k in places:
        x, y = np.float64(a[left[k]]), np.float64(b[at + b_k[k]])
        largest = max(largest, scale(x, least_left) * scale(y, least_right))
        plain += x * y
    if not abs(plain) < np.inf:  # from an infinity or NaN: the sum is too short to overflow
        return plain if plain != plain else with_sign(format[4], plain)
    quantum = largest * fraction
    exact = np.trunc(c / quantum)
    for k in places:
        exact += np.trunc(np.float64(a[left[k]]) * np.float64(b[at + b_k[k]]) / quantum)
    return rounded((exact + 0.0) * quantum, format) + 0.0


@njit(cache=True)
def scale(x: float, least: float) -> Any:
    """2**exponent(x), at least ``least``; 0 for zeros."""
    bits: Any = np.float64(x).view(np.int64) & EXPONENT_BITS
    return 0.0 if x == 0.0 else max(np.int64(bits).view(np.float64), least)


# -- exact sums -------------------------------------------------------------------------------------------------


@njit(cache=True)
def gather(limbs: Array, special: Array, j: int, x: float) -> None:
    """Adds a number of at most 48 bits to the exact sum j."""
    if not abs(x) < np.inf:
        special[j] += x
        return
    if x == 0.0:
        return
    fraction, exponent = math.frexp(abs(x))
    whole, shift = np.int64(fraction * 2.0**48), np.int64(exponent) - 48 + BASE
    if shift < 0:  # the last bits are zeros
        whole, shift = whole >> -shift, np.int64(0)
    sign = 1 if x > 0.0 else -1
    limb, shift = shift >> 5, shift & 31
    low, high = (whole & 0xFFFFFFFF) << shift, (whole >> 32) << shift
    limbs[limb, j] += sign * (low & 0xFFFFFFFF)
    limbs[limb + 1, j] += sign * ((low >> 32) + (high & 0xFFFFFFFF))
    limbs[limb + 2, j] += sign * (high >> 32)


@njit(cache=True)
def total(limbs: Array, special: float, j: int) -> Any:
    """The exact sum j rounded once to float32; an exact zero is +0."""
    if special != 0.0:
        return special
    for i in range(LIMBS - 1):
        limbs[i + 1, j] += limbs[i, j] >> 32
        limbs[i, j] &= 0xFFFFFFFF
    negative = limbs[LIMBS - 1, j] < 0
    if negative:
        for i in range(LIMBS):
            limbs[i, j] = -limbs[i, j]
        for i in range(LIMBS - 1):
            limbs[i + 1, j] += limbs[i, j] >> 32
            limbs[i, j] &= 0xFFFFFFFF
    top = LIMBS - 1
    while top > 1 and limbs[top, j] == 0:
        top -= 1
    sticky = False
    for i in range(top - 1):
        sticky = sticky or limbs[i, j] != 0
    high = np.uint64(limbs[top, j]) << np.uint64(32) | np.uint64(limbs[top - 1, j])
    if high >= np.uint64(1 << 53):  # round to odd to 53 bits
        dropped = (high & np.uint64(2047)) != np.uint64(0)
        high &= ~np.uint64(2047)
        if dropped or sticky:
            high |= np.uint64(2048)
    elif sticky:
        high |= np.uint64(1)
    value = np.float64(np.float32(math.ldexp(np.float64(high), 32 * (top - 1) - BASE)))
    return -value if negative else value
