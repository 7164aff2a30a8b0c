"""Rounding one pattern, inside kernels; the meaning is spec.py's.

``round_wide`` takes every format and mode, in 64-bit integers, as mpsim/kernels/numba_cpu/pattern_rounding.py does
line by line. Float32 patterns and the formats that training uses (parameters.NARROW) are rounded in 32-bit integers: a
normal magnitude by an increment and a mask; below the smallest normal number of the format |x| + c has the last bit
where the quantum is, so one float32 addition in the mode's direction rounds it; modes that no addition knows cut off
more bits there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from mpsim.kernels.cuda.intrinsics import (
    add_down,
    add_rn,
    add_toward_zero,
    add_up,
    float_as_int,
    int_as_float,
    mul_rn,
    shift_left,
    shift_right,
    sub_rn,
)
from mpsim.kernels.cuda.launch import device_function
from mpsim.kernels.cuda.rounding_numbers import BY_ADDITION
from mpsim.kernels.numba_cpu import codes, pattern_rounding
from mpsim.kernels.numba_cpu.pattern_rounding import WIDEST_SHIFT
from mpsim.policies import Mode

NEAREST_EVEN, TOWARD_ZERO, UP, DOWN, TO_ODD, STOCHASTIC = (
    mode.number for mode in (Mode.NEAREST_EVEN, Mode.TOWARD_ZERO, Mode.UP, Mode.DOWN, Mode.TO_ODD, Mode.STOCHASTIC)
)
NEAREST_ZERO, QPYTORCH_STOCHASTIC = Mode.NEAREST_ZERO.number, Mode.QPYTORCH_STOCHASTIC.number
#: Of float32.
MAGNITUDE, SIGN, INFINITE, QUIET_NAN = (np.uint32(bits) for bits in (0x7FFFFFFF, 0x80000000, 0x7F800000, 0x7FC00000))
WIDTH, BITS, ONE, FRACTION, IMPLICIT = (np.uint32(n) for n in (23, 32, 1, 0x7FFFFF, 0x800000))

increment = device_function(pattern_rounding.increment.py_func)
top_bit = device_function(codes.top_bit.py_func)


@device_function
def below_normal(pattern, mode, low):  # type: ignore[no-untyped-def]
    """The pattern, sign and all, rounded to the grid below the smallest normal number; four modes know it."""
    x = int_as_float(np.int32(pattern))
    c = int_as_float(np.int32(low | (pattern & SIGN)))
    if mode == NEAREST_EVEN:
        s = add_rn(x, c)
    elif mode == TOWARD_ZERO:
        s = add_toward_zero(x, c)
    elif mode == UP:
        s = add_up(x, c)
    else:
        s = add_down(x, c)
    return np.uint32(float_as_int(sub_rn(s, c))) & MAGNITUDE


@device_function
def above_normal(a, negative, random, mode, n):  # type: ignore[no-untyped-def]
    """A magnitude rounded as a normal number, which may carry beyond the largest."""
    added = n.increment
    if mode == NEAREST_EVEN:
        added = np.uint32(added + (shift_right(a, n.shift) & n.parity))
    elif mode == UP:
        added = np.uint32(0) if negative else n.discarded
    elif mode == DOWN:
        added = n.discarded if negative else np.uint32(0)
    elif mode == TO_ODD:
        added = n.discarded if shift_right(a, n.shift) & np.uint32(1) == 0 else np.uint32(0)
    elif mode in (STOCHASTIC, QPYTORCH_STOCHASTIC):
        chosen = shift_left(np.uint32(random & n.random_mask), n.random_left)
        added = np.uint32(shift_right(chosen, n.random_right) & n.discarded)
    return np.uint32(np.uint32(a + added) & ~n.discarded)


@device_function
def finish_narrow(r, a, negative, n):  # type: ignore[no-untyped-def]
    """The magnitude after overflow, infinities and NaN."""
    beyond = n.negative_overflow if negative else n.positive_overflow
    r = beyond if r > n.largest else r
    r = n.infinity if a == INFINITE else r
    return QUIET_NAN if a > INFINITE else r


@device_function
def round_wide(a, negative, random, width, p, quantum_pattern):  # type: ignore[no-untyped-def]
    """An int64 magnitude with ``width`` fraction bits, rounded; overflow, infinities and NaN are still to come."""
    bias = 1075 if width == 52 else 150  # of the significand as an integer
    implicit = 1 << width
    biased, fraction = a >> width, a & (implicit - 1)
    significand = fraction | implicit if biased > 0 else fraction
    exponent = biased - bias + width
    if biased == 0 and fraction > 0 and p.min_exponent <= width - bias:  # a format with numbers as small
        exponent = top_bit(fraction) + 1 - bias
    quantum = p.low_quantum if exponent < p.min_exponent else exponent - p.mantissa_bits
    full_shift = max(quantum - max(biased, 1) + bias, 0)
    shift = min(full_shift, WIDEST_SHIFT)
    lost = min(full_shift - shift, 62)  # of these bits, far below the quantum, only whether there are any counts
    significand = (significand >> lost) | (1 if significand & ((1 << lost) - 1) != 0 else 0)
    added = increment(significand, shift, negative, random, p.mode, p.random_bit_count, (1 << p.random_bit_count) - 1)
    if shift <= width:
        return (a + added) >> shift << shift
    return quantum_pattern if (significand + added) >> shift > 0 else 0


@device_function
def finish_wide(r, a, negative, width, p, quantum_pattern):  # type: ignore[no-untyped-def]
    """The magnitude after overflow, infinities and NaN, and in formats without a zero or a sign."""
    infinite = 0x7FF << 52 if width == 52 else 0xFF << 23
    r = quantum_pattern if r == 0 and p.has_zero == 0 else r
    r = (p.negative_overflow if negative else p.positive_overflow) if r > p.largest else r
    r = p.infinity if a == infinite else r
    no_number = a > infinite or (a == 0 and p.has_zero == 0) or (negative and a != 0 and p.has_sign == 0)
    return infinite | 1 << (width - 1) if no_number else r


@cache
def narrow_rounder(mode: int) -> Callable[..., Any]:
    """round(pattern, random, numbers) -> pattern, of float32; the numbers are those of ``numbers_of_mode``."""

    @device_function
    def round_by_addition(pattern, random, numbers):  # type: ignore[no-untyped-def]
        n = numbers[0]
        a, negative = np.uint32(pattern & MAGNITUDE), pattern > MAGNITUDE
        low = below_normal(pattern, mode, n.low)
        r = low if a < n.smallest_normal else above_normal(a, negative, random, mode, n)
        r = finish_narrow(r, a, negative, n)
        return np.uint32(r | (pattern & (SIGN if r != 0 else n.zero_sign)))

    @device_function
    def round_pattern(pattern, random, numbers):  # type: ignore[no-untyped-def]
        n, p, quantum = numbers
        a, negative = np.uint32(pattern & MAGNITUDE), pattern > MAGNITUDE
        if a < n.smallest_normal:
            r = np.uint32(round_wide(np.int64(a), negative, np.int64(random), 23, p, quantum))
        else:
            r = above_normal(a, negative, random, mode, n)
        r = finish_narrow(r, a, negative, n)
        return np.uint32(r | (pattern & (SIGN if r != 0 else n.zero_sign)))

    return round_by_addition if mode in BY_ADDITION else round_pattern


@cache
def small_rounder(mode: int) -> Callable[..., Any]:
    """round(pattern, magnitude, random, numbers) -> (magnitude, whether that is it): below the smallest normal one."""

    @device_function
    def by_addition(pattern, a, random, numbers):  # type: ignore[no-untyped-def]
        return below_normal(pattern, mode, numbers[0].low), True

    @device_function
    def zero_only(pattern, a, random, numbers):  # type: ignore[no-untyped-def]
        return np.uint32(0), pattern == 0

    @device_function
    def by_increment(pattern, a, random, numbers):  # type: ignore[no-untyped-def]
        """As pattern_rounding.round_patterns, in 32 bits: of at most 31 bits that are lost."""
        n, _, quantum = numbers
        exponent = shift_right(a, WIDTH)
        significand = np.uint32((a & FRACTION) | (IMPLICIT if exponent != 0 else np.uint32(0)))
        shift = np.uint32(n.low_shift - (exponent if exponent != 0 else np.uint32(1)))
        settled = shift < BITS
        shift = min(shift, np.uint32(BITS - ONE))
        every = np.uint32(shift_left(ONE, shift) - ONE)
        added = shift_right(np.uint32(every + ONE), ONE)
        if mode == NEAREST_ZERO:
            added = np.uint32(added - ONE)
        elif mode == TO_ODD:
            added = np.uint32(0) if shift_right(significand, shift) & ONE else every
        elif mode == STOCHASTIC:
            left = np.uint32(max(shift, n.random_bits) - n.random_bits)
            right = np.uint32(n.random_bits - min(shift, n.random_bits))
            added = np.uint32(shift_right(shift_left(np.uint32(random & n.random_mask), left), right) & every)
        one = np.uint32(quantum) if shift_right(np.uint32(significand + added), shift) != 0 else np.uint32(0)
        return (np.uint32(np.uint32(a + added) & ~every) if shift <= WIDTH else one), settled

    if mode in BY_ADDITION:
        return by_addition
    return zero_only if list(Mode)[mode].is_legacy else by_increment


@cache
def wide_rounder(width: int) -> Callable[..., Any]:
    """round(pattern, random, (Parameters, quantum pattern)) -> pattern, both int64, of float32 (23) or float64 (52)."""
    infinite = 0x7FF << 52 if width == 52 else 0xFF << 23
    magnitude, sign = ((1 << 63) - 1, -(1 << 63)) if width == 52 else ((1 << 31) - 1, 1 << 31)

    @device_function
    def round_pattern(pattern, random, numbers):  # type: ignore[no-untyped-def]
        p, quantum = numbers
        a, negative = pattern & magnitude, pattern & sign != 0
        r = round_wide(min(a, infinite), negative, np.int64(random), width, p, quantum)
        r = finish_wide(r, a, negative, width, p, quantum)
        return r | sign if negative and (r != 0 or p.has_negative_zero != 0) else r

    return round_pattern


@device_function
def round_like_qpytorch(pattern, random, numbers):  # type: ignore[no-untyped-def]
    """QPyTorch's float32 algorithm, defects included (spec.round_like_qpytorch), with ``legacy_numbers``."""
    p = numbers[1]
    up, down = (
        int_as_float(np.int32(127 + p.scale_exponent << 23)),
        int_as_float(np.int32(127 - p.scale_exponent << 23)),
    )
    smallest_normal = int_as_float(np.int32(p.scaled_smallest_normal))
    dropped = 23 - p.mantissa_bits
    scaled = mul_rn(int_as_float(np.int32(pattern)), up)
    before = np.int64(float_as_int(scaled))
    low = before & 0x7FFFFFFF < p.scaled_smallest_normal
    offset = -smallest_normal if before < 0 else smallest_normal
    if low:
        before = np.int64(float_as_int(add_rn(scaled, offset)))
    added = np.int64(random) & ((1 << dropped) - 1) if p.mode == QPYTORCH_STOCHASTIC else (1 << dropped) >> 1
    size = ((before & 0x7FFFFFFF) + added) >> dropped << dropped
    if size >= p.scaled_limit and not low:
        size = p.scaled_largest
    result = int_as_float(np.int32((before & 0x80000000) | (size & 0x7FFFFFFF)))
    if low:
        result = sub_rn(result, offset)
    result = mul_rn(result, down)
    return SIGN if pattern & MAGNITUDE > INFINITE else np.uint32(float_as_int(result))
