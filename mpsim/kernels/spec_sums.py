"""Defines one sum of products in stages: exact, and rounded once, with only fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels import spec
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.stages import FLOAT32, Aligned, AlignedLate, AlignedScaled, Operand, Product, Sums


class Term(NamedTuple):
    """The exact product x * y. k: its index among the operands' products, or -1 for a result."""

    x: float
    y: float = 1.0
    k: int = -1


def read(x: float, operand: Operand) -> float:
    """Converts a float32 number as an operand specifies."""
    x, format = _converted(x, operand), as_format(operand.format)
    return math.copysign(0.0, x) if operand.flush and abs(x) < format.smallest_normal else x


def _converted(x: float, operand: Operand) -> float:
    if operand.rounds:
        policy = Policy(Mode(operand.conversion), Overflow.INFINITY)
        return spec.round_value(x, "float32", as_format(operand.format), policy)
    if operand.conversion == "none" or not math.isfinite(x) or x == 0:
        return x
    quantum = Fraction(2) ** (exponent_of(x, FORMATS["float32"]) - min(as_format(operand.format).mantissa_bits, 23))
    return math.copysign(float(int(abs(Fraction(x)) / quantum) * quantum), x)


def split(x: float, operand: Operand) -> list[float]:
    """Splits a float32 number into parts. Each part is the conversion of the remainder."""
    parts = [read(x, operand)]
    while len(parts) < operand.parts:
        x = add([Term(x), Term(-parts[-1])], FLOAT32)
        parts.append(read(x, operand))
    return parts


def add(terms: Sequence[Term], sums: Sums, word: int = 0) -> float:
    """Rounds the exact sum of terms once (IEEE 754-2019 §5.4.1, §6.1 to §6.3). A sum that is exactly zero is -0 if
    every term is -0, else +0. ``word`` has the random bits of a stochastic rounding."""
    format = as_format(sums.format)
    if not all(math.isfinite(x) and math.isfinite(y) for x, y, _ in terms):
        special = 0.0
        for x, y, _ in terms:
            special = special_sum(x, y, special)
        return beyond(special, sums)
    exact = exact_value(terms)
    if exact:
        result = rounded(exact, format, sums, word)
        flushed = sums.flush and abs(result) < format.smallest_normal
        return (math.copysign(0.0, result) if format.has_negative_zero else 0.0) if flushed else result
    negative = all((x == 0 or y == 0) and math.copysign(1, x) * math.copysign(1, y) < 0 for x, y, _ in terms)
    return -0.0 if negative and format.has_negative_zero else 0.0


def exact_value(terms: Sequence[Term]) -> Fraction:
    """Returns the exact sum of the finite terms."""
    return sum((Fraction(x) * Fraction(y) for x, y, _ in terms if math.isfinite(x) and math.isfinite(y)), Fraction(0))


def multiply_add(x: float, y: float, z: float, format: Format) -> float:
    """Computes x*y + z, rounded once to nearest even, with overflow to infinity."""
    return add([Term(x, y), Term(z)], Sums(format.name))


def rounded(exact: Fraction, format: Format, sums: Sums = FLOAT32, word: int = 0) -> float:
    """Rounds a number other than zero as ``sums`` specify, with an unbounded exponent. Results beyond the largest
    number become infinity (docs/semantics.md, "Rounding")."""
    magnitude = abs(exact)
    quantum = Fraction(2) ** spec.quantum_exponent(_floor_log2(magnitude), format)
    whole = magnitude / quantum
    keep = round(whole) if sums.rounding == "nearest_even" else int(whole)  # Fraction's round: half to even
    if sums.rounding == "nearest_away":
        keep += whole - keep >= Fraction(1, 2)
    if sums.random_bits is not None:
        steps = 1 << sums.random_bits
        keep += int((whole - keep) * steps) + word % steps >= steps
    value = keep * quantum
    sign = -1.0 if exact < 0 else 1.0
    if value > Fraction(format.largest):
        return beyond(sign * math.inf, sums)
    return math.copysign(float(value), sign) if value or format.has_negative_zero else 0.0


def beyond(special: float, sums: Sums) -> float:
    """Returns an infinite or overflowing result: infinity, else NaN, else (or always) the format's largest number."""
    format = as_format(sums.format)
    largest = format.largest if sums.saturate else spec.own_infinity(format)
    return special if math.isnan(special) else math.copysign(largest, special)


def special_sum(x: float, y: float, z: float) -> float:
    """Computes x*y + z if one of them is infinite or NaN. It is z if x and y are finite."""
    if any(map(math.isnan, (x, y, z))):
        return math.nan
    if math.isinf(x) or math.isinf(y):
        if x == 0 or y == 0:
            return math.nan
        product = math.copysign(math.inf, math.copysign(1, x) * math.copysign(1, y))
        return math.nan if math.isinf(z) and z != product else product
    return z


def exponent_of(x: float, format: Format) -> int:
    """Returns floor(log2 |x|) of a number that is not zero, but at least the smallest normal exponent of the format."""
    return max(math.frexp(x)[1] - 1, format.min_exponent)


