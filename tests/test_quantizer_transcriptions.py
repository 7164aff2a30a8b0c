"""Presets of systems against their published formulas, restated here in plain NumPy and ml_dtypes, as
test_quantizer_systems.py does for others.

Sources: TransformerEngine (custom_recipes/reference_nvfp4.py, 4 over 6 with and without fast math;
custom_recipes/reference_current_scaling.py; recipe/recipe_common.cuh and delayed_scaling.cu;
common/util/ptx_arch_spec.cuh, stochastic rounding: element i of four takes byte i of a word), DeepSeek-V3 0623163
(inference/kernel.py), torchao (quantization/quant_primitives.py).
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from test_quantizer_systems import LARGEST, F, activations, blocks_of, e2m1, e4m3, fp4

from mpsim.blocks import dequantize, quantize, quantizer_of

e5m2, bfloat16 = ml_dtypes.float8_e5m2, ml_dtypes.bfloat16
Array = np.ndarray[Any, Any]
NUMBERS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


# -- TransformerEngine: NVFP4 -----------------------------------------------------------------------------------


def encode_of(x: Array, most: int = 448) -> Array:
    """The tensor's multiplier: most * 6 / amax, at most the largest float32."""
    return np.minimum(F(most * 6) / np.abs(x.astype(F)).max(), LARGEST)


def inverse_of(scale: Array, encode: Array) -> Array:
    return np.minimum(F(1) / (scale.astype(F) * (F(1) / encode)), LARGEST)


