"""Contractions in Numba for accumulators of kind "aligned": sums as tensor cores form them.

Everything is exact in float64 (mpsim/kernels/reference/aligned.py). |p| is truncated to a multiple of 2**e by
(|p| + 2**(52 + e)) - 2**(52 + e), which rounds to nearest, less 2**e where that went up.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from mpsim.accumulators import Accumulator
from mpsim.formats import as_format
from mpsim.kernels.narrow import Narrow
from mpsim.kernels.numba_cpu.jit import njit

WIDTH = 32
EXPONENT_BITS = np.int64(0x7FF0000000000000)
MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)


class Numbers(NamedTuple):
    """What an instruction needs to know of its accumulator."""

    terms: int
    quantum: float  # 2**-fraction_bits
    least_input: float
    least_sum: float
    least_scale: float  # terms are aligned to this power of two at least
    mask: int  # of the bits of float32 operands
    toward_zero: bool

    @staticmethod
    def of(accumulator: Accumulator, length: int) -> Numbers:
        """The numbers, for k of this length."""
        inputs, format = as_format(accumulator.inputs), as_format(accumulator.format)
        return Numbers(
            min(accumulator.terms, length),
            2.0**-accumulator.fraction_bits,
            2.0**inputs.min_exponent,
            2.0**format.min_exponent,
            accumulator.least_scale,
            -1 << (23 - min(inputs.mantissa_bits, 23)),
            accumulator.rounding == "toward_zero",
        )


@njit(cache=True)
def masked(x, mask):  # type: ignore[no-untyped-def]
    """A float32 number with fewer significand bits, as float64."""
    bits: Any = np.float32(x).view(np.int32)
    return np.float64(x) if math.isnan(x) else np.float64(np.int32(bits & mask).view(np.float32))


@njit(cache=True)
def scale(x, least):  # type: ignore[no-untyped-def]
    """2**exponent(x), at least ``least``; 0 for zeros."""
    bits: Any = np.float64(x).view(np.int64)
    power = np.int64(bits & EXPONENT_BITS).view(np.float64)
    return 0.0 if x == 0.0 else max(power, least)


@njit(cache=True)
def signed_as(magnitude, x):  # type: ignore[no-untyped-def]
    """A number that is not negative, with the sign of x."""
    sign = np.float64(x).view(np.int64) & ~MAGNITUDE
    return np.int64(np.float64(magnitude).view(np.int64) | sign).view(np.float64)


@njit(cache=True)
def round_sum(s, toward_zero, least_exponent, shift, low, largest, beyond):  # type: ignore[no-untyped-def]
    """A finite float64 number rounded once to the format (fields of narrow.Narrow); never -0."""
    magnitude = abs(s)
    bits: Any = np.float64(magnitude).view(np.int64)
    exponent = bits >> 52
    c = np.int64((low if exponent < least_exponent else exponent + shift) << 52).view(np.float64)
    rounded = (magnitude + c) - c
    if toward_zero and rounded > magnitude:
        rounded -= c * 2.0**-52
    return signed_as(beyond if rounded > largest else rounded, s) + 0.0


@njit(cache=True)
def find_quanta(values, scales, panel, panel_scales, count, sums, numbers, plain, quanta):  # type: ignore[no-untyped-def]
    """Per column the quantum of the instruction's terms, and its plain sum, which shows infinities and NaN."""
    for i in range(plain.size):
        plain[i] = sums[i]
        quanta[i] = max(scale(sums[i], numbers.least_sum), numbers.least_scale)
    for k in range(count):
        value, power, elements, powers = values[k], scales[k], panel[k], panel_scales[k]
        for i in range(plain.size):
            plain[i] += value * elements[i]
            quanta[i] = max(quanta[i], power * powers[i])
    for i in range(plain.size):
        quanta[i] *= numbers.quantum


@njit(cache=True)
def add_truncated(value, elements, quanta, totals):  # type: ignore[no-untyped-def]
    """totals += the products, cut toward zero to multiples of the quanta."""
    for i in range(totals.size):
        product = value * elements[i]
        magnitude, shifter = abs(product), quanta[i] * 2.0**52
        part = (magnitude + shifter) - shifter
        totals[i] += signed_as(part - quanta[i] if part > magnitude else part, product)


@njit(cache=True)
def instruction(values, scales, panel, panel_scales, count, sums, numbers, narrow, room):  # type: ignore[no-untyped-def]
    """sums[column] = the next c, from ``count`` values of one row and of each column of the panel."""
    least_exponent, shift, low, largest, beyond, _ = narrow
    plain, quanta, totals = room[0], room[1], room[2]
    find_quanta(values, scales, panel, panel_scales, count, sums, numbers, plain, quanta)
    totals[:] = 0.0
    add_truncated(1.0, sums, quanta, totals)
    for k in range(count):
        add_truncated(values[k], panel[k], quanta, totals)
    for i in range(totals.size):
        c = round_sum(totals[i], numbers.toward_zero, least_exponent, shift, low, largest, beyond)
        special = signed_as(beyond, plain[i]) if plain[i] == plain[i] else plain[i]
        sums[i] = c if abs(plain[i]) < np.inf else special  # an infinity or NaN: the sums are too short to overflow


@njit(cache=True, parallel=True)
def contract(  # type: ignore[no-untyped-def]
    a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column, chunk, numbers, narrow
):
    """Every output. See mpsim.kernels.lowering for the tables."""
    rows, columns, terms = a_row.size, b_column.size, numbers.terms
    panels = (columns + WIDTH - 1) // WIDTH
    for task in prange(a_group.size * panels):
        group, start = task // panels, task % panels * WIDTH
        stop = min(columns, start + WIDTH)
        panel, panel_scales = np.zeros((terms, WIDTH)), np.zeros((terms, WIDTH))
        values, scales = np.zeros(terms), np.zeros(terms)
        sums, totals = np.zeros((rows, WIDTH)), np.zeros((rows, WIDTH), np.float32)
        room = np.empty((3, WIDTH))
        for begin in range(0, a_k.size, chunk):
            end = min(begin + chunk, a_k.size)
            sums[:] = 0.0
            for first in range(begin, end, terms):
                count = min(terms, end - first)
                for k in range(count):
                    for column in range(start, stop):
                        value = masked(b[b_group[group] + b_k[first + k] + b_column[column]], numbers.mask)
                        panel[k, column - start] = value
                        panel_scales[k, column - start] = scale(value, numbers.least_input)
                for row in range(rows):
                    origin = a_group[group] + a_row[row]
                    for k in range(count):
                        values[k] = masked(a[origin + a_k[first + k]], numbers.mask)
                        scales[k] = scale(values[k], numbers.least_input)
                    instruction(values, scales, panel, panel_scales, count, sums[row], numbers, narrow, room)
            for row in range(rows):
                for i in range(WIDTH):
                    sum = np.float32(sums[row, i])
                    totals[row, i] = sum if begin == 0 else totals[row, i] + sum
        for row in range(rows):
            for column in range(start, stop):
                out[out_group[group] + out_row[row] + out_column[column]] = totals[row, column - start]


__all__ = ["Narrow", "Numbers", "contract"]
