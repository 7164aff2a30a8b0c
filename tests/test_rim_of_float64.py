"""Formats whose numbers or midpoints lie at the ends of float64 or beyond, and odd declarations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from samples import assert_same_bits, policies, random_words

from mpsim import decode, encode, round_to
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format
from mpsim.integers import as_integer
from mpsim.kernels import spec, spec_codes
from mpsim.recording.order import in_order_of_computation

RIM = [
    Format("below", 1, 2, 1073, "none"),  # 1 to 7 times 2**-1074: float64 does not hold the midpoint beyond the largest
    Format("unsigned", 1, 2, 1073, "none", signed=False),
    Format("even", 1, 2, 1073, "fn"),  # the same, and the largest is even
    Format("powers", 1, 0, 1074, "none"),
    Format("low", 1, 1, 1073, "none"),
    Format("high", 1, 1, -1023, "ieee"),  # 2**1023 is its only number, and its smallest normal one would be 2**1024
    Format("higher", 1, 1, -1022, "none"),
    Format("wide", 1, 52, 1022, "none"),
    Format("own", 11, 52),
]  # fmt: skip


def inputs(format: Format) -> np.ndarray:
    top, least = format.largest, format.smallest
    with np.errstate(over="ignore"):
        near = [top, np.nextafter(top, np.inf), np.nextafter(top, 0), top / 2, least, least / 2, np.float64(top) * 1.25]
        near += [np.float64(least) * 1.5, 5e-324, 1e-323, 1.5e-323, 2e-323, 1.0, 2.0**1023, np.finfo(float).max, np.inf]
    return np.array([*near, *(-x for x in near), 0.0, -0.0, np.nan])


@pytest.mark.parametrize("format", RIM, ids=str)
def test_every_backend_equals_the_definition(format: Format, backend: str) -> None:
    x = inputs(format)
    words = random_words(x.size)
    for policy in policies(format, "float64"):
        pairs = zip(x.tolist(), words.tolist(), strict=True)
        expected = [spec.round_value(value, "float64", format, policy, word) for value, word in pairs]
        counts = [spec.counts(value, y, format) for value, y in zip(x.tolist(), expected, strict=True)]
        found, numbers = round_to(
            x, format, policy.mode, policy.overflow, random_bit_count=policy.random_bit_count, backend=backend,
            random_bits=words if policy.mode.needs_random_bits else None, counts=True,
        )  # fmt: skip
        assert_same_bits(found, np.array(expected), x, policy)
        assert tuple(numbers) == tuple(np.sum(counts, axis=0)), policy
    codes = np.arange(min(1 << format.bits, 64)).astype(f"uint{format.code_bits}")
    values = np.array([spec_codes.decode(int(code), format) for code in codes])
    assert_same_bits(decode(codes, format, np.float64, backend=backend), values)
    finite = values[np.isfinite(values)]
    wanted = [spec_codes.encode(value, format) for value in finite.tolist()]
    assert encode(finite, format, backend=backend).tolist() == wanted


def test_counts_and_ends_written_out() -> None:
    """7 * 2**-1074 is the largest; 8 * 2**-1074 overflows, and so does each larger number."""
    below, high = RIM[0], RIM[5]
    x = np.ldexp(np.float64([0, 1, 7, 8, 9]), -1074)
    found, counts = round_to(x, below, overflow="saturate", counts=True)
    assert (found / 5e-324).tolist() == [0, 1, 7, 7, 7] and counts.overflowed == 2 and counts.inexact == 2
    assert below.overflow_threshold == (8 * 5e-324, True) and below.smallest_normal == 2.0**-1072
    assert high.largest == high.smallest == 2.0**1023 and high.smallest_normal == math.inf
    assert high.value(high.largest_code) == Fraction(2) ** 1023
    found, counts = round_to(np.float64([2.0**1022, 1.5 * 2.0**1022, -(2.0**1023)]), high, counts=True)
    assert found.tolist() == [0, 2.0**1023, -(2.0**1023)] and counts.subnormal == 2


def test_numbers_of_numpy_are_taken_as_python_integers() -> None:
    """1 << np.int8(7) is negative."""
    assert Format("x", np.int8(5), np.int8(2), np.int16(15)) == Format("x", 5, 2, 15)  # type: ignore[arg-type]
    assert Format("x", np.int8(5), np.int8(2)).bits == 8 and type(Format("x", np.int8(5), 2).exponent_bits) is int  # type: ignore[arg-type]


MANY = "9" * 5000


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: Format("x", 4, 3, bias=0.5), "bias of format 'x' must be a whole number"),  # type: ignore[arg-type]
        (lambda: Format("x", 4, 3, bias=True), "bias of format 'x' must be a whole number"),
        (lambda: round_to(1.0, Format("x", 1, 1, -1023, "none")), "has values that float64 cannot hold"),
        (lambda: round_to(1.0, Format("x", 1, 2, 1074, "none")), "has values that float64 cannot hold"),
        (lambda: FORMATS["fp_4_20000000000_0"], "mantissa_bits of format .* must be a whole number from 0 to 52"),
        (lambda: FORMATS[f"fp_4_{MANY}_0"], "unknown format 'fp_4_999"),
        (lambda: FORMATS[f"fp_4_3_{MANY}"], "unknown format 'fp_4_3_999"),
        (lambda: FORMATS[f"p3109_k{MANY}p3"], "unknown format 'p3109_k999"),
        (lambda: FORMATS["fp_٤_3_0"], "unknown format"),
        (lambda: as_integer(f"int{MANY}"), "unknown integer type 'int999"),
    ],
)  # fmt: skip
def test_what_is_refused(make: object, message: str) -> None:
    with pytest.raises((UsageError, TypeError), match=message):
        make()  # type: ignore[operator]


def test_a_tensor_with_a_number_of_5000_digits_is_none_of_a_step() -> None:
    assert in_order_of_computation([f"P/{MANY}/0", "Y/1/0"]) == ["Y/1/0"]
