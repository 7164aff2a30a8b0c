"""Presets of systems against their published formulas, transcribed here in plain NumPy and ml_dtypes.

Sources: TransformerEngine d0067d0 (custom_recipes/reference_nvfp4.py), torchao 36027d8 (prototype/mx_formats),
Model-Optimizer a2fbac7 (qtensor/nvfp4_tensor.py), DeepGEMM 38939a4 (utils/math.py).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from mpsim.blocks import dequantize, quantize, quantizer_of
from mpsim.blocks.definition import groups as definition
from mpsim.blocks.definition.values import Group, SecondScale, group_error
from mpsim.blocks.engine import Engine, Second
from mpsim.blocks.quotients import exact_product, exact_quotient

F = np.float32
LARGEST = np.finfo(F).max
e4m3, e2m1 = ml_dtypes.float8_e4m3fn, ml_dtypes.float4_e2m1fn
Array = np.ndarray[Any, Any]


def activations(rows: int, columns: int, seed: int) -> Array:
    """bfloat16 numbers of a few magnitudes, with zeros."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, columns)) * np.exp2(random.integers(-6, 3, (rows, 1)))
    x[random.random(x.shape) < 0.01] = 0
    return x.astype(ml_dtypes.bfloat16)


def fp4(x: Array) -> Array:
    """Codes of the nearest number, ties to even, by thresholds; a zero has the sign of x."""
    ends = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], F)
    a = np.abs(x)
    up = np.array([False, True, False, True, False, True, False])
    steps = sum(np.where(tie, a >= end, a > end).astype(np.uint8) for end, tie in zip(ends, up, strict=True))
    return np.asarray(steps | np.signbit(x).astype(np.uint8) << 3)


def blocks_of(x: Array, size: int = 16) -> Array:
    return x.astype(F).reshape(len(x), -1, size)


def te(x: Array, amax: Array) -> tuple[Array, Array]:
    """The tensor's multiplier is divided by 6 first, the element by the reciprocal of both scales."""
    encode = np.minimum(F(448 * 6) / amax.astype(F), LARGEST)
    decode = F(1) / encode
    blocks = blocks_of(x)
    scale = np.abs(blocks).max(-1, keepdims=True) * (encode * (F(1) / F(6)))
    scale = np.clip(scale, -448, 448).astype(e4m3)
    inverse = np.minimum(F(1) / (scale.astype(F) * decode), LARGEST)
    return fp4(np.clip(blocks * inverse, -6, 6)).reshape(x.shape), scale.view(np.uint8)[..., 0]


def test_bfloat16_activations_through_nvfp4_as_transformer_engine_computes_it() -> None:
    x = activations(1024, 512, seed=7)
    found = quantize(x, quantizer_of("te_nvfp4"))
    codes, scales = te(x, np.abs(x.astype(F)).max())
    assert found.codes.size == 524_288
    assert np.count_nonzero(found.codes != codes) == 0 and np.array_equal(found.scales, scales)
    exact = quantize(x, "nvfp4")
    assert np.count_nonzero(exact.codes != codes) > 0, "the formula differs from exact quotients"
    amax = np.abs(x.astype(F)).max()
    factor = scales.view(e4m3).astype(F) * amax * (F(1) / F(2688))
    values = codes.view(np.uint8).view(e2m1).astype(F).reshape(1024, -1, 16) * factor[..., None]
    assert np.array_equal(dequantize(found), values.reshape(x.shape))


def test_row_scales_are_those_of_the_rows() -> None:
    x = activations(64, 64, seed=8)
    found = quantize(x, quantizer_of("te_nvfp4_rows"))
    codes, scales = te(x, np.abs(x.astype(F)).max(-1)[:, None, None])
    assert np.array_equal(found.codes, codes) and np.array_equal(found.scales, scales)


def test_torchao_divides_twice() -> None:
    x = activations(512, 128, seed=9)
    tensor = F(np.abs(x.astype(F)).max() / F(448 * 6))
    blocks = blocks_of(x)
    scale = np.abs(blocks).max(-1, keepdims=True) / F(6) / tensor
    scale = np.clip(scale, F(2.0**-6), F(448)).astype(e4m3)
    codes = fp4(np.clip(blocks * ((F(1) / tensor) / scale.astype(F)), -6, 6)).reshape(x.shape)
    found = quantize(x, quantizer_of("torchao_nvfp4"))
    assert np.array_equal(found.codes, codes) and np.array_equal(found.scales, scale.view(np.uint8)[..., 0])
    values = found.codes.view(e2m1).astype(F).reshape(512, -1, 16) * (tensor * scale.astype(F))
    assert np.array_equal(dequantize(found), values.reshape(x.shape))


