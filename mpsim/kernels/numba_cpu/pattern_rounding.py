"""Rounds blocks of numbers as bit patterns, as mpsim/kernels/spec.py defines it.

|x| = significand * 2**exponent is a magnitude ``a``, the pattern without the sign. On a grid with quantum 2**q the last
shift = q - exponent bits of the significand are discarded. Depending on the mode, one unit of the last remaining bit is
added. A carry out of the significand correctly raises the exponent by one. A shift beyond the significand's width
leaves zero or one quantum.

Loops have no branches and do not write to the array that they read, so that they become vector code. In the loops over
float32 numbers every result is cast to int32, because Numba adds and shifts in 64 bits. Shifts are masked to 5 bits, so
that LLVM, too, uses 32 bits. The loop for any format uses only int64, because Numba converts a mix of int64 and uint64
to float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import float32, int32

from mpsim.kernels.contract import Array
from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.parameters import LEGACY, Parameters
from mpsim.policies import Mode

SIGN, MAGNITUDE = int32(-0x80000000), int32(0x7FFFFFFF)
INFINITE, QUIET_NAN = int32(0x7F800000), int32(0x7FC00000)
IMPLICIT, FRACTION = int32(1 << 23), int32((1 << 23) - 1)
ZERO, ONE, WIDTH = int32(0), int32(1), int32(23)
HIGHEST_EXPONENT = 254  # biased exponent of the largest finite numbers
SHIFT_BITS = 30  # the most discarded bits in 32 bits: with more, the unit would be negative
WIDEST_SHIFT = 61  # in 64 bits: a significand of 53 bits and an increment of 61 stay below 2**63

(
    NEAREST_EVEN, NEAREST_ZERO, NEAREST_AWAY, UP, DOWN, TO_ODD, STOCHASTIC, LEGACY_STOCHASTIC, STOCHASTIC_B,
    STOCHASTIC_C, STOCHASTIC_EQUAL,
) = (
    mode.number
    for mode in (
        Mode.NEAREST_EVEN, Mode.NEAREST_ZERO, Mode.NEAREST_AWAY, Mode.UP, Mode.DOWN, Mode.TO_ODD, Mode.STOCHASTIC,
        Mode.QPYTORCH_STOCHASTIC, Mode.STOCHASTIC_B, Mode.STOCHASTIC_C, Mode.STOCHASTIC_EQUAL,
    )
)  # fmt: skip

#: Ways to decide whether a float32 number is rounded up, each with its own loop. BY_SUM: nearest even, by adding and
#: subtracting a power of two whose last bit is the last one that remains. BY_QPYTORCH: QPyTorch's algorithm.
NEAREST, DIRECTED, BY_CHANCE, BY_SUM, BY_QPYTORCH = range(5)


@njit(cache=True)
def count(before: Array, after: Array, magnitude: int, infinite: int, p: Parameters) -> tuple[int32, ...]:
    """Counts the numbers that overflowed, underflowed, are NaN, changed, and became subnormal."""
    overflowed = underflowed = nan = inexact = subnormal = ZERO
    for i in range(before.size):
        a, r = before[i] & magnitude, after[i] & magnitude
        overflowed = int32(overflowed + (a >= p.overflow_from))
        underflowed = int32(underflowed + ((a != 0) & (a <= p.underflow_to)))
        nan = int32(nan + (a > infinite))
        inexact = int32(inexact + ((a <= infinite) & (r != a)))
        subnormal = int32(subnormal + ((r != 0) & (r < p.smallest_normal)))
    return overflowed, underflowed, nan, inexact, subnormal


# -- float32 numbers in 32 bits -----------------------------------------------------------------------------


def kind_of(mode: Mode, p: Parameters) -> int:
    if p.path == LEGACY:
        return BY_QPYTORCH
    if mode is Mode.STOCHASTIC:
        return BY_CHANCE
    if p.mode == NEAREST_EVEN and p.has_zero and p.has_sign and takes_one_sum(p):
        return BY_SUM
    return NEAREST if mode.startswith("nearest") else DIRECTED


def takes_one_sum(p: Parameters) -> bool:
    """Returns whether BY_SUM applies: its power of two is finite for every number that does not overflow, and the grid
    below the smallest normal number is that of its binade."""
    cut, highest = 23 - p.mantissa_bits, p.overflow_from - 1 >> 23
    return cut > 0 and highest + cut < HIGHEST_EXPONENT and p.low_quantum == p.min_exponent - p.mantissa_bits


@njit(cache=True)
def number(pattern: int) -> float32:
    return int32(pattern).view(float32)


@njit(cache=True)
def pattern_of(x: float) -> int32:
    return float32(x).view(int32)


@njit(cache=True)
def finished(r: int | int32, beyond: bool, bits: int32, least: int32, p: Parameters) -> int32:
    """Returns the result's pattern, given the magnitude on an unbounded grid. Inputs below ``least`` become NaN."""
    a = int32(bits & MAGNITUDE)
    r = (p.positive_overflow if bits >= ZERO else p.negative_overflow) if beyond else r
    r = p.infinity if a == INFINITE else r
    r = QUIET_NAN if (bits < least) | (a > INFINITE) | (r > INFINITE) else r
    keeps_sign = int32(r + p.has_negative_zero) > ZERO
    return int32(r | (int32(bits & SIGN) if keeps_sign else ZERO))


