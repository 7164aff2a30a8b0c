"""kernels/spec.py, the definition, against rational numbers and against its own statements."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import fraction
from samples import TEST_FORMATS, UNSIGNED, assert_same_bits, cases, corpus, policies, random_words

from mpsim.formats import FORMATS, Format
from mpsim.kernels import spec, spec_codes
from mpsim.policies import Mode, Policy

#: Of each format, source, mode and overflow policy: about a thousand for each format.
NUMBERS = 25


def expected(x: np.ndarray, name: str, policy: Policy, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    format, k = TEST_FORMATS[name], policy.random_bit_count or 32
    rows = [
        fraction.round_value(float(value), format, policy.mode, policy.overflow, int(word), k)
        for value, word in zip(x, words, strict=True)
    ]
    numbers = [fraction.counts(float(value), row, format) for value, row in zip(x, rows, strict=True)]
    return np.array([fraction.as_float(row) for row in rows]).astype(x.dtype), np.array(numbers)


@pytest.mark.parametrize(("name", "dtype"), cases())
def test_equals_rational_arithmetic(name: str, dtype: str) -> None:
    """NUMBERS of the corpus, drawn anew for each mode and overflow policy."""
    format, everything = TEST_FORMATS[name], corpus(name, dtype)
    for number, policy in enumerate(policies(format, dtype)):
        if policy.mode.is_legacy:
            continue
        x = np.random.default_rng(number).choice(everything, NUMBERS, replace=False)
        words = random_words(x.size, number)
        result = [
            spec.round_value(float(value), dtype, format, policy, int(word))
            for value, word in zip(x, words, strict=True)
        ]
        rows = [spec.counts(float(value), y, format) for value, y in zip(x, result, strict=True)]
        wanted, wanted_counts = expected(x, name, policy, words)
        assert_same_bits(np.array(result).astype(dtype), wanted, x, policy)
        assert np.array_equal(np.array(rows), wanted_counts), (policy, x[(np.array(rows) != wanted_counts).any(axis=1)])


@given(
    data=st.data(),
    exponent_bits=st.integers(1, 8),
    mantissa_bits=st.integers(0, 23),
    specials=st.sampled_from(["ieee", "fn", "fnuz", "none", "p3109", "p3109_finite"]),
    bias=st.integers(-300, 300) | st.none(),
    subnormals=st.booleans(),
)
def test_any_format_equals_rational_arithmetic(
    data: st.DataObject, exponent_bits: int, mantissa_bits: int, specials: str, bias: int | None, subnormals: bool
) -> None:
    try:
        format = Format("any", exponent_bits, mantissa_bits, bias, specials, subnormals)
    except ValueError:
        return
    if format.largest < format.smallest:
        return  # without subnormals nothing is left
    pattern = data.draw(st.integers(0, 2**64 - 1), label="pattern")
    near = data.draw(st.sampled_from(np.linspace(0, 2, 17).tolist()), label="times")
    base = data.draw(st.sampled_from([format.largest, format.smallest, format.smallest_normal]), label="base")
    for x in (float(np.array([pattern], np.uint64).view(np.float64)[0]), base * near, math.nextafter(base * near, 0)):
        for policy in policies(format, "float64"):
            word = data.draw(st.integers(0, 2**32 - 1), label="word") if policy.mode.needs_random_bits else 0
            y = spec.round_value(x, "float64", format, policy, word)
            wanted = fraction.round_value(x, format, policy.mode, policy.overflow, word, policy.random_bit_count or 32)
            assert_same_bits(np.float64(y), np.float64(fraction.as_float(wanted)), np.float64(x), policy)
            assert spec.counts(x, y, format) == fraction.counts(x, wanted, format)


@pytest.mark.parametrize("name", [name for name, format in TEST_FORMATS.items() if format.bits <= 12])
def test_codes_equal_rational_values(name: str) -> None:
    format = TEST_FORMATS[name]
    for code in range(1 << format.bits):
        value, wanted = spec_codes.decode(code, format), fraction.code_value(format, code)
        if wanted == "nan":
            assert math.isnan(value)
        else:
            assert_same_bits(np.float64(value), np.float64(fraction.as_float(wanted)), what=(name, code))


@pytest.mark.parametrize("name", [name for name, format in TEST_FORMATS.items() if format.bits <= 12])
def test_code_round_trip(name: str) -> None:
    """Every code of a value comes back; a NaN's comes back as the canonical one of its sign."""
    format = TEST_FORMATS[name]
    for code in range(1 << format.bits):
        value = spec_codes.decode(code, format)
        again = spec_codes.encode(value, format)
        if math.isnan(value):
            assert again & format.magnitude_mask == format.nan_code & format.magnitude_mask  # type: ignore[operator]
            assert (again & format.sign_mask == code & format.sign_mask) or format.specials not in ("ieee", "fn")
        elif format.subnormals or value:
            assert again == code
        else:
            assert again == code & format.sign_mask * format.has_negative_zero


