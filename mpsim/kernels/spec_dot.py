"""Defines the dot product for every Product: one element, with only Python integers and fractions.

A term is a pair of factors (x, y). For a product these are the two operands, and for a result the result and 1 or its
scale. Numbers between steps are Python floats, and every step is rounded once from its exact value. The terms of a sum
are computed from left to right, each completely before the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpsim.errors import UsageError
from mpsim.kernels.contractions.beside import NOTHING, Beside
from mpsim.kernels.philox import philox4x32
from mpsim.kernels.spec_sums import (
    Term,
    add,
    exact_value,
    instruction,
    multiply_add,
    read,
    scaled_instruction,
    split,
)
from mpsim.products.accumulators import Summation, in_stages
from mpsim.products.stages import (
    ADD,
    FLOAT32,
    ZERO,
    AddC,
    Aligned,
    AlignedLate,
    AlignedScaled,
    Bias,
    ByColumn,
    Carried,
    Chain,
    Exact,
    Folding,
    Groups,
    Halving,
    Kahan,
    Order,
    Pairwise,
    Product,
    Reordered,
    Rising,
    Scale,
    Scaled,
    Sums,
    Tail,
    Tree,
    Trees,
    UpTo,
)

__all__ = ["Dot", "Term", "dot", "multiply_add", "read"]

#: A product, or a function that computes a result.
Part = Term | Callable[[], Term]


def dot(
    a: Sequence[float],
    b: Sequence[float],
    product: Summation = Product(),
    beside: Beside = NOTHING,
    bias: float | None = None,
    element: int = 0,
    column: int = 0,
) -> float:
    """Computes the dot product of float32 numbers as described. ``element`` is its index in the flattened result, on
    which its random bits depend, and ``column`` the one of the result in which it is, for orders by column.

    Raises UsageError for an order without a definition, and for a tree with a different number of terms.

    >>> dot([1.0, 1.0, -1.0], [2.0**24, 1.0, 2.0**24])
    0.0
    >>> dot([1.0, 1.0, -1.0], [2.0**24, 1.0, 2.0**24], Product(order=Exact()))
    1.0
    """
    product = in_stages(product)
    if isinstance(product.order, ByColumn):
        product = replace(product, order=product.order.of_column(column))
    if not product.promises_bits:
        raise UsageError("an unspecified order promises no bits, so it has no definition")
    if len(a) != len(b):
        raise UsageError(f"a dot product has as many factors on both sides, not {len(a)} and {len(b)}")
    reads = [operand.of_length(len(a)) for operand in (product.left, product.right)]
    left, right = ([split(x, operand) for x in factors] for factors, operand in zip((a, b), reads, strict=True))
    which = [(k, 0, 0) for k in range(len(a))] if product.parts is None else product.parts.terms(len(a))
    terms = [Term(left[k][i], right[k][j], k) for k, i, j in which]
    one = Dot(product, beside, element)
    total = one.sum(terms, product.order)
    if one.first is not None:
        raise UsageError(f"no sum of {len(terms)} terms begins with +0, whose place C could take")
    for stage in product.epilogue:
        total = one.finish(total, stage, bias)
    return one.rounded([total], product.output).x


class Dot:
    """The state of one dot product: whether C has still to start a sum, and the random words used so far."""

    def __init__(self, product: Product, beside: Beside, element: int) -> None:
        self.product, self.beside, self.element, self.words = product, beside, element, 0
        self.first = beside.c if product.start == "c" else None

    def sum(self, terms: Sequence[Part], order: Order) -> Term:
        """Sums the terms in the order. Without terms, returns the start of a sum."""
        return RULES[type(order)](terms, order, self) if terms else self.begin()

    def value(self, part: Part) -> Term:
        """Computes a result, or rounds a product if the description says so."""
        if callable(part):
            return part()
        return part if self.product.products is None else self.rounded([part], self.product.products)

    def begin(self, sums: Sums | None = None) -> Term:
        """Returns the start of a sum: +0, or C, rounded, if it has not been added yet."""
        c, self.first = self.first, None
        if c is None:
            return Term(0.0)
        return Term(c) if sums is None else self.rounded([Term(c)], sums)

    def rounded(self, terms: Sequence[Term], sums: Sums) -> Term:
        """Rounds the exact sum of terms, with the next random word in stochastic rounding."""
        *first, sums = sums.parts
        for each in first:
            terms = [Term(add(terms, each))]
        word = 0
        if sums.is_stochastic:
            word, self.words = random_word(self.beside, self.element, self.words), self.words + 1
        return Term(add(terms, sums, word))

    def scaled(self, total: Term, scale: Scale, block: int = 0) -> Term:
        """Multiplies a number of 24 bits by a factor."""
        if scale.of == "alpha":
            factor = self.beside.alpha
        else:
            factors = self.scales_of(block, scale.operands)
            factor = factors[0] if len(factors) == 1 else add([Term(factors[0], factors[1])], FLOAT32)
        result = Term(total.x, factor)
        return result if scale.sums is None else self.rounded([result], scale.sums)

    def scales_of(self, block: int, operands: Sequence[str] = ("left", "right")) -> list[float]:
        """Returns the operands' scales of a block of k."""
        given = {"left": self.beside.left_scale, "right": self.beside.right_scale}
        return [given[each][block if len(given[each]) > 1 else 0] for each in operands]

    def finish(self, total: Term, stage: Bias | Scale | AddC, bias: float | None) -> Term:
        """Applies one stage of the epilogue."""
        if isinstance(stage, Scale):
            return self.scaled(total, stage)
        if isinstance(stage, Bias):
            return total if bias is None else self.rounded([total, Term(bias)], stage.sums)
        if self.beside.c is None or (stage.skips_zero and self.beside.beta == 0):
            return total
        c = Term(add([Term(self.beside.c)], Sums(stage.format)), self.beside.beta)
        return self.rounded([total, c if stage.products is None else self.rounded([c], stage.products)], stage.sums)


