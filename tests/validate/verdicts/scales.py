"""Quantisers with other scales, and dequantisers, for the verdict matrix, in NumPy and ml_dtypes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
F = np.float32
LARGEST = np.finfo(F).max
CALLS = 0
e4m3fn, e2m1, e8m0 = ml_dtypes.float8_e4m3fn, ml_dtypes.float4_e2m1fn, ml_dtypes.float8_e8m0fnu


def amax_of(x: Array) -> Array:
    return np.abs(x).max(-1, keepdims=True)


def to_e4m3(x: Array) -> Array:
    return np.clip(x, F(-448), F(448)).astype(e4m3fn)


# -- FP8 with float32 scales: right ---------------------------------------------------------------------------


def fp8_block(x: Array) -> tuple[Array, Array]:
    """amax / 448, a division by it; of blocks of zeros, and those whose scale is 0, zeros; NaN of blocks with NaN."""
    scale = np.where(np.isfinite(x).all(-1, keepdims=True), amax_of(x) / F(448), F(np.nan))
    return _quotients(x, scale, x / positive(scale)), scale


def positive(scale: Array) -> Array:
    return np.where(scale > 0, scale, F(1))


def _quotients(x: Array, scale: Array, quotients: Array) -> Array:
    """The elements of quotients; zeros where the scale is 0 or NaN."""
    element = to_e4m3(np.where(scale > 0, quotients, x * F(0)))
    return np.where(np.isnan(scale), np.copysign(F(0), x), element.astype(F)).astype(e4m3fn)


def fp8_block_values(x: Array) -> Array:
    element, scale = fp8_block(x)
    return element.astype(F) * scale


def fp8_tile(x: Array) -> Array:
    """Tiles of 4 by 32, one above the other."""
    return fp8_block_values(x.reshape(-1, 128)).reshape(x.shape)


def fp8_tensor(x: Array) -> tuple[Array, Array]:
    """One multiplier 448 / amax for the tensor; 1 where amax is 0 or not finite."""
    amax = np.abs(x).max()
    return _multiplied(x, amax)


def fp8_tensor_of_three(x: Array) -> tuple[Array, Array]:
    """The largest magnitude of earlier steps was 3."""
    return _multiplied(x, F(3))


def _multiplied(x: Array, amax: Array) -> tuple[Array, Array]:
    multiplier = np.minimum(F(448) / amax, LARGEST) if np.isfinite(amax) and amax > 0 else F(1)
    return to_e4m3(x * multiplier), np.full((1, 1), F(1) / multiplier, F)


# -- FP8 with float32 scales: wrong ---------------------------------------------------------------------------


def fp8_block_divides_zeros(x: Array) -> Array:
    """0 / 0 in blocks of zeros."""
    scale = amax_of(x) / F(448)
    return to_e4m3(x / scale).astype(F) * scale


def fp8_block_reciprocal(x: Array) -> tuple[Array, Array]:
    _, scale = fp8_block(x)
    return _quotients(x, scale, x * np.minimum(F(1) / positive(scale), LARGEST)), scale


def fp8_block_bfloat16_quotients(x: Array) -> tuple[Array, Array]:
    """Quotients are rounded to bfloat16 on their way to float8."""
    _, scale = fp8_block(x)
    return _quotients(x, scale, (x / positive(scale)).astype(ml_dtypes.bfloat16).astype(F)), scale


def fp8_block_of_240(x: Array) -> tuple[Array, Array]:
    """The largest number is that of another float8, 240."""
    _, scale = fp8_block(x)
    other = np.where(scale > 0, amax_of(x) / F(240), scale)
    return _quotients(x, other, x / positive(other)), other


def fp8_block_absolute(x: Array) -> tuple[Array, Array]:
    """The signs are lost."""
    element, scale = fp8_block(x)
    return np.abs(element.astype(F)).astype(e4m3fn), scale


# -- NVFP4 and MX ---------------------------------------------------------------------------------------------


def _te(x: Array, amax: Array) -> tuple[Array, Array]:
    encode = np.minimum(F(2688) / amax, LARGEST) if amax > 0 else F(1)
    scale = to_e4m3(amax_of(x) * (encode * (F(1) / F(6))))
    inverse = np.minimum(F(1) / (scale.astype(F) * (F(1) / encode)), LARGEST)
    return np.clip(x * inverse, F(-6), F(6)).astype(e2m1).view(np.uint8), scale.view(np.uint8)[:, 0]


def te_own(x: Array) -> tuple[Array, Array]:
    return _te(x, np.abs(np.where(np.isfinite(x), x, 0)).max())


def te_of_ten(x: Array) -> tuple[Array, Array]:
    return _te(x, F(10))


def te_own_packed(x: Array) -> tuple[Array, Array]:
    """Two codes a byte, the first in the low bits."""
    code, scale = te_own(x)
    return code[:, ::2] | code[:, 1::2] << 4, scale


def mxfp8_rceil(x: Array) -> tuple[Array, Array]:
    """2**ceil(log2(amax * (1 / 448))) from the bits of the float32 product."""
    word = (amax_of(x) * (F(1) / F(448))).view(np.uint32)
    up = np.where(word >> 23 == 0, (word & 0x7FFFFF) > 0x400000, (word & 0x7FFFFF) != 0)
    code = np.where(np.isfinite(x).all(-1, keepdims=True), (word >> 23) + up, 0xFF).astype(np.uint8)
    quotient = np.where(code == 0xFF, 0, x).astype(np.float64) / np.ldexp(1.0, code.astype(int) - 127)
    return to_e4m3(quotient.astype(F)), code.view(e8m0)


def mxfp8_unusual_scales(x: Array) -> tuple[Array, Array]:
    """All scales are 3, which is not a number of E8M0."""
    return to_e4m3(x / F(3)), np.full(len(x), F(3))


def mxfp8_first_call_is_other(x: Array) -> tuple[Array, Array]:
    """Right, but for the first call."""
    code, scale = mxfp8_rceil(x)
    code = np.where(np.arange(len(x))[:, None] == CALLS, -code.astype(F), code.astype(F)).astype(e4m3fn)
    globals()["CALLS"] = -1
    return code, scale


def nvfp4_scales_up(x: Array) -> tuple[Array, Array]:
    """Tensor scale 1; block scales are rounded up instead of to nearest."""
    wanted = np.minimum(amax_of(x).astype(np.float64) / 6, 448)
    numbers = np.arange(0x7F, dtype=np.uint8).view(e4m3fn).astype(np.float64)
    finite = np.isfinite(x).all(-1, keepdims=True)
    code = np.searchsorted(numbers, np.where(finite, wanted, 0)).astype(np.uint8)
    scale = code.view(e4m3fn).astype(np.float64)
    quotient = np.where(finite & (scale > 0), np.where(finite, x, 0) / np.where(scale > 0, scale, 1), 0 * x)
    near = np.abs(np.clip(np.where(finite, quotient, 0), -6, 6))
    ends = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    up = np.array([False, True, False, True, False, True, False])
    element = sum(np.where(tie, near >= end, near > end).astype(np.uint8) for end, tie in zip(ends, up, strict=True))
    return element | np.signbit(x).astype(np.uint8) << 3, np.where(finite, code, 0x7F)[:, 0]


# -- integers -------------------------------------------------------------------------------------------------


def int8_row(x: Array, nearest: Any = np.rint) -> tuple[Array, Array, Array]:
    """Rows with zero points; of rows that are not finite the scale is NaN."""
    finite = np.isfinite(x).all(-1, keepdims=True)
    kept = np.where(finite, x, F(0))
    low, high = np.minimum(kept.min(-1, keepdims=True), F(0)), np.maximum(kept.max(-1, keepdims=True), F(0))
    scale = np.minimum(np.maximum((high - low) / F(255), F(2.0**-126)), LARGEST)
    point = np.clip(-128 - np.rint(low / scale), -128, 127)
    whole = nearest((kept * (F(1) / scale)).astype(np.float64)) + point
    code = np.where(finite, np.clip(whole, -128, 127), 0).astype(np.int8)
    return code, np.where(finite, scale, F(np.nan)), np.where(finite, point, 0).astype(np.int32)


def int8_row_truncated(x: Array) -> tuple[Array, Array, Array]:
    return int8_row(x, np.trunc)


def int8_row_wraps(x: Array) -> tuple[Array, Array, Array]:
    """128, which rows with ends of equal magnitude reach, becomes -128."""
    code, scale, point = int8_row(x)
    kept = np.where(np.isfinite(scale), x, F(0))
    whole = np.rint((kept * (F(1) / np.where(np.isfinite(scale), scale, F(1)))).astype(np.float64)) + point
    return np.where(np.isfinite(scale), whole, code).astype(np.int64).astype(np.int8), scale, point


def int8_row_point_one_more(x: Array) -> tuple[Array, Array, Array]:
    """The zero point that is returned is one more than the one that was used."""
    code, scale, point = int8_row(x)
    return code, scale, point + np.int32(1)


# -- dequantisers ---------------------------------------------------------------------------------------------


def decode_mxfp4(codes: Array, scales: Array) -> Array:
    number = codes.astype(np.uint8).view(e2m1).astype(np.float64)
    return (number * scales.view(e8m0).astype(np.float64)[:, None]).astype(F)


def decode_nvfp4(codes: Array, scales: Array, tensor: float = 0.25) -> Array:
    number = codes.astype(np.uint8).view(e2m1).astype(np.float64)
    return (number * scales.view(e4m3fn).astype(np.float64)[:, None] * tensor).astype(F)


def decode_nvfp4_without_tensor_scale(codes: Array, scales: Array) -> Array:
    return decode_nvfp4(codes, scales, 1.0)


def decode_mxfp8(codes: Array, scales: Array) -> Array:
    number = codes.view(e4m3fn).astype(np.float64)
    return (number * scales.view(e8m0).astype(np.float64)[:, None]).astype(F)


def decode_mxfp8_doubled(codes: Array, scales: Array) -> Array:
    """The bias of the scale is 126; NaN stays NaN."""
    number = codes.view(e4m3fn).astype(np.float64)
    return (number * 2 * scales.view(e8m0).astype(np.float64)[:, None]).astype(F)


def decode_mxfp8_one_row(codes: Array, scales: Array) -> Array:
    """Another answer to a single block."""
    return decode_mxfp8(codes, scales) * F(1 + (len(codes) == 1))


def decode_mxfp8_ends_doubled(codes: Array, scales: Array) -> Array:
    """Twice the numbers with the smallest and the largest scale: no scale between them is one power more."""
    return decode_mxfp8(codes, scales) * np.where((scales == 0) | (scales == 254), F(2), F(1))[:, None]


def decode_mxfp8_swapped(codes: Array, scales: Array) -> Array:
    return decode_mxfp8(codes.reshape(-1, 16, 2)[:, :, ::-1].reshape(codes.shape).copy(), scales)


def decode_mxfp8_by_bfloat16(codes: Array, scales: Array) -> Array:
    """The scale is a bfloat16 number, whose subnormal 2**-127 is kept, and so is the product."""
    return decode_mxfp8(codes, scales).astype(ml_dtypes.bfloat16)


def decode_mxfp8_smallest_scale_is_zero(codes: Array, scales: Array) -> Array:
    found = decode_mxfp8(codes, scales)
    return np.where(scales[:, None] == 0, np.copysign(F(0), found), found)


def decode_mxfp8_nan_scale_is_infinite(codes: Array, scales: Array) -> Array:
    number = codes.view(e4m3fn).astype(np.float64)
    return (number * np.ldexp(1.0, scales.astype(int) - 127)[:, None]).astype(F)


def decode_mxfp8_flushed(codes: Array, scales: Array) -> Array:
    """Subnormal results are zeros."""
    found = decode_mxfp8(codes, scales)
    return np.where(np.abs(found) < np.finfo(F).smallest_normal, np.copysign(F(0), found), found)


# -- stochastic -----------------------------------------------------------------------------------------------

GENERATOR = np.random.default_rng(5)
NUMBERS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def _by_word(x: Array, words: Array) -> tuple[Array, Array]:
    """NVFP4 with the multiplier of the tensor; 8 bits of a word are added below the element's last bit."""
    amax = np.abs(np.where(np.isfinite(x), x, 0)).max()
    encode = np.minimum(F(2688) / amax, LARGEST) if amax > 0 else F(1)
    scale = to_e4m3(amax_of(x) * (encode * (F(1) / F(6))))
    inverse = np.minimum(F(1) / (scale.astype(F) * (F(1) / encode)), LARGEST)
    quotient = np.clip(x * inverse, F(-6), F(6))
    near = np.abs(quotient).astype(np.float64)
    lower = np.clip(np.searchsorted(NUMBERS, near, "right") - 1, 0, 6)
    place = (near - NUMBERS[lower]) / (NUMBERS[lower + 1] - NUMBERS[lower])
    code = lower + (np.floor(place * 256) + words >= 256)
    return (code | np.signbit(quotient).astype(int) << 3).astype(np.uint8), scale.view(np.uint8)[:, 0]


