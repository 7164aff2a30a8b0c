"""Block formats against their definition, and the definition against what its documents say, in another way."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from oracles import fraction

from mpsim import FORMATS, Policy
from mpsim.blocks import BLOCK_FORMATS, SCALE_RULES, Blocks, dequantize, dot, quantize, round_to_blocks
from mpsim.kernels import spec_blocks, spec_codes
from mpsim.kernels.philox import Stream, random_bits

NAMES = list(BLOCK_FORMATS)


def rows(size: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Rows of one block: any magnitudes, zeros, subnormals of the source, ends of its range, numbers beside powers
    of two, ties of every element format."""
    random = np.random.default_rng(seed)
    low, high = {"float32": (-140, 120), "float64": (-200, 150)}[dtype]
    wide = np.exp2(random.integers(low, high, (14, 1)).astype(float)) * np.exp2(random.integers(-9, 2, (14, size)))
    x = (random.standard_normal((14, size)) * wide).astype(dtype)
    x[0], x[1, 2:] = 0, 0
    x[2] = np.finfo(dtype).smallest_subnormal * np.arange(size)
    x[3, 1] = np.finfo(dtype).max
    x[4] = np.resize([0.25, 0.75, 1.25, 2.5, -5, 3.5, 1.0625, -1.125, 6, 448, 464, -0.0], size)
    x[5] = np.nextafter(x.dtype.type(2.0) ** random.integers(-9, 9, size).astype(dtype), x.dtype.type(0))
    x[6] = np.resize([7.99, 7.5, 6.0001, 6, 1.5, 1.75], size)
    return x


def patterns(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32).view(np.uint32)


def compare(x: np.ndarray, name: str, words: np.ndarray | None = None, **options: Any) -> None:
    """quantize and dequantize of rows of one block equal the definition in every bit."""
    format = BLOCK_FORMATS[name]
    mode, count = options.get("mode", "nearest_even"), options.get("random_bit_count")
    policy = Policy(mode, options.get("overflow", "saturate"), count)
    blocks = quantize(x, name, random_bits=words, backend="reference", **options)
    values = dequantize(blocks, backend="reference")
    rule, beyond = options.get("scale_rule", "floor"), options.get("scale_overflow", "saturate")
    for i, row in enumerate(x):
        bits = None if words is None else words[i].tolist()
        scale_of_all = float(blocks.tensor_scale)
        found = spec_blocks.quantize_block(row.tolist(), format, rule, beyond, policy, bits, scale_of_all)
        elements, scale = found
        what = (name, options, i)
        assert blocks.codes[i].tolist() == [spec_codes.encode(element, format.element) for element in elements], what
        assert blocks.scales[i].tolist() == [spec_codes.encode(scale, format.scale)], what
        expected = np.array(spec_blocks.dequantize_block(elements, scale, scale_of_all), np.float32)
        expected[np.isnan(expected)] = np.nan
        assert np.array_equal(patterns(values[i]), patterns(expected)), what


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_equal_the_definition(name: str, dtype: str) -> None:
    x = rows(BLOCK_FORMATS[name].size, dtype)
    if name == "nvfp4":
        x[3] = 1  # else the tensor scale flushes all other rows
    for rule in SCALE_RULES:
        compare(x, name, scale_rule=rule)
    for mode in ("up", "toward_zero", "nearest_away", "to_odd"):
        compare(x, name, mode=mode, scale_rule="even", scale_overflow="nan", overflow="infinity")
    words = random_bits(Stream(3, "rounding"), x.size).reshape(x.shape)
    compare(x, name, words, mode="stochastic", random_bit_count=9)


@pytest.mark.parametrize("scale", [0.013, 3.0, 2.0**-149, 1e30])
def test_given_tensor_scales(scale: float) -> None:
    x = rows(16, "float32", seed=4)
    for beyond in ("saturate", "nan"):
        compare(x, "nvfp4", tensor_scale=float(np.float32(scale)), scale_overflow=beyond)


def test_quotients_one_place_of_float64_beside_midpoints() -> None:
    scale = float(np.float32(0.1))
    divisors = np.array([2.0, 1.125, 0.875]) * scale  # block scales of the rows below, exact products
    middles = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0])
    exact = np.multiply.outer(divisors, middles)
    x = np.concatenate([np.nextafter(exact, 0), np.nextafter(exact, 9)], axis=1)
    x[:, -1] = exact[:, -1]  # amax: the scales are as said
    for mode in ("nearest_even", "nearest_away", "up", "down"):
        compare(x, "nvfp4", tensor_scale=scale, mode=mode)
        compare(-x, "nvfp4", tensor_scale=scale, mode=mode)


