"""Assertions and laws: mpsim keeps them, each of a set of planted defects breaks the one it should."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import Phase, settings

from mpsim import Policy, decode, encode, round_to
from mpsim.testing import assert_rounds_like, assert_same_bits, laws

FORMAT = "float8_e4m3fn"


def cast_to(format: str = FORMAT, mode: str = "nearest_even", overflow: str = "saturate") -> Callable[[Any], Any]:
    return lambda x: round_to(x, format, mode, overflow, backend="reference")


@pytest.mark.parametrize("name", laws.LAWS)
@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2fnuz", "fp_4_3_4"])
def test_rounding_keeps_the_laws(name: str, format: str) -> None:
    laws.LAWS[name](cast_to(format, "nearest_away"), format, max_examples=25)()


def test_the_laws_of_several_casts_hold() -> None:
    up, down = cast_to(mode="up"), cast_to(mode="down")
    laws.up_down_dual(up, down, FORMAT, max_examples=25)()
    to_odd = cast_to("fp_5_6_0", "to_odd")
    laws.to_odd_then_narrower(to_odd, cast_to("float8_e5m2"), "float8_e5m2", max_examples=25)()
    for name in ("float8_e5m2", "float8_e4m3fnuz", "dlfloat16", "p3109_k8p3", "float8_e8m0fnu"):
        laws.decodes_back(lambda x, f=name: encode(x, f), lambda c, f=name: decode(c, f), name, max_examples=25)()
    laws.rounds_like(cast_to(overflow="infinity"), FORMAT, max_examples=25)()
    stochastic = Policy("stochastic", "saturate", 8)
    laws.rounds_like(
        lambda x, bits: round_to(x, FORMAT, "stochastic", "saturate", random_bits=bits, random_bit_count=8),
        FORMAT, stochastic, max_examples=25,
    )()  # fmt: skip


# -- planted defects ----------------------------------------------------------------------------------------


@pytest.fixture
def only_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws stop at the first failure, without shrinking it."""
    monkeypatch.setattr(laws, "settings", partial(settings, phases=[Phase.generate], database=None))


def adds_half(x: Any) -> Any:
    """Ties up instead of to even: not symmetric."""
    return np.floor(np.asarray(x, np.float64) * 8 + 0.5) / 8


def drifting(x: Any) -> Any:
    """Moves exact numbers, as a round-to-odd of a peer did."""
    y = cast_to()(x)
    return np.where(np.abs(y) < 8, y * 2, y)


def falling(x: Any) -> Any:
    """The whole binade above the largest number becomes zero."""
    y = cast_to()(x)
    return np.where((np.abs(x) >= 512) & (np.abs(x) < 1024), 0 * y, y)


def leaking(x: Any) -> Any:
    """Leaves subnormal results as they came."""
    y = cast_to()(x)
    return np.where(np.abs(y) < 2.0**-6, x, y)


def by_position(x: Any) -> Any:
    """Truncates every third element, as a wrong loop over vectors does."""
    y = np.array(cast_to()(x))
    if y.ndim:
        y[2::3] = cast_to(mode="toward_zero")(x)[2::3]
    return y


def scalar_apart(x: Any) -> Any:
    """A scalar twin with ties away."""
    return cast_to(mode="nearest_even" if np.asarray(x).ndim else "nearest_away")(x)


@pytest.mark.parametrize(
    "law,defect",
    [
        ("idempotent", drifting),
        ("monotone", falling),
        ("odd_symmetric", adds_half),
        ("closed", leaking),
        ("scalar_is_array", scalar_apart),
        ("split_invariant", by_position),
    ],
)
def test_each_law_finds_its_defect(law: str, defect: Callable[[Any], Any], only_search: None) -> None:
    with pytest.raises(AssertionError, match=law.split("_")[0]):
        laws.LAWS[law](defect, FORMAT, max_examples=2000)()


def test_double_rounding_breaks_the_law_of_round_to_odd(only_search: None) -> None:
    nearest = cast_to("fp_5_6_0", "nearest_even")  # in place of to_odd
    with pytest.raises(AssertionError, match="to odd"):
        laws.to_odd_then_narrower(nearest, cast_to("float8_e5m2"), "float8_e5m2", max_examples=2000)()


def test_codes_that_do_not_come_back_are_found(only_search: None) -> None:
    def encode_wrong(x: Any) -> Any:
        return encode(np.where(x == 0, 0.0, x), FORMAT)  # loses -0

    with pytest.raises(AssertionError, match="encode of decode"):
        laws.decodes_back(encode_wrong, lambda codes: decode(codes, FORMAT), FORMAT, max_examples=2000)()


# -- assertions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float32"])
def test_a_right_cast_passes_in_numbers_and_in_codes(source: str) -> None:
    assert_rounds_like(lambda x: x.astype(ml_dtypes.float8_e5m2).view(np.uint8), "float8_e5m2", source=source)
    assert_rounds_like(lambda x: x.astype(ml_dtypes.float8_e5m2).astype(np.float32), "float8_e5m2", source=source)


def test_a_wrong_cast_is_told_with_its_smallest_input() -> None:
    def double(x: Any) -> Any:
        return round_to(x.astype(np.float32), FORMAT)

    with np.errstate(over="ignore", under="ignore", invalid="ignore"), pytest.raises(AssertionError) as told:
        assert_rounds_like(double, FORMAT, source="float64")
    smallest = np.nextafter(2.0**-10, 1)
    assert f"smallest {smallest!s} (0x3f50000000000001): got 0.0" in str(told.value)
    assert "expected 0.001953125" in str(told.value) and "midpoint is 1/1024" in str(told.value)


def test_given_inputs_and_random_bits() -> None:
    x, words = np.float32([0.3, -0.3, 500]), np.array([0, 2**32 - 1, 7], np.uint32)
    policy = Policy("stochastic", "saturate", 4)

    def cast(x: Any, bits: Any) -> Any:
        return encode(x, FORMAT, "stochastic", "saturate", random_bits=bits, random_bit_count=4)

    assert_rounds_like(cast, FORMAT, policy, x, random_bits=words)
    with pytest.raises(AssertionError, match="1 of 3 inputs differ; smallest -0.3"):
        assert_rounds_like(lambda x, bits: cast(x, bits & np.uint32(3)), FORMAT, policy, x, random_bits=words)
    with pytest.raises(ValueError, match="needs x and random_bits"):
        assert_rounds_like(cast, FORMAT, policy)
    with pytest.raises(AssertionError, match="got shape"):
        assert_rounds_like(lambda x: x[:1], FORMAT, x=x)
    with pytest.raises(ValueError, match="does not represent"):
        assert_rounds_like(cast_to(), FORMAT, x=np.float64([0.1]))
    for source in ("float16", "bfloat16"):  # 1.125, a tie, is what they have
        with pytest.raises(ValueError, match="does not represent"):
            assert_rounds_like(cast_to(), FORMAT, x=np.float32([1.125 + 2.0**-13]), source=source)


def test_bits_are_compared_not_values() -> None:
    assert_same_bits(np.float32([np.nan, -0.0]), np.float32([np.nan, -0.0]))
    with pytest.raises(AssertionError, match="got float32 of shape"):
        assert_same_bits(np.float32([1]), np.float64([1]))
    quiet, other = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
    assert_same_bits(quiet, other, any_nan=True)
    with pytest.raises(AssertionError, match="smallest input -2.0"):
        assert_same_bits(np.float32([1, 2, 3]), np.float32([0, 0, 3]), np.float32([5, -2, 1]))