def four_over_six(x: Array, kind: str, most: int = 448, rows: int = 1) -> tuple[Array, Array]:
    """Codes and scales: of the scale for 6 and that for 4, 1.5 times as large, the one with the smaller error, or 6."""
    amax, encode = np.abs(x.astype(F)).max(), encode_of(x, most)
    blocks = blocks_of(x)
    largest = np.abs(blocks).max(-1, keepdims=True)
    if rows > 1:
        largest = np.repeat(largest.reshape(len(x) // rows, rows, -1, 1).max(1), rows, 0)
    base = largest / F(6) * encode
    tried = []
    for factor in (F(1.5), F(1)):
        scale = np.clip(base * factor, F(-448), F(448)).astype(e4m3)
        code = fp4(np.clip(blocks * inverse_of(scale, encode), F(-6), F(6)))
        value = code.view(e2m1).astype(F) * scale.astype(F)
        if kind.endswith("fast"):
            difference = value - blocks * encode
        else:
            difference = value * amax / F(6 * most) - blocks
        error = np.abs(difference) if kind.startswith("mae") else difference * difference
        total = np.zeros(error.shape[:2], F)
        for i in range(16):
            total = total + error[:, :, i]
        if rows > 1:
            parts = total.reshape(len(x) // rows, rows, -1)
            while parts.shape[1] > 1:
                half = parts.shape[1] // 2
                parts = parts[:, :half] + parts[:, half:]
            total = np.repeat(parts[:, 0], rows, 0)
        tried.append((code, scale.view(np.uint8), total))
    (four, scale_4, error_4), (six, scale_6, error_6) = tried
    better = (error_4 < error_6)[..., None]
    scales = np.where(better, scale_4, scale_6)[..., 0]
    return np.where(better, four, six).reshape(x.shape), scales[::rows]


@pytest.mark.parametrize("ending", ["mae", "mse", "mae_256", "mse_256", "mae_2d", "mse_2d", "mae_fast", "mse_fast"])
def test_transformer_engine_takes_four_over_six(ending: str) -> None:
    x = activations(256, 256, seed=21)
    rows = 16 if ending.endswith("2d") else 1
    codes, scales = four_over_six(x, ending, 256 if ending.endswith("256") else 448, rows)
    found = quantize(x, quantizer_of(f"te_nvfp4_4over6_{ending}"))
    assert np.count_nonzero(found.codes != codes) == 0 and np.array_equal(found.scales, scales)
    if ending.endswith("fast"):
        slow = quantize(x, quantizer_of(f"te_nvfp4_4over6_{ending.removesuffix('_fast')}"))
        assert not np.array_equal(slow.scales, found.scales), "fast math chooses others"


def test_transformer_engine_rounds_at_random_by_bytes() -> None:
    """Four elements share a word; the element's byte is added below its last bit."""
    x = activations(256, 128, seed=22)
    words = np.random.default_rng(23).integers(0, 1 << 32, (256, 32), np.uint32)
    bits = (words[..., None] >> (8 * np.arange(4, dtype=np.uint32)) & np.uint32(0xFF)).reshape(x.shape)
    encode, blocks = encode_of(x), blocks_of(x)
    scale = np.clip(np.abs(blocks).max(-1, keepdims=True) * (encode * (F(1) / F(6))), 0, F(448)).astype(e4m3)
    quotient = np.clip(blocks * inverse_of(scale, encode), F(-6), F(6)).reshape(x.shape)
    near = np.abs(quotient).astype(np.float64)
    lower = np.clip(np.searchsorted(NUMBERS, near, "right") - 1, 0, 6)
    place = (near - NUMBERS[lower]) / (NUMBERS[lower + 1] - NUMBERS[lower])
    codes = lower + (np.floor(place * 256) + bits >= 256) | np.signbit(quotient).astype(int) << 3
    found = quantize(x, quantizer_of("te_nvfp4_stochastic"), random_bits=np.ascontiguousarray(bits, np.uint32))
    assert np.array_equal(found.codes, codes) and np.array_equal(found.scales, scale.view(np.uint8)[..., 0])


# -- TransformerEngine: one scale for the tensor ----------------------------------------------------------------


@pytest.mark.parametrize("element", ["float8_e4m3", "float8_e5m2"])
@pytest.mark.parametrize("ending", ["", "_pow2"])
def test_transformer_engine_scales_tensors(element: str, ending: str) -> None:
    type, largest = (e4m3, F(448)) if element == "float8_e4m3" else (e5m2, F(57344))
    for number in range(8):
        x = (activations(16, 64, seed=30 + number).astype(F) * F(2.0 ** (8 * number - 24))).astype(bfloat16).astype(F)
        x = x if number else np.zeros_like(x)
        for kind, amax in (("current", np.abs(x).max()), ("delayed", F(1.7))):
            scale = F(1) if amax == 0 else largest / amax
            if ending:
                scale = (np.array([scale]).view(np.uint32) & np.uint32(0xFF800000)).view(F)[0]
            codes = np.clip(x * scale, -largest, largest).astype(type).view(np.uint8)
            options = {"statistic": float(amax)} if kind == "delayed" else {}
            found = quantize(x, quantizer_of(f"te_{element}_{kind}{ending}"), **options)
            assert np.array_equal(found.codes, codes), (number, kind)
            assert found.scale_numbers.item() == F(1) / scale
            assert np.array_equal(dequantize(found), codes.view(type).astype(F) * (F(1) / scale))


def test_a_tensor_without_a_usable_largest_magnitude_has_the_scale_1() -> None:
    for value in (np.inf, np.nan):
        x = np.array([[1.0, value, -3.0]], F)
        for ending in ("", "_pow2"):
            found = quantize(x, quantizer_of(f"te_float8_e5m2_current{ending}"))
            assert found.scale_numbers.item() == 1 and found.codes[0, [0, 2]].tolist() == [0x3C, 0xC2]


# -- DeepSeek-V3 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rows"), [("act", 1), ("weight", 128)])
def test_deep_seek_divides_by_amax_over_448(name: str, rows: int) -> None:
    x = activations(256, 256, seed=41).astype(F)
    x[:rows, :128] = 0  # 0 / 0
    tiles = x.reshape(256 // rows, rows, 2, 128)
    scale = np.abs(tiles).max((1, 3), keepdims=True) / F(448)
    with np.errstate(invalid="ignore"):
        elements = (tiles / scale).astype(e4m3)
    found = quantize(x, quantizer_of(f"deepseek_v3_{name}"))
    ours, theirs = found.codes.view(e4m3).astype(F), elements.astype(F).reshape(x.shape)
    assert np.array_equal(ours, theirs, equal_nan=True) and np.isnan(ours[0, 0])
    assert np.array_equal(found.scale_numbers, scale[:, 0, :, 0])
    values = (theirs.reshape(tiles.shape) * scale).reshape(x.shape)
    assert np.array_equal(dequantize(found), values, equal_nan=True)


# -- torchao's integers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int8_affine", "int4_affine", "uint4_affine", "int8_symmetric", "int4_symmetric"])
@pytest.mark.parametrize(("group", "size"), [("group32", 32), ("row", 128)])
def test_torchao_chooses_scales_and_zero_points(name: str, group: str, size: int) -> None:
    x = activations(128, 128, seed=51).astype(F)
    x[0], x[1] = np.abs(x[0]), -np.abs(x[1])  # ranges that end at 0
    bottom, top = {"int8": (-128, 127), "int4": (-8, 7), "uint4": (0, 15)}[name.split("_")[0]]
    groups = x.reshape(128, -1, size)
    low, high = np.minimum(groups.min(-1), F(0)), np.maximum(groups.max(-1), F(0))
    least = np.finfo(F).smallest_normal
    if "symmetric" in name:
        scale = np.maximum(np.maximum(-low, high) / F((top - bottom) / 2), least)
        point = np.zeros(scale.shape, F)
    else:
        scale = np.maximum((high - low) / F(top - bottom), least)
        point = np.clip(bottom - np.rint(low / scale), bottom, top).astype(F)
    codes = np.clip(np.rint(groups * (F(1) / scale)[..., None]) + point[..., None], bottom, top)
    found = quantize(x, quantizer_of(f"{name}_{group}"))
    assert np.array_equal(found.codes, codes.reshape(x.shape)) and np.array_equal(found.scale_numbers, scale)
    assert found.zero_points is None or np.array_equal(found.zero_points, point)
    values = (codes - point[..., None]).astype(F) * scale[..., None]
    assert np.array_equal(dequantize(found), values.reshape(x.shape))
