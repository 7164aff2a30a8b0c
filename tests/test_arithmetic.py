"""Operations on codes: the definition against rational numbers and NumPy, and the fast way against the definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from oracles import fraction

from mpsim.arithmetic import ARITHMETIC, COMPARISONS, classify, compare, definition, neighbour, operate, operations
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format
from mpsim.policies import Mode, Policy

MODES = [mode for mode in Mode if not mode.is_legacy and not mode.needs_random_bits]
SATURATIONS = ("infinity", "saturate", "saturate_propagate")


def all_codes(formats: list[Format]) -> list[np.ndarray]:
    """Every combination of codes, one array for each operand."""
    return [axis.reshape(-1) for axis in np.meshgrid(*(np.arange(1 << each.bits) for each in formats), indexing="ij")]


def numbers(format: Format, codes: np.ndarray) -> list[Fraction | str]:
    return [fraction.code_value(format, code) for code in codes.tolist()]


def exact_results(
    name: str, codes: list[np.ndarray], formats: list[Format], result: Format, policy: Policy
) -> np.ndarray:
    rows = zip(*(array.tolist() for array in codes), strict=True)
    return np.array([definition.operate(name, row, formats, result, policy) for row in rows])


#: What rational numbers compute, of operands that are neither infinite nor NaN.
RATIONAL = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
}


@pytest.mark.parametrize("saturation", SATURATIONS)
@pytest.mark.parametrize(
    "names", [("p3109_k5p2", "p3109_k4p2_finite", "p3109_k5p3u"), ("p3109_k4p1u", "p3109_k4p3", "p3109_k4p1")]
)
def test_the_definition_against_rational_numbers(names: tuple[str, str, str], saturation: str) -> None:
    """Every pair of codes of two formats, rounded to a third by the oracle of rounding."""
    left, right, result = (FORMATS[name] for name in names)
    for (x, y), (name, compute) in product(product(range(1 << left.bits), range(1 << right.bits)), RATIONAL.items()):
        values = [fraction.code_value(left, x), fraction.code_value(right, y)]
        if any(isinstance(value, str) for value in values) or (name == "divide" and values[1] == 0):
            continue
        for mode in ("nearest_even", "to_odd", "up"):
            expected = fraction.round_value(compute(*values), result, mode, saturation)
            code = definition.operate(name, (x, y), (left, right), result, Policy(mode, saturation))
            got = fraction.code_value(result, code)
            assert got == expected or (str(got).endswith("nan") and str(expected).endswith("nan")), (name, x, y, mode)


def test_the_special_values_of_p3109() -> None:
    """§4.10: infinities and NaN as extended reals have them, quotients by zero NaN; results in a format of its own."""
    operand, result = FORMATS["p3109_k4p2"], FORMATS["p3109_k8p3"]
    points = {0.0: 0, 1.0: 4, -1.0: 12, math.inf: 7, -math.inf: 15, math.nan: 8}
    assert [fraction.code_value(operand, code) for code in (4, 12, 7, 15, 8)] == [1, -1, "+inf", "-inf", "nan"]
    codes = {0.0: 0, 1.0: 0x40, 2.0: 0x44, 3.0: 0x46, math.inf: 0x7F}
    codes |= {-value: code | 0x80 for value, code in codes.items() if value}
    three = {"fma": lambda x, y, z: x * y + z, "faa": lambda x, y, z: x + y + z}
    two = {**RATIONAL, "divide": lambda x, y: x / y if y else math.nan}
    for name, compute in {**two, **three}.items():
        for row in product(points, repeat=3 if name in three else 2):
            value = compute(*row)
            expected = 0x80 if math.isnan(value) else codes[value]
            given = [points[each] for each in row]
            assert definition.operate(name, given, [operand] * len(row), result) == expected, (name, row)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_float16_against_numpy(name: str) -> None:
    """NumPy's float16: float32 arithmetic rounded once more, which is one rounding (24 >= 2 * 11 + 2)."""
    random = np.random.default_rng(1)
    edges = np.uint16([0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x7C00, 0x7E00])
    edges = np.concatenate([edges, edges | 0x8000])
    x, y = random.integers(0, 1 << 16, (2, 50_000), np.uint16)
    x[:256], y[:256] = np.repeat(edges, 16), np.tile(edges, 16)
    ufunc = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}[name]
    with np.errstate(all="ignore"):
        expected = ufunc(x.view(np.float16), y.view(np.float16))
    got = operate(name, x, y, formats="float16").view(np.float16)
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.isnan(got), ~numbers)
    assert np.array_equal(got[numbers].view(np.uint16), expected[numbers].view(np.uint16))
    some = slice(0, 400)
    exact = exact_results(name, [x[some], y[some]], [FORMATS["float16"]] * 2, FORMATS["float16"], Policy())
    assert np.array_equal(exact, operate(name, x[some], y[some], formats="float16"))