def test_nvfp4_scales_are_the_quotients_rounded() -> None:
    x = rows(16, "float32", seed=9)[7:]
    blocks = quantize(x, "nvfp4")
    amax = Fraction(float(np.abs(x).max()))
    tensor = Fraction(float(blocks.tensor_scale))
    assert abs(tensor / (amax / 2688) - 1) <= Fraction(1, 2**24)
    for row, code in zip(x, blocks.scales[:, 0], strict=True):
        wanted = Fraction(float(np.abs(row).max())) / (6 * tensor)
        found = fraction.round_magnitude(wanted, False, FORMATS["float8_e4m3fn"], "nearest_even")
        assert spec_codes.decode(int(code), FORMATS["float8_e4m3fn"]) == min(found, 448)


# -- scale rules --------------------------------------------------------------------------------------------


def brute_force(amax: Fraction, name: str, rule: str) -> Fraction:
    """The rule's sentence, tried on every power of two."""
    element = BLOCK_FORMATS[name].element
    top = Fraction(2) ** math.floor(math.log2(element.largest))
    powers = [Fraction(2) ** e for e in range(-170, 171)]
    if rule == "even":
        below = max(p for p in powers if p <= amax)
        amax = Fraction(round(amax / below * 2**element.mantissa_bits), 2**element.mantissa_bits) * below
    chosen = {
        "floor": lambda: max(p for p in powers if p <= amax) / top,
        "even": lambda: max(p for p in powers if p <= amax) / top,
        "ceil": lambda: min(p for p in powers if p >= amax) / top,
        "nearest": lambda: min(powers, key=lambda p: (abs(p - amax), -p)) / top,
        "cover": lambda: min(p for p in powers if amax / p <= Fraction(element.largest)),
    }[rule]()
    return min(max(chosen, Fraction(2) ** -127), Fraction(2) ** 127)


@pytest.mark.parametrize("rule", SCALE_RULES)
@pytest.mark.parametrize("name", NAMES[:-1])
def test_scale_rules_do_what_their_sentence_says(name: str, rule: str) -> None:
    element = BLOCK_FORMATS[name].element
    edges = [1, 1.5, element.largest, 2 - 2.0 ** -(element.mantissa_bits + 1), 1.999, 1.25, 448 / 256, 1.4999999]
    points = [Fraction(p) * Fraction(2) ** e for p in edges for e in (-149, -130, -1, 0, 5, 118)]
    around = [Fraction(float(np.nextafter(float(p), end))) for p in points for end in (0, math.inf)]
    for amax in points + around:
        blocks = quantize(np.array([float(amax)]), name, scale_rule=rule, backend="reference")
        assert Fraction(2) ** (int(blocks.scales[0]) - 127) == brute_force(amax, name, rule), (float(amax), rule)


def test_logarithms_go_wrong_just_below_powers_of_two_and_mpsim_does_not() -> None:
    exponents = np.arange(-100, 101)
    below = np.nextafter(np.ldexp(np.float32(1), exponents), np.float32(0))
    by_logarithm = np.floor(np.log2(below)).astype(int)
    blocks = quantize(below[:, None], "mxfp8_e4m3")
    ours = blocks.scales[:, 0].astype(int) - 127 + 8
    assert np.array_equal(ours, exponents - 1)
    assert (by_logarithm != exponents - 1).any(), "float32 log2 rounds to the power of two itself"


# -- specials and ranges ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_or_an_infinity_makes_its_block_nan_and_no_other(name: str) -> None:
    size = BLOCK_FORMATS[name].size
    for wrong in (math.nan, math.inf, -math.inf):
        x = np.ones(2 * size, np.float32)
        x[3] = wrong
        values, counts = round_to_blocks(x, name, counts=True)
        assert np.isnan(values[:size]).all() and (values[size:] == 1).all()
        assert counts.nan == (1 if math.isnan(wrong) else 0) and counts.overflowed == 1
        codes = quantize(x, name)
        assert np.isnan(spec_codes.decode(int(codes.scales[0]), codes.format.scale))


def test_zero_blocks_keep_their_signs_and_take_the_smallest_scale() -> None:
    x = np.float32([0.0, -0.0])
    for name in NAMES[:-1]:
        blocks = quantize(x, name)
        assert blocks.scales.tolist() == [0]
        assert patterns(round_to_blocks(x, name)).tolist() == [0, 0x80000000]
    assert quantize(x, "nvfp4").scales.tolist() == [0]


