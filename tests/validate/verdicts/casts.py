"""Casts for the verdict matrix, right ones and ones with one defect, in integers: nothing here is made of mpsim.

Each takes an array of the source type and answers codes, or numbers where it says so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]


class Target(NamedTuple):
    """A format: its bits, mantissa bits, smallest exponent, and the codes of its largest number, infinity and NaN."""

    bits: int
    mantissa: int
    least: int
    largest: int
    infinity: int
    nan: int


E5M2 = Target(8, 2, -14, 0x7B, 0x7C, 0x7E)
E4M3FN = Target(8, 3, -6, 0x7E, 0x7F, 0x7F)  # without infinity: overflow is NaN
FLOAT16 = Target(16, 10, -14, 0x7BFF, 0x7C00, 0x7E00)
BFLOAT16 = Target(16, 7, -126, 0x7F7F, 0x7F80, 0x7FC0)

Up = Callable[[Array, Array, Array, Array], Array]  # (kept bits, discarded bits, half, negative) -> whether up


def even(keep: Array, discarded: Array, half: Array, negative: Array) -> Array:
    return (discarded > half) | ((discarded == half) & (keep % 2 == 1))


def fields(x: Array) -> tuple[Array, Array, Array, int]:
    """(sign, exponent, significand, its mantissa bits) of float32 or float64 numbers; subnormal ones not normalised."""
    width, mantissa, bias = (32, 23, 127) if x.dtype == np.float32 else (64, 52, 1023)
    pattern = x.view(f"uint{width}").astype(np.uint64)
    field = (pattern >> np.uint64(mantissa) & np.uint64((1 << (width - 1 - mantissa)) - 1)).astype(np.int64)
    fraction = (pattern & np.uint64((1 << mantissa) - 1)).astype(np.int64)
    significand = fraction | (field > 0).astype(np.int64) << mantissa
    return (pattern >> np.uint64(width - 1)).astype(np.int64), np.maximum(field, 1) - bias, significand, mantissa


def magnitudes(x: Array, to: Target, up: Up = even) -> Array:
    """Codes of finite magnitudes, as if the exponent had no end."""
    sign, exponent, significand, mantissa = fields(x)
    used = np.maximum(exponent, to.least)
    shift = np.minimum(mantissa - to.mantissa + used - exponent, 60)
    keep, discarded = significand >> shift, significand & ((np.int64(1) << shift) - 1)
    keep = keep + up(keep, discarded, np.int64(1) << (shift - 1), sign == 1)
    return keep + ((used - to.least) << to.mantissa)


def finished(x: Array, code: Array, to: Target, overflow: int | None = None) -> Array:
    """Codes with signs, infinities and NaN; ``overflow``: the code of what is too large, infinity's by default."""
    code = np.where(code > to.largest, to.infinity if overflow is None else overflow, code)
    code = np.where(np.isinf(x), to.infinity if overflow is None else overflow, code)
    code = np.where(np.isnan(x), to.nan, code)
    return (code | np.signbit(x).astype(np.int64) << (to.bits - 1)).astype(f"uint{to.bits}")


def nearest(x: Array, to: Target) -> Array:
    return finished(x, magnitudes(x, to), to)


# -- right ------------------------------------------------------------------------------------------------------


def e5m2(x: Array) -> Array:
    return nearest(x, E5M2)


def e4m3fn_saturating(x: Array) -> Array:
    """OCP OFP8's saturating conversion: infinity too becomes the largest number."""
    return finished(x, magnitudes(x, E4M3FN), E4M3FN, E4M3FN.largest)


def bfloat16(x: Array) -> Array:
    return nearest(x, BFLOAT16)


def bfloat16_payload(x: Array) -> Array:
    """NaN keeps the upper bits of its payload, quieted."""
    quieted = x.view(np.uint32) >> 16 | 0x40
    return np.where(np.isnan(x), quieted, nearest(x, BFLOAT16)).astype(np.uint16)


def float16_numbers(x: Array) -> Array:
    """Answers numbers in float32."""
    return nearest(x, FLOAT16).view(np.float16).astype(np.float32)


def signed_codes(x: Array) -> Array:
    """The right codes, as signed integers."""
    return nearest(x, E5M2).view(np.int8)


def list_of_codes(x: Array) -> list[int]:
    """The right codes in a Python list."""
    return list(map(int, nearest(x, E5M2)))


def in_place(x: Array) -> Array:
    """Right, and it overwrites what it was given."""
    codes = nearest(x, E5M2)
    x[...] = 0
    return codes


def talkative(x: Array) -> Array:
    """Right, and it prints what it does."""
    print(f"casting {x.size} numbers", flush=True)
    return nearest(x, E5M2)


