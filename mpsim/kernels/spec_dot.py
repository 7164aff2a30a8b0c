"""The definition of a dot product for every Product: one element, Python integers and fractions only.

A term is a pair of factors (x, y): of a product the two operands, of a result the result and 1. Numbers between steps
are Python floats (exact float32 numbers, infinities or NaN), and every step is rounded once from its exact value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels import spec
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.accumulators import Accumulator, Summation
from mpsim.products.stages import (
    ADD,
    FLOAT32,
    Aligned,
    Exact,
    Folding,
    Groups,
    Halving,
    Operand,
    Order,
    Pairwise,
    Product,
    Reordered,
    Rising,
    Sums,
    Tail,
    Tree,
    Trees,
)

Term = tuple[float, float]


def dot(a: Sequence[float], b: Sequence[float], product: Summation = Product()) -> float:
    """The dot product of float32 numbers as the description says, without a bias.

    Raises UsageError for an order without a definition, and for a tree of another number of terms.

    >>> dot([1.0, 1.0, -1.0], [2.0**24, 1.0, 2.0**24])
    0.0
    >>> dot([1.0, 1.0, -1.0], [2.0**24, 1.0, 2.0**24], Product(order=Exact()))
    1.0
    """
    if isinstance(product, Accumulator):
        product = product.product
    if not product.promises_bits:
        raise UsageError("an unspecified order promises no bits, so it has no definition")
    terms = [(read(x, product.left), read(y, product.right)) for x, y in zip(a, b, strict=True)]
    if product.products is not None:
        terms = [(add([term], product.products), 1.0) for term in terms]
    return add([(sum_of(terms, product.order, product), 1.0)], product.output)


def sum_of(terms: Sequence[Term], order: Order, product: Product) -> float:
    """The terms summed in the order; +0 if there are none."""
    return RULES[type(order)](terms, order, product) if terms else 0.0


def _rising(terms: Sequence[Term], order: Rising, product: Product) -> float:
    total = 0.0 if order.start == "zero" else add(terms[:1], order.sums)
    for term in terms if order.start == "zero" else terms[1:]:
        total = add([term, (total, 1.0)], order.sums)
    return total


def _pairwise(terms: Sequence[Term], order: Pairwise, product: Product) -> float:
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        terms = [(add([x, y], order.sums), 1.0) for x, y in pairs] + list(terms[len(terms) & ~1 :])
    return add(terms, order.sums)


def _folding(terms: Sequence[Term], order: Folding, product: Product) -> float:
    while len(terms) > 1:
        half = (len(terms) + 1) // 2
        pairs = zip(terms[:half], terms[half:], strict=False)
        terms = [(add([x, y], order.sums), 1.0) for x, y in pairs] + list(terms[len(terms) - half : half])
    return add(terms, order.sums)


def _tree(terms: Sequence[Term], order: Tree, product: Product) -> float:
    if order.length != len(terms):
        raise UsageError(f"the tree adds {order.length} terms, and the dot product has {len(terms)}")
    values: list[Term] = []
    for leaf in order.postfix():
        if leaf >= 0:
            values.append(terms[leaf])
        else:
            parts = [values.pop() for _ in range(2 if leaf == ADD else 1)]
            values.append((add(parts, order.sums), 1.0))
    return add(values, order.sums)


def _trees(terms: Sequence[Term], order: Trees, product: Product) -> float:
    return _tree(terms, order.of_length(len(terms)), product)


def _tail(terms: Sequence[Term], order: Tail, product: Product) -> float:
    whole = len(terms) // order.multiple * order.multiple
    main = [(sum_of(terms[:whole], order.main, product), 1.0)] if whole else []
    return sum_of([*main, *terms[whole:]], order.rest, product) if whole < len(terms) else main[0][0]


def _halving(terms: Sequence[Term], order: Halving, product: Product) -> float:
    if len(terms) <= order.most:
        return sum_of(terms, order.inner, product)
    half = order.half(len(terms))
    left, right = _halving(terms[:half], order, product), _halving(terms[half:], order, product)
    return add([(left, 1.0), (right, 1.0)], order.sums)


def _exact(terms: Sequence[Term], order: Exact, product: Product) -> float:
    total = add(terms, FLOAT32)
    return total if total or _exact_value(terms) else 0.0


def _groups(terms: Sequence[Term], order: Groups, product: Product) -> float:
    groups = order.partition.split(len(terms))
    results = [sum_of([terms[k] for k in group], order.inner, product) for group in groups]
    return sum_of([(result, 1.0) for result in results], order.outer, product)


def _reordered(terms: Sequence[Term], order: Reordered, product: Product) -> float:
    return sum_of([terms[k] for group in order.partition.split(len(terms)) for k in group], order.order, product)


def _aligned(terms: Sequence[Term], order: Aligned, product: Product) -> float:
    """A chain of instructions, the result of each being the c of the next."""
    c = 0.0
    if order.start == "first":
        c, terms = add(terms[:1], order.sums), terms[1:]
    for start in range(0, len(terms), order.terms):
        c = _instruction(terms[start : start + order.terms], c, order, product)
    return c


#: type of an order -> its rule
RULES: dict[type, Callable[[Sequence[Term], Any, Product], float]] = {
    Rising: _rising,
    Pairwise: _pairwise,
    Folding: _folding,
    Tree: _tree,
    Trees: _trees,
    Tail: _tail,
    Halving: _halving,
    Exact: _exact,
    Groups: _groups,
    Reordered: _reordered,
    Aligned: _aligned,
}


def _instruction(terms: Sequence[Term], c: float, order: Aligned, product: Product) -> float:
    """c + sum of a_k * b_k: aligned to the largest exponent, truncated, added exactly, rounded once."""
    left, right = as_format(product.left.format), as_format(product.right.format)
    format = as_format(order.sums.format)
    if not all(map(math.isfinite, (c, *(x for term in terms for x in term)))):
        special = c if not math.isfinite(c) else 0.0
        for x, y in terms:
            if not (math.isfinite(x) and math.isfinite(y)):
                special = _special(x, y, special)
        return beyond(special, format)
    pairs = [(x, y) for x, y in terms if x and y]
    addends = [(Fraction(x) * Fraction(y), _exponent(x, left) + _exponent(y, right)) for x, y in pairs]
    if c:
        addends.append((Fraction(c), _exponent(c, format)))
    least = [] if order.least_exponent is None else [order.least_exponent]
    largest = max([*least, *(exponent for _, exponent in addends)], default=0)
    quantum = Fraction(2) ** (largest - order.fraction_bits)
    exact = sum(int(value / quantum) for value, _ in addends) * quantum  # int: toward zero
    if not exact:
        return 0.0
    return rounded(exact, format, order.sums.rounding) + 0.0  # never -0


def _exponent(x: float, format: Format) -> int:
    """floor(log2 |x|) of a number that is not zero, but at least the smallest normal exponent of the format."""
    return max(math.frexp(x)[1] - 1, format.min_exponent)


def read(x: float, operand: Operand) -> float:
    """A float32 number as an operand is read."""
    x, format = _converted(x, operand), as_format(operand.format)
    return math.copysign(0.0, x) if operand.flush and abs(x) < format.smallest_normal else x


def _converted(x: float, operand: Operand) -> float:
    if operand.rounds:
        policy = Policy(Mode(operand.conversion), Overflow.INFINITY)
        return spec.round_value(x, "float32", as_format(operand.format), policy)
    if operand.conversion == "none" or not math.isfinite(x) or x == 0:
        return x
    quantum = Fraction(2) ** (_exponent(x, FORMATS["float32"]) - min(as_format(operand.format).mantissa_bits, 23))
    return math.copysign(float(int(abs(Fraction(x)) / quantum) * quantum), x)


def add(terms: Sequence[Term], sums: Sums) -> float:
    """The exact sum of terms, rounded once (IEEE 754-2019 §5.4.1, §6.1 to §6.3): a sum that is exactly zero is -0 if
    every term is -0, else +0."""
    format = as_format(sums.format)
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in terms):
        special = 0.0
        for x, y in terms:
            special = _special(x, y, special)
        return beyond(special, format)
    exact = _exact_value(terms)
    if exact:
        return rounded(exact, format, sums.rounding)
    negative = all((x == 0 or y == 0) and math.copysign(1, x) * math.copysign(1, y) < 0 for x, y in terms)
    return -0.0 if negative and format.has_negative_zero else 0.0


def _exact_value(terms: Sequence[Term]) -> Fraction:
    return sum((Fraction(x) * Fraction(y) for x, y in terms if math.isfinite(x) and math.isfinite(y)), Fraction(0))


def multiply_add(x: float, y: float, z: float, format: Format) -> float:
    """x*y + z, rounded once to nearest even, overflow to infinity."""
    return add([(x, y), (z, 1.0)], Sums(format.name))


def rounded(exact: Fraction, format: Format, rounding: str = "nearest_even") -> float:
    """A number other than zero rounded to nearest even (or toward zero), as if the exponent had no end; beyond the
    largest number: infinity (docs/semantics.md, "Rounding")."""
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** spec.quantum_exponent(exponent, format)
    whole = magnitude / quantum
    value = (int(whole) if rounding == "toward_zero" else round(whole)) * quantum  # Fraction's round: half to even
    sign = -1.0 if exact < 0 else 1.0
    if value > Fraction(format.largest):
        return beyond(sign * math.inf, format)
    return math.copysign(float(value), sign) if value or format.has_negative_zero else 0.0


def beyond(special: float, format: Format) -> float:
    """What an infinite or overflowing result is in a format: infinity, else NaN, else the largest number."""
    return special if math.isnan(special) else math.copysign(spec.own_infinity(format), special)


def _special(x: float, y: float, z: float) -> float:
    """x*y + z where one of them is infinite or NaN; z where neither x nor y is."""
    if any(map(math.isnan, (x, y, z))):
        return math.nan
    if math.isinf(x) or math.isinf(y):
        if x == 0 or y == 0:
            return math.nan
        product = math.copysign(math.inf, math.copysign(1, x) * math.copysign(1, y))
        return math.nan if math.isinf(z) and z != product else product
    return z