def random_word(beside: Beside, element: int, number: int) -> int:
    """Returns the random word of an element's rounding with this number (docs/semantics.md, "Random numbers")."""
    step, tensor, purpose = beside.stream.words
    counter = np.array([[element // 4, step, tensor, purpose + (number << 8)]], np.uint32)
    return int(philox4x32(counter, beside.stream.key)[0, element % 4])


def _rising(terms: Sequence[Part], order: Rising, dot: Dot) -> Term:
    if order.start == "zero":
        total = dot.begin(order.sums)
    else:
        total, terms = dot.rounded([dot.value(terms[0])], order.sums), terms[1:]
    for start in range(0, len(terms), order.together):
        values = [dot.value(term) for term in terms[start : start + order.together]]
        total = dot.rounded([*values, total], order.sums)
    return total


def _kahan(terms: Sequence[Part], order: Kahan, dot: Dot) -> Term:
    total, lost = dot.begin(order.sums), Term(0.0)
    for term in terms:
        y = dot.rounded([dot.value(term), _minus(lost)], order.sums)
        following = dot.rounded([total, y], order.sums)
        lost = dot.rounded([dot.rounded([following, _minus(total)], order.sums), _minus(y)], order.sums)
        total = following
    return total


def _minus(term: Term) -> Term:
    return Term(-term.x)


def _joined(left: Part, right: Part, sums: Sums, dot: Dot) -> Part:
    return lambda: dot.rounded([dot.value(left), dot.value(right)], sums)


def _alone(term: Part, sums: Sums, dot: Dot) -> Term:
    return dot.rounded([dot.value(term)], sums)


def _pairwise(terms: Sequence[Part], order: Pairwise, dot: Dot) -> Term:
    if len(terms) == 1:
        return _alone(terms[0], order.sums, dot)
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        terms = [*(_joined(x, y, order.sums, dot) for x, y in pairs), *terms[len(terms) & ~1 :]]
    return dot.value(terms[0])


def _folding(terms: Sequence[Part], order: Folding, dot: Dot) -> Term:
    if len(terms) == 1:
        return _alone(terms[0], order.sums, dot)
    size = order.size(len(terms))
    if order.padded:
        terms = [*terms, *[lambda: Term(0.0)] * (size - len(terms))]
    while size > 1:
        size = (size + 1) // 2
        pairs = zip(terms[:size], terms[size:], strict=False)
        terms = [*(_joined(x, y, order.sums, dot) for x, y in pairs), *terms[max(0, len(terms) - size) : size]]
    return dot.value(terms[0])


def _tree(terms: Sequence[Part], order: Tree, dot: Dot) -> Term:
    if order.length != len(terms):
        raise UsageError(f"the tree adds {order.length} terms, and the dot product has {len(terms)}")
    if order.root == 0:
        return _alone(terms[0], order.sums, dot)
    values: list[Term] = []
    for leaf, sums in order.postfix():
        if leaf >= 0:
            values.append(dot.value(terms[leaf]))
        elif leaf == ZERO:
            values.append(dot.begin(sums))
        else:
            parts = [values.pop() for _ in range(2 if leaf == ADD else 1)]
            values.append(dot.rounded(parts, sums))
    return values[0]


def _trees(terms: Sequence[Part], order: Trees, dot: Dot) -> Term:
    return _tree(terms, order.of_length(len(terms)), dot)


def _tail(terms: Sequence[Part], order: Tail, dot: Dot) -> Term:
    whole = len(terms) // order.multiple * order.multiple
    main: list[Part] = [lambda: dot.sum(terms[:whole], order.main)] if whole else []
    return dot.sum([*main, *terms[whole:]], order.rest) if whole < len(terms) else dot.value(main[0])


def _carried(terms: Sequence[Part], order: Carried, dot: Dot) -> Term:
    total = dot.begin(order.sums) if order.start == "zero" else None
    for start in range(0, len(terms), order.size):
        before: list[Part] = [] if total is None else [lambda total=total: total]  # type: ignore[misc]
        run = terms[start : start + order.size]
        total = dot.sum([*before, *run], order.order)
        total = dot.rounded([total], order.sums) if len(run) == order.size else total
    assert total is not None
    return total


def _halving(terms: Sequence[Part], order: Halving, dot: Dot) -> Term:
    if len(terms) <= order.most:
        return dot.sum(terms, order.inner)
    half = order.half(len(terms))
    left = _halving(terms[:half], order, dot)
    return dot.rounded([left, _halving(terms[half:], order, dot)], order.sums)


def _up_to(terms: Sequence[Part], order: UpTo, dot: Dot) -> Term:
    return dot.sum(terms, order.few if len(terms) <= order.most else order.many)


def _exact(terms: Sequence[Part], order: Exact, dot: Dot) -> Term:
    values = [dot.value(term) for term in terms]
    total = add(values, FLOAT32)
    return Term(total if total or exact_value(values) else 0.0)


def _groups(terms: Sequence[Part], order: Groups, dot: Dot) -> Term:
    def later(group: list[int]) -> Part:
        return lambda: dot.sum([terms[k] for k in group], order.inner)

    return dot.sum([later(group) for group in order.partition.split(len(terms))], order.outer)


def _reordered(terms: Sequence[Part], order: Reordered, dot: Dot) -> Term:
    groups = [[terms[k] for k in group] for group in order.partition.split(len(terms))]
    if isinstance(order.order, Chain):
        return _chain(groups, order.order, dot)
    return dot.sum([term for group in groups for term in group], order.order)


def _scaled(terms: Sequence[Part], order: Scaled, dot: Dot) -> Term:
    blocks = {term.k // order.block for term in terms if isinstance(term, Term)}
    if len(blocks) != 1:
        raise UsageError(f"a scaled order adds products of one block of {order.block} k, not of {len(blocks)}")
    return dot.scaled(dot.sum(terms, order.order), order.scale, blocks.pop())


def _aligned(terms: Sequence[Part], order: Chain, dot: Dot) -> Term:
    return _chain([terms], order, dot)


def _chain(groups: Sequence[Sequence[Part]], order: Chain, dot: Dot) -> Term:
    """Runs a chain of instructions, each over the terms of one group. The result of each is the c of the next."""
    if order.start == "zero":
        c = dot.begin(order.sums)
    else:
        c, groups = _alone(groups[0][0], order.sums, dot), [groups[0][1:], *groups[1:]]
    for group in groups:
        products = [term for term in group if isinstance(term, Term)]
        for start in range(0, len(products), order.terms):
            few = products[start : start + order.terms]
            if isinstance(order, AlignedScaled):
                scales = [dot.scales_of(term.k // order.block) for term in few]
                c = Term(scaled_instruction(few, scales, c.x, order, dot.product))
            else:
                c = Term(instruction(few, c.x, order, dot.product))
    return c


#: type of an order -> the function that defines it
RULES: dict[type, Callable[[Sequence[Part], Any, Dot], Term]] = {
    Rising: _rising,
    Kahan: _kahan,
    Pairwise: _pairwise,
    Folding: _folding,
    Tree: _tree,
    Trees: _trees,
    Tail: _tail,
    Carried: _carried,
    Halving: _halving,
    UpTo: _up_to,
    Exact: _exact,
    Groups: _groups,
    Reordered: _reordered,
    Scaled: _scaled,
    Aligned: _aligned,
    AlignedLate: _aligned,
    AlignedScaled: _aligned,
}
