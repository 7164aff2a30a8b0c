"""Conversions to integers against their definition, and against what languages and processors specify."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import mpsim
from mpsim.errors import UsageError
from mpsim.integers import IntegerOverflow, IntegerPolicy, as_integer, from_integer, to_integer
from mpsim.integers.definition import code_of
from mpsim.kernels import spec, spec_codes
from mpsim.policies import Mode, Overflow, Policy

MODES = [mode for mode in Mode if not mode.is_legacy]
TYPES = ["int4", "uint4", "int8", "uint8", "int16", "uint32", "int64", "uint64", "int8_sign_magnitude", "uint8_z128"]
TYPES += ["int8_z-3", "uint32_z77", "int32_z5", "int12"]


def numbers(type: str) -> np.ndarray:
    """Halves, quarters and neighbours around zero and around the ends of a type, and numbers far beyond."""
    target = as_integer(type)
    around = [0.0, float(target.least), float(target.most), 2.0**target.bits, 2.0**64, 2.0**63, 2.0**53, -(2.0**32)]
    steps = np.concatenate([np.arange(-3, 3.25, 0.25), [2.0**12, -(2.0**12)]])
    points = (np.array(around)[:, None] + steps).reshape(-1)
    points = np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf)])
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324, -5e-324, 1e300, -1e300])
    random = np.random.default_rng(1).standard_normal(30) * 2.0 ** np.arange(30)
    return np.concatenate([points, -points, special, random])


@pytest.mark.parametrize("type", TYPES)
def test_equal_to_the_definition(type: str) -> None:
    target, x = as_integer(type), numbers(type)
    words = np.random.default_rng(2).integers(0, 1 << 32, x.shape, np.uint32)
    for number, mode in enumerate(MODES):
        overflow = list(IntegerOverflow)[number % 3]
        if target.layout == "sign_magnitude":
            overflow = IntegerOverflow.SATURATE
        count = 7 if mode.takes_bit_count else None
        nan = ("zero", "least", "most", "indefinite", 1)[number % 5]
        policy = IntegerPolicy(mode, overflow, nan, "overflow", count)
        options = {"random_bits": words, "random_bit_count": count} if count else {}
        found = to_integer(x, type, mode, overflow, nan=nan, **options)  # type: ignore[arg-type]
        assert found.dtype == target.dtype
        codes = found.view(f"uint{target.code_bits}").astype(np.uint64) & np.uint64((1 << target.bits) - 1)
        expected = [code_of(float(each), target, policy, int(word)) for each, word in zip(x, words, strict=True)]
        wrong = np.flatnonzero(codes != np.array(expected, np.uint64))
        assert not wrong.size, (mode, overflow, x[wrong[:3]], codes[wrong[:3]])
        assert from_integer(found, type).tolist() == [target.number(code) for code in expected]


@pytest.mark.parametrize("type", ["int8", "uint16", "int64", "uint64", "int4", "int8_sign_magnitude", "uint8_z3"])
def test_integers_to_integers(type: str) -> None:
    target = as_integer(type)
    x = np.array([0, 1, -1, 7, -8, 127, 128, -128, -129, 255, 256, -(2**63), 2**63 - 1, 2**31, 65535, 65536])
    for given in (x, x.view(np.uint64), x.astype(np.int8)):
        for overflow in IntegerOverflow:
            if overflow is IntegerOverflow.WRAP and target.layout == "sign_magnitude":
                continue
            found = to_integer(given, type, overflow=overflow).view(f"uint{target.code_bits}").astype(np.uint64)
            policy = IntegerPolicy(Mode.NEAREST_EVEN, overflow)
            expected = [code_of(int(each), target, policy) for each in given]
            assert (found & np.uint64((1 << target.bits) - 1)).tolist() == expected


def test_documented_conversions() -> None:
    """Java's (int) and Rust's `as` saturate and give 0 for NaN; ECMAScript wraps; x86 gives 0x80000000."""
    x = np.float64([2.0**31, -(2.0**31) - 1, np.nan, np.inf, -np.inf, 4294967301.9])
    saturated = to_integer(x, "int32", "toward_zero").tolist()
    assert saturated == [2**31 - 1, -(2**31), 0, 2**31 - 1, -(2**31), 2**31 - 1]
    assert to_integer(x, "int32", "toward_zero", "wrap").tolist() == [-(2**31), 2**31 - 1, 0, 0, 0, 5]
    indefinite = to_integer(x, "int32", "toward_zero", "indefinite", nan="indefinite")
    assert (indefinite == -(2**31)).all()
    assert to_integer(x[2:3], "uint32", nan="most").tolist() == [2**32 - 1]  # RISC-V fcvt.wu.s


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float16", "float32", "float64", "float4_e2m1fn"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.needs_random_bits])
def test_integers_are_rounded_once_to_formats(name: str, mode: Mode) -> None:
    """Integers just beside the midpoints of a format, which float64 does not hold."""
    format = mpsim.FORMATS[name]
    middles = [(2 * ((1 << format.mantissa_bits) + 5) + 1) << shift for shift in range(62 - format.mantissa_bits)]
    middles = [each for each in middles if each < 2**63 - 1]
    x = np.array([each + step for each in middles for step in (-1, 0, 1)] + [-(2**63), 2**63 - 1, 2**53 + 1])
    for given in (np.concatenate([x, -x]), x.view(np.uint64)):
        policy = Policy(mode, Overflow.INFINITY)
        expected = [spec.round_fraction(Fraction(int(each)), int(each) < 0, format, policy) for each in given]
        rounded = mpsim.round_to(given, name, mode, backend="reference")
        assert rounded.dtype == np.float64
        assert rounded.view(np.uint64).tolist() == np.array(expected).view(np.uint64).tolist()
        if not np.isnan(rounded).any():
            codes = mpsim.encode(given, name, mode, backend="reference").tolist()
            assert codes == [spec_codes.encode(each, format) for each in expected]


def test_one_rounding_is_not_two() -> None:
    """2**60 + 2**52 + 1 is above the midpoint of two bfloat16 numbers, and float64 takes it for the midpoint."""
    x = np.int64(2**60 + 2**52 + 1)
    assert float(mpsim.round_to(x, "bfloat16")) == 2.0**60 + 2.0**53
    assert float(mpsim.round_to(np.float64(x), "bfloat16")) == 2.0**60


def test_refusals() -> None:
    for call, words in (
        (lambda: as_integer("int1"), "bits of integer 'int1'"),
        (lambda: as_integer("integer"), "expected e.g. int8"),
        (lambda: as_integer("uint8_z256"), "must be one of its integers, 0 to 255"),
        (lambda: as_integer("int64_z1"), "more than 32 bits"),
        (lambda: as_integer("uint8_sign_magnitude"), "is unsigned"),
        (lambda: to_integer(1.5, "int8_sign_magnitude", overflow="wrap"), "'wrap' is defined for"),
        (lambda: to_integer(1.5, "int8", nan=128), "number of int8 (-128 to 127); got 128"),
        (lambda: to_integer(1.5, "int8", "stochastic", random_bit_count=4), "needs random_bits"),
        (lambda: to_integer(1.5, "int8", "up", random_bits=np.uint32(3)), "does not use random bits"),
        (lambda: to_integer(1.5, "int8", overflow="infinity"), "unknown overflow of integers 'infinity'"),
    ):
        with pytest.raises(UsageError) as raised:
            call()
        assert words in str(raised.value), raised.value
    with pytest.raises(TypeError):
        to_integer("x", "int8")
    with pytest.raises(UsageError, match="as many as 2\\*\\*53|random_bit_count"):
        mpsim.round_to(np.int64([2**60 + 1]), "float32", "stochastic", random_bits=np.uint32([1]), random_bit_count=32)
