"""Block quantisers for the verdict matrix, in NumPy and ml_dtypes: nothing here is made of mpsim.

MX: a power of two for every 32 elements, elements of float8_e4m3fn, float8_e5m2 or float4_e2m1fn; rows are blocks.
"""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
e4m3fn, e5m2, e2m1 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float4_e2m1fn
#: element type -> (exponent of its largest number, that number)
ENDS: dict[Any, tuple[int, float]] = {e4m3fn: (8, 448.0), e5m2: (15, 57344.0), e2m1: (2, 6.0)}


def largest_of(x: Array) -> Array:
    return np.abs(np.where(np.isfinite(x), x, 0)).max(-1, keepdims=True)


def floor_exponent(x: Array, element: Any) -> Array:
    """The exponent of the scale, from the bits of the largest number: at least -127."""
    exponent = np.frexp(np.where(largest_of(x) > 0, largest_of(x), np.float32(2.0**-149)))[1] - 1
    return np.maximum(exponent - ENDS[element][0], -127)


def ceil_exponent(x: Array, element: Any) -> Array:
    """One more unless the largest number is a power of two."""
    fraction, exponent = np.frexp(np.where(largest_of(x) > 0, largest_of(x), np.float32(2.0**-149)))
    return np.maximum(exponent - (fraction == 0.5) - ENDS[element][0], -127)


def elements(x: Array, exponent: Array, element: Any, clip: bool = True) -> Array:
    """Quotients, exact in float64, rounded once by ml_dtypes; 0 in blocks that are not finite."""
    finite = np.isfinite(x).all(-1, keepdims=True)
    quotient = np.where(finite, x.astype(np.float64), 0) / np.ldexp(1.0, exponent)
    if clip:
        quotient = np.clip(quotient, -ENDS[element][1], ENDS[element][1])
    return once(quotient, element)


def once(x: Array, element: Any) -> Array:
    """float64 numbers rounded once: ml_dtypes goes by way of float32, which is given the number rounded to odd."""
    near = x.astype(np.float32)
    inexact = (near.astype(np.float64) != x) & (near.view(np.uint32) & 1 == 0)
    other = np.nextafter(near, np.where(near.astype(np.float64) < x, np.inf, -np.inf).astype(np.float32))
    return np.where(inexact, other, near).astype(element)


def values(x: Array, exponent: Array, quotients: Array) -> Array:
    """Numbers in float32; NaN for blocks that are not finite."""
    found = (quotients.astype(np.float64) * np.ldexp(1.0, exponent)).astype(np.float32)
    return np.where(np.isfinite(x).all(-1, keepdims=True), found, np.float32(np.nan))


def codes(x: Array, exponent: Array, quotients: Array) -> tuple[Array, Array]:
    """(element codes, scale codes), the scale NaN for blocks that are not finite."""
    scale = np.where(np.isfinite(x).all(-1), exponent[:, 0] + 127, 0xFF)
    return quotients.view(np.uint8), scale.astype(np.uint8)


# -- right ------------------------------------------------------------------------------------------------------


def mxfp8_floor(x: Array) -> Array:
    exponent = floor_exponent(x, e4m3fn)
    return values(x, exponent, elements(x, exponent, e4m3fn))


def mxfp8_floor_bfloat16(x: Array) -> Array:
    return mxfp8_floor(x).astype(ml_dtypes.bfloat16)


def mxfp8_ceil_codes(x: Array) -> tuple[Array, Array]:
    exponent = ceil_exponent(x, e5m2)
    return codes(x, exponent, elements(x, exponent, e5m2))


def mxfp4_even(x: Array) -> tuple[Array, Array]:
    """The largest number is rounded to one mantissa bit first: of two as near, the one whose bit is 0."""
    pattern = largest_of(x).astype(np.float32).view(np.uint32).astype(np.int64)
    exponent = np.maximum(((pattern + (1 << 21)) >> 23) - 127 - 2, -127)
    return codes(x, exponent, elements(x, exponent, e2m1))


