"""Numba: rounding one float64 pattern, and codes, in 64-bit integers; ``spec.py`` line by line.

A magnitude is a pattern without its sign; |x| = significand * 2**exponent. Everything is int64: Numba makes a
float64 of int64 and uint64.
"""

from __future__ import annotations

from numba import njit

from mpsim.kernels.parameters import CodeLayout, Parameters
from mpsim.policies import Mode

MAGNITUDE = (1 << 63) - 1
INFINITE = 0x7FF << 52
QUIET_NAN = 0xFFF << 51
IMPLICIT = 1 << 52
SIGN = -(1 << 63)

NEAREST_EVEN = Mode.NEAREST_EVEN.number
NEAREST_AWAY = Mode.NEAREST_AWAY.number
NEAREST_ZERO = Mode.NEAREST_ZERO.number
UP = Mode.UP.number
DOWN = Mode.DOWN.number
TO_ODD = Mode.TO_ODD.number
STOCHASTIC = Mode.STOCHASTIC.number


@njit(cache=True)
def split(magnitude: int) -> tuple[int, int]:
    """(significand, exponent) of a finite magnitude."""
    biased, fraction = magnitude >> 52, magnitude & (IMPLICIT - 1)
    if biased == 0:
        return fraction, -1074
    return fraction | IMPLICIT, biased - 1075


@njit(cache=True)
def top_bit(significand: int) -> int:
    """floor(log2(significand)) of 0 < significand < 2**63."""
    bit = 0
    for step in (32, 16, 8, 4, 2, 1):
        if significand >> (bit + step) > 0:
            bit += step
    return bit


@njit(cache=True)
def join(significand: int, exponent: int) -> int:
    """The magnitude of significand * 2**exponent >= 0, a float64 value or more than any (then infinity)."""
    if significand == 0:
        return 0
    top = 52 if significand >> 52 == 1 else top_bit(significand)
    binade = top + exponent
    if binade > 1023:
        return INFINITE
    if binade < -1022:
        return significand << (exponent + 1074)
    fraction = significand << (52 - top) if top <= 52 else significand >> (top - 52)
    return ((binade + 1022) << 52) + fraction


@njit(cache=True)
def increment(significand: int, shift: int, negative: bool, random: int, p: Parameters) -> int:
    """What is added to a significand before its last ``shift`` bits (1 to 61) are cut off.

    It carries into the rest exactly if the mode sends the number up.
    """
    half = 1 << (shift - 1)
    every, odd = 2 * half - 1, (significand >> shift) & 1
    mode = p.mode
    if mode == NEAREST_EVEN:
        return half - 1 + odd
    if mode == NEAREST_AWAY:
        return half
    if mode == NEAREST_ZERO:
        return half - 1
    if mode == UP:
        return 0 if negative else every
    if mode == DOWN:
        return every if negative else 0
    if mode == TO_ODD:
        return every * (1 - odd)
    if mode == STOCHASTIC:
        k = p.random_bit_count
        bits = random & ((1 << k) - 1)
        return bits << (shift - k) if shift >= k else bits >> (k - shift)
    return 0


@njit(cache=True)
def round_unbounded(magnitude: int, negative: bool, random: int, p: Parameters) -> int:
    """A finite magnitude but zero on the grid continued upward without end."""
    significand, exponent = split(magnitude)
    binade = exponent + (52 if magnitude >= IMPLICIT else top_bit(significand))
    quantum = p.low_quantum if binade < p.min_exponent else binade - p.mantissa_bits
    shift = quantum - exponent
    if shift <= 0:
        return magnitude
    if shift <= 52:  # a carry out of the significand raises the exponent by one
        result = (magnitude + increment(significand, shift, negative, random, p)) >> shift << shift
    else:  # the choice is zero or one quantum, 2**low_quantum
        if shift > 61:  # the last bit says whether there is anything lower
            dropped = min(shift - 61, 62)
            significand = significand >> dropped | int(significand & ((1 << dropped) - 1) != 0)
            shift = 61
        result = join((significand + increment(significand, shift, negative, random, p)) >> shift, p.low_quantum)
    return join(1, p.low_quantum) if result == 0 and p.has_zero == 0 else result


@njit(cache=True)
def round_pattern(bits: int, random: int, p: Parameters) -> int:
    """The float64 pattern of the rounded number."""
    magnitude, negative = bits & MAGNITUDE, bits < 0
    sign = bits & SIGN
    outside = (p.has_zero == 0 and magnitude == 0) or (p.has_sign == 0 and magnitude != 0 and negative)
    if magnitude > INFINITE or outside:
        return QUIET_NAN | sign
    if magnitude == INFINITE:
        return p.infinity | sign
    result = 0 if magnitude == 0 else round_unbounded(magnitude, negative, random, p)
    if result > p.largest:
        result = p.negative_overflow if negative else p.positive_overflow
    if result == 0 and p.has_negative_zero == 0:
        return 0
    return result | sign


@njit(cache=True)
def encode_pattern(bits: int, c: CodeLayout) -> int:
    """The code of a value of the format; as int64."""
    magnitude = bits & MAGNITUDE
    sign = 1 << (c.bits - 1) if bits < 0 and c.has_sign else 0
    if magnitude > INFINITE:
        return c.nan_code | (sign if c.nan_has_sign else 0)
    if magnitude == INFINITE:
        return c.infinity_code | sign
    if magnitude == 0:
        return sign if c.has_negative_zero else 0
    significand, exponent = split(magnitude)
    top = top_bit(significand)
    above = top + exponent - c.quantum_exponent - c.mantissa_bits  # binades above the smallest normal number's
    if not c.has_zero:
        return above
    drop = top - c.mantissa_bits if above > 0 else c.quantum_exponent - exponent
    kept = significand >> drop if drop >= 0 else significand << -drop
    # a normal number's implicit bit is added to the biased exponent's lowest
    return sign | ((max(above, 0) << c.mantissa_bits) + kept)


@njit(cache=True)
def decode_pattern(code: int, c: CodeLayout) -> int:
    """The float64 pattern of the code's number; the code as int64."""
    sign_mask = 1 << (c.bits - 1) if c.has_sign else 0
    sign = SIGN if code & sign_mask != 0 else 0
    magnitude = code & ~sign_mask
    if code == c.nan_code and c.has_nan:
        return QUIET_NAN
    if magnitude == c.infinity_code:
        return INFINITE | sign
    if magnitude > c.largest_code:
        return QUIET_NAN | sign
    biased, implicit = magnitude >> c.mantissa_bits, 1 << c.mantissa_bits
    mantissa = magnitude & (implicit - 1)
    if biased == 0 and c.has_zero:
        return (join(mantissa, c.quantum_exponent) if c.has_subnormals else 0) | sign
    return join(mantissa | implicit, c.quantum_exponent + biased - c.has_zero) | sign