def instruction(terms: Sequence[Term], c: float, order: Aligned | AlignedLate, product: Product) -> float:
    """Computes c + sum of a_k * b_k as one instruction of an aligned order does."""
    left, right = as_format(product.left.format), as_format(product.right.format)
    if isinstance(order, AlignedLate):
        terms = [_below_2_128(term) for term in terms]
    if not all(map(math.isfinite, (c, *(x for term in terms for x in term[:2])))):
        special = c if not math.isfinite(c) else 0.0
        for x, y, _ in terms:
            if not (math.isfinite(x) and math.isfinite(y)):
                special = special_sum(x, y, special)
        return beyond(special, order.sums)
    if isinstance(order, AlignedLate):
        return _late(terms, c, order, left, right)
    pairs = [(x, y) for x, y, _ in terms if x and y]
    addends = [(Fraction(x) * Fraction(y), exponent_of(x, left) + exponent_of(y, right)) for x, y in pairs]
    return _aligned_sum(addends, c, order)


def _aligned_sum(addends: list[tuple[Fraction, int]], c: float, order: Aligned | AlignedScaled) -> float:
    """Aligns, adds and rounds c and numbers with exponents."""
    format = as_format(order.sums.format)
    if c:
        addends.append((Fraction(c), exponent_of(c, format)))
    least = [] if order.least_exponent is None else [order.least_exponent]
    largest = max([*least, *(exponent for _, exponent in addends)], default=0)
    quantum = Fraction(2) ** (largest - order.fraction_bits)
    exact = sum(int(value / quantum) for value, _ in addends) * quantum  # int: toward zero
    if not exact:
        return 0.0
    return rounded(exact, format, order.sums) + 0.0  # never -0


def scaled_instruction(
    terms: Sequence[Term], scales: Sequence[Sequence[float]], c: float, order: AlignedScaled, product: Product
) -> float:
    """Computes c + sum of a_k * b_k times the scales of k as one instruction does. scales: both of each term."""
    factors = [(x, y, *pair) for (x, y, _), pair in zip(terms, scales, strict=True)]
    special = sum((math.prod(each) for each in factors if not all(map(math.isfinite, each))), c)
    if not math.isfinite(special):
        return beyond(special, order.sums)
    formats = [as_format(name) for name in (product.left.format, product.right.format, order.scales, order.scales)]
    exponents = [[exponent_of(*pair) for pair in zip(each, formats, strict=True)] for each in factors]
    values = [Fraction(x) * Fraction(y) * Fraction(left) * Fraction(right) for x, y, left, right in factors]
    if order.group is None:
        addends = [(value, sum(each)) for value, each in zip(values, exponents, strict=True) if value]
        return _aligned_sum(addends, c, order)
    addends = []
    for start in range(0, len(terms), order.group):
        group = slice(start, start + order.group)
        if len({term.k // order.block for term in terms[group]}) > 1:
            raise UsageError(f"{order.group} terms that are added before they are scaled are not of one block of k")
        if any(values[group]):
            addends.append((sum(values[group], Fraction(0)), sum(exponents[start][2:])))
    return _aligned_sum(addends, c, order)


def _below_2_128(term: Term) -> Term:
    """Returns the product, or an infinite one if it is at least 2**128."""
    x, y, _ = term
    infinite = abs(x * y) >= 2.0**128  # exact in float64; false for NaN
    return Term(math.copysign(math.inf, x), math.copysign(1.0, y)) if infinite else term


def _late(terms: Sequence[Term], c: float, order: AlignedLate, left: Format, right: Format) -> float:
    """Aligns the products in each part, then the parts' sums, then c with their sum. All numbers are finite."""
    format = as_format(order.sums.format)
    parts: list[tuple[Fraction, int]] = []
    for group in order.parts.split(len(terms)):
        pairs = [(terms[k].x, terms[k].y) for k in group if terms[k].x and terms[k].y]
        exponents = [exponent_of(x, left) + exponent_of(y, right) for x, y in pairs]
        if pairs:
            quantum = Fraction(2) ** (max(exponents) - order.fraction_bits)
            parts.append((sum(int(Fraction(x) * Fraction(y) / quantum) for x, y in pairs) * quantum, max(exponents)))
    of_c = exponent_of(c, format) if c else format.min_exponent
    largest = max((exponent for _, exponent in parts), default=of_c)
    total = sum((_down(value, largest - order.fraction_bits) for value, _ in parts), Fraction(0))
    top = max(largest, of_c)
    kept = order.reach is None or of_c >= top - order.reach
    total = _down(total, top - order.sum_bits - 1)
    total += _down(Fraction(c), top - order.fraction_bits) if kept else 0
    if total:
        total = _down(total, max(_floor_log2(abs(total)), format.min_exponent) - order.sum_bits)
    return rounded(total, format, order.sums) if total else 0.0


def _down(value: Fraction, exponent: int) -> Fraction:
    """Rounds down to a multiple of 2**exponent."""
    quantum = Fraction(2) ** exponent
    return math.floor(value / quantum) * quantum


def _floor_log2(magnitude: Fraction) -> int:
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return exponent - 1 if magnitude < Fraction(2) ** exponent else exponent
