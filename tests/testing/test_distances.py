"""Assertions with a bound: distances in codes, and the error bounds of dot products."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from mpsim import FORMATS, decode, matmul
from mpsim.kernels.philox import Stream, random_bits
from mpsim.testing import (
    Mismatch,
    assert_dot_within_bound,
    assert_rounds_like,
    assert_same_bits,
    assert_within_codes,
    dot_bound,
)

E4M3 = FORMATS["float8_e4m3fn"]


def place(code: int) -> int:
    """The place of a code of float8_e4m3fn among its numbers, by its definition: sign and magnitude."""
    return -(code & 0x7F) if code & 0x80 else code


def test_distances_are_those_of_sign_and_magnitude() -> None:
    numbers = decode(np.arange(256, dtype=np.uint8), E4M3)
    words = random_bits(Stream(0, "synthetic_data"), 400)
    pairs = [(word & 0xFF, word >> 8 & 0xFF) for word in words[:200].tolist()]
    pairs += [(word & 0xFF, (word & 0xFF) + (word >> 8 & 7) & 0xFF) for word in words[200:].tolist()]
    outcomes = set()
    for left, right in [*pairs, (0, 0x80), (0x01, 0x81), (0x7F, 0xFF), (0x7E, 0x7F)]:
        nan = [code & 0x7F == 0x7F for code in (left, right)]
        apart = (0 if all(nan) else 256) if any(nan) else abs(place(left) - place(right))
        try:
            assert_within_codes(numbers[[left]], numbers[[right]], 3, "float8_e4m3fn")
            near = True
        except Mismatch:
            near = False
        assert near == (apart <= 3), (left, right)
        outcomes.add((near, apart))
    assert {(True, 3), (False, 4), (True, 0), (False, 256)} <= outcomes


@pytest.mark.parametrize(
    ("got", "expected", "codes", "said"),
    [
        (np.float32([1, 2]), np.float32([1, 2.0000005]), 1, "2 codes apart"),
        (np.float32([np.inf]), np.float32([3.4028235e38]), 0, "1 codes apart"),
        (np.float16([np.nan]), np.float16([65504]), 9, "got nan (0x7e00), expected 6.55e+04 (0x7bff)"),
        (np.float32([1, 1]), np.float64([1, 1]), 0, "got float32 of shape (2,), expected float64"),
        (np.float32([1]), np.float32([[1]]), 0, "got float32 of shape (1,), expected float32 of shape (1, 1)"),
    ],
)
def test_what_is_too_far(got: np.ndarray, expected: np.ndarray, codes: int, said: str) -> None:
    with pytest.raises(Mismatch) as raised:
        assert_within_codes(got, expected, codes)
    assert said in str(raised.value)


def test_numbers_beside_the_format() -> None:
    with pytest.raises(Mismatch, match="are not numbers of float8_e4m3fn; at index 0: got 1.01"):
        assert_within_codes(np.float32([1.01]), np.float32([1]), 9, "float8_e4m3fn")
    with pytest.raises(ValueError, match="expected has 1.00999"):
        assert_within_codes(np.float32([1]), np.float32([1.01]), 9, "float8_e4m3fn")
    with pytest.raises(TypeError, match="compares floats, got uint8"):
        assert_within_codes(np.uint8([1]), np.uint8([1]))


def test_no_warning_comes_from_signalling_nans() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signalling = np.uint32([0x7F800001, 0xFF800001]).view(np.float32)
        assert_within_codes(signalling, signalling, inputs=signalling)
        assert_same_bits(signalling, signalling, any_nan=True)
        with pytest.raises(Mismatch, match="smallest input nan"):
            assert_same_bits(signalling, -signalling, inputs=signalling)
        assert_rounds_like(lambda x: x.astype(np.float16), "float16", x=signalling)


@pytest.mark.parametrize("name", ["assert_same_bits", "assert_within_codes"])
def test_the_traceback_ends_at_the_call(name: str) -> None:
    """pytest leaves out frames whose local __tracebackhide__ is true: all of mpsim's own."""
    check = {"assert_same_bits": assert_same_bits, "assert_within_codes": assert_within_codes}[name]
    with pytest.raises(Mismatch) as raised:
        check(np.float32([1]), np.float32([2]))
    frames = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
    assert [frame.f_locals.get("__tracebackhide__", False) for frame in frames] == [False, *[True] * (len(frames) - 1)]


# -- dot products -------------------------------------------------------------------------------------------


def exact(a: np.ndarray, b: np.ndarray) -> Fraction:
    return sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)), Fraction(0))


@pytest.mark.parametrize(
    "product", [lambda a, b: matmul(a, b, "chunk=4"), matmul, np.matmul], ids=["chunk=4", "lanes", "numpy"]
)
def test_every_order_is_within_the_bound(product: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    a = (np.arange(-40, 56, dtype=np.float32).reshape(2, 48) / 7) ** 3
    b = np.ascontiguousarray(a[::-1].T) * np.float32(1.1)
    assert_dot_within_bound(product(a, b), a, b)
    centre, bound = dot_bound(a, b)
    assert abs(Fraction(float(centre[0, 1])) - exact(a[0], b[:, 1])) < Fraction(float(bound[0, 1])) / 1000


def test_a_wrong_sum_is_outside_and_a_narrow_one_has_its_own_bound() -> None:
    a, b = np.ones((1, 300), np.float16), np.ones((300, 1), np.float16)
    narrow = np.float16([[300]])
    assert_dot_within_bound(narrow, a, b, sums="float16")
    with pytest.raises(Mismatch, match="1 of 1 elements are farther from the exact result than the bound of 300 terms"):
        assert_dot_within_bound(np.float16([[301]]), a, b, sums="float32")
    with pytest.raises(Mismatch, match="got inf"):
        assert_dot_within_bound(np.float32([[np.inf]]), a, b)
    with pytest.raises(Mismatch, match="got shape"):
        assert_dot_within_bound(np.float32([300]), a, b)
    large = np.full((1, 4), 60000, np.float16)
    assert_dot_within_bound(np.float16([[np.inf]]), large, np.ones((4, 1), np.float16), sums="float16")


def test_the_bound_is_reached_in_order_by_some_sum() -> None:
    """Each sum of 1 and half a unit of 1 is a tie that goes to 1, so that the error is near the bound."""
    k = 255
    a = np.full((1, k + 1), 2.0**-24, np.float32)
    a[0, 0] = 1
    b = np.ones((k + 1, 1), np.float32)
    in_order = np.float32([[1.0]])
    assert matmul(a, b, "chunk=1000")[0, 0] == 1
    assert_dot_within_bound(in_order, a, b)
    _, bound = dot_bound(a, b)
    assert 0.99 < k * 2.0**-24 / bound[0, 0] <= 1


@pytest.mark.parametrize(
    "wrong", [(np.ones((2, 3)), np.ones((3, 2))), (np.float32([[np.inf]]), np.ones((1, 1), np.float32))]
)
def test_operands_without_a_bound(wrong: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises((ValueError, TypeError)):
        dot_bound(*wrong)
