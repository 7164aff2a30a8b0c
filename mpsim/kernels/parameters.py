"""Converts a Format and a Policy to plain integers, for kernels that do not use Python objects.

The compiled and the Numba backend read the same numbers. ``spec.py`` is the definition.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from mpsim.formats import Format
from mpsim.kernels.spec import below_zero, extra_bias, number, overflowed, same_layout
from mpsim.policies import Mode, Overflow, Policy

#: Kernels by the integers they need: 32 bits, 64 bits, or the float32 algorithm of the legacy modes.
NARROW, WIDE, LEGACY = range(3)


class Parameters(NamedTuple):
    """The numbers for rounding. ext/common/structs.h has the same fields in the same order.

    Magnitudes are bit patterns without the sign: of float32 on the paths NARROW and LEGACY, of float64 on WIDE.
    """

    path: int
    mode: int
    mantissa_bits: int
    min_exponent: int
    low_quantum: int  # the grid below the smallest normal number has the multiples of 2**low_quantum
    largest: int
    smallest_normal: int
    positive_overflow: int  # the result for a finite number rounded beyond the largest, by its sign
    negative_overflow: int
    infinity: int  # the result for an infinite number
    overflow_from: int  # the smallest magnitude that is counted as overflowed
    underflow_to: int  # the largest magnitude that is counted as underflowed; zero is not
    random_bit_count: int
    has_negative_zero: int
    has_sign: int
    has_zero: int
    below_zero: int  # unsigned formats: the result for a negative number not rounded to zero; then for -infinity
    infinity_below_zero: int
    by_code: int  # 1: the parity of a number is that of its code, in formats with one significant bit
    bias: int
    scale_exponent: int  # LEGACY: B. The following are patterns in the scaled format, with bias 2**(E - 1) - 1
    scaled_smallest_normal: int
    scaled_limit: int  # the smallest scaled magnitude that is clipped
    scaled_largest: int  # the magnitude it is clipped to


class CodeLayout(NamedTuple):
    """The numbers for encoding and decoding. ext/common/structs.h has the same fields. A missing code is -1."""

    bits: int
    mantissa_bits: int
    quantum_exponent: int
    largest_code: int
    infinity_code: int
    nan_code: int
    has_sign: int
    has_zero: int
    has_negative_zero: int
    has_subnormals: int
    nan_has_sign: int
    has_nan: int


def pattern(x: float, path: int) -> int:
    """Returns the bits of |x| in the path's source format, truncated to its precision if necessary."""
    if path == WIDE:
        return int(struct.unpack("<q", struct.pack("<d", abs(x)))[0])
    bits = struct.unpack("<q", struct.pack("<d", abs(x)))[0]
    exponent, fraction = (bits >> 52) - 1023 + 127, bits & ((1 << 52) - 1)
    if exponent >= 255:
        is_nan = bits > 0x7FF << 52
        return 0x7FC00000 if is_nan else 0x7F800000 if exponent > 1023 else 0x7F7FFFFF
    if exponent >= 1:
        return (exponent << 23) | fraction >> 29
    return ((1 << 52) | fraction) >> (30 - exponent)


@lru_cache(maxsize=1024)
def parameters(
    format: Format, policy: Policy, source: str, own_patterns: bool = False, through_float32: bool = False
) -> Parameters:
    """Returns the numbers for rounding arrays of ``source``, "float32" or "float64".

    ``own_patterns``: for a kernel that rounds to any format in patterns of the source: NARROW for float32, else WIDE.
    ``through_float32``: for a kernel that takes the path NARROW for float64 numbers too, after it rounded them to odd.
    """
    path = _path(format, policy, source, own_patterns)
    if through_float32 and source == "float64" and _may_round_to_odd(format, policy):
        path = _path(format, policy, "float32", own_patterns)
    own = same_layout(source, format)  # every finite number is on the grid

    def end(negative: bool, infinite: bool) -> int:
        return pattern(number(overflowed(negative, infinite, format, policy), False, format), path)

    def below(infinite: bool) -> int:
        return pattern(number(below_zero(infinite, format, policy), False, format), path)

    assert format.bias is not None
    from_, to = _count_thresholds(format, path)
    return Parameters(
        path=path,
        mode=(Mode.TOWARD_ZERO if own else policy.mode).number,
        mantissa_bits=format.mantissa_bits,
        min_exponent=format.min_exponent,
        low_quantum=format.quantum_exponent if format.subnormals else format.min_exponent,
        largest=pattern(format.largest, path),
        smallest_normal=pattern(format.smallest_normal, path),
        positive_overflow=end(False, False),
        negative_overflow=end(True, False),
        infinity=pattern(float("inf"), path) if own and policy.mode.is_legacy else end(False, True),
        overflow_from=from_,
        underflow_to=to,
        random_bit_count=policy.random_bit_count or 0,
        has_negative_zero=int(format.has_negative_zero),
        has_sign=int(format.signed),
        has_zero=int(format.has_zero),
        below_zero=below(False),
        infinity_below_zero=below(True),
        by_code=int(format.has_parity_of_code),
        bias=format.bias,
        **_legacy_numbers(format, policy, path),
    )