def test_scales_beyond_the_largest() -> None:
    x = np.array([2.0**200, 1.0])
    assert quantize(x, "mxfp4", scale_overflow="nan").scales.tolist() == [255]
    assert quantize(x, "mxfp4").scales.tolist() == [254]
    assert round_to_blocks(x, "mxfp4")[0] == 6 * 2.0**127
    given = np.float32([1e6, 1])
    assert quantize(given, "nvfp4", tensor_scale=1.0, scale_overflow="nan").scales.tolist() == [0x7F]
    assert round_to_blocks(given, "nvfp4", tensor_scale=1.0)[0] == 6 * 448


def test_subnormal_elements_and_subnormal_scaled_sources() -> None:
    x = np.float32([448, 2.0**-9, 2.0**-10, 3 * 2.0**-10])  # scale 1: ties around the smallest e4m3 numbers
    assert round_to_blocks(x, "mxfp8_e4m3").tolist() == [448, 2.0**-9, 0, 2.0**-8]
    tiny = np.float32([2.0**-149, 3 * 2.0**-149])
    assert round_to_blocks(tiny, "mxfp4").tolist() == [0, 0]  # the smallest scale is 2**-127


def test_counts_are_of_the_scaled_elements() -> None:
    x = np.float32([7.9, 0.1, 1.0, 2.0])  # scale 1 in mxfp4: 7.9 saturates, 0.1 underflows
    _, counts = round_to_blocks(x, "mxfp4", counts=True)
    assert (counts.overflowed, counts.underflowed, counts.inexact) == (1, 1, 2)
    assert round_to_blocks(x, "mxfp4", scale_rule="cover", counts=True)[1].overflowed == 0


# -- arrays -------------------------------------------------------------------------------------------------


def test_blocks_lie_along_the_axis_and_the_last_may_be_short() -> None:
    x = np.random.default_rng(0).standard_normal((3, 70, 5)).astype(np.float32)
    whole = round_to_blocks(x, "mxfp6_e2m3", axis=1)
    for i in range(3):
        for j in range(5):
            parts = [round_to_blocks(x[i, k : k + 32, j].copy(), "mxfp6_e2m3") for k in (0, 32, 64)]
            assert np.array_equal(whole[i, :, j], np.concatenate(parts))
    blocks = quantize(x, "mxfp6_e2m3", axis=-2)
    assert blocks.scales.shape == (3, 3, 5) and blocks.codes.shape == x.shape and blocks.axis == 1
    assert blocks.bytes == 3 * 70 * 5 * 6 // 8 + 1 + 45
    assert round_to_blocks(np.zeros((0, 4), np.float32), "mxfp4").shape == (0, 4)
    assert quantize(np.zeros((4, 0), np.float32), "mxfp4").scales.shape == (4, 0)


def test_stream_words_are_those_of_the_array_whatever_the_axis() -> None:
    x = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
    stream = Stream(5, "rounding")
    words = random_bits(stream, x.size).reshape(x.shape)
    options: dict[str, Any] = {"axis": 0, "mode": "stochastic", "random_bit_count": 16}
    by_stream = round_to_blocks(x, "mxfp4", random_bits=stream, **options)
    assert np.array_equal(by_stream, round_to_blocks(x, "mxfp4", random_bits=words, **options))


@pytest.mark.parametrize("backend", ["compiled", "numba", "reference"])
def test_backends_agree(backend: str) -> None:
    x = rows(32, "float32", seed=2)
    expected = round_to_blocks(x, "mxfp8_e5m2", scale_rule="nearest", backend="reference")
    assert np.array_equal(
        patterns(round_to_blocks(x, "mxfp8_e5m2", scale_rule="nearest", backend=backend)), patterns(expected)
    )


def test_codes_are_those_of_ml_dtypes() -> None:
    x = rows(32, "float32", seed=3)[6:]
    blocks = quantize(x, "mxfp4")
    scale = blocks.scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    values = blocks.codes.view(np.uint8).astype(np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64) * scale
    assert np.array_equal(values, dequantize(blocks, np.float64))


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"format": "mxfp5"}, "unknown block format 'mxfp5'"),
        ({"axis": 2}, "axis must be a whole number from -1 to 0 for x of shape"),
        ({"scale_rule": "log2"}, "unknown scale rule 'log2'. Known: floor"),
        ({"scale_overflow": "wrap"}, "unknown scale_overflow"),
        ({"mode": "qpytorch_nearest", "overflow": "saturate"}, "QPyTorch"),
        ({"tensor_scale": 2.0}, "mxfp4 has no tensor_scale"),
        ({"format": "nvfp4", "tensor_scale": 0.1}, "tensor_scale must be exact in float32, got 0.1; round it first"),
        ({"mode": "stochastic", "random_bit_count": 4, "random_bits": np.zeros(3, np.uint32)}, "of x's shape"),
    ],
)
def test_mistakes_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(np.ones(4, np.float32), **{"format": "mxfp4", **arguments})


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="x must be float32"):
        quantize(np.arange(4), "mxfp4")


