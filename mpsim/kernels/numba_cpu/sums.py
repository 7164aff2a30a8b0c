"""Contractions in Numba for the accumulators that are not float32 sums: narrow formats and exact sums.

mpsim/kernels/narrow.py tells why a sum rounded to odd and then to the narrow format is rounded once, and
mpsim/kernels/reference/exact.py what the digits of an exact sum are and why they hold it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

WIDTH = 32
LIMBS, BASE = 19, 298
LOW = np.int64(0xFFFFFFFF)
MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)


@njit(cache=True)
def narrow_sum(x, y, least_exponent, shift, low, largest, beyond, negative_zero):  # type: ignore[no-untyped-def]
    """x + y of float64 numbers rounded once to a narrow format, nearest even (fields of narrow.Narrow)."""
    s = x + y
    carried = s - x
    error = (x - (s - carried)) + (y - carried)
    bits: Any = np.float64(s).view(np.int64)
    outward = 1 if (error > 0) == (s > 0) else -1
    bits += outward if bits & 1 == 0 and (error > 0 or error < 0) else 0  # round to odd
    exponent = bits >> 52 & 2047
    # An infinity makes c a tiny negative number, and stays.
    c = np.int64((low if exponent < least_exponent else exponent + shift) << 52).view(np.float64)
    rounded = (np.int64(bits & MAGNITUDE).view(np.float64) + c) - c
    signed = math.copysign(beyond if rounded > largest else rounded, s)
    return signed if negative_zero else signed + 0.0


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


@njit(cache=True, parallel=True)
def narrow(  # type: ignore[no-untyped-def]
    a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column, chunk, numbers
):
    """Every output, each addition rounded to the format with the ``numbers`` (least_exponent, shift, ...)."""
    rows, columns = a_row.size, b_column.size
    least_exponent, shift, low, largest, beyond, negative_zero = numbers
    panels = (columns + WIDTH - 1) // WIDTH
    for task in prange(a_group.size * panels):
        group, start = task // panels, task % panels * WIDTH
        stop = min(columns, start + WIDTH)
        sums, totals = np.empty(WIDTH), np.empty(WIDTH)
        for row in range(rows):
            origin = a_group[group] + a_row[row]
            totals[:] = 0.0
            for first in range(0, a_k.size, chunk):
                sums[:] = 0.0
                for k in range(first, min(first + chunk, a_k.size)):
                    value, source = np.float64(a[origin + a_k[k]]), b_group[group] + b_k[k]
                    for column in range(start, stop):
                        i = column - start
                        product = value * np.float64(b[source + b_column[column]])
                        sums[i] = narrow_sum(
                            product, sums[i], least_exponent, shift, low, largest, beyond, negative_zero
                        )
                for i in range(stop - start):
                    if first == 0:
                        totals[i] = sums[i]
                    else:
                        totals[i] = narrow_sum(
                            totals[i], sums[i], least_exponent, shift, low, largest, beyond, negative_zero
                        )
            for column in range(start, stop):
                out[out_group[group] + out_row[row] + out_column[column]] = totals[column - start]
