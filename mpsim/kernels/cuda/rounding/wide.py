"""Rounds one float32 or float64 pattern to any format in any mode, with 64-bit integers, as spec.py defines it.

It follows mpsim/kernels/numba_cpu/pattern_rounding.py line by line.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from mpsim.kernels.cuda.device.launch import device_function
from mpsim.kernels.cuda.rounding.counts import counted
from mpsim.kernels.cuda.rounding.ported import WIDEST_SHIFT, increment, top_bit


class Paths(NamedTuple):
    """Two device functions that round a pattern and add to the five counts.

    Most numbers are within the format's range. They use a fast path, on which few counts can change. A copy at full
    bandwidth leaves time for some 55 instructions per element.
    """

    fast: Callable[..., Any]  # (pattern, random, numbers, tally) -> (pattern, whether it is final, tally)
    full: Callable[..., Any]  # (pattern, random, numbers, tally) -> (pattern, tally)


@device_function
def round_wide(a, negative, random, width, p, quantum_pattern):
    """Rounds an int64 magnitude with ``width`` fraction bits, without overflow, infinities and NaN."""
    bias = 1075 if width == 52 else 150  # for the significand as an integer
    implicit = 1 << width
    biased, fraction = a >> width, a & (implicit - 1)
    significand = fraction | implicit if biased > 0 else fraction
    exponent = biased - bias + width
    if biased == 0 and fraction > 0 and p.min_exponent <= width - bias:  # normal numbers of the format
        exponent = top_bit(fraction) + 1 - bias
    quantum = p.low_quantum if exponent < p.min_exponent else exponent - p.mantissa_bits
    full_shift = max(quantum - max(biased, 1) + bias, 0)
    shift = min(full_shift, WIDEST_SHIFT)
    lost = min(full_shift - shift, 62)  # these bits are far below the quantum: only whether any is set matters
    significand = (significand >> lost) | (1 if significand & ((1 << lost) - 1) != 0 else 0)
    code_is_odd = (quantum + p.bias) & 1 if p.by_code else 1
    bit_mask = (1 << p.random_bit_count) - 1
    added = increment(significand, shift, code_is_odd, negative, random, p.mode, p.random_bit_count, bit_mask)
    if shift <= width:
        return (a + added) >> shift << shift
    return quantum_pattern if (significand + added) >> shift > 0 else 0


@device_function
def finish_wide(r, a, negative, width, p, quantum_pattern):
    """Handles overflow, infinities and NaN, and formats without a zero or a sign."""
    infinite = 0x7FF << 52 if width == 52 else 0xFF << 23
    r = quantum_pattern if r == 0 and p.has_zero == 0 else r
    below_zero = negative and p.has_sign == 0
    end = p.below_zero if below_zero else p.negative_overflow if negative else p.positive_overflow
    r = end if r > p.largest or (below_zero and r != 0) else r
    r = (p.infinity_below_zero if below_zero else p.infinity) if a == infinite else r
    return infinite | 1 << (width - 1) if a > infinite or (a == 0 and p.has_zero == 0) else r


@cache
def wide_rounder(width: int) -> Callable[..., Any]:
    """Returns round(pattern, random, (Parameters, quantum pattern)) -> pattern, for int64 patterns of a source.

    ``width`` is 23 for float32 and 52 for float64.
    """
    infinite = 0x7FF << 52 if width == 52 else 0xFF << 23
    magnitude, sign = ((1 << 63) - 1, -(1 << 63)) if width == 52 else ((1 << 31) - 1, 1 << 31)

    @device_function
    def round_pattern(pattern, random, numbers):
        p, quantum = numbers
        a, negative = pattern & magnitude, pattern & sign != 0
        r = round_wide(min(a, infinite), negative, np.int64(random), width, p, quantum)
        r = finish_wide(r, a, negative, width, p, quantum)
        return r | sign if negative and (r != 0 or p.has_negative_zero != 0) else r

    return round_pattern


def wide_paths(width: int) -> Paths:
    """Returns the paths for float32 or float64 patterns, in 64-bit integers. There is no fast path."""
    round_pattern = wide_rounder(width)
    magnitude = np.int64((1 << 63 if width == 52 else 1 << 31) - 1)
    infinite = np.int64(0x7FF << 52 if width == 52 else 0xFF << 23)

    @device_function
    def fast(pattern, random, numbers, tally):
        return pattern, False, tally

    @device_function
    def full(pattern, random, numbers, tally):
        result = round_pattern(pattern, random, numbers)
        return result, counted(tally, pattern & magnitude, np.int64(result) & magnitude, numbers[0], infinite)

    return Paths(fast, full)