def _path(format: Format, policy: Policy, source: str, own_patterns: bool) -> int:
    if policy.mode.is_legacy and not same_layout(source, format):
        return LEGACY
    if own_patterns:
        return NARROW if source == "float32" else WIDE
    low = format.quantum_exponent if format.subnormals else format.min_exponent
    narrow = (
        source == "float32"
        and format.fits_float32
        and format.signed
        and format.has_zero
        and format.min_exponent >= -126  # every subnormal source number is below the smallest normal one
        and low + 23 <= 127  # a float32 number of that quantum exists
        and not format.has_parity_of_code
        and policy.mode not in (Mode.STOCHASTIC_B, Mode.STOCHASTIC_C, Mode.STOCHASTIC_EQUAL)
    )
    powers_of_two = (  # E8M0 and its like: numbers below 2**-126, if any, have the lowest quantum
        source == "float32"
        and policy.mode is Mode.NEAREST_EVEN
        and not format.has_zero
        and format.mantissa_bits == 0
        and -127 <= format.min_exponent <= 0 <= format.max_exponent <= 127
    )
    return NARROW if narrow or powers_of_two else WIDE


def _may_round_to_odd(format: Format, policy: Policy) -> bool:
    """Returns whether a float64 number may be rounded to odd float32 numbers first: these have two more bits than
    numbers of the format everywhere, so that each is on the same side of every tie, number and threshold, or is it.
    Numbers beyond float32's become its largest, beyond the format's, or at least beyond the last tie."""
    low = format.quantum_exponent if format.subnormals else format.min_exponent
    deterministic = not policy.mode.needs_random_bits and not policy.mode.is_legacy
    nearest = policy.mode in (Mode.NEAREST_EVEN, Mode.NEAREST_AWAY, Mode.NEAREST_ZERO)
    in_range = format.max_exponent < 127 or (nearest and format.max_exponent == 127)
    return deterministic and in_range and format.mantissa_bits <= 21 and low >= -147


def _count_thresholds(format: Format, path: int) -> tuple[int, int]:
    """Returns the smallest magnitude counted as overflowed and the largest counted as underflowed."""
    midpoint, midpoint_overflows = format.overflow_threshold
    cut = pattern(midpoint, path)
    exact_cut = path == WIDE or midpoint == float("inf") or _value(cut, path) == Fraction(midpoint)
    half = Fraction(format.smallest) / 2
    to = pattern(format.smallest, path)
    # halving a pattern subtracts one from the exponent, or halves a subnormal pattern
    one = 1 << (52 if path == WIDE else 23)
    to = to - one if to >= 2 * one else to >> 1
    assert _value(to, path) <= half
    return (cut if exact_cut and midpoint_overflows else cut + 1), to


def _value(bits: int, path: int) -> Fraction:
    width, bias = (52, 1075) if path == WIDE else (23, 150)
    exponent, fraction = bits >> width, bits & ((1 << width) - 1)
    if exponent:
        fraction |= 1 << width
    return Fraction(fraction) * Fraction(2) ** (max(exponent, 1) - bias)


def _legacy_numbers(format: Format, policy: Policy, path: int) -> dict[str, int]:
    names = ("scale_exponent", "scaled_smallest_normal", "scaled_limit", "scaled_largest")
    if path != LEGACY:
        return dict.fromkeys(names, 0)
    top = 2 ** (format.exponent_bits - 1)  # 2**(top + 1) is one binade beyond
    never = 0x7FFFFFFF
    limit = ((top + 1 + 127) << 23) if top + 1 <= 127 else never
    clipped = float("inf") if policy.overflow is Overflow.MARK else (2 - 2.0**-format.mantissa_bits) * 2.0**top
    return dict(zip(names, (extra_bias(format), (2 - top + 127) << 23, limit, pattern(clipped, path)), strict=True))


def _signed(code: int) -> int:
    """Returns a 64-bit code as int64."""
    return code - (1 << 64) if code >= 1 << 63 else code


@lru_cache(maxsize=1024)
def code_layout(format: Format) -> CodeLayout:
    """Returns the numbers for encoding to and decoding from the format."""
    return CodeLayout(
        bits=format.bits,
        mantissa_bits=format.mantissa_bits,
        quantum_exponent=format.quantum_exponent,
        largest_code=format.largest_code,
        infinity_code=-1 if format.infinity_code is None else format.infinity_code,
        nan_code=_signed(-1 if format.nan_code is None else format.nan_code),
        has_sign=int(format.signed),
        has_zero=int(format.has_zero),
        has_negative_zero=int(format.has_negative_zero),
        has_subnormals=int(format.subnormals),
        nan_has_sign=int(format.specials in ("ieee", "fn")),
        has_nan=int(format.has_nan),
    )
