"""Numba: rounding blocks of float32 numbers in 32-bit integers; the meaning is spec.py's.

A number is its pattern, and ``a`` its magnitude, the pattern without the sign. The last ``shift`` bits of the
significand are discarded, and one ``unit`` of the last bit kept is added where the mode sends the number up; a carry
out of the significand raises the exponent by one, as it must. A shift beyond the significand leaves zero or one
quantum.

The loop becomes vector code: it has no branches, it writes to the array that it reads, and every result is cast to
int32, as Numba adds and shifts in 64 bits. What is shifted is masked to 5 bits so that LLVM, too, sees 32 are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import int32

from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.parameters import LEGACY, Parameters
from mpsim.policies import Mode

Array = np.ndarray[Any, Any]

SIGN, MAGNITUDE = int32(-0x80000000), int32(0x7FFFFFFF)
INFINITE, QUIET_NAN = int32(0x7F800000), int32(0x7FC00000)
#: Of the biased exponent; what is beyond it is infinite.
HIGHEST_EXPONENT = 254
IMPLICIT, FRACTION = int32(1 << 23), int32((1 << 23) - 1)
ZERO, ONE, WIDTH = int32(0), int32(1), int32(23)
WIDEST_SHIFT = int32(30)  # a unit of more would be negative

NEAREST_EVEN, NEAREST_AWAY, UP, DOWN, TO_ODD = (
    int32(mode.number) for mode in (Mode.NEAREST_EVEN, Mode.NEAREST_AWAY, Mode.UP, Mode.DOWN, Mode.TO_ODD)
)
#: The kinds of rules that say what a number becomes; each has a loop of its own. BY_SUM: nearest even, by adding a
#: power of two whose own last bit is the last one kept, and subtracting it.
#: BY_QPYTORCH: legacy_rounding.py.
NEAREST, DIRECTED, BY_CHANCE, BY_SUM, BY_QPYTORCH = range(5)


def kind_of(mode: Mode, p: Parameters) -> int:
    if p.path == LEGACY:
        return BY_QPYTORCH
    if mode is Mode.STOCHASTIC:
        return BY_CHANCE
    if p.mode == NEAREST_EVEN and p.has_zero and p.has_sign and takes_one_sum(p):
        return BY_SUM
    return NEAREST if mode.startswith("nearest") else DIRECTED


def takes_one_sum(p: Parameters) -> bool:
    """Whether that power is finite for each number that does not overflow, and the grid below the smallest normal
    number is its binade's."""
    cut, highest = 23 - p.mantissa_bits, p.overflow_from - 1 >> 23
    return cut > 0 and highest + cut < HIGHEST_EXPONENT and p.low_quantum == p.min_exponent - p.mantissa_bits


@njit(cache=True)
def chance_of(discarded, shift):  # type: ignore[no-untyped-def]
    """floor(discarded / 2**shift * 2**32), where 0 <= discarded < 2**min(shift, 24)."""
    up, down = int32(32 - shift & 31), int32(min(shift - 32, 31) & 31)
    return np.uint32(discarded << up) if shift <= 32 else np.uint32(np.uint32(discarded) >> np.uint32(down))


def _rounder(kind: int) -> Callable[..., Any]:
    """A round_block for a kind."""

    @njit(cache=True)
    def round_block(patterns, random, p):  # type: ignore[no-untyped-def]
        """Rounds int32 patterns in place; gives the five counts."""
        cut = int32(WIDTH - p.mantissa_bits)
        low_exponent = int32(p.low_quantum + 150)  # biased, of numbers whose last bit is the lowest quantum
        exponent = int32(low_exponent - WIDTH)
        quantum = int32(exponent << WIDTH) if exponent > ZERO else int32(ONE << max(int32(low_exponent - 1), ZERO))
        low_power = int32(low_exponent << WIDTH)  # its last bit is the lowest quantum
        least_result = ZERO if p.has_zero else quantum
        least = SIGN if p.has_sign else ONE
        normal = p.smallest_normal if p.has_zero else max(p.smallest_normal, IMPLICIT)
        up_if_odd, up_always = int32(p.mode == NEAREST_EVEN), int32(p.mode == NEAREST_AWAY)  # in a tie
        up_if_positive, up_if_negative = int32(p.mode == UP), int32(p.mode == DOWN)
        up_if_even = int32(p.mode == TO_ODD)
        unused = np.uint32(32 - p.random_bit_count & 31)
        raised = int32(cut << WIDTH)
        overflowed = at_most_half = nan = inexact = below_normal = zeros = zero_results = ZERO
        for i in range(patterns.size):
            bits = patterns[i]
            a = int32(bits & MAGNITUDE)
            if kind == BY_SUM:
                power = int32(max(int32((a & INFINITE) + raised), low_power)).view(np.float32)
                r = np.float32(np.float32(int32(a).view(np.float32) + power) - power).view(int32)
                beyond = a >= p.overflow_from
            else:
                significand = int32(a & FRACTION | IMPLICIT) if a > FRACTION else a
                low_cut = max(int32(low_exponent - max(int32(a >> 23), ONE)), ZERO)
                full_shift = low_cut if a < normal else cut
                shift = int32(min(full_shift, WIDEST_SHIFT) & 31)
                unit = int32(ONE << shift)
                discarded = int32(significand & (unit - 1))
                odd = int32(significand >> shift & 1)
                if kind == NEAREST:
                    goes_up = int32(2 * discarded + (odd & up_if_odd | up_always)) > unit
                elif kind == DIRECTED:
                    outward = int32((up_if_positive if bits >= ZERO else up_if_negative) | ~odd & up_if_even)
                    goes_up = discarded > ZERO and outward > ZERO
                else:
                    goes_up = chance_of(discarded, full_shift) > np.uint32(~(np.uint32(random[i]) << unused))
                r = int32(a - discarded + (unit if goes_up else ZERO))
                r = (quantum if goes_up else ZERO) if shift > WIDTH else r
                r = max(r, least_result)
                beyond = r > p.largest
            r = (p.positive_overflow if bits >= ZERO else p.negative_overflow) if beyond else r
            r = p.infinity if a == INFINITE else r
            r = QUIET_NAN if bits < least else r
            r = a if a > INFINITE else r
            inexact = int32(inexact + (r != a))
            r = QUIET_NAN if r > INFINITE else r
            overflowed = int32(overflowed + (a >= p.overflow_from))
            at_most_half = int32(at_most_half + (a <= p.underflow_to))
            zeros = int32(zeros + (a == ZERO))
            nan = int32(nan + (a > INFINITE))
            below_normal = int32(below_normal + (r < p.smallest_normal))
            zero_results = int32(zero_results + (r == ZERO))
            keeps_sign = int32(r + p.has_negative_zero) > ZERO
            patterns[i] = int32(r | (int32(bits & SIGN) if keeps_sign else ZERO))
        return overflowed, int32(at_most_half - zeros), nan, inexact, int32(below_normal - zero_results)

    return round_block


round_nearest, round_directed, round_by_chance, round_by_sum = (
    _rounder(kind) for kind in (NEAREST, DIRECTED, BY_CHANCE, BY_SUM)
)
