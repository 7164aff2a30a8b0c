"""A product's order as a list of steps on registers, for orders that no kernel of a backend's own sums.

A register holds one float64 number for every output that is computed together: an exact product (48 bits), or a sum in
a format that float32 holds. Each backend has one function that runs the steps of any order (``run`` in its module
``steps``). A new order of summation needs a rule here and one in mpsim.kernels.spec_dot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.contractions.pairs import in_pairs
from mpsim.products import stages
from mpsim.products.stages import (
    Aligned,
    Exact,
    Folding,
    Groups,
    Halving,
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

#: What a step does; r are registers, e exact sums. Fields of a step: (what, to, x, y, how).
ZERO = 0  # r[to] = +0
MULTIPLY = 1  # r[to] = a[x] * b[x], exact
ROUND = 2  # r[to] = r[x] rounded by sums[how]
ADD = 3  # r[to] = r[x] + r[y] rounded by sums[how]
RISING = 4  # for k in places[x : x + y]: r[to] = r[to] + a[k] * b[k] rounded by sums[how]
ALIGNED = 5  # r[to] = the instructions of aligned[how] over places[x : x + y], from the c that is r[to]
CLEAR = 6  # e[to] = 0
GATHER = 7  # e[to] = e[to] + r[x], exact
TOTAL = 8  # r[to] = e[x] rounded to float32


class AlignedNumbers(NamedTuple):
    """An aligned order in numbers: what an instruction needs."""

    terms: int
    fraction: float  # 2**-fraction_bits
    least_left: float  # 2**(smallest normal exponent of the left operand's format)
    least_right: float
    least_sum: float
    least: float  # 2**least_exponent
    sums: int


class Steps(NamedTuple):
    """The steps of one product of one length; the result is in register 0."""

    code: np.ndarray  # int64 (steps, 5)
    places: np.ndarray  # int64
    sums: tuple[tuple[Narrow, bool], ...]  # format, and whether it is truncated
    aligned: tuple[AlignedNumbers, ...]
    registers: int
    exact_sums: int


class _Writer:
    """Collects the steps; registers are taken and given back."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.code: list[tuple[int, int, int, int, int]] = []
        self.places: list[int] = []
        self.sums: dict[Sums, int] = {}
        self.aligned: list[AlignedNumbers] = []
        self.registers = self.exact_sums = self.exact_used = 0
        self._free: list[int] = []

    def step(self, what: int, to: int, x: int = 0, y: int = 0, how: int = 0) -> None:
        self.code.append((what, to, x, y, how))

    def register(self) -> int:
        if self._free:
            return self._free.pop()
        self.registers += 1
        return self.registers - 1

    def release(self, register: int) -> None:
        self._free.append(register)

    def how(self, sums: Sums) -> int:
        return self.sums.setdefault(sums, len(self.sums))

    def run(self, ks: Sequence[int]) -> tuple[int, int]:
        """Where the places of these k begin, and how many there are."""
        first = len(self.places)
        self.places += ks
        return first, len(ks)

    def add(self, left: int, right: int, sums: Sums) -> int:
        """The register of a sum of two, in place of the left one."""
        self.step(ADD, left, left, right, self.how(sums))
        self.release(right)
        return left


#: A term: the k of a product, or what writes the steps of a result and says its register.
Term = int | Callable[[], int]


def _value(writer: _Writer, term: Term) -> int:
    """The register of a term."""
    if callable(term):
        return term()
    to = writer.register()
    writer.step(MULTIPLY, to, term)
    if writer.product.products is not None:
        writer.step(ROUND, to, to, 0, writer.how(writer.product.products))
    return to


def _rounded(writer: _Writer, term: Term, sums: Sums) -> int:
    to = _value(writer, term)
    writer.step(ROUND, to, to, 0, writer.how(sums))
    return to


def _zero(writer: _Writer) -> int:
    to = writer.register()
    writer.step(ZERO, to)
    return to


def _rising(writer: _Writer, order: Rising, terms: Sequence[Term]) -> int:
    if order.start == "zero":
        total = _zero(writer)
    else:
        total, terms = _rounded(writer, terms[0], order.sums), terms[1:]
    ks = [term for term in terms if isinstance(term, int)]
    if len(ks) == len(terms) and writer.product.products is None:
        writer.step(RISING, total, *writer.run(ks), writer.how(order.sums))
        return total
    for term in terms:
        total = writer.add(total, _value(writer, term), order.sums)
    return total


def _pairwise(writer: _Writer, order: Pairwise, terms: Sequence[Term]) -> int:
    if len(terms) == 1:
        return _rounded(writer, terms[0], order.sums)
    values = (_value(writer, term) for term in terms)
    return in_pairs(values, lambda left, right: writer.add(left, right, order.sums))


def _folding(writer: _Writer, order: Folding, terms: Sequence[Term]) -> int:
    if len(terms) == 1:
        return _rounded(writer, terms[0], order.sums)
    sizes = [len(terms)]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)

    def folded(i: int, level: int) -> int:
        """Term i after so many foldings."""
        if level == 0:
            return _value(writer, terms[i])
        left, partner = folded(i, level - 1), i + sizes[level]
        if partner >= sizes[level - 1]:
            return left
        return writer.add(left, folded(partner, level - 1), order.sums)

    return folded(0, len(sizes) - 1)