NOT_REPRESENTABLE = [
    ("float8_e4m3fn", 0.3),
    ("float8_e4m3fn", math.inf),
    ("float6_e2m3fn", math.inf),
    ("fp_4_3_4", math.nan),
    ("float8_e8m0fnu", 0.0),
    ("float8_e8m0fnu", -1.0),
    ("dlfloat16", 2.0**-32),
]


@pytest.mark.parametrize(("name", "value"), NOT_REPRESENTABLE)
def test_no_code(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="no code|not representable"):
        spec_codes.encode(value, FORMATS[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_own_format(dtype: str) -> None:
    """A source's own format leaves every finite number alone and makes NaNs canonical; infinity obeys the policy."""
    canonical = {"float32": 0x7FC00000, "float64": 0x7FF8000000000000}[dtype]
    unsigned = UNSIGNED[dtype]
    x = corpus(dtype, dtype)
    sign = x.view(unsigned) & ~(~unsigned(0) >> 1)
    wanted = np.where(np.isnan(x), sign | unsigned(canonical), x.view(unsigned)).astype(unsigned)
    for policy in policies(FORMATS[dtype], dtype):
        with np.errstate(invalid="ignore"):
            result = [spec.round_value(float(value), dtype, FORMATS[dtype], policy, 0) for value in x[::9]]
        expected = wanted.view(dtype)
        if policy.overflow == "saturate" and not policy.mode.is_legacy:
            expected = np.where(np.isinf(x), np.copysign(np.finfo(dtype).max, x), expected)
        assert_same_bits(np.array(result).astype(dtype), expected[::9], x[::9], policy)


def test_written_examples() -> None:
    """Numbers worked out by hand, one for each rule."""

    def rounded(x: float, name: str, mode: str = "nearest_even", overflow: str = "infinity", word: int = 0) -> float:
        policy = Policy(mode, overflow, 4 if Mode(mode).takes_bit_count else None)  # type: ignore[arg-type]
        return spec.round_value(x, "float64", FORMATS[name], policy, word)

    e4m3 = "float8_e4m3fn"
    assert rounded(-431.99999999999994, e4m3) == -416.0  # one rounding: the midpoint 432 is not reached
    assert [rounded(17.0, e4m3, mode) for mode in ("nearest_even", "nearest_away", "nearest_zero")] == [16, 18, 16]
    assert [rounded(19.0, e4m3, mode) for mode in ("nearest_even", "nearest_away", "nearest_zero")] == [20, 20, 18]
    assert [rounded(-17.0, e4m3, mode) for mode in ("toward_zero", "up", "down", "to_odd")] == [-16, -16, -18, -18]
    assert rounded(464.0, e4m3) == 448 and math.isnan(rounded(464.1, e4m3))
    assert rounded(464.1, e4m3, "down") == 448 and math.isnan(rounded(464.1, e4m3, "up"))
    assert rounded(1e9, e4m3, "to_odd") == 448 and math.isnan(rounded(math.inf, e4m3, "to_odd"))
    assert rounded(1e9, e4m3, overflow="mark") == math.inf and rounded(-math.inf, e4m3, overflow="saturate") == -448
    assert rounded(1e9, e4m3, "toward_zero", "mark") == math.inf
    assert rounded(math.inf, "float8_e5m2", overflow="saturate_propagate") == math.inf
    assert rounded(1e9, "float8_e5m2", overflow="saturate_propagate") == 57344
    assert rounded(math.inf, "fp_4_3_4") == 30
    assert math.copysign(1, rounded(-1e-9, e4m3)) == -1 and math.copysign(1, rounded(-1e-9, e4m3 + "uz")) == 1
    assert rounded(2.0**-32, "dlfloat16") == 0 and rounded(2.0**-30 * 0.26, "dlfloat16") == 2.0**-30 * 0
    assert rounded(3.0, "float8_e8m0fnu") == 4 and rounded(1e-300, "float8_e8m0fnu") == 2.0**-127
    assert [rounded(16.25, e4m3, "stochastic", word=word) for word in (13, 14, 15, 16 + 14)] == [16, 18, 18, 18]