def test_square_roots_against_numpy() -> None:
    x = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(all="ignore"):
        expected = np.sqrt(x.view(np.float16))
    got = operate("sqrt", x, formats="float16").view(np.float16)
    assert np.array_equal(got, expected, equal_nan=True)
    assert np.array_equal(np.signbit(got)[expected == 0], np.signbit(expected)[expected == 0])


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "sqrt"])
def test_float32_against_the_processor(name: str) -> None:
    """Some of 300,000 quotients lie so near a tie that their 38 bits alone would round the wrong way."""
    random = np.random.default_rng(3)
    codes = random.integers(0, 1 << 23, (2, 300_000), np.uint32) | random.integers(100, 150, (2, 1), np.uint32) << 23
    codes = codes[: ARITHMETIC[name][0]]
    ufunc = {"sqrt": np.sqrt, **dict(zip(RATIONAL, (np.add, np.subtract, np.multiply, np.divide), strict=True))}[name]
    expected = ufunc(*codes.view(np.float32)).view(np.uint32)
    assert np.array_equal(operate(name, *codes, formats="float32"), expected)


def test_reciprocal_roots_of_17_bits() -> None:
    """The widest result of the fast way: a quarter of these roots needs the bit that says something is left."""
    x = np.random.default_rng(4).integers(0x3F800000, 0x40800000, 1500, np.uint32)
    formats, result = [FORMATS["float32"]], FORMATS["fp_6_16_0"]
    assert operations.Asked("rsqrt", [], formats, result).is_fast(Policy())
    assert np.array_equal(
        operate("rsqrt", x, formats="float32", result=result), exact_results("rsqrt", [x], formats, result, Policy())
    )


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize(
    "names",
    [
        ("p3109_k5p2", "p3109_k4p2_finite", "p3109_k4p1u", "p3109_k6p3"),
        ("float4_e2m1fn", "float6_e2m3fn", "fp_3_1_0", "float8_e4m3"),
        ("float8_e4m3", "p3109_k3p1", "float4_e2m1fn", "float16"),
        ("p3109_k4p2", "float6_e2m3fn", "float4_e2m1fn", "p3109_k6p3"),
    ],
)
def test_the_fast_way_against_the_definition(name: str, names: tuple[str, ...]) -> None:
    """Every combination of codes; three operands in the two nearest modes and the two directed ones."""
    count = ARITHMETIC[name][0]
    formats, result = [FORMATS[each] for each in (*names[:3], *names[:3])[:count]], FORMATS[names[-1]]
    codes = all_codes(formats[:2])
    if count >= 3:
        random = np.random.default_rng(0)
        codes = [random.integers(0, 1 << each.bits, 400) for each in formats]
    for mode in MODES if names[0] == "p3109_k5p2" and count < 3 else MODES[:1] + [Mode.DOWN, Mode.TO_ODD]:
        policy = Policy(mode)
        assert operations.Asked(name, [], formats, result).is_fast(policy)
        expected = exact_results(name, codes, formats, result, policy)
        got = operate(name, *codes, formats=formats, result=result, mode=mode)
        for backend in ("reference", "numba"):
            other = operate(name, *codes, formats=formats, result=result, mode=mode, backend=backend)
            assert np.array_equal(other, got), (mode, backend)
        wrong = np.flatnonzero(got != expected)
        assert wrong.size == 0, (mode, [array[wrong[0]] for array in codes], got[wrong[0]], expected[wrong[0]])