def _tree(writer: _Writer, order: Tree, terms: Sequence[Term]) -> int:
    if order.length != len(terms):
        raise UsageError(f"the tree adds {order.length} terms, and the dot product has {len(terms)}")
    if len(terms) == 1:
        return _rounded(writer, terms[0], order.sums)
    waiting: list[int] = []
    for leaf in order.postfix():
        if leaf >= 0:
            waiting.append(_value(writer, terms[leaf]))
        elif leaf == stages.ROUND:
            writer.step(ROUND, waiting[-1], waiting[-1], 0, writer.how(order.sums))
        else:
            right = waiting.pop()
            waiting[-1] = writer.add(waiting[-1], right, order.sums)
    return waiting[0]


def _trees(writer: _Writer, order: Trees, terms: Sequence[Term]) -> int:
    return _tree(writer, order.of_length(len(terms)), terms)


def _tail(writer: _Writer, order: Tail, terms: Sequence[Term]) -> int:
    whole = len(terms) // order.multiple * order.multiple
    main = (lambda: _sum(writer, order.main, terms[:whole])) if whole else None
    if main and whole == len(terms):
        return main()
    return _sum(writer, order.rest, [*([main] if main else []), *terms[whole:]])


def _halving(writer: _Writer, order: Halving, terms: Sequence[Term]) -> int:
    if len(terms) <= order.most:
        return _sum(writer, order.inner, terms)
    half = order.half(len(terms))
    left = _halving(writer, order, terms[:half])
    return writer.add(left, _halving(writer, order, terms[half:]), order.sums)


def _exact(writer: _Writer, order: Exact, terms: Sequence[Term]) -> int:
    place = writer.exact_used
    writer.exact_used += 1
    writer.exact_sums = max(writer.exact_sums, writer.exact_used)
    writer.step(CLEAR, place)
    for term in terms:
        register = _value(writer, term)
        writer.step(GATHER, place, register)
        writer.release(register)
    writer.exact_used -= 1
    to = writer.register()
    writer.step(TOTAL, to, place)
    return to


def _aligned(writer: _Writer, order: Aligned, terms: Sequence[Term]) -> int:
    product = writer.product
    formats = product.left.format, product.right.format, order.sums.format
    left, right, sums = (2.0 ** as_format(name).min_exponent for name in formats)
    numbers = AlignedNumbers(
        order.terms, 2.0**-order.fraction_bits, left, right, sums, order.least_scale, writer.how(order.sums)
    )
    if numbers not in writer.aligned:
        writer.aligned.append(numbers)
    if order.start == "zero":
        to = _zero(writer)
    else:
        to, terms = _rounded(writer, terms[0], order.sums), terms[1:]
    ks = [term for term in terms if isinstance(term, int)]
    writer.step(ALIGNED, to, *writer.run(ks), writer.aligned.index(numbers))
    return to


def _groups(writer: _Writer, order: Groups, terms: Sequence[Term]) -> int:
    def later(group: list[int]) -> Callable[[], int]:
        return lambda: _sum(writer, order.inner, [terms[i] for i in group])

    return _sum(writer, order.outer, [later(group) for group in order.partition.split(len(terms))])


def _reordered(writer: _Writer, order: Reordered, terms: Sequence[Term]) -> int:
    return _sum(writer, order.order, [terms[i] for group in order.partition.split(len(terms)) for i in group])


#: type of an order -> what writes its steps
RULES: dict[type, Callable[[_Writer, Any, Sequence[Term]], int]] = {
    Rising: _rising,
    Pairwise: _pairwise,
    Folding: _folding,
    Tree: _tree,
    Trees: _trees,
    Tail: _tail,
    Halving: _halving,
    Exact: _exact,
    Aligned: _aligned,
    Groups: _groups,
    Reordered: _reordered,
}


def _sum(writer: _Writer, order: Order, terms: Sequence[Term]) -> int:
    return RULES[type(order)](writer, order, terms) if terms else _zero(writer)


@lru_cache(maxsize=512)
def steps_of(product: Product, length: int) -> Steps:
    """The steps of a dot product of ``length`` terms, but for the operands' conversion and the output's rounding.

    Raises UsageError where the order is a tree of another number of terms.

    >>> steps_of(Product(order=Pairwise()), 2).code[:, 0].tolist() == [MULTIPLY, MULTIPLY, ADD]
    True
    """
    writer = _Writer(product)
    result = _sum(writer, product.order, range(length))
    if result != 0:
        raise AssertionError("the first register that is taken holds the result")
    return Steps(
        np.array(writer.code, np.int64).reshape(-1, 5),
        np.array(writer.places, np.int64),
        tuple((Narrow.of(sums.format), sums.rounding == "toward_zero") for sums in writer.sums),
        tuple(writer.aligned),
        writer.registers,
        writer.exact_sums,
    )