def nvfp4(x: Array, tensor: float = 1.0) -> tuple[Array, Array]:
    """Scales of float8_e4m3fn, quotients exact."""
    scale = once(np.minimum(largest_of(x).astype(np.float64) / (6 * tensor), 448), e4m3fn)
    finite = np.isfinite(x).all(-1, keepdims=True)
    divisor = scale.astype(np.float64) * tensor
    quotient = np.where(finite & (divisor > 0), x / np.where(divisor > 0, divisor, 1), np.where(finite, x * 0.0, 0))
    code = once(np.clip(quotient, -6, 6), e2m1).view(np.uint8)
    return code, np.where(finite, scale.view(np.uint8), 0x7F).astype(np.uint8)[:, 0]


def mxfp8_floor_float64(x: Array) -> Array:
    """Numbers in float64, exact."""
    return mxfp8_floor(x).astype(np.float64)


def mxfp8_own_types(x: Array) -> tuple[Array, Array]:
    """Arrays of the types of elements and scales."""
    exponent = floor_exponent(x, e4m3fn)
    element, scale = codes(x, exponent, elements(x, exponent, e4m3fn))
    return element.view(e4m3fn), scale.view(ml_dtypes.float8_e8m0fnu)


def nvfp4_of_a_quarter(x: Array) -> tuple[Array, Array]:
    """Tensor scale 1/4."""
    return nvfp4(x, 0.25)


# -- wrong ------------------------------------------------------------------------------------------------------


def mxfp4_ties_away(x: Array) -> tuple[Array, Array]:
    exponent = floor_exponent(x, e2m1)
    finite = np.isfinite(x).all(-1, keepdims=True)
    quotient = np.where(finite, x.astype(np.float64), 0) / np.ldexp(1.0, exponent)
    midpoints = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    code = (np.abs(quotient)[..., None] >= midpoints).sum(-1) | np.signbit(quotient).astype(np.int64) << 3
    return codes(x, exponent, code.astype(np.uint8))


def mxfp4_truncated(x: Array) -> tuple[Array, Array]:
    exponent = floor_exponent(x, e2m1)
    return codes(x, exponent, _truncated(x, exponent))


def mxfp4_ceil_truncated(x: Array) -> tuple[Array, Array]:
    exponent = ceil_exponent(x, e2m1)
    return codes(x, exponent, _truncated(x, exponent))


def _truncated(x: Array, exponent: Array) -> Array:
    finite = np.isfinite(x).all(-1, keepdims=True)
    quotient = np.where(finite, x.astype(np.float64), 0) / np.ldexp(1.0, exponent)
    numbers = np.array([0.5, 1, 1.5, 2, 3, 4, 6])
    code = (np.abs(quotient)[..., None] >= numbers).sum(-1) | np.signbit(quotient).astype(np.int64) << 3
    return code.astype(np.uint8)


def mxfp8_ceil(x: Array) -> Array:
    exponent = ceil_exponent(x, e4m3fn)
    return values(x, exponent, elements(x, exponent, e4m3fn))


def mxfp8_logarithm(x: Array) -> Array:
    """The exponent from a logarithm in float32, which is rounded up just below powers of two."""
    amax = np.where(largest_of(x) > 0, largest_of(x), np.float32(2.0**-149))
    exponent = np.maximum(np.floor(np.log2(amax)).astype(int) - 15, -127)
    return values(x, exponent, elements(x, exponent, e5m2))


def mxfp8_unclipped(x: Array) -> Array:
    """Elements beyond the largest become NaN."""
    exponent = floor_exponent(x, e4m3fn)
    return values(x, exponent, elements(x, exponent, e4m3fn, clip=False))


def mxfp8_zeros_are_nan(x: Array) -> Array:
    return np.where((x == 0).all(-1, keepdims=True), np.float32(np.nan), mxfp8_floor(x))


def nvfp4_zeros_lose_signs(x: Array) -> tuple[Array, Array]:
    """Quotients are taken only where the scale is not 0."""
    codes, scales = nvfp4(x)
    return np.where(scales[:, None] == 0, 0, codes).astype(np.uint8), scales


