"""float32 operations on Python floats, each rounded once to nearest even from its exact result (IEEE 754-2019 §5.4)."""

from __future__ import annotations

import math
from fractions import Fraction

from mpsim.formats import FORMATS, Format
from mpsim.kernels import spec
from mpsim.policies import Policy

FLOAT32 = FORMATS["float32"]
LARGEST = FLOAT32.largest


def rounded(x: Fraction, negative: bool, format: Format = FLOAT32) -> float:
    """Returns an exact number rounded to nearest even, beyond the largest to infinity."""
    return spec.round_fraction(x, negative, format, Policy())


def product(a: float, b: float) -> float:
    """Returns a * b.

    >>> product(1 / 3, 3.0) == 1 / 3 * 3
    True
    """
    if math.isfinite(a) and math.isfinite(b):
        return rounded(Fraction(a) * Fraction(b), spec.is_negative(a) != spec.is_negative(b))
    return a * b


def quotient(a: float, b: float) -> float:
    """Returns a / b: of zeros NaN, of other numbers and zero an infinity.

    >>> quotient(1.0, 0.0), quotient(-1.0, math.inf)
    (inf, -0.0)
    """
    if b == 0:
        negative = spec.is_negative(a) != spec.is_negative(b)
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, -1.0 if negative else 1.0)
    if math.isfinite(a) and math.isfinite(b):
        return rounded(Fraction(a) / Fraction(b), spec.is_negative(a) != spec.is_negative(b))
    return a / b


def difference(a: float, b: float) -> float:
    """Returns a - b. A sum of opposite numbers is +0."""
    if math.isfinite(a) and math.isfinite(b):
        exact = Fraction(a) - Fraction(b)
        return rounded(exact, exact < 0 or (exact == 0 and spec.is_negative(a) and not spec.is_negative(b)))
    return a - b


def total(a: float, b: float) -> float:
    """Returns a + b."""
    return difference(a, -b)