def te_stochastic(x: Array) -> tuple[Array, Array]:
    return _by_word(x, GENERATOR.integers(0, 256, x.shape))


def te_stochastic_four_bits(x: Array) -> tuple[Array, Array]:
    return _by_word(x, GENERATOR.integers(0, 16, x.shape) << 4)


def te_stochastic_away(x: Array) -> tuple[Array, Array]:
    """One element of a thousand is one code further up than its upper neighbour."""
    code, scale = te_stochastic(x)
    return np.where((code & 7 < 6) & (GENERATOR.random(x.shape) < 0.001), code + 2, code).astype(np.uint8), scale


def te_given(x: Array, words: Array) -> tuple[Array, Array]:
    return _by_word(x, words & 255)


def te_given_high(x: Array, words: Array) -> tuple[Array, Array]:
    """The high 8 bits of each word."""
    return _by_word(x, words >> 24)


def te_given_ignored(x: Array, words: Array) -> tuple[Array, Array]:
    """To nearest, ties to even."""
    return te_own(x)


# -- other ------------------------------------------------------------------------------------------------------


def mxfp8_top_exponent(x: Array) -> tuple[Array, Array]:
    """The exponent field 255 of infinities and NaNs is read as that of a number."""
    field = (amax_of(np.where(np.isnan(x), np.inf, x)).astype(F).view(np.uint32) >> 23).astype(int)
    code = np.maximum(field - 8, 0).astype(np.uint8)
    quotient = x.astype(np.float64) / np.ldexp(1.0, code.astype(int) - 127)
    return to_e4m3(quotient.astype(F)), code.view(e8m0)