def test_torchao_rounds_scales_up_from_a_product_with_the_reciprocal() -> None:
    x = activations(2048, 64, seed=10)
    blocks = blocks_of(x, 32)
    blocks[:, 0, :] = np.minimum(np.abs(blocks[:, 0, :]), 1)
    blocks[:, 0, 0] = (F(448) * F(2.0**-3) * (1 + np.arange(2048) % 3 * F(2.0**-23) - F(2.0**-24))).astype(F)
    word = (np.abs(blocks).max(-1) * (F(1) / F(448))).view(np.uint32)
    scales = (word >> 23) + ((word & 0x7FFFFF) != 0)
    found = quantize(blocks.reshape(2048, 64), quantizer_of("torchao_mxfp8_e4m3_rceil"))
    assert np.array_equal(found.scales, scales)


def test_model_optimizer_divides_by_products() -> None:
    x = activations(512, 128, seed=11)
    tensor = F(np.abs(x.astype(F)).max() / F(6 * 448))
    blocks = blocks_of(x)
    scale = np.abs(blocks).max(-1, keepdims=True) / (F(6) * tensor)
    scale = np.clip(np.where(scale == 0, F(1), scale), F(2.0**-9), F(448)).astype(e4m3)
    codes = fp4(blocks / (scale.astype(F) * tensor) + F(0)).reshape(x.shape)  # -0 + 0 is +0
    found = quantize(x, quantizer_of("modelopt_nvfp4"))
    assert np.array_equal(found.codes, codes) and np.array_equal(found.scales, scale.view(np.uint8)[..., 0])


@pytest.mark.parametrize("ending,group,scale_of", [("1x128", (1, 128), "float32"), ("128x128", (128, 128), "ue8m0")])
def test_deep_gemm_multiplies_by_the_reciprocal_of_the_scale(
    ending: str, group: tuple[int, int], scale_of: str
) -> None:
    x = activations(256, 256, seed=12)
    down, across = 256 // group[0], 256 // group[1]
    tiles = x.astype(F).reshape(down, group[0], across, group[1])
    scale = np.maximum(np.abs(tiles).max((1, 3), keepdims=True), F(1e-4)) / F(448)
    if scale_of == "ue8m0":
        word = scale.view(np.uint32)
        scale = (((word >> 23) + ((word & 0x7FFFFF) != 0)) << 23).astype(np.uint32).view(F)
    codes = (tiles * (F(1) / scale)).astype(e4m3).view(np.uint8).reshape(256, 256)
    name = f"deepgemm_fp8_{ending}{'_ue8m0' * (scale_of == 'ue8m0')}"
    found = quantize(x, quantizer_of(name))
    assert np.array_equal(found.codes, codes) and np.array_equal(found.scale_numbers, scale[:, 0, :, 0])


@pytest.mark.parametrize("bits", [8, 4])
def test_block_floating_point_truncates_before_it_rounds(bits: int) -> None:
    """tt-metal 034fc8c, blockfloat_common.cpp: 24 bits are shifted to the block's exponent, then rounded."""
    x = activations(256, 64, seed=15).astype(F)
    tie = F(2.5 * 2.0 ** (2 - bits))
    x[0, :16] = 0
    x[0, :3] = 1, tie, np.nextafter(tie, F(1))  # the shift loses the last bit of the third
    word = x.view(np.uint32).reshape(256, -1, 16)
    exponent = (word >> 23 & 0xFF).astype(np.int64)
    shared = exponent.max(-1, keepdims=True)
    whole = (word & 0x7FFFFF | 1 << 23).astype(np.int64) >> np.minimum(shared - exponent, 31)
    drop = 24 - (bits - 1)
    kept, rest = whole >> drop, whole & (1 << drop) - 1
    kept += (rest > 1 << drop - 1) | ((rest == 1 << drop - 1) & (kept & 1 == 1))
    kept = np.where(word & 0x7FFFFFFF == 0, 0, np.minimum(kept, (1 << bits - 1) - 1))
    codes = np.where(kept == 0, 0, kept | (word >> 31 << bits - 1))
    found = quantize(x, quantizer_of(f"bfp{bits}"))
    assert np.array_equal(found.codes, codes.reshape(x.shape)) and np.array_equal(found.scales, shared[..., 0])
    plain = quantizer_of(f"bfp{bits}")
    exact = quantize(x, replace(plain, quotient=replace(plain.quotient, fraction_bits=None)))
    assert not np.array_equal(exact.codes, found.codes), "the truncation shows"


