"""Rounds one float32 pattern in a kernel, with 32-bit integers, as spec.py defines it.

This applies to the formats that training uses (parameters.NARROW). A normal magnitude is rounded by an increment and a
mask. Below the smallest normal number of the format, the last bit of |x| + c is the quantum, so one float32 addition in
the mode's direction rounds it. In modes that no addition implements, more bits are masked there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from mpsim.kernels.cuda.device.intrinsics import (
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
from mpsim.kernels.cuda.device.launch import device_function
from mpsim.kernels.cuda.rounding.counts import counted
from mpsim.kernels.cuda.rounding.numbers import BY_ADDITION
from mpsim.kernels.cuda.rounding.wide import Paths, round_wide
from mpsim.policies import Mode

NEAREST_EVEN, TOWARD_ZERO, UP, DOWN, TO_ODD, STOCHASTIC = (
    mode.number for mode in (Mode.NEAREST_EVEN, Mode.TOWARD_ZERO, Mode.UP, Mode.DOWN, Mode.TO_ODD, Mode.STOCHASTIC)
)
NEAREST_ZERO, QPYTORCH_STOCHASTIC = Mode.NEAREST_ZERO.number, Mode.QPYTORCH_STOCHASTIC.number
#: Float32's bit patterns.
MAGNITUDE, SIGN, INFINITE, QUIET_NAN = (np.uint32(bits) for bits in (0x7FFFFFFF, 0x80000000, 0x7F800000, 0x7FC00000))
WIDTH, BITS, ONE, FRACTION, IMPLICIT = (np.uint32(n) for n in (23, 32, 1, 0x7FFFFF, 0x800000))


@device_function
def below_normal(pattern, mode, low):
    """Rounds a signed pattern to the grid below the smallest normal number, in the modes of BY_ADDITION."""
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
def above_normal(a, negative, random, mode, n):
    """Rounds a magnitude as a normal number. The result may exceed the largest number."""
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
def finish_narrow(r, a, negative, n):
    """Handles overflow, infinities and NaN."""
    beyond = n.negative_overflow if negative else n.positive_overflow
    r = beyond if r > n.largest else r
    r = n.infinity if a == INFINITE else r
    return QUIET_NAN if a > INFINITE else r


@cache
def narrow_rounder(mode: int) -> Callable[..., Any]:
    """Returns round(pattern, random, numbers) -> pattern of float32, with the numbers of ``numbers_of_mode``."""

    @device_function
    def round_by_addition(pattern, random, numbers):
        n = numbers[0]
        a, negative = np.uint32(pattern & MAGNITUDE), pattern > MAGNITUDE
        low = below_normal(pattern, mode, n.low)
        r = low if a < n.smallest_normal else above_normal(a, negative, random, mode, n)
        r = finish_narrow(r, a, negative, n)
        return np.uint32(r | (pattern & (SIGN if r != 0 else n.zero_sign)))

    @device_function
    def round_pattern(pattern, random, numbers):
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
    """Returns round(pattern, magnitude, random, numbers) -> (magnitude, whether it is final) for subnormal results."""

    @device_function
    def by_addition(pattern, a, random, numbers):
        return below_normal(pattern, mode, numbers[0].low), True

    @device_function
    def zero_only(pattern, a, random, numbers):
        return np.uint32(0), pattern == 0

    @device_function
    def by_increment(pattern, a, random, numbers):
        """Rounds as pattern_rounding.round_patterns, in 32 bits. The result is final if at most 31 bits are lost."""
        n, _, quantum = numbers
        exponent = shift_right(a, WIDTH)
        significand = np.uint32((a & FRACTION) | (IMPLICIT if exponent != 0 else np.uint32(0)))
        shift = np.uint32(n.low_shift - (exponent if exponent != 0 else np.uint32(1)))
        resolved = shift < BITS
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
        return (np.uint32(np.uint32(a + added) & ~every) if shift <= WIDTH else one), resolved

    if mode in BY_ADDITION:
        return by_addition
    return zero_only if list(Mode)[mode].is_legacy else by_increment


@device_function
def round_like_qpytorch(pattern, random, numbers):
    """Implements QPyTorch's float32 algorithm with its defects (spec.round_like_qpytorch), with ``legacy_numbers``."""
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


def narrow_paths(mode: int, round_pattern: Any) -> Paths:
    """Returns the paths for float32 patterns, in 32-bit integers."""
    round_small = small_rounder(mode)

    @device_function
    def fast(pattern, random, numbers, tally):
        n = numbers[0]
        overflowed, underflowed, nan, inexact, subnormal = tally
        a, result, resolved = np.uint32(pattern & MAGNITUDE), pattern, False
        if n.small <= a < n.beyond:
            r, resolved = above_normal(a, pattern > MAGNITUDE, random, mode, n), True
            result = np.uint32(r | (pattern & SIGN))
            inexact = np.uint32(inexact + (r != a))
        elif a < n.small:
            r, resolved = round_small(pattern, a, random, numbers)
            result = np.uint32(r | (pattern & (SIGN if r != 0 else n.zero_sign)))
            underflowed = np.uint32(underflowed + (resolved and a != 0 and a <= n.underflow_to))
            inexact = np.uint32(inexact + (resolved and r != a))
            subnormal = np.uint32(subnormal + (resolved and r != 0 and r < n.smallest_normal))
        return result, resolved, (overflowed, underflowed, nan, inexact, subnormal)

    @device_function
    def full(pattern, random, numbers, tally):
        result = round_pattern(pattern, random, numbers)
        a, r = np.uint32(pattern & MAGNITUDE), np.uint32(result & MAGNITUDE)
        return result, counted(tally, a, r, numbers[0], INFINITE)

    return Paths(fast, full)
