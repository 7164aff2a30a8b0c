"""Sums, products and results whose ties go away from zero, against rational numbers on a grid of values."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from oracles.fraction import neighbours, round_value

from mpsim.formats import Format, as_format
from mpsim.kernels import load
from mpsim.kernels.spec_dot import dot
from mpsim.products.text import product_of

FORMATS = (
    "float32", "bfloat16", "float16", "tf32", "float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float4_e2m1fn",
    "fp_4_0_0",
)  # fmt: skip
BACKENDS = ("reference", "numba", "compiled")
#: The one number of two that a sum, a product or a result rounds.
PLACES = {
    "sum": ("product(products=float64, order=rising(sums({0}, nearest_away), first))", True),
    "product": ("product(products=sums({0}, nearest_away), order=pairwise())", False),
    "result": ("product(products=float64, order=rising(float64, first), output=sums({0}, nearest_away))", True),
}


def ties(format: Format) -> list[Fraction]:
    """Numbers, the middle of each and the next, and what is a little above and below it: near zero, 1 and the end."""
    found: list[Fraction] = []
    for start in (Fraction(0), Fraction(1), Fraction(format.largest), Fraction(format.smallest_normal)):
        low = start
        for _ in range(6):
            low, high = neighbours(low, format)
            middle, little = (low + high) / 2, (high - low) / 2**10
            found += [low, middle, middle - little, middle + little]
            low = high
    return found


def as_factors(x: Fraction) -> tuple[float, float] | None:
    """Two float32 numbers whose product it is; None where there are none."""
    power = Fraction(2) ** max(-126, min(126, math.floor(math.log2(x)) // 2)) if x else Fraction(1)
    one, other = float(x / power), float(power)
    exact = Fraction(float(np.float32(one))) * Fraction(other) == x if abs(one) < 3e38 else False
    return (one, other) if exact else None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", FORMATS)
def test_ties_go_away_from_zero(name: str, place: str) -> None:
    format, (text, adds) = as_format(name), PLACES[place]
    product = product_of(text.format(name))
    factors = [pair for x in ties(format) if (pair := as_factors(x))]
    pairs = [(sign * x, y) for x, y in factors for sign in (1, -1)]
    assert len(pairs) > 60
    rows = (
        np.float32([[x, 0] if adds else [x] for x, _ in pairs]),
        np.float32([[y, 0] if adds else [y] for _, y in pairs]),
    )
    expected = [round_value(float(Fraction(x) * Fraction(y)), format, "nearest_away", "infinity") for x, y in pairs]
    numbers = [float(each) if isinstance(each, Fraction) else float(each.lstrip("+")) for each in expected]
    even = [round_value(float(Fraction(x) * Fraction(y)), format, "nearest_even", "infinity") for x, y in pairs]
    assert expected != even
    spec = [dot(x.tolist(), y.tolist(), product) for x, y in zip(*rows, strict=True)]
    np.testing.assert_array_equal(np.float32(spec), np.float32(numbers))
    for backend in BACKENDS:
        found = [
            load(backend).matmul(x[None], y[:, None], threads=1, accumulator=product).item()
            for x, y in zip(*rows, strict=True)
        ]
        np.testing.assert_array_equal(np.float32(found), np.float32(numbers), backend)
