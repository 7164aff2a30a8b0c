"""Casts to and from integers, and decoders, for the verdict matrix: nothing here is made of mpsim."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def clipped(y: Array, least: int = -128, most: int = 127, nan: int = 0) -> Array:
    """Integers in a range, as int8."""
    return np.where(np.isnan(y), nan, np.clip(y, least, most)).astype(np.int8)


# -- to integers ------------------------------------------------------------------------------------------------


def int8_even(x: Array) -> Array:
    return clipped(np.rint(x))


def int8_numbers(x: Array) -> Array:
    """Answers numbers in float32."""
    return int8_even(x).astype(np.float32)


def int4_even(x: Array) -> Array:
    return clipped(np.rint(x), -8, 7)


def int8_half_added(x: Array) -> Array:
    return clipped(np.trunc(x + np.copysign(x.dtype.type(0.5), x)))


def int8_half_floored(x: Array) -> Array:
    return clipped(np.floor(x + x.dtype.type(0.5)))


def int8_truncated(x: Array) -> Array:
    return clipped(np.trunc(x))


def int8_wrapped(x: Array) -> Array:
    """The low byte of the rounded number; infinity and NaN give 0."""
    finite = np.where(np.isfinite(x), x, 0).astype(np.float64)
    return np.fmod(np.rint(finite), 256.0).astype(np.int64).astype(np.uint8).view(np.int8)


def int8_symmetric(x: Array) -> Array:
    """Without -128."""
    return clipped(np.rint(x), -127, 127)


def int8_low_wrapped(x: Array) -> Array:
    """Below -128 the largest number, above 127 too."""
    return np.where(np.rint(x) < -128, 127, clipped(np.rint(x))).astype(np.int8)


def int8_infinity_is_zero(x: Array) -> Array:
    return np.where(np.isinf(x), 0, clipped(np.rint(x))).astype(np.int8)


def int8_nan_largest(x: Array) -> Array:
    return clipped(np.rint(x), nan=127)


def int8_tail(x: Array) -> Array:
    """Vectors of 8 are rounded; what is left at the end is truncated."""
    return np.where(np.arange(x.size) < x.size // 8 * 8, int8_even(x), int8_truncated(x))


def int8_in_a_column(x: Array) -> Array:
    return int8_even(x)[:, None]


def int32_as_x86(x: Array) -> Array:
    """Toward zero; everything that int32 does not hold is 0x80000000."""
    whole = np.trunc(x.astype(np.float64))
    held = (whole >= -(2.0**31)) & (whole < 2.0**31)
    return np.where(held, np.where(held, whole, 0).astype(np.int64), -(2**31)).astype(np.int32)


def uint8_of_3(x: Array) -> Array:
    """Zero point 3, added after rounding."""
    return np.where(np.isnan(x), 3, np.clip(np.rint(x).astype(np.float64) + 3, 0, 255)).astype(np.uint8)


def uint8_of_3_first(x: Array) -> Array:
    """Zero point 3, added before rounding."""
    return np.where(np.isnan(x), 3, np.clip(np.rint(x + np.float32(3)), 0, 255)).astype(np.uint8)


def sign_and_magnitude(x: Array) -> Array:
    magnitude = np.where(np.isnan(x), 0, np.clip(np.rint(np.abs(x)), 0, 127)).astype(np.uint8)
    return np.where((x < 0) & (magnitude > 0), magnitude | 0x80, magnitude).astype(np.uint8)


# -- from integers ----------------------------------------------------------------------------------------------


def bfloat16_code(number: int) -> int:
    """The code of an integer, rounded once to nearest even."""
    magnitude = abs(number)
    shift = max(magnitude.bit_length() - 8, 0)
    keep, rest = magnitude >> shift, magnitude & ((1 << shift) - 1)
    keep += shift > 0 and (2 * rest > 1 << shift or (2 * rest == 1 << shift and keep % 2 == 1))
    code = int(np.float32(float(keep) * 2.0**shift).view(np.uint32)) >> 16
    return code | 0x8000 if number < 0 else code


def bfloat16_of_integers(x: Array) -> Array:
    return np.array([bfloat16_code(int(each)) for each in x], np.uint16)


def bfloat16_through_float32(x: Array) -> Array:
    pattern = x.astype(np.float32).view(np.uint32)
    return ((pattern + np.uint32(0x7FFF) + (pattern >> 16 & 1)) >> 16).astype(np.uint16)


def float32_through_float64(x: Array) -> Array:
    return x.astype(np.float64).astype(np.float32)


def float16_of_signed(x: Array) -> Array:
    """Takes bytes for signed ones."""
    return x.view(np.int8).astype(np.float16)


# -- codes of float8_e4m3fn -------------------------------------------------------------------------------------


def decoded(codes: Array) -> Array:
    """Numbers in float32."""
    field, fraction = (codes >> 3 & 15).astype(np.int64), (codes & 7).astype(np.float64)
    magnitude = np.ldexp(np.where(field > 0, 8 + fraction, fraction), np.maximum(field, 1) - 10)
    magnitude = np.where(codes & 0x7F == 0x7F, np.nan, magnitude)
    return np.where(codes & 0x80, -magnitude, magnitude).astype(np.float32)


def decoded_flushed(codes: Array) -> Array:
    """Subnormal numbers are zeros of their signs."""
    x = decoded(codes)
    return np.where(codes & 0x78, x, np.copysign(np.float32(0), x))


def decoded_as_fnuz(codes: Array) -> Array:
    """Takes the codes for those of float8_e4m3fnuz: half the number, 0x80 is NaN, and 0x7f is a number."""
    field, fraction = (codes >> 3 & 15).astype(np.int64), (codes & 7).astype(np.float64)
    magnitude = np.ldexp(np.where(field > 0, 8 + fraction, fraction), np.maximum(field, 1) - 11)
    return np.where(codes == 0x80, np.nan, np.where(codes & 0x80, -magnitude, magnitude)).astype(np.float32)


def decoded_to_int8(codes: Array) -> Array:
    return int8_even(decoded(codes))