def as_ml_dtypes(x: Array) -> Array:
    """Answers an array of the format's own type."""
    return nearest(x, E5M2).view(ml_dtypes.float8_e5m2)


def big_endian(x: Array) -> Array:
    """The right codes in the other order of bytes, of which every second one counts."""
    return np.repeat(nearest(x, BFLOAT16), 2).astype(">u2")[::2]


def half_toward_zero(x: Array) -> Array:
    """float16 to float8_e5m2: the upper byte; NaN is quieted."""
    return np.where(np.isnan(x), x.view(np.uint16) >> 8 | 2, x.view(np.uint16) >> 8).astype(np.uint8)


def float4_satfinite(x: Array) -> Array:
    """float4_e2m1fn by comparison with the midpoints; NaN becomes the largest number."""
    midpoints = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
    goes_up = (False, True, False, True, False, True, False)  # at the midpoint itself, to the even code
    magnitude = np.abs(np.where(np.isnan(x), np.inf, x))[:, None]
    code = np.where(goes_up, magnitude >= midpoints, magnitude > midpoints).sum(1)
    return (code | (np.signbit(x) & ~np.isnan(x)).astype(np.int64) << 3).astype(np.uint8)


def float32_of_float64(x: Array) -> Array:
    return x.astype(np.float32)


def stochastic_given(x: Array, words: Array) -> Array:
    """bfloat16: the lower 16 random bits are added below those that stay."""
    pattern = x.view(np.uint32)
    added = np.where(np.isfinite(x), pattern + (words & np.uint32(0xFFFF)), pattern) >> 16
    return np.where(np.isnan(x), added | 0x40, added).astype(np.uint16)


GENERATOR = np.random.default_rng(11)


def stochastic_own(x: Array) -> Array:
    return stochastic_given(x, GENERATOR.integers(0, 1 << 16, x.size, np.uint32))


# -- wrong ------------------------------------------------------------------------------------------------------


def ties_away(x: Array) -> Array:
    return finished(x, magnitudes(x, E5M2, lambda keep, rest, half, negative: rest >= half), E5M2)


def ties_to_zero(x: Array) -> Array:
    return finished(x, magnitudes(x, E5M2, lambda keep, rest, half, negative: rest > half), E5M2)


def ties_upward(x: Array) -> Array:
    """floor(x + half): positive ties go away from zero, negative ones toward it."""

    def up(keep: Array, rest: Array, half: Array, negative: Array) -> Array:
        return (rest > half) | ((rest == half) & ~negative)

    return finished(x, magnitudes(x, E5M2, up), E5M2)


def downward(x: Array) -> Array:
    code = magnitudes(x, BFLOAT16, lambda keep, rest, half, negative: (rest > 0) & negative)
    finite = finished(x, np.minimum(code, BFLOAT16.largest + (x < 0)), BFLOAT16)
    return finite


def to_odd(x: Array) -> Array:
    """float16 to float8_e5m2: what is cut off is remembered in the last bit."""
    pattern = x.view(np.uint16)
    sticky = ((pattern & 0xFF) != 0) & np.isfinite(x)
    return np.where(np.isnan(x), pattern >> 8 | 2, pattern >> 8 | sticky).astype(np.uint8)


def negative_truncated(x: Array) -> Array:
    code = np.where(
        x < 0,
        magnitudes(x, E5M2, lambda keep, rest, half, negative: rest < 0),
        magnitudes(x, E5M2),
    )
    return finished(x, code, E5M2)


def results_flushed(x: Array) -> Array:
    code = magnitudes(x, FLOAT16)
    return finished(x, np.where(code < 0x400, 0, code), FLOAT16)


def inputs_flushed(x: Array) -> Array:
    return finished(x, np.where(np.abs(x) < 2.0**-14, 0, magnitudes(x, FLOAT16)), FLOAT16)


def carry_lost(x: Array) -> Array:
    """float16 to float8_e5m2: the significand's carry never reaches the exponent."""
    pattern = (x.view(np.uint16) & 0x7FFF).astype(np.int64)
    kept, rest = pattern >> 8, pattern & 0xFF
    up = (rest > 0x80) | ((rest == 0x80) & (kept % 2 == 1))
    return finished(x, kept & ~3 | (kept + up) & 3, E5M2)


def via_float16(x: Array) -> Array:
    return nearest(x.astype(np.float16).astype(np.float32), E4M3FN)


def via_bfloat16(x: Array) -> Array:
    once = nearest(x, BFLOAT16).astype(np.uint32) << 16
    return nearest(once.view(np.float32), E5M2)


def via_float32(x: Array) -> Array:
    return nearest(x.astype(np.float32), E4M3FN)


