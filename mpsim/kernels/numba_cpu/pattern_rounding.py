"""Numba: rounding a block of patterns of float32 or float64 numbers in 64-bit integers; the meaning is spec.py's.

|x| = significand * 2**exponent is a magnitude ``a`` of sign-free bits. On a grid with quantum 2**q the last
shift = q - exponent bits of the significand are discarded, after an increment that carries into the rest exactly if
the mode sends the number up; a carry out of the significand raises the exponent by one, as it must. A shift beyond
the significand's width leaves zero or one quantum. The loop has no branches, so that it becomes vector code.
Everything is int64: Numba makes a float64 of int64 and uint64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.parameters import Parameters
from mpsim.policies import Mode

Array = np.ndarray[Any, Any]

NEAREST_EVEN = Mode.NEAREST_EVEN.number
NEAREST_ZERO = Mode.NEAREST_ZERO.number
UP = Mode.UP.number
DOWN = Mode.DOWN.number
TO_ODD = Mode.TO_ODD.number
STOCHASTIC = Mode.STOCHASTIC.number

WIDEST_SHIFT = 61  # a significand of 53 bits and an increment of 61 stay below 2**63


@njit(cache=True)
def binades(patterns: Array, width: int, p: Parameters) -> Array:
    """floor(log2(|x|)) of each number; of a subnormal source number only if the format has numbers as small."""
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
    significand: int, shift: int, negative: bool, random: int, mode: int, bit_count: int, bit_mask: int
) -> int:
    """What is added to a significand before its last ``shift`` bits are cut off; 0 if shift is 0."""
    every = (1 << shift) - 1
    half, even = (every + 1) >> 1, 1 - ((significand >> shift) & 1)
    nearest = mode <= NEAREST_ZERO
    added = half if nearest else 0
    added -= even if mode == NEAREST_EVEN else 1 if mode == NEAREST_ZERO else 0
    outward = (mode == UP and not negative) or (mode == DOWN and negative) or (mode == TO_ODD and even == 1)
    added = every if outward else added
    bits = (random & bit_mask) << max(shift - bit_count, 0) >> max(bit_count - shift, 0)
    return (bits if mode == STOCHASTIC else added) & every


@njit(cache=True)
def round_patterns(patterns: Array, random: Array, width: int, p: Parameters) -> tuple[int, int, int, int, int]:
    """Rounds int64 patterns, sign-extended, with ``width`` fraction bits, in place; gives the five counts."""
    bias = 1075 if width == 52 else 150  # of the significand as an integer
    magnitude = (1 << 63) - 1 if width == 52 else (1 << 31) - 1
    implicit, infinite = 1 << width, magnitude >> width << width
    quiet_nan = infinite | implicit >> 1
    exponents = binades(patterns, width, p)
    low_exponent = p.low_quantum + bias - width
    quantum_pattern = low_exponent << width if low_exponent > 0 else 1 << (p.low_quantum + bias - 1)
    mode, bit_count = p.mode, p.random_bit_count
    bit_mask = (1 << bit_count) - 1
    overflowed = underflowed = nan = inexact = subnormal = 0
    for i in range(patterns.size):
        bits = patterns[i]
        a, negative = bits & magnitude, bits < 0
        biased = a >> width
        significand = (a & (implicit - 1)) | (implicit if biased > 0 else 0)
        quantum = p.low_quantum if exponents[i] < p.min_exponent else exponents[i] - p.mantissa_bits
        full_shift = max(quantum - max(biased, 1) + bias, 0)
        shift = min(full_shift, WIDEST_SHIFT)
        lost = min(full_shift - shift, 62)  # of these bits, far below the quantum, only whether there are any counts
        significand = (significand >> lost) | (1 if significand & ((1 << lost) - 1) != 0 else 0)
        added = increment(significand, shift, negative, int(np.int64(random[i])), mode, bit_count, bit_mask)
        one_or_none = quantum_pattern if (significand + added) >> shift > 0 else 0
        r = (a + added) >> shift << shift if shift <= width else one_or_none
        r = quantum_pattern if r == 0 and p.has_zero == 0 else r
        r = (p.negative_overflow if negative else p.positive_overflow) if r > p.largest else r
        r = p.infinity if a == infinite else r
        no_number = a > infinite or (a == 0 and p.has_zero == 0) or (negative and a != 0 and p.has_sign == 0)
        r = quiet_nan if no_number else r
        keeps_sign = negative and (r != 0 or p.has_negative_zero != 0)
        overflowed += a >= p.overflow_from
        underflowed += a != 0 and a <= p.underflow_to
        nan += a > infinite
        inexact += a <= infinite and r != a
        subnormal += r != 0 and r < p.smallest_normal
        patterns[i] = r | (~magnitude if keeps_sign else 0)
    return overflowed, underflowed, nan, inexact, subnormal