# -- dot products -------------------------------------------------------------------------------------------


def blocks_of(blocks: Blocks, index: int, rows_: bool) -> list[tuple[list[float], float]]:
    """One row or column as the definition takes it."""
    format = blocks.format
    codes, scales = (
        (blocks.codes[index], blocks.scales[index]) if rows_ else (blocks.codes[:, index], blocks.scales[:, index])
    )
    values = [spec_codes.decode(int(code), format.element) for code in codes]
    return [
        (values[i * format.size : (i + 1) * format.size], spec_codes.decode(int(scale), format.scale))
        for i, scale in enumerate(scales)
    ]


@pytest.mark.parametrize("accumulate", ["exact", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_dots_equal_the_definition(name: str, accumulate: str) -> None:
    random = np.random.default_rng(7)
    x = (random.standard_normal((4, 100)) * np.exp2(random.integers(-30, 30, (4, 100)))).astype(np.float32)
    y = (random.standard_normal((100, 3)) * np.exp2(random.integers(-30, 30, (100, 3)))).astype(np.float32)
    x[1, ::2], x[1, 1::2], y[1::2] = 1, -1, y[::2]  # cancels but for roundings
    x[2] *= np.float32(2.0**20)
    y[:, 1] *= np.float32(2.0**20)
    y[50, 2] = np.nan
    left, right = quantize(x, name, mode="nearest_away"), quantize(y, name, axis=0)
    found = dot(left, right, accumulate)
    scales = float(left.tensor_scale), float(right.tensor_scale)
    for i in range(4):
        for j in range(3):
            expected = spec_blocks.dot(blocks_of(left, i, True), blocks_of(right, j, False), accumulate, scales)
            assert patterns(found[i, j]) == patterns(expected) or (np.isnan(found[i, j]) and math.isnan(expected))
    assert np.isnan(found[:, 2]).all() and np.isfinite(found[0, 0])


def test_a_dot_is_exact_where_float32_sums_lose() -> None:
    x = np.zeros((1, 96), np.float32)
    x[0, [0, 32, 64]] = 2.0**12, 1, -(2.0**12)
    y = np.ones((96, 1), np.float32)
    y[[0, 64]] = 2.0**13
    left, right = quantize(x, "mxfp8_e5m2"), quantize(y, "mxfp8_e5m2", axis=0)
    assert dot(left, right).item() == 1 and dot(left, right, "float32").item() == 0
    vector = dot(quantize(x[0], "mxfp8_e5m2"), quantize(y[:, 0], "mxfp8_e5m2"))
    assert vector == 1 and vector.dtype == np.float32


def test_infinite_elements_and_infinite_totals() -> None:
    x = np.float32([[1.95 * 2**16, 1]])
    element_infinite = quantize(x, "mxfp8_e5m2", overflow="infinity")
    ones = quantize(np.ones((2, 1), np.float32), "mxfp8_e5m2", axis=0)
    assert np.isinf(dequantize(element_infinite)[0, 0])
    assert dot(element_infinite, ones).item() == math.inf == dot(element_infinite, ones, "float32").item()
    large = quantize(np.full((1, 32), 2.0**126, np.float32), "mxfp4")
    down = quantize(np.full((32, 1), -(2.0**10), np.float32), "mxfp4", axis=0)
    assert dot(large, down).item() == -math.inf == dot(large, down, "float32").item()


def test_dots_that_do_not_match_are_refused() -> None:
    a = quantize(np.ones((2, 32), np.float32), "mxfp4")
    with pytest.raises(ValueError, match="first one"):
        dot(a, a)
    with pytest.raises(ValueError, match="blocks of 32 and .* in blocks of 16"):
        dot(a, quantize(np.ones((32, 2), np.float32), "nvfp4", axis=0))
    with pytest.raises(ValueError, match="unknown accumulate .* Known: exact, float32"):
        dot(a, quantize(np.ones((32, 2), np.float32), "mxfp4", axis=0), "float16")
