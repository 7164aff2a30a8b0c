"""Products made of the trees that a subject's answers show: what is rounded, and to what, is tried out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, as_format
from mpsim.products.accumulators import Summation, in_short
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
from mpsim.validate.dot.orders.arithmetic import Arithmetic, arithmetic_of, first_terms, marked
from mpsim.validate.dot.orders.recognition import recognised
from mpsim.validate.dot.orders.trees import NoTree, Revealer

#: The longest products whose trees are looked for.
MOST_LENGTH = 1024
#: Combinations of formats that one order is tried with.
MOST_VARIATIONS = 128


def tree_of(prober: Prober, length: int) -> tuple[Node, Arithmetic] | None:
    """The tree in which the subject of a prober adds so many terms, and what it rounds; None where there is no tree, or
    it is too large."""
    own = prober.of_length(length)
    try:
        tree = Revealer(own).tree() if length <= MOST_LENGTH else None
    except NoTree:
        return None
    return None if tree is None else (tree, arithmetic_of(own, tree))


def products_of_orders(
    tree: Node, length: int, prober: Prober, how: Arithmetic, ends: bool = False
) -> Iterator[Summation]:
    """Products with an order that has a name, whose tree for so many terms is this one, and that round as it does.
    ends: those that add their total to +0."""
    if ends and not (how.from_zero and (how.ends_with_zero or not how.shows_zeros)):
        return
    for order in recognised(tree, length):
        for product in islice(_variations(order, length, prober, how), MOST_VARIATIONS):
            if ends:
                yield in_short(from_zero(product))
            elif not (how.shows_zeros and how.ends_with_zero and product.products is None):
                yield in_short(product)


def products_of_trees(trees: Mapping[int, tuple[Node, Arithmetic]], prober: Prober) -> Iterator[Summation]:
    """Products with explicit trees for some numbers of terms, each rounded as it was seen to be."""
    longest = max(trees)
    rounded = {how.products(length) for length, (_, how) in trees.items() if length > 1}
    products = rounded.pop() if len(rounded) == 1 else None
    widths = trees[longest][1].widths
    base = FLOAT32.format if FLOAT32.format in widths else widths[0]
    is_last = {how.from_zero and how.ends_with_zero for _, how in trees.values()}
    drawn = []
    for tree, how in trees.values():
        starts = how.from_zero and not how.ends_with_zero
        leaves = frozenset() if products else how.some
        if starts and not products and not leaves:  # products that are exact do not show where sums begin
            leaves = first_terms(tree)
        root = marked(tree, leaves, how.sums, base, starts)
        total = root if isinstance(root, tuple) else (root,)
        drawn.append(((), total) if how.from_zero and how.ends_with_zero and len(is_last) == 2 else root)
    try:
        sums = [how.rounding(base) for _, how in trees.values()]
        order = Trees(tuple(map(Tree, drawn, sums)))
    except UsageError:  # deeper than a description may be, or sums wider than any here
        return
    for each in (
        (None,)
        if products is None and any(how.some for _, how in trees.values())
        else _roundings(products, trees[longest][1], prober)
    ):
        product = Product(products=each, order=order, output=_output(prober))
        yield from_zero(product) if is_last == {True} else product


def from_zero(product: Product) -> Product:
    """The product whose total is added to +0 at the end, so that no result is -0."""
    return replace(product, order=Groups(Whole(), product.order, Rising(_last_sums(product.order))))


def _last_sums(order: Order) -> Sums:
    """How the last addition rounds."""
    if isinstance(order, Groups | Tail):
        return _last_sums(order.outer if isinstance(order, Groups) else order.rest)
    if isinstance(order, Trees):
        return order.trees[0].sums
    return _last_sums(order.order) if isinstance(order, Reordered) else getattr(order, "sums", FLOAT32)


def _output(prober: Prober) -> Sums:
    output = prober.subject.output
    return Sums(output) if output in FORMATS and as_format(output).fits_float32 else FLOAT32


def _variations(order: Order, length: int, prober: Prober, how: Arithmetic) -> Iterator[Product]:
    """The order with every start and every format of sums that was seen, where they do not show by themselves."""
    is_aligned = any(isinstance(each, Aligned) for each in within(order))
    formats = tuple(map(how.rounding, how.widths))
    for start in ("zero",) if how.from_zero else ("first",):
        for made in _choices(order, formats, start):
            for products in (None,) if is_aligned else _roundings(how.products(length), how, prober):
                yield Product(products=products, order=made, output=_output(prober))


def _roundings(name: str | None, how: Arithmetic, prober: Prober) -> tuple[Sums | None, ...]:
    """How products may be rounded: to the format that was seen, or not unless they are subnormal."""
    if name is not None:
        return (how.rounding(name),)
    smallest = 2 * prober.inputs.quantum_exponent
    is_open = FLOAT32.format not in how.rounded and smallest < FORMATS["float32"].quantum_exponent
    return (None, how.rounding(FLOAT32.format)) if is_open else (None,)


def _choices(order: Order, formats: Sequence[Sums], start: str) -> Iterator[Order]:
    """The order with its sums of products started so, and each of its stages rounded to one of the formats."""
    if isinstance(order, Rising):
        yield from (Rising(sums, start) for sums in formats)
    elif isinstance(order, Pairwise | Folding):
        yield from (replace(order, sums=sums) for sums in formats)
    elif isinstance(order, Reordered):
        yield from (replace(order, order=inner) for inner in _choices(order.order, formats, start))
    elif isinstance(order, Tail):
        for main in _choices(order.main, formats, start):
            yield from (replace(order, main=main, rest=rest) for rest in _choices(order.rest, formats, "first"))
    elif isinstance(order, Halving):
        for inner in _choices(order.inner, formats, start):
            yield from (replace(order, inner=inner, sums=sums) for sums in formats)
    elif isinstance(order, Groups):
        for inner in _choices(order.inner, formats, start):
            for outer in _choices(order.outer, formats, "first"):
                yield replace(order, inner=inner, outer=outer)
                partial = Rising(_last_sums(outer), "first")  # each group's result is rounded before it is added
                if _last_sums(inner) != partial.sums:
                    yield replace(order, inner=Groups(Whole(), inner, partial), outer=outer)
    else:
        yield order