@njit(cache=True)
def round_by_sum(before: Array, after: Array, random: Array, p: Parameters) -> None:
    raised = int32(WIDTH - p.mantissa_bits << WIDTH)
    low_power = int32(p.low_quantum + 150 << WIDTH)  # its last bit is the lowest quantum
    for i in range(before.size):
        a = int32(before[i] & MAGNITUDE)
        power = number(max(int32((a & INFINITE) + raised), low_power))
        r = pattern_of(float32(number(a) + power) - power)
        after[i] = finished(r, a >= p.overflow_from, before[i], SIGN, p)


def _rounder(kind: int) -> Callable[[Array, Array, Array, Parameters], None]:
    """Returns a loop that compares the discarded bits."""

    @njit(cache=True)
    def round_block(before: Array, after: Array, random: Array, p: Parameters) -> None:
        cut = int32(WIDTH - p.mantissa_bits)
        low_exponent = int32(p.low_quantum + 150)  # biased exponent of numbers whose last bit is the lowest quantum
        exponent = int32(low_exponent - WIDTH)
        quantum = int32(exponent << WIDTH) if exponent > ZERO else int32(ONE << max(int32(low_exponent - 1), ZERO))
        least_result, least = ZERO if p.has_zero else quantum, SIGN if p.has_sign else ONE
        normal = int32(p.smallest_normal if p.has_zero else max(p.smallest_normal, int(IMPLICIT)))
        up_if_odd, up_always = int32(p.mode == NEAREST_EVEN), int32(p.mode == NEAREST_AWAY)  # in a tie
        up_if_positive, up_if_negative = int32(p.mode == UP), int32(p.mode == DOWN)
        up_if_even = int32(p.mode == TO_ODD)
        unused = np.uint32(32 - p.random_bit_count & 31)
        for i in range(before.size):
            bits = before[i]
            a = int32(bits & MAGNITUDE)
            significand = int32(a & FRACTION | IMPLICIT) if a > FRACTION else a
            low_cut = max(int32(low_exponent - max(int32(a >> 23), ONE)), ZERO)
            full_shift = low_cut if a < normal else cut
            shift = int32(min(full_shift, int32(SHIFT_BITS)) & 31)
            unit = int32(ONE << shift)
            discarded = int32(significand & (unit - 1))
            odd = int32(significand >> shift & 1)
            if kind == NEAREST:
                goes_up = int32(2 * discarded + (odd & up_if_odd | up_always)) > unit
            elif kind == DIRECTED:
                outward = int32((up_if_positive if bits >= ZERO else up_if_negative) | ~odd & up_if_even)
                goes_up = (discarded > ZERO) & (outward > ZERO)
            else:
                goes_up = chance_of(discarded, full_shift) > np.uint32(~(np.uint32(random[i]) << unused))
            r = int32(a - discarded + (unit if goes_up else ZERO))
            r = max((quantum if goes_up else ZERO) if shift > WIDTH else r, least_result)
            after[i] = finished(r, r > p.largest, bits, least, p)

    return round_block


@njit(cache=True)
def chance_of(discarded: int, shift: int) -> np.uint32:
    """Computes floor(discarded / 2**shift * 2**32), for 0 <= discarded < 2**min(shift, 24)."""
    up, down = int32(32 - shift & 31), int32(min(shift - 32, 31) & 31)
    return np.uint32(discarded << up) if shift <= 32 else np.uint32(np.uint32(discarded) >> np.uint32(down))


round_nearest, round_directed, round_by_chance = (_rounder(kind) for kind in (NEAREST, DIRECTED, BY_CHANCE))


@njit(cache=True)
def round_like_qpytorch(before: Array, after: Array, random: Array, p: Parameters) -> None:
    """Implements QPyTorch's float32 algorithm with its defects (spec.round_like_qpytorch).

    Numbers are scaled so that the format's exponents become QPyTorch's. For a subnormal number the smallest normal
    number is added before rounding and subtracted afterwards.
    """
    dropped = int32(WIDTH - p.mantissa_bits)
    kept, half = int32(-(ONE << dropped)), int32((ONE << dropped) >> 1)
    constant, mask = (ZERO, int32(~kept)) if p.mode == LEGACY_STOCHASTIC else (half, ZERO)
    up, down = float32(2.0**p.scale_exponent), float32(2.0**-p.scale_exponent)
    for i in range(before.size):
        x = number(before[i]) * up
        sign = int32(pattern_of(x) & SIGN)
        low = int32(pattern_of(x) & MAGNITUDE) < p.scaled_smallest_normal
        offset = number(p.scaled_smallest_normal | sign)
        bits = pattern_of(x + offset) if low else pattern_of(x)
        rounded = int32(bits + (int32(random[i]) & mask) + constant & kept)
        clipped = int32(p.scaled_largest | sign) if int32(rounded & MAGNITUDE) >= p.scaled_limit else rounded
        result = number(rounded) - offset if low else number(clipped)
        after[i] = SIGN if int32(before[i] & MAGNITUDE) > INFINITE else pattern_of(result * down)  # NaN becomes -0


