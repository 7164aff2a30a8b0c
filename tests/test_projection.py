"""P3109's projection (Interim Report v4.0, §4.7.3): every small format, mode and saturation, on every backend."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from oracles import fraction
from samples import assert_same_bits

from mpsim import round_to
from mpsim.formats import FORMATS, Format
from mpsim.kernels import spec
from mpsim.policies import Policy

MODES = ("nearest_even", "nearest_away", "toward_zero", "up", "down", "to_odd")
SATURATIONS = ("infinity", "saturate_propagate", "saturate")  # SatNone, SatPropagate, SatFinite
VARIANTS = ("stochastic", "stochastic_b", "stochastic_c", "stochastic_equal")
NAMES = [
    f"p3109_k{width}p{precision}{sign}{domain}"
    for width in range(3, 7)
    for sign in ("", "u")
    for precision in range(1, width + bool(sign))
    for domain in ("", "_finite")
]

#: Those of which every backend is tested with variants at once; the others are slow.
QUICK = ("p3109_k5p3", "p3109_k5p2u_finite", "p3109_k4p1", "p3109_k6p6u")


def inputs(format: Format) -> list[Fraction]:
    """Every number of the format, the quarters between neighbours, and as far beyond the largest; both signs."""
    numbers = [format.value(code) for code in format.finite_codes]
    numbers.append(fraction.neighbours(numbers[-1], format)[1])
    numbers.append(2 * numbers[-1])
    points = [
        low + (high - low) * Fraction(i, 4) for low, high in zip(numbers, numbers[1:], strict=False) for i in range(4)
    ]
    return [*points, *(-point for point in points), Fraction(1, 3) * numbers[1]]


@pytest.mark.parametrize("name", NAMES)
def test_projection(name: str) -> None:
    """The oracle has the report's patterns of ωSaturate, and the parity of one significant bit from the codes."""
    format = FORMATS[name]
    x = np.array([*map(float, inputs(format)), -0.0, np.inf, -np.inf, np.nan])
    for mode in MODES:
        for saturation in SATURATIONS:
            expected = np.array([fraction.as_float(fraction.round_value(each, format, mode, saturation)) for each in x])
            policy = Policy(mode, saturation)
            defined = np.array([spec.round_value(each, "float64", format, policy) for each in x])
            assert_same_bits(defined, expected, x, (mode, saturation, "definition"))
            for backend in ("reference", "numba", "compiled"):
                rounded = round_to(x, format, mode, saturation, backend=backend, threads=1)
                assert_same_bits(rounded, expected, x, (mode, saturation, backend))


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in NAMES if each not in QUICK)]
)
@pytest.mark.parametrize("mode", VARIANTS)
def test_stochastic_variants(name: str, mode: str) -> None:
    """StochasticA, B and C with every word of one, two and three bits; round() of Python is to nearest even."""
    format, infinities = FORMATS[name], np.array([np.inf, -np.inf, np.nan])
    points = inputs(format)
    eighths = [
        low + (high - low) * Fraction(i, 16) for low, high in zip(points, points[1:], strict=False) for i in (1, 3)
    ]
    x = np.array([*map(float, [*points, *eighths]), *infinities])
    for count in (1, 2, 3):
        for word in range(1 << count):
            random = np.full(x.size, word | 0xABCDEF00 << count & 0xFFFFFFFF, np.uint32)
            expected = np.array(
                [fraction.as_float(fraction.round_value(each, format, mode, "infinity", word, count)) for each in x]
            )
            policy = Policy(mode, random_bit_count=count)
            defined = np.array([spec.round_value(each, "float64", format, policy, int(random[0])) for each in x])
            assert_same_bits(defined, expected, x, (count, word, "definition"))
            for backend in ("reference", "numba", "compiled"):
                options = {"random_bits": random, "random_bit_count": count, "backend": backend, "threads": 1}
                assert_same_bits(round_to(x, format, mode, **options), expected, x, (count, word, backend))


@pytest.mark.parametrize("name", NAMES)
def test_stochastic_variants_of_every_format(name: str) -> None:
    """The definition with every word of one to three bits, at sixteenths of three intervals, one beyond the largest."""
    format = FORMATS[name]
    numbers = [format.value(code) for code in format.finite_codes]
    numbers.append(fraction.neighbours(numbers[-1], format)[1])
    middle = len(numbers) // 2
    places = (
        [(middle, i) for i in range(16)] + [(len(numbers) - 2, i) for i in range(1, 16)] + [(0, 5), (0, 8), (0, 11)]
    )
    points = [(numbers[low] + (numbers[low + 1] - numbers[low]) * Fraction(i, 16)) * (-1) ** i for low, i in places]
    for mode in VARIANTS:
        for count in (1, 2, 3):
            policy = Policy(mode, random_bit_count=count)
            for word in range(1 << count):
                for point in points:
                    expected = fraction.as_float(fraction.round_value(point, format, mode, "infinity", word, count))
                    x = point.numerator / point.denominator
                    got = spec.round_value(x, "float64", format, policy, word | 0xABCD00 << count)
                    same = got == expected or (got != got and expected != expected)
                    assert same, (mode, count, word, point, got, expected)


def test_beyond_float64() -> None:
    """Binary16p1ue: its largest number is 2**32765, and its ties go to even codes."""
    format = FORMATS["p3109_k16p1u"]
    tie = spec.Exact(3, 100)  # between 2**101, of code 101 + 2**15, which is odd, and 2**102
    assert spec.project(tie, False, format) == spec.Exact(2, 101)
    assert spec.project(spec.Exact(3, 101), False, format) == spec.Exact(1, 102)
    assert spec.project(spec.Exact(1, 32766), False, format) == np.inf
    assert spec.project(spec.Exact(1, 32766), False, format, Policy("to_odd")) == spec.Exact(1, 32765)
    assert spec.project(spec.Exact(1, 32766), True, format, Policy("up")) == spec.Exact(0, 0)
