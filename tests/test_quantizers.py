"""Quantisers in stages: arrays against the definition, texts, and what makes no sense."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from quantizing import COMPARED, compare, matrix, narrowed

from mpsim.blocks import BLOCK_FORMATS, PRESETS, SCALE_RULES, dequantize, quantize, quantizer_of
from mpsim.blocks.definition import groups as definition
from mpsim.blocks.definition.values import SecondScale
from mpsim.blocks.quantizers.groups import Row, Tensor
from mpsim.blocks.quantizers.text import of_json, text_of, to_json
from mpsim.blocks.quantizers.words import sentence_of
from mpsim.errors import UsageError
from mpsim.kernels import spec_blocks
from mpsim.kernels.philox import Stream, random_bits


@pytest.mark.parametrize("name", [*COMPARED, "int4_affine_group32", "torchao_mxfp4_rceil"])
def test_arrays_equal_the_definition(name: str) -> None:
    quantizer = narrowed(name)
    x = matrix((16, 16) if "2d" in name else (6, 16), seed=len(name))
    options: dict[str, Any] = {"statistic": 3.0} if quantizer.statistic.source == "given" else {}
    if quantizer.element.policy.mode.needs_random_bits:
        options["random_bits"] = random_bits(Stream(3, "rounding"), x.size).reshape(x.shape)
    compare(x, quantizer, **options)


@pytest.mark.parametrize(
    "name", ["te_nvfp4", "nvfp4", "torchao_nvfp4_one_level", "modelopt_nvfp4", "fp8_1x128", "te_float8_e4m3_current"]
)
def test_blocks_that_are_not_finite(name: str) -> None:
    x = matrix((6, 32), seed=5)
    x[0, 3], x[3, 20], x[4, 1] = math.inf, math.nan, -math.inf
    compare(x, narrowed(name))


@pytest.mark.parametrize(
    "text",
    [
        "quantizer(statistic(column()), scale(format=bfloat16, rounding=up), quotient(through=bfloat16))",
        "quantizer(statistic(tile(5, 3)), scale(arithmetic=float32, overflow=nan), element=element(float16, up))",
        "quantizer(statistic(tensor(), of=range), element=integer(3, signed=false, zero_point=true, mode=toward_zero))",
        "quantizer(statistic(block(5)), scale(cover, format=float32), element=integer(8, mode=nearest_away))",
        "quantizer(scale=scale(floor), rotation=hadamard(4, (1, -1, 1, 1), float32))",
        "quantizer(statistic(block(8)), scale(format=float8_e5m2, least=0.25), second=second(row(), most=57344.0))",
        "quantizer(scale=scale(ratio, float32, target=3.0), quotient=quotient(float32), specials=specials(divide))",
    ],
)
def test_other_descriptions_equal_the_definition(text: str) -> None:
    compare(matrix((7, 12), seed=len(text), spread=6), quantizer_of(text))


@pytest.mark.parametrize("rule", SCALE_RULES)
def test_block_formats_are_descriptions(rule: str) -> None:
    """The older definition of MX and NVFP4 says the same as that of the stages."""
    x = matrix((9, 32), seed=2, spread=60)
    for name, row in BLOCK_FORMATS.items():
        preset = name if row.tensor_scale else f"{name}_{rule}"
        one, other = quantize(x, PRESETS[preset].quantizer), quantize(x, name, scale_rule=rule)
        assert np.array_equal(one.codes, other.codes) and np.array_equal(one.scales, other.scales)
        values = x[4, : row.size].tolist()
        second = SecondScale(float(other.tensor_scale))
        group = definition.quantize_group(values, PRESETS[preset].quantizer, second)
        elements = spec_blocks.quantize_block(values, row, rule, tensor_scale=second.divisor)
        assert (group.elements, group.scale) == elements


@pytest.mark.parametrize("backend", ["compiled", "numba"])
def test_backends_agree(backend: str) -> None:
    x = matrix((32, 64), seed=11)
    for name in ("te_nvfp4", "te_nvfp4_4over6_mse_2d", "int8_affine_group32", "modelopt_mxfp4", "bfp8"):
        one, other = (quantize(x, PRESETS[name].quantizer, backend=each) for each in ("reference", backend))
        assert one.codes.tobytes() == other.codes.tobytes() and one.scales.tobytes() == other.scales.tobytes()
        assert dequantize(one).tobytes() == dequantize(other, backend=backend).tobytes()


@pytest.mark.parametrize("name", PRESETS)
def test_text_json_and_sentence(name: str) -> None:
    quantizer = PRESETS[name].quantizer
    assert quantizer_of(text_of(quantizer)) == quantizer
    assert of_json(json.loads(json.dumps(to_json(quantizer)))) == quantizer
    assert sentence_of(quantizer).endswith(".") and PRESETS[name].source


def test_a_sentence_says_every_stage() -> None:
    text = (
        "quantizer(statistic(tile(16, 16)), scale(ratio, float32, float8_e4m3fn, four_over_six=mae), "
        "quotient(float32_reciprocal, bfloat16), element(float4_e2m1fn, nearest_away, zeros=positive), "
        "second(form=multiplier), specials(divide, saturate), hadamard(16), values=float32_amax)"
    )
    assert sentence_of(quantizer_of(text)) == (
        "Each tile of 16 x 16: 16 numbers at a time are rotated by a Hadamard matrix and rounded to bfloat16; the "
        "tensor has 1 / float32((6 * 448) / the largest magnitude of the tensor) as second scale, in float32; the "
        "scale is the largest magnitude / 6 / the second scale in float32, rounded to float8_e4m3fn to nearest "
        "even, or that of 1.5 times as much if it gives the smaller mae error; x times the float32 reciprocal of "
        "both scales is rounded to bfloat16 and is rounded to float4_e2m1fn to nearest, ties away from zero, "
        "saturating, zeros are +0; a scale of 0 is divided by; infinities saturate; numbers are computed from "
        "codes in float32."
    )


@pytest.mark.parametrize(
    "text,message",
    [
        ("mxfp5", "unknown quantiser 'mxfp5'"),
        ("quantizer(statistic(block(0)))", "size of a block must be a whole number from 1"),
        ("quantizer(statistic(tile(4, 0)))", "columns of a tile"),
        ("quantizer(scale=scale(log2))", "unknown scale formula 'log2'"),
        ("quantizer(scale=scale(format=fp_3_1_n9))", "cannot hold 1"),
        ("quantizer(scale=scale(format=float99))", "float99"),
        ("quantizer(element=element(float8_e8m0fnu))", "signed format"),
        ("quantizer(element=element(float8_e4m3fn, sideways))", "sideways"),
        ("quantizer(second=second(form=multiplier))", "is used in float32 arithmetic"),
        ("quantizer(statistic(of=range))", "zero point follows from the range"),
        ("quantizer(element=integer(8, signed=false))", "unsigned integers need a zero point"),
        ("quantizer(statistic(tensor()), second=second())", "smaller groups than the tensor"),
        ("quantizer(scale=scale(floor, rounding=up))", "neither rounded nor inverted"),
        ("quantizer(layout=layout(low_first))", "two codes fit a byte"),
        ("quantizer(statistic(block(12)), rotation=hadamard(16))", "not whole rotations"),
        ("quantizer(rotation=hadamard(8))", "whose root is exact"),
        ("quantizer(scale=scale(target=0.1))", "must be a float32 number"),
        ("quantizer(scale=scale(ratio, float32, float8_e4m3fn, four_over_six=mae))", "four_over_six is for"),
        ("scale()", "is not a quantiser"),
        ("quantizer(block(3))", "statistic of quantizer cannot be"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        quantizer_of(text)


@pytest.mark.parametrize(
    "name,options,message",
    [
        ("te_nvfp4", {"scale_rule": "even"}, "says its own scale_rule"),
        ("fp8_row", {"statistic": 3.0}, "statistic from the input"),
        ("te_float8_e4m3_delayed", {}, "statistic is given"),
        ("te_float8_e4m3_delayed", {"statistic": [1.0, 2.0]}, r"one number or of shape \(1, 1\)"),
        ("fp8_row", {"tensor_scale": 1.0}, "no second scale"),
        ("te_nvfp4", {"tensor_scale": 0.1}, "exact in float32"),
        ("te_nvfp4", {"x": np.ones((2, 16))}, "must be float32 or narrower"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, Any], message: str) -> None:
    x = options.pop("x", np.ones((2, 16), np.float32))
    with pytest.raises((ValueError, TypeError), match=message):
        quantize(x, quantizer_of(name), **options)


def test_shapes_of_scales() -> None:
    x = np.random.default_rng(0).standard_normal((3, 20, 36)).astype(np.float32)
    for group, axis, shape in (
        ("block(16)", -1, (3, 20, 3)), ("block(16)", 1, (3, 2, 36)), ("tile(8, 16)", -1, (3, 3, 3)),
        ("row()", 2, (3, 20, 1)), ("column()", 2, (3, 1, 36)), ("tensor()", 0, (1, 1, 1)),
    ):  # fmt: skip
        quantizer = quantizer_of(f"quantizer(statistic({group}), scale(arithmetic=float32), quotient(float32))")
        found = quantize(x, quantizer, axis)
        assert found.scales.shape == shape and found.codes.shape == x.shape
        amax = x[0].max() if isinstance(quantizer.group, Tensor | Row) else None
        assert amax is None or np.isfinite(found.scale_numbers).all()
        error = np.abs(dequantize(found) - x)
        assert (error <= np.abs(x).max() / 16).all()
    rows = quantize(x, quantizer_of("te_nvfp4_rows"), 1)
    assert rows.second is not None and rows.second.shape == (3, 1, 36)


def test_layouts() -> None:
    x = matrix((130, 32), seed=1)
    quantizer = quantizer_of("te_nvfp4")
    found = quantize(x, replace(quantizer, layout=replace(quantizer.layout, scales="swizzled")))
    codes, scales = found.packed
    assert codes.shape == (130, 16) and (codes[5, 2] & 15, codes[5, 2] >> 4) == tuple(found.codes[5, 4:6])
    assert scales.size == 2 * 512
    for row, block in ((0, 0), (1, 1), (33, 1), (129, 0)):
        tile, inside = divmod(row, 128)
        assert scales[tile * 512 + inside % 32 * 16 + inside // 32 * 4 + block] == found.scales[row, block]