def test_zero_points_round_ties_to_even() -> None:
    x = np.array([[-3.5, 251.5, 0.0, 1.0], [-2.5, 252.5, 3.0, 7.0]], F)
    found = quantize(x, quantizer_of("int8_affine_row"))
    assert found.zero_points is not None
    assert found.scale_numbers.tolist() == [[1.0], [1.0]] and found.zero_points.tolist() == [[-124], [-126]]
    assert found.codes.tolist() == [[-128, 127, -124, -123], [-128, 126, -123, -119]]


# -- the parts ----------------------------------------------------------------------------------------------


def to_odd(x: Fraction) -> float:
    """The float64 number, or of the two around x the one whose significand is odd."""
    near = float(x)
    if Fraction(near) == x:
        return near
    other = float(np.nextafter(near, np.inf if x > Fraction(near) else -np.inf))
    return near if np.float64(near).view(np.int64) & 1 else other


def test_exact_quotients_and_products_are_rounded_to_odd() -> None:
    random = np.random.default_rng(3)
    x, y = (random.standard_normal(400).astype(F) * np.exp2(random.integers(-60, 60, 400)) for _ in range(2))
    y = np.abs(y)
    y[:40] = np.abs(x[:40]) / 3
    pairs = list(zip(x.tolist(), y.tolist(), strict=True))
    assert exact_quotient(x, y).tolist() == [to_odd(Fraction(a) / Fraction(b)) for a, b in pairs]
    wide = x * (1 + 2.0**-40)
    pairs = list(zip(wide.tolist(), y.tolist(), strict=True))
    assert exact_product(wide, y).tolist() == [to_odd(Fraction(a) * Fraction(b)) for a, b in pairs]


@pytest.mark.parametrize("name", ["te_nvfp4_4over6_mae_2d", "te_nvfp4_4over6_mse", "te_nvfp4_4over6_mse_2d"])
def test_errors_of_four_over_six_are_added_in_their_order(name: str) -> None:
    quantizer = quantizer_of(name)
    x = activations(16, 16, seed=13).astype(F).reshape(1, 1, 1, 256)
    if quantizer.group.shape[0] == 1:
        x = x[..., :16]
    second = definition.second_scale([8.0], quantizer)
    one = np.ones((1, 1, 1), F)
    arrays = Second(one * F(second.divisor), one * F(second.multiplier), one * F(second.amax))
    for scale in (30.0, 44.0, 60.0):
        engine = Engine(quantizer, "reference")
        found = engine.errors(x.astype(np.float64), np.full((1, 1, 1), scale), arrays)
        group = _with(x.reshape(-1).tolist(), scale, quantizer, second)
        assert found.item() == group_error(x.reshape(-1).tolist(), group, quantizer, second)


def _with(values: list[float], scale: float, quantizer: Any, second: SecondScale) -> Group:
    return definition.with_scale(values, scale, 0, quantizer, second, [None] * len(values))


def test_scales_before_they_are_rounded_to_their_format() -> None:
    amax = np.abs(activations(64, 64, seed=14).astype(F)).reshape(1, 64, 64) + F(2.0**-20)
    tensor, encode = F(0.0123), F(433.7)
    one = np.ones((1, 1, 1), F)
    for name, expected, second in (
        ("torchao_nvfp4", amax / F(6) / tensor, Second(one * tensor, None, one)),
        ("modelopt_nvfp4", amax / (F(6) * tensor), Second(one * tensor, None, one)),
        ("te_nvfp4", amax * (encode * (F(1) / F(6))), Second(F(1) / (one * encode), one * encode, one)),
        ("te_nvfp4_4over6_mae", amax / F(6) * encode, Second(F(1) / (one * encode), one * encode, one)),
        ("torchao_mxfp4_rceil", amax * (F(1) / F(6)), Second(one, None, one)),
    ):
        found = Engine(quantizer_of(name), "reference").scales(amax.astype(np.float64), second)
        assert np.array_equal(found, expected.astype(np.float64)), name