@pytest.mark.parametrize("name", ["add", "divide", "fma", "faa"])
def test_float32_and_stochastic_against_the_definition(name: str) -> None:
    """Random float32 codes of near exponents, in the nearest mode; float16 results with random bits."""
    count, random = ARITHMETIC[name][0], np.random.default_rng(5)
    signs, exponents, fractions = (random.integers(0, n, (count, 400), np.uint32) for n in (2, 40, 1 << 23))
    codes = list(signs << 31 | (exponents + 107) << 23 | fractions)
    formats = [FORMATS["float32"]] * count
    expected = exact_results(name, codes, formats, formats[0], Policy())
    assert np.array_equal(operate(name, *codes, formats="float32"), expected)
    half, words = FORMATS["float16"], random.integers(0, 1 << 32, 400, np.uint32)
    policy = Policy("stochastic", random_bit_count=10)
    expected = np.array(
        [
            definition.operate(name, row, formats, half, policy, word)
            for *row, word in zip(*map(np.ndarray.tolist, [*codes, words]), strict=True)
        ]
    )
    got = operate(
        name, *codes, formats="float32", result=half, mode="stochastic", random_bits=words, random_bit_count=10
    )
    assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("scaled_add", lambda s, x, t, y: s * x + t * y),
        ("scaled_subtract", lambda s, x, t, y: s * x - t * y),
        ("scaled_multiply", lambda s, x, t, y: s * x * t * y),
        ("scaled_fma", lambda s, x, t, y, u, z: s * x * t * y + u * z),
        ("scaled_faa", lambda s, x, t, y, u, z: s * x + t * y + u * z),
        ("scaled_convert", lambda s, x: s * x),
    ],
)
def test_scale_factors_of_p3109(name: str, rule: Callable) -> None:
    """§5.5: Binary8p1uf factors and 8-bit elements, by rational numbers; a factor that is NaN makes NaN."""
    count = ARITHMETIC[name][0]
    formats = [FORMATS["p3109_k8p1u_finite"], FORMATS["p3109_k8p3"]] * (count // 2)
    result = FORMATS["p3109_k8p4"]
    codes = np.random.default_rng(6).integers(0, 256, (count, 3000))
    codes[::2] = 96 + codes[::2] % 64
    codes[0, 0] = 255
    got = operate(name, *codes, formats=formats, result=result)
    tried = 0
    for row, code in zip(codes.T.tolist(), got.tolist(), strict=True):
        values = [fraction.code_value(*each) for each in zip(formats, row, strict=True)]
        if not any(isinstance(value, str) for value in values):
            expected = fraction.round_value(rule(*values), result, "nearest_even", "infinity")
            assert fraction.code_value(result, code) == expected, (row, code)
            tried += 1
    assert tried > 2800 and got[0] == result.nan_code
    zero_times_infinity = [0, 0x7F, *([0] * (count - 2))]  # scale 0, element +inf
    assert operate(name, *zero_times_infinity, formats=formats, result=result) == result.nan_code


def test_formats_beyond_float64() -> None:
    """2**-32767 squared is below the smallest number; its reciprocal 2**32767 is beyond the largest, 2**32765."""
    assert operate("multiply", 1, 1, formats="p3109_k16p1u").item() == 0
    assert operate("reciprocal", [1, 4], formats="p3109_k16p1u").tolist() == [0xFFFE, 0xFFFC]
    assert Fraction(2) ** 32764 == FORMATS["p3109_k16p1u"].value(0xFFFC)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name: str) -> None:
    """Against Python's comparisons of the numbers that codes stand for."""
    format, wide = FORMATS["p3109_k4p2"], FORMATS["float8_e4m3"]
    special = {"nan": math.nan, "+inf": math.inf, "-inf": -math.inf, "-0": -0.0}
    of = {
        "less": lambda x, y: x < y, "less_equal": lambda x, y: x <= y, "equal": lambda x, y: x == y,
        "greater": lambda x, y: x > y, "greater_equal": lambda x, y: x >= y,
        "total_order": lambda x, y: math.isnan(x) or (x, math.copysign(1, x)) <= (y, math.copysign(1, y)),
        "is_nan": math.isnan, "is_zero": lambda x: x == 0, "is_infinite": math.isinf, "is_finite": math.isfinite,
        "is_normal": lambda x: math.isfinite(x) and abs(x) >= 0.5, "is_subnormal": lambda x: 0 < abs(x) < 0.5,
        "is_one": lambda x: x == 1, "is_sign_minus": lambda x: x < 0,
    }[name]  # fmt: skip
    formats = [format, wide][: COMPARISONS[name]]
    codes = all_codes(formats)
    values = [
        [special[value] if isinstance(value, str) else float(value) for value in numbers(each, array)]
        for each, array in zip(formats, codes, strict=True)
    ]
    assert compare(name, *codes, formats=formats).tolist() == [of(*row) for row in zip(*values, strict=True)]


