"""Contractions in Numba for the accumulators that are not float32 sums: narrow formats and exact sums.

mpsim/kernels/narrow.py tells why a sum rounded to odd and then to the narrow format is rounded once, and
mpsim/kernels/reference/exact.py what the digits of an exact sum are and why they hold it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from mpsim.kernels.numba_cpu.jit import njit

WIDTH = 32
STRETCH = 256  # of k, packed at a time
LIMBS, BASE = 19, 298
LOW = np.int64(0xFFFFFFFF)
MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)


@njit(cache=True)
def narrow_sum(x, y, least_exponent, shift, low, largest, beyond, negative_zero):  # type: ignore[no-untyped-def]
    """x + y of float64 numbers rounded once to a narrow format, nearest even (fields of narrow.Narrow).

    Without branches, so that a loop over it becomes vector code.
    """
    s = x + y
    carried = s - x
    error = (x - (s - carried)) + (y - carried)
    bits: Any = np.float64(s).view(np.int64)
    outward = 1 if (error > 0) == (s > 0) else -1
    bits += outward if (bits & 1 == 0) & ((error > 0) | (error < 0)) else 0  # round to odd
    exponent = bits >> 52 & 2047
    # An infinity makes c a tiny negative number, and stays.
    c = np.int64((low if exponent < least_exponent else exponent + shift) << 52).view(np.float64)
    rounded = (np.int64(bits & MAGNITUDE).view(np.float64) + c) - c
    rounded = beyond if rounded > largest else rounded
    signed = np.int64((np.float64(rounded).view(np.int64) & MAGNITUDE) | (np.float64(s).view(np.int64) & ~MAGNITUDE))
    return signed.view(np.float64) if negative_zero else signed.view(np.float64) + 0.0


@njit(cache=True)
def add_exact(limbs, product):  # type: ignore[no-untyped-def]
    """Adds a finite product of float32 numbers to the digits."""
    bits: Any = np.float64(product).view(np.int64)
    shift = (bits >> 52 & 2047) - (1023 + 47 - BASE)
    if shift == -(1023 + 47 - BASE):
        return  # a zero; no product is subnormal in float64
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
def round_exact(limbs):  # type: ignore[no-untyped-def]
    """The digits' value rounded once to float32: to odd to 53 bits, then to nearest even."""
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
    return np.float32(-magnitude if negative else magnitude)


@njit(cache=True)
def carry(limbs):  # type: ignore[no-untyped-def]
    """Brings every digit but the highest, which keeps the sign, into 0 .. 2**32 - 1."""
    for i in range(LIMBS - 1):
        limbs[i + 1] += limbs[i] >> 32
        limbs[i] &= LOW


@njit(cache=True)
def exact_dot(a, origin, a_k, b, base, b_k):  # type: ignore[no-untyped-def]
    """The correctly rounded dot product of one row and one column."""
    limbs = np.zeros(LIMBS, np.int64)
    special = 0.0
    for k in range(a_k.size):
        product = np.float64(a[origin + a_k[k]]) * np.float64(b[base + b_k[k]])
        if math.isfinite(product):
            add_exact(limbs, product)
        else:
            special += product
    if special == 0.0:
        return round_exact(limbs)
    return np.float32(special)


@njit(cache=True, parallel=True)
def exact(  # type: ignore[no-untyped-def]
    a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column
):
    """Every output, correctly rounded. See mpsim.kernels.lowering for the tables."""
    rows, columns = a_row.size, b_column.size
    for task in prange(a_group.size * columns):
        group, column = task // columns, task % columns
        base = b_group[group] + b_column[column]
        for row in range(rows):
            total = exact_dot(a, a_group[group] + a_row[row], a_k, b, base, b_k)
            out[out_group[group] + out_row[row] + out_column[column]] = total


@njit(cache=True)
def add_narrow(value, elements, sums, numbers):  # type: ignore[no-untyped-def]
    """sums[column] + value * elements[column], rounded to the format."""
    least_exponent, shift, low, largest, beyond, negative_zero = numbers
    for i in range(sums.size):
        sums[i] = narrow_sum(value * elements[i], sums[i], least_exponent, shift, low, largest, beyond, negative_zero)


@njit(cache=True, parallel=True)
def narrow(  # type: ignore[no-untyped-def]
    a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column, chunk, numbers
):
    """Every output, each addition rounded to the format with the ``numbers`` (least_exponent, shift, ...)."""
    rows, columns = a_row.size, b_column.size
    panels = (columns + WIDTH - 1) // WIDTH
    for task in prange(a_group.size * panels):
        group, start = task // panels, task % panels * WIDTH
        stop = min(columns, start + WIDTH)
        panel, sums, totals = np.zeros((STRETCH, WIDTH)), np.zeros((rows, WIDTH)), np.zeros((rows, WIDTH))
        first = 0
        while first < a_k.size:
            count = min(STRETCH, a_k.size - first, chunk - first % chunk)
            for k in range(count):
                source = b_group[group] + b_k[first + k]
                for column in range(start, stop):
                    panel[k, column - start] = np.float64(b[source + b_column[column]])
            for row in range(rows):
                origin = a_group[group] + a_row[row]
                for k in range(count):
                    add_narrow(np.float64(a[origin + a_k[first + k]]), panel[k], sums[row], numbers)
            first += count
            if first % chunk == 0 or first == a_k.size:
                for row in range(rows):
                    if first <= chunk:
                        totals[row] = sums[row]
                    else:
                        add_narrow(1.0, totals[row], sums[row], numbers)
                        totals[row] = sums[row]
                    sums[row] = 0.0
        for row in range(rows):
            for column in range(start, stop):
                out[out_group[group] + out_row[row] + out_column[column]] = totals[row, column - start]