def mxfp8_nan_ignored(x: Array) -> Array:
    """NaN becomes 0, and infinity the largest float32."""
    return mxfp8_floor(np.nan_to_num(x))


def mxfp8_last_unrounded(x: Array) -> Array:
    """The loop over the elements ends one too early."""
    found = mxfp8_floor(x)
    found[:, -1] = np.where(np.isnan(found[:, 0]), found[:, -1], x[:, -1])
    return found


def mxfp8_half_looked_at(x: Array) -> Array:
    """The largest number is looked for in the first 16 elements only."""
    exponent = floor_exponent(x[:, :16], e4m3fn)
    return values(x, exponent, elements(x, exponent, e4m3fn))


def mxfp8_scale_one_more(x: Array) -> tuple[Array, Array]:
    """The right elements beside a scale code that is one too large."""
    exponent = floor_exponent(x, e4m3fn)
    element, scale = codes(x, exponent, elements(x, exponent, e4m3fn))
    return element, np.where(scale < 0xFE, scale + 1, scale).astype(np.uint8)


def mxfp4_swapped(x: Array) -> tuple[Array, Array]:
    """Neighbouring elements are swapped, as where nibbles are packed in the other order."""
    exponent = floor_exponent(x, e2m1)
    element, scale = codes(x, exponent, elements(x, exponent, e2m1))
    return element.reshape(-1, 16, 2)[:, :, ::-1].reshape(x.shape), scale


def mxfp4_without_negative_zero(x: Array) -> tuple[Array, Array]:
    exponent = floor_exponent(x, e2m1)
    element, scale = codes(x, exponent, elements(x, exponent, e2m1))
    return np.where(element == 8, 0, element).astype(np.uint8), scale


def mxfp8_subnormals_flushed(x: Array) -> Array:
    """Subnormal float32 numbers are taken as zero: that shows in blocks that have no others."""
    return mxfp8_floor(np.where(np.abs(x) < np.finfo(np.float32).smallest_normal, np.copysign(np.float32(0), x), x))


def mxfp8_by_bfloat16(x: Array) -> Array:
    """Quotients are rounded to bfloat16 first."""
    exponent = floor_exponent(x, e4m3fn)
    finite = np.where(np.isfinite(x), x, 0).astype(np.float64) / np.ldexp(1.0, exponent)
    quotient = np.clip(finite.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64), -448, 448)
    return values(x, exponent, once(quotient, e4m3fn))


def nvfp4_reciprocal(x: Array) -> tuple[Array, Array]:
    """Products with a float32 reciprocal of the scale in place of quotients."""
    _, scale = nvfp4(x)
    divisor = scale.view(e4m3fn).astype(np.float32)[:, None]
    finite = np.isfinite(x).all(-1, keepdims=True)
    product = np.where(finite & (divisor > 0), x * (np.float32(1) / np.where(divisor > 0, divisor, 1)), x * 0)
    return once(np.clip(np.where(finite, product, 0), -6, 6).astype(np.float64), e2m1).view(np.uint8), scale


# -- no answers -------------------------------------------------------------------------------------------------

GENERATOR = np.random.default_rng(3)


def one_scale_for_all(x: Array) -> Array:
    """The scale is that of the whole array."""
    whole = np.broadcast_to(largest_of(x).max(), (len(x), 1)).astype(np.float32)
    exponent = floor_exponent(whole, e4m3fn)
    return values(x, exponent, elements(x, exponent, e4m3fn))


def random_elements(x: Array) -> tuple[Array, Array]:
    exponent = floor_exponent(x, e2m1)
    element, scale = codes(x, exponent, elements(x, exponent, e2m1))
    return element ^ (GENERATOR.random(element.shape) < 0.01).astype(np.uint8), scale


def segfaults(x: Array) -> Any:
    return ctypes.string_at(0)


def scales_only(x: Array) -> Array:
    return mxfp4_even(x)[1]
