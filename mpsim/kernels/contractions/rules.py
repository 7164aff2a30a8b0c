"""Writes the steps of each order of summation and of each stage of an epilogue (mpsim/kernels/contractions/steps.py).

A new order of summation needs a rule here and one in mpsim.kernels.spec_dot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from mpsim.errors import UsageError
from mpsim.kernels.contractions.chains import chain
from mpsim.kernels.contractions.pairs import in_pairs
from mpsim.kernels.contractions.steps import (
    ADD,
    BETA,
    BIAS,
    CLEAR,
    GATHER,
    ODD,
    RISING,
    SUBTRACT,
    SUM,
    TOTAL,
    ZERO,
    C,
    Steps,
    Term,
    Writer,
)
from mpsim.products import stages
from mpsim.products.stages import (
    FLOAT32,
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
    Stage,
    Tail,
    Tree,
    Trees,
    UpTo,
    bits_after,
    bits_of,
)


def _rising(writer: Writer, order: Rising, terms: Sequence[Term]) -> int:
    if order.start == "zero":
        total = writer.begin(order.sums)
    else:
        total, terms = writer.rounded(terms[0], order.sums), terms[1:]
    if order.together > 1:
        for start in range(0, len(terms), order.together):
            total = _exactly(writer, [lambda at=total: at, *terms[start : start + order.together]])  # type: ignore[misc]
            writer.round(total, order.sums)
        return total
    ks = [term for term in terms if isinstance(term, int)]
    if len(ks) == len(terms) and writer.product.products is None and order.sums.via is None:
        writer.step(RISING, total, *writer.run(ks), writer.how(order.sums))
        return total
    for term in terms:
        total = writer.add(total, writer.value(term), order.sums)
    return total


def _kahan(writer: Writer, order: Kahan, terms: Sequence[Term]) -> int:
    total, how = writer.begin(order.sums), writer.how(order.sums)
    lost = writer.register()
    writer.step(ZERO, lost)
    for term in terms:
        y = writer.value(term)
        writer.step(SUBTRACT, y, y, lost, how)
        following = writer.register()
        writer.step(ADD, following, total, y, how)
        writer.step(SUBTRACT, lost, following, total, how)
        writer.step(SUBTRACT, lost, lost, y, how)
        writer.release(total)
        writer.release(y)
        total = following
    writer.release(lost)
    return total


def _pairwise(writer: Writer, order: Pairwise, terms: Sequence[Term]) -> int:
    if len(terms) == 1:
        return writer.rounded(terms[0], order.sums)
    values = (writer.value(term) for term in terms)
    return in_pairs(values, lambda left, right: writer.add(left, right, order.sums))


def _folding(writer: Writer, order: Folding, terms: Sequence[Term]) -> int:
    if len(terms) == 1:
        return writer.rounded(terms[0], order.sums)
    sizes = [order.size(len(terms))]
    if order.padded:
        terms = [*terms, *[writer.zero] * (sizes[0] - len(terms))]
    while sizes[-1] > 1:
        sizes.append((sizes[-1] + 1) // 2)

    def folded(i: int, level: int) -> int:
        """Returns term i after ``level`` foldings."""
        if level == 0:
            return writer.value(terms[i])
        left, partner = folded(i, level - 1), i + sizes[level]
        if partner >= min(sizes[level - 1], len(terms)):
            return left
        return writer.add(left, folded(partner, level - 1), order.sums)

    return folded(0, len(sizes) - 1)


def _tree(writer: Writer, order: Tree, terms: Sequence[Term]) -> int:
    if order.length != len(terms):
        raise UsageError(f"the tree adds {order.length} terms, and the dot product has {len(terms)}")
    if order.root == 0:
        return writer.rounded(terms[0], order.sums)
    waiting: list[int] = []
    for leaf, sums in order.postfix():
        if leaf >= 0:
            waiting.append(writer.value(terms[leaf]))
        elif leaf == stages.ZERO:
            waiting.append(writer.begin(sums))
        elif leaf == stages.ROUND:
            writer.round(waiting[-1], sums)
        else:
            right = waiting.pop()
            waiting[-1] = writer.add(waiting[-1], right, sums)
    return waiting[0]


def _trees(writer: Writer, order: Trees, terms: Sequence[Term]) -> int:
    return _tree(writer, order.of_length(len(terms)), terms)


def _tail(writer: Writer, order: Tail, terms: Sequence[Term]) -> int:
    whole = len(terms) // order.multiple * order.multiple
    main = (lambda: _sum(writer, order.main, terms[:whole])) if whole else None
    if main and whole == len(terms):
        return main()
    return _sum(writer, order.rest, [*([main] if main else []), *terms[whole:]])


def _carried(writer: Writer, order: Carried, terms: Sequence[Term]) -> int:
    total = writer.begin(order.sums) if order.start == "zero" else -1
    for start in range(0, len(terms), order.size):
        before: list[Term] = [] if total < 0 else [lambda at=total: at]  # type: ignore[misc]
        run = terms[start : start + order.size]
        total = _sum(writer, order.order, [*before, *run])
        if len(run) == order.size:
            writer.round(total, order.sums)
    return total


def _halving(writer: Writer, order: Halving, terms: Sequence[Term]) -> int:
    if len(terms) <= order.most:
        return _sum(writer, order.inner, terms)
    half = order.half(len(terms))
    left = _halving(writer, order, terms[:half])
    return writer.add(left, _halving(writer, order, terms[half:]), order.sums)


def _by_column(writer: Writer, order: ByColumn, terms: Sequence[Term]) -> int:
    raise UsageError("an order by column sums the columns of a matrix product; give the order of one column here")


def _up_to(writer: Writer, order: UpTo, terms: Sequence[Term]) -> int:
    return _sum(writer, order.few if len(terms) <= order.most else order.many, terms)


def _exact(writer: Writer, order: Exact, terms: Sequence[Term]) -> int:
    return _exactly(writer, terms, TOTAL)


def _exactly(writer: Writer, terms: Sequence[Term], what: int = ODD) -> int:
    """Returns the register of the exact sum, rounded to odd, or once to float32."""
    place = writer.exact_used
    writer.exact_used += 1
    writer.exact_sums = max(writer.exact_sums, writer.exact_used)
    writer.step(CLEAR, place)
    for term in terms:
        register = writer.value(term)
        writer.step(GATHER, place, register, 0, what == ODD)
        writer.release(register)
    writer.exact_used -= 1
    to = writer.register()
    writer.step(what, to, place)
    return to


def _chain(writer: Writer, order: Chain, terms: Sequence[Term]) -> int:
    return chain(writer, order, [terms])


def _groups(writer: Writer, order: Groups, terms: Sequence[Term]) -> int:
    def later(group: list[int]) -> Callable[[], int]:
        return lambda: _sum(writer, order.inner, [terms[i] for i in group])

    return _sum(writer, order.outer, [later(group) for group in order.partition.split(len(terms))])


def _reordered(writer: Writer, order: Reordered, terms: Sequence[Term]) -> int:
    groups = [[terms[i] for i in group] for group in order.partition.split(len(terms))]
    if isinstance(order.order, Chain):
        return chain(writer, order.order, groups)
    return _sum(writer, order.order, [term for group in groups for term in group])


def _scaled(writer: Writer, order: Scaled, terms: Sequence[Term]) -> int:
    blocks = {term // order.block for term in terms if isinstance(term, int)}
    if len(blocks) != 1:
        raise UsageError(f"a scaled order adds products of one block of {order.block} k, not of {len(blocks)}")
    return writer.scale(_sum(writer, order.order, terms), order.scale, blocks.pop())


#: type of an order -> the function that writes its steps
RULES: dict[type, Callable[[Writer, Any, Sequence[Term]], int]] = {
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
    ByColumn: _by_column,
    Exact: _exact,
    Aligned: _chain,
    AlignedLate: _chain,
    AlignedScaled: _chain,
    Groups: _groups,
    Reordered: _reordered,
    Scaled: _scaled,
}


def _sum(writer: Writer, order: Order, terms: Sequence[Term]) -> int:
    return RULES[type(order)](writer, order, terms) if terms else writer.begin()


def _finish(writer: Writer, total: int) -> None:
    """Writes the epilogue and the output's rounding, in place."""
    bits = bits_of(writer.product.order)
    for stage in writer.product.epilogue:
        bits = bits_after(stage, bits)
        _stage(writer, stage, total)
    if writer.product.output != FLOAT32 or bits > stages.SINGLE:
        writer.round(total, writer.product.output)