def test_classes() -> None:
    found = classify(np.arange(16), "p3109_k4p2").tolist()
    positive = ["positive_subnormal", *["positive_normal"] * 5, "positive_infinity"]
    negative = [name.replace("positive", "negative") for name in positive]
    assert found == ["zero", *positive, "nan", *negative]


@pytest.mark.parametrize(
    "name", ["p3109_k5p2", "p3109_k5p2_finite", "p3109_k4p2u", "p3109_k4p1u_finite", "float8_e5m2"]
)
def test_neighbours(name: str) -> None:
    """§4.16 over the numbers in their order: the next one, or NaN (IEEE: the number itself) at the ends."""
    format = FORMATS[name]
    codes = np.arange(1 << format.bits)
    value = {"+inf": math.inf, "-inf": -math.inf, "-0": 0.0}
    of = {code: value.get(found, found) for code, found in enumerate(numbers(format, codes)) if found != "nan"}  # type: ignore[arg-type]
    line = sorted(set(of.values()))
    code_of = {of[code]: code for code in sorted(of, reverse=True)}
    for direction, step in (("greater", 1), ("less", -1)):
        found = neighbour(codes, format, direction).tolist()
        for code in codes.tolist():
            if code not in of:
                assert found[code] == code
                continue
            place = line.index(of[code]) + step
            if 0 <= place < len(line):
                sign = code & format.sign_mask if line[place] == 0 and format.has_negative_zero else 0  # §5.3.1: -0
                assert found[code] == code_of[line[place]] | sign, (code, direction)
            else:
                assert found[code] == (format.nan_code if name.startswith("p3109") else code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ad", 1, 2), "did you mean add"),
        (("add", 1), "takes 2 operands, got 1"),
        (("add", 1, 256), "are 0 to 255, got 256"),
        (("add", [1, 2], [1, 2, 3]), "do not broadcast"),
        (("add", 1.5, 1), "codes are integers"),
    ],
)
def test_wrong_arguments(arguments: tuple, message: str) -> None:
    with pytest.raises((UsageError, TypeError), match=message):
        operate(*arguments, formats="float8_e4m3fn")


def test_a_result_without_a_code() -> None:
    with pytest.raises(UsageError, match="no code for NaN"):
        operate("divide", 0, 0, formats="float4_e2m1fn")
