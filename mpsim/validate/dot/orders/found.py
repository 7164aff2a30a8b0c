"""Products made of the trees that a subject's answers show: what is rounded, and to what, is tried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product as product_of

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, as_format
from mpsim.products.accumulators import Accumulator, Summation, in_short
from mpsim.products.stages import (
    FLOAT32,
    Aligned,
    Folding,
    Groups,
    Halving,
    Node,
    Order,
    Pairwise,
    Product,
    Reordered,
    Rising,
    Sums,
    Tail,
    Tree,
    Trees,
    Whole,
    within,
)
from mpsim.validate.dot.inputs.probes import Prober
from mpsim.validate.dot.orders.recognition import recognised
from mpsim.validate.dot.orders.trees import NoTree, Revealer

#: Significand bits of operands whose products are exact in float32.
EXACT_BITS = 12
#: The longest products whose trees are looked for.
MOST_LENGTH = 1024


def tree_of(prober: Prober, length: int) -> Node | None:
    """The tree in which the subject of a prober adds so many terms; None where there is none, or it is too large."""
    own = prober.of_length(length)
    try:
        return Revealer(own).tree() if length <= MOST_LENGTH else None
    except NoTree:
        return None


def products_of_orders(tree: Node, length: int, prober: Prober) -> Iterator[Summation]:
    """Products with an order that has a name, whose tree for so many terms is this one."""
    for order in recognised(tree, length):
        for product in _variations(order, prober):
            yield in_short(product)


def from_zero(product: Summation) -> Product:
    """The product whose total is added to +0 at the end, so that no result is -0."""
    stages = product.product if isinstance(product, Accumulator) else product
    return replace(stages, order=Groups(Whole(), stages.order, Rising(_last_sums(stages.order))))


def _last_sums(order: Order) -> Sums:
    """How the last addition rounds."""
    if isinstance(order, Groups | Tail):
        return _last_sums(order.outer if isinstance(order, Groups) else order.rest)
    return getattr(order, "sums", FLOAT32)


def products_of_trees(trees: Sequence[Node], prober: Prober) -> Iterator[Summation]:
    """Products with explicit trees for some numbers of terms."""
    for mark in (_as_it_is, _first_rounded, _last_rounded):
        marked = [mark(tree) for tree in trees]
        for format in _formats(prober):
            try:
                order = Trees(tuple(Tree(_as_chains(tree), Sums(format)) for tree in marked))
            except UsageError:  # deeper than a description may be
                return
            for products in _roundings(prober) if mark is _as_it_is else (None,):
                yield Product(products=products, order=order, output=_output(prober))


def _output(prober: Prober) -> Sums:
    output = prober.subject.output
    return Sums(output) if output in FORMATS and as_format(output).fits_float32 else FLOAT32


def _formats(prober: Prober) -> list[str]:
    """Formats that sums may have: float32, and that of the answers."""
    return list(dict.fromkeys(["float32", _output(prober).format]))


def _roundings(prober: Prober) -> list[Sums | None]:
    """How products may be rounded: not at all, or to a format in which they are not exact anyway."""
    found: list[Sums | None] = [None]
    inputs = prober.inputs
    if inputs.mantissa_bits + 1 > EXACT_BITS or 2 * inputs.quantum_exponent < FORMATS["float32"].quantum_exponent:
        found.append(FLOAT32)
    if _output(prober) != FLOAT32:
        found.append(_output(prober))
    return found


def _variations(order: Order, prober: Prober) -> Iterator[Product]:
    is_aligned = any(isinstance(each, Aligned) for each in within(order))
    for products in [None] if is_aligned else _roundings(prober):
        for start in ("zero", "first"):
            for inner, outer in product_of(_formats(prober), _formats(prober)):
                made = _with(order, start, Sums(inner), Sums(outer))
                yield Product(products=products, order=made, output=_output(prober))
                if isinstance(made, Groups) and inner != outer:  # each group's result is rounded before it is added
                    partial = Groups(Whole(), made.inner, Rising(Sums(outer), "first"))
                    yield Product(products=products, order=replace(made, inner=partial), output=_output(prober))


def _with(order: Order, start: str, inner: Sums, outer: Sums) -> Order:
    """The order with the sums of products started so and rounded to ``inner``, those of results to ``outer``."""
    if isinstance(order, Groups):
        return replace(order, inner=_with(order.inner, start, inner, outer), outer=_all(order.outer, outer))
    if isinstance(order, Tail):
        return replace(order, main=_with(order.main, start, inner, outer), rest=_all(order.rest, outer))
    if isinstance(order, Halving):
        return replace(order, inner=_with(order.inner, start, inner, outer), sums=outer)
    if isinstance(order, Reordered):
        return replace(order, order=_with(order.order, start, inner, outer))
    if isinstance(order, Rising):
        return Rising(inner, start)
    return _all(order, inner)


def _all(order: Order, sums: Sums) -> Order:
    """The order with every sum rounded so."""
    if isinstance(order, Groups):
        return replace(order, inner=_all(order.inner, sums), outer=_all(order.outer, sums))
    return replace(order, sums=sums) if isinstance(order, Rising | Pairwise | Folding) else order


def _as_chains(tree: Node) -> Node:
    """The same sums with chains as one tuple: ((0, 1), 2) is (0, 1, 2)."""
    if isinstance(tree, int):
        return tree
    children: list[Node] = []
    rest: Node = tree
    while isinstance(rest, tuple) and len(rest) > 1:  # down the left side
        children[:0] = map(_as_chains, rest[1:])
        rest = rest[0]
    return (_as_chains(rest[0]),) if isinstance(rest, tuple) and not children else (_one(rest), *children)


def _one(node: Node) -> Node:
    """A leaf, or one that is rounded by itself."""
    return node if isinstance(node, int) else (_as_chains(node[0]),)


def _as_it_is(tree: Node) -> Node:
    return tree


def _first_rounded(tree: Node) -> Node:
    return _rounded_leaves(tree, 0)


def _last_rounded(tree: Node) -> Node:
    return _rounded_leaves(tree, -1)


def _rounded_leaves(tree: Node, which: int) -> Node:
    """Where two products are added, one of them is rounded first: a sum that starts with it goes on by fused
    multiply-adds."""
    if isinstance(tree, int):
        return tree
    children: list[Node] = [_rounded_leaves(child, which) for child in tree]
    if all(isinstance(child, int) for child in children):
        children[which] = (children[which],)
    return tuple(children)