def without_sticky(x: Array) -> Array:
    cut = np.where(np.isnan(x), x.view(np.uint32), x.view(np.uint32) & np.uint32(0xFFFF0000))
    return nearest(cut.astype(np.uint32).view(np.float32), E4M3FN)


def e4m3fn_overflowing(x: Array) -> Array:
    return nearest(x, E4M3FN)


def saturating(x: Array) -> Array:
    """Finite numbers saturate; infinity stays."""
    code = np.minimum(magnitudes(x, E5M2), E5M2.largest)
    return finished(x, code, E5M2)


def early_overflow(x: Array) -> Array:
    """Everything beyond the largest number is infinity, also what should round to it."""
    return finished(x, np.where(np.abs(x) > 65504, FLOAT16.infinity, magnitudes(x, FLOAT16)), FLOAT16)


def infinity_to_largest(x: Array) -> Array:
    codes = nearest(x, E5M2)
    return np.where(np.isinf(x), codes - 1, codes).astype(np.uint8)


def nan_to_zero(x: Array) -> Array:
    return np.where(np.isnan(x), 0, nearest(x, E5M2)).astype(np.uint8)


def nan_rounded(x: Array) -> Array:
    """The usual bfloat16 rounding without a look at NaN: some become infinity, some zero of either sign."""
    pattern = x.view(np.uint32)
    return ((pattern + np.uint32(0x7FFF) + (pattern >> 16 & 1)) >> 16).astype(np.uint16)


def nan_negative(x: Array) -> Array:
    """Every NaN gets the code of -NaN."""
    return np.where(np.isnan(x), 0xFE, nearest(x, E5M2)).astype(np.uint8)


def zero_without_sign(x: Array) -> Array:
    return np.where(x == 0, 0, nearest(x, E5M2)).astype(np.uint8)


def one_wrong_entry(x: Array) -> Array:
    """A table with one wrong entry."""
    codes = nearest(x, E5M2)
    return np.where(codes == 0x35, 0x36, codes).astype(np.uint8)


def one_wrong_input(x: Array) -> Array:
    """float16 to float8_e5m2: one pattern of 65 536 is answered wrongly."""
    codes = nearest(x.astype(np.float32), E5M2)
    return np.where(x.view(np.uint16) == 0x3C80, 0x3D, codes).astype(np.uint8)


def subnormals_unrounded(x: Array) -> Array:
    """Numbers in float32; what is below the smallest normal float16 comes back as it was."""
    return np.where(np.abs(x) < 2.0**-14, x, float16_numbers(x))


def ties_away_and_nan_to_zero(x: Array) -> Array:
    """Two defects."""
    return np.where(np.isnan(x), 0, ties_away(x)).astype(np.uint8)


def subnormals_truncated(x: Array) -> Array:
    code = magnitudes(x, FLOAT16, lambda keep, rest, half, negative: rest < 0)
    return finished(x, np.where(np.abs(x) < 2.0**-14, code, magnitudes(x, FLOAT16)), FLOAT16)


def code_wraps(x: Array) -> Array:
    """What is too large runs over into the sign and begins again."""
    code = magnitudes(x, E5M2)
    finite = np.isfinite(x)
    wrapped = (code + (np.signbit(x).astype(np.int64) << 7)) & 0xFF
    return np.where(finite & (code > E5M2.infinity), wrapped, nearest(x, E5M2)).astype(np.uint8)


def tail_truncated(x: Array) -> Array:
    """Vectors of 8 are right; what is left at the end is cut off instead of rounded."""
    whole = x.size // 8 * 8
    cut = finished(x, magnitudes(x, E5M2, lambda keep, rest, half, negative: rest < 0), E5M2)
    return np.where(np.arange(x.size) < whole, nearest(x, E5M2), cut)


