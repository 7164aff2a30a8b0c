"""Defines what quantised groups stand for, their errors, and rotations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from mpsim.blocks.definition import float32
from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.stages import Hadamard, Quantizer
from mpsim.formats import as_format
from mpsim.kernels import spec


class Group(NamedTuple):
    """A quantised group. elements: numbers (of integers: the integers, without scale). scale: as it is stored."""

    elements: list[float]
    scale: float
    zero_point: int = 0


class SecondScale(NamedTuple):
    """The second scale. divisor: t. multiplier: e, or 0 where there is none. amax: the largest magnitude."""

    divisor: float = 1.0
    multiplier: float = 0.0
    amax: float = 0.0


def group_values(group: Group, quantizer: Quantizer, second: SecondScale = SecondScale()) -> list[float]:
    """Returns the float32 numbers that a group's elements stand for. With the scale NaN, all are NaN."""
    found = []
    for number in group.elements:
        if isinstance(quantizer.element, Integer):
            number = math.ldexp(number - group.zero_point, -quantizer.element.fraction_bits)
        if quantizer.values == "float32":
            found.append(float32.product(number, float32.product(group.scale, second.divisor)))
        elif quantizer.values == "float32_amax":
            assert quantizer.second is not None
            whole = float32.rounded(Fraction(quantizer.target) * Fraction(quantizer.second.most), False)
            scale = float32.product(float32.product(group.scale, second.amax), float32.quotient(1.0, whole))
            found.append(float32.product(number, scale))
        elif math.isfinite(number) and math.isfinite(group.scale):
            exact = Fraction(number) * Fraction(group.scale) * Fraction(second.divisor)
            found.append(float32.rounded(exact, spec.is_negative(number)))
        else:
            found.append(spec.to_float32(number * group.scale * second.divisor))
    return found


def rotate(values: Sequence[float], rotation: Hadamard) -> list[float]:
    """Returns ``size`` numbers rotated."""
    signs = rotation.signs or (1,) * rotation.size
    root = math.isqrt(rotation.size)
    found = []
    for j in range(rotation.size):
        total = 0.0
        for i, x in enumerate(values):
            sign = signs[i] * (-1) ** (i & j).bit_count()
            total = float32.total(total, sign * x)
        number = float32.quotient(total, float(root))
        if math.isfinite(number):
            number = float32.rounded(Fraction(number), spec.is_negative(number), as_format(rotation.format))
        found.append(number)
    return found


def group_error(values: Sequence[float], group: Group, quantizer: Quantizer, second: SecondScale) -> float:
    """Returns the float32 sum of the errors of a group, in rising order within rows.

    An error is that of ((element * scale) * amax) / (M * most), each operation rounded. A scaled one is that of
    element * scale, which float32 holds, from float32(x * e). The sums of the 16 rows of a
    tile are added in halves: row i to row i + 8, then + 4, + 2, + 1.
    """
    assert quantizer.second is not None
    whole = float32.rounded(Fraction(quantizer.target) * Fraction(quantizer.second.most), False)
    rows, columns = quantizer.group.shape
    assert rows is not None and columns is not None
    sums = [0.0] * rows
    kind, _, is_scaled = quantizer.scale.four_over_six.partition("_")
    for place, (x, element) in enumerate(zip(values, group.elements, strict=True)):
        value = float32.product(element, group.scale)
        if is_scaled:
            error = float32.difference(value, float32.product(x, second.multiplier))
        else:
            error = float32.difference(float32.quotient(float32.product(value, second.amax), whole), x)
        error = abs(error) if kind == "mae" else float32.product(error, error)
        sums[place // columns] = float32.total(sums[place // columns], error)
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [float32.total(a, b) for a, b in zip(sums[:half], sums[half:], strict=True)]
    return sums[0]