# -- any format, in 64 bits ---------------------------------------------------------------------------------


@njit(cache=True)
def binades(patterns: Array, width: int, p: Parameters) -> Array:
    """Computes floor(log2(|x|)) of each number, but of subnormals only if the format has normal numbers as small."""
    size, bias = patterns.size, 1023 if width == 52 else 127
    magnitude = (1 << 63) - 1 if width == 52 else (1 << 31) - 1
    result = np.empty(size, np.int64)
    for i in range(size):
        result[i] = ((patterns[i] & magnitude) >> width) - bias
    if p.min_exponent <= -bias:
        for i in range(size):
            significand = patterns[i] & magnitude
            if 0 < significand < 1 << width:
                result[i] = 1 - bias - width
                while significand > 1:
                    significand >>= 1
                    result[i] += 1
    return result


@njit(cache=True)
def increment(
    significand: int,
    shift: int,
    code_is_odd: int,
    negative: bool,
    random: int,
    mode: int,
    bit_count: int,
    bit_mask: int,
) -> int:
    """Returns what is added to a significand before its last ``shift`` bits are masked, 0 if shift is 0. code_is_odd
    is 1, or in formats with one significant bit whether the code is odd."""
    every = (1 << shift) - 1
    half, even = (every + 1) >> 1, 1 - ((significand >> shift) & code_is_odd)
    nearest = mode <= NEAREST_ZERO
    added = half if nearest else 0
    added -= even if mode == NEAREST_EVEN else 1 if mode == NEAREST_ZERO else 0
    outward = (mode == UP and not negative) or (mode == DOWN and negative) or (mode == TO_ODD and even == 1)
    outward = outward or (mode == STOCHASTIC_EQUAL and 2 * (random & bit_mask) > bit_mask)
    added = every if outward else added
    bits = random & bit_mask
    if mode == STOCHASTIC_B:
        bits, bit_count = 2 * bits + 1, bit_count + 1
    below = shift - bit_count  # discarded bits below the random bits
    bits = bits << max(below, 0) >> max(-below, 0)
    if mode == STOCHASTIC_C and below > 0:  # these are rounded to nearest even
        bits += (1 << (below - 1)) - 1 + ((significand >> below) & 1)
    return (bits if mode in (STOCHASTIC, STOCHASTIC_B, STOCHASTIC_C) else added) & every


@njit(cache=True)
def round_patterns(before: Array, after: Array, random: Array, width: int, p: Parameters) -> None:
    """Rounds int64 patterns, sign-extended, with ``width`` fraction bits."""
    bias = 1075 if width == 52 else 150  # for the significand as an integer
    magnitude = (1 << 63) - 1 if width == 52 else (1 << 31) - 1
    implicit, infinite = 1 << width, magnitude >> width << width
    quiet_nan = infinite | implicit >> 1
    exponents = binades(before, width, p)
    low_exponent = p.low_quantum + bias - width
    quantum_pattern = low_exponent << width if low_exponent > 0 else 1 << (p.low_quantum + bias - 1)
    mode, bit_count = p.mode, p.random_bit_count
    bit_mask = (1 << bit_count) - 1
    for i in range(before.size):
        bits = before[i]
        a, negative = bits & magnitude, bits < 0
        biased = a >> width
        significand = (a & (implicit - 1)) | (implicit if biased > 0 else 0)
        quantum = p.low_quantum if exponents[i] < p.min_exponent else exponents[i] - p.mantissa_bits
        full_shift = max(quantum - max(biased, 1) + bias, 0)
        shift = min(full_shift, WIDEST_SHIFT)
        lost = min(full_shift - shift, 62)  # these bits are far below the quantum: only whether any is set matters
        significand = (significand >> lost) | (1 if significand & ((1 << lost) - 1) != 0 else 0)
        code_is_odd = (quantum + p.bias) & 1 if p.by_code else 1
        word = int(np.int64(random[i]))
        added = increment(significand, shift, code_is_odd, negative, word, mode, bit_count, bit_mask)
        one_or_none = quantum_pattern if (significand + added) >> shift > 0 else 0
        r = (a + added) >> shift << shift if shift <= width else one_or_none
        r = quantum_pattern if r == 0 and p.has_zero == 0 else r
        below_zero = negative and p.has_sign == 0
        end = p.below_zero if below_zero else p.negative_overflow if negative else p.positive_overflow
        r = end if (r > p.largest or (below_zero and r != 0)) else r
        r = (p.infinity_below_zero if below_zero else p.infinity) if a == infinite else r
        r = quiet_nan if a > infinite or (a == 0 and p.has_zero == 0) else r
        keeps_sign = negative and (r != 0 or p.has_negative_zero != 0)
        after[i] = r | (~magnitude if keeps_sign else 0)