def tail_infinity(x: Array) -> Array:
    """Vectors of 8 are right; infinities left at the end become the largest number."""
    return np.where(np.arange(x.size) < x.size // 8 * 8, nearest(x, E5M2), infinity_to_largest(x))


def first_ties_away(x: Array) -> Array:
    """Right but for the first number, whose ties go away from zero."""
    return np.concatenate([ties_away(x[:1]), nearest(x[1:], E5M2)])


def one_ties_away(x: Array) -> Array:
    """A single number takes a path of its own, whose ties go away from zero."""
    return ties_away(x) if x.size == 1 else nearest(x, E5M2)


def stochastic_eight_bits(x: Array, words: Array) -> Array:
    """Only 8 of the 16 random bits are used."""
    return stochastic_given(x, words & np.uint32(0xFF00))


def stochastic_tail_truncated(x: Array, words: Array) -> Array:
    """Vectors of 8 use their words; what is left at the end is cut off."""
    return stochastic_given(x, np.where(np.arange(x.size) < x.size // 8 * 8, words, 0).astype(np.uint32))


def stochastic_biased(x: Array) -> Array:
    """Random bits whose first is always 0: what lies in the lower half never goes up."""
    return stochastic_given(x, GENERATOR.integers(0, 1 << 15, x.size, np.uint32))


def stochastic_without_a_binade(x: Array) -> Array:
    """Numbers from 4 to 8 never go up."""
    words = GENERATOR.integers(0, 1 << 16, x.size, np.uint32)
    return stochastic_given(x, np.where((np.abs(x) >= 4) & (np.abs(x) < 8), 0, words).astype(np.uint32))


def stochastic_slightly_biased(x: Array) -> Array:
    """Of 25 words one has its first bit set."""
    words = GENERATOR.integers(0, 1 << 16, x.size, np.uint32)
    return stochastic_given(x, np.where(GENERATOR.random(x.size) < 0.04, words | 0x8000, words).astype(np.uint32))


def stochastic_away(x: Array) -> Array:
    """Numbers that are exact go up as well."""
    words = GENERATOR.integers(1, (1 << 16) + 1, x.size, np.uint32)
    pattern = x.view(np.uint32)
    added = np.where(np.isfinite(x) & (x != 0), pattern + words + 0x8000, pattern) >> 16
    return np.where(np.isnan(x), added | 0x40, added).astype(np.uint16)


# -- other policies ---------------------------------------------------------------------------------------------


def of_bfloat16(x: Array) -> Array:
    """bfloat16 to float8_e5m2, right."""
    return nearest(x.astype(np.float32), E5M2)


def small_results(x: Array) -> Array:
    """The same, with results below the smallest normal number flushed."""
    codes = of_bfloat16(x)
    return np.where(codes & 0x7F < 4, codes & 0x80, codes).astype(np.uint8)


def small_inputs(x: Array) -> Array:
    """The same, with inputs below the smallest normal number of the result flushed."""
    return np.where(np.abs(x.astype(np.float32)) < 2.0**-14, of_bfloat16(x) & 0x80, of_bfloat16(x)).astype(np.uint8)


def tiny_results(x: Array) -> Array:
    """The same, with results flushed that would be subnormal if the exponent had no end, as x86 does with FTZ."""
    wide = x.astype(np.float32)
    small = np.abs(wide) < np.float32(2.0**-14)
    doubled = nearest(np.where(small, 2 * wide, 0).astype(np.float32), E5M2) & 0x7F  # normal where it matters
    return np.where(small & (doubled < 8), of_bfloat16(x) & 0x80, of_bfloat16(x)).astype(np.uint8)


def infinity_to_nan(x: Array) -> Array:
    """Finite numbers saturate; infinity becomes NaN."""
    return np.where(np.isinf(x), 0x7E, saturating(x)).astype(np.uint8)


def upper_byte(x: Array) -> Array:
    """float16 to float8_e5m2: the upper byte of the pattern, of a NaN too."""
    return (x.view(np.uint16) >> 8).astype(np.uint8)


def zeros_positive(x: Array) -> Array:
    codes = nearest(x, E5M2)
    return np.where(codes == 0x80, 0, codes).astype(np.uint8)


def never_zero(x: Array) -> Array:
    """What would round to zero becomes the smallest number."""
    codes = nearest(x, E5M2)
    return np.where((codes & 0x7F == 0) & (x != 0), codes | 1, codes).astype(np.uint8)


# -- no answers -------------------------------------------------------------------------------------------------


def random_ties(x: Array) -> Array:
    """Another answer at every call."""
    codes = nearest(x, E5M2).astype(np.int64)
    flips = GENERATOR.random(x.size) < 0.01
    return np.where(flips & np.isfinite(x), codes ^ 1, codes).astype(np.uint8)


CALLS: list[int] = []


def right_once(x: Array) -> Array:
    """Right at the first call; cut off instead of rounded at all others."""
    CALLS.append(x.size)
    cut = finished(x, magnitudes(x, E5M2, lambda keep, rest, half, negative: rest < 0), E5M2)
    return nearest(x, E5M2) if len(CALLS) == 1 else cut


def codes_too_wide(x: Array) -> Array:
    return nearest(x, E5M2).astype(np.uint16) | 0x100


def one_answer_less(x: Array) -> Array:
    return nearest(x, E5M2)[1:]


def truth_values(x: Array) -> Array:
    return x > 0


def two_arrays(x: Array) -> tuple[Array, Array]:
    return nearest(x, E5M2), nearest(x, E5M2)


def refuses_nan(x: Array) -> Array:
    if np.isnan(x).any():
        raise ValueError("NaN is not supported")
    return nearest(x, E5M2)


def reads_beyond(x: Array) -> Array:
    """A segmentation fault."""
    ctypes.string_at(0)
    return nearest(x, E5M2)