def _stage(writer: Writer, stage: Stage, total: int) -> None:
    match stage:
        case Scale():
            writer.scale(total, stage)
        case Bias() if BIAS in writer.given:
            writer.add(total, writer.load(BIAS), stage.sums)
        case AddC() if C in writer.given:
            c = writer.times(writer.load(C), writer.load(BETA))
            if stage.products is not None:
                writer.round(c, stage.products)
            writer.add(total, c, stage.sums)


@lru_cache(maxsize=1 << 11)
def steps_of(product: Product, length: int, given: frozenset[int] = frozenset()) -> Steps:
    """Returns the steps of a dot product of ``length`` terms, without the operands' conversion.

    ``given``: the tables that exist. Raises UsageError if the order is a tree with a different number of terms, or if C
    should start a sum and no sum starts with +0.

    >>> steps_of(Product(order=Pairwise()), 2).code[-1, 0].item() == ADD
    True
    """
    writer = Writer(product, given)
    result = _sum(writer, product.order, range(length))
    if writer.begins_with_c:
        raise UsageError(f"no sum of {length} terms begins with +0, whose place C could take; add it by AddC instead")
    _finish(writer, result)
    return writer.steps(result)


@lru_cache(maxsize=512)
def steps_after(product: Product, given: frozenset[int] = frozenset()) -> Steps:
    """Returns the steps of the epilogue and of the output's rounding, for totals of another kernel."""
    writer = Writer(product, given)
    total = writer.load(SUM)
    _finish(writer, total)
    return writer.steps(total)
