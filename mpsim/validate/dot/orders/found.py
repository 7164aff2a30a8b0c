"""Products made of the trees that a subject's answers show: what is rounded, and to what, is tried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from itertools import product as product_of_choices

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, as_format
from mpsim.products.accumulators import Summation, in_short, in_stages
from mpsim.products.stages import (
    FLOAT32,
    Aligned,
    Groups,
    Kahan,
    Lanes,
    Node,
    Order,
    Product,
    Rising,
    Sums,
    Tail,
    Tree,
    Trees,
    Whole,
    within,
)
from mpsim.validate.dot.inputs.probes import Prober
from mpsim.validate.dot.orders.arithmetic import Arithmetic, arithmetic_of, marked, runs_of
from mpsim.validate.dot.orders.recognition import recognised
from mpsim.validate.dot.orders.trees import NoTree, Revealer, first_terms, terms_of
from mpsim.validate.dot.orders.variations import Seen, bits_of, last_sums, orders_of, ways

#: The longest products whose trees are looked for.
MOST_LENGTH = 1024
#: Products that are tried with a loop over the last terms.
MOST_WITH_TAILS = 4
#: Combinations of formats that one order is tried with.
MOST_VARIATIONS, MOST_ANYWHERE = 128, 16


def tree_of(prober: Prober, length: int) -> tuple[Node, Arithmetic] | None:
    """The tree in which the subject of a prober adds ``length`` terms, and what it rounds; None where there is no tree,
    or it is too large."""
    own = prober.of_length(length)
    if length > MOST_LENGTH:
        return None
    revealer = Revealer(own)
    try:
        tree = revealer.tree()
    except NoTree:
        return None
    return tree, arithmetic_of(own, tree, revealer.units)


def products_of_orders(
    tree: Node, length: int, prober: Prober, how: Arithmetic, ends: bool = False, anywhere: bool = False
) -> Iterator[Summation]:
    """Products with an order that has a name, whose tree for ``length`` terms is this one, and that round as it does.
    ends: those that add their total to +0. anywhere: those with the formats of sums at other nodes, too."""
    if ends and not (how.from_zero and (how.ends_with_zero or not how.shows_zeros)):
        return
    most = MOST_ANYWHERE if anywhere else MOST_VARIATIONS
    hows = (how, how._replace(flush=False)) if how.flush else (how,)  # each sum, or the result alone
    seen = [_seen(tree, one, anywhere) for one in hows]
    for order, at_the_end in product_of_choices(recognised(tree, length), range(len(hows))):
        for product in islice(_variations(order, length, prober, hows[at_the_end], seen[at_the_end]), most):
            product = replace(product, output=replace(product.output, flush=True)) if at_the_end else product
            if ends:
                yield in_short(from_zero(product))
                if length == 1 and bits_of(product.output) < bits_of(last_sums(product.order)):  # split k: stored, + 0
                    stored = Groups(Whole(), product.order, Rising(product.output, "first"))
                    yield in_short(from_zero(replace(product, order=stored)))
            elif not (how.shows_zeros and how.ends_with_zero and product.products is None):
                yield in_short(product)


def _seen(tree: Node, how: Arithmetic, anywhere: bool) -> Seen:
    masks = {} if anywhere or len(how.widths) < 2 else terms_of(tree)
    sums = {masks[node]: how.rounding(name) for node, name in how.sums.items() if node in masks}
    runs = {how.rounding(name): size for name, size in runs_of(tree, how).items()}
    return Seen(tuple(map(how.rounding, how.widths)), sums, runs, "zero" if how.from_zero else "first")


def product_of_trees(trees: Sequence[Tree], ends: bool, products: Sums | None, prober: Prober) -> Product:
    """The product with explicit trees. ends: whether their totals are added to +0."""
    product = Product(products=products, order=Trees(tuple(trees)), output=_output(prober))
    return from_zero(product) if ends else product


def written_trees(
    tree: Node, length: int, how: Arithmetic, is_rounded: bool, prober: Prober
) -> Iterator[tuple[Tree, bool]]:
    """The tree of ``length`` terms as a description has it, where sums may begin with +0 in it, the likely one first;
    and whether its total is added to +0. is_rounded: whether every product is rounded before it is added."""
    base = FLOAT32.format if FLOAT32.format in how.widths else how.widths[0]
    some = how.some if how.products(length) is None else frozenset()
    leaves = frozenset(range(length)) if is_rounded else some
    places = [(False, False)]
    if how.from_zero:
        places = [(True, False), (False, True)]
        places = places[::-1] if how.ends_with_zero else places
    for starts, ends in places:
        first = first_terms(tree) if starts else frozenset()
        narrow = [name for name in how.widths if as_format(name).mantissa_bits < as_format(base).mantissa_bits]
        for total, twice in product_of_choices(("", *narrow), (False, True)[: 1 + bool(narrow)]):
            root = marked(tree, leaves, how.sums, base, first, total, twice)
            for sums in ways([how.rounding(base)], _bits_of_terms(how.products(length), prober)):
                with suppress(UsageError):  # deeper than a description may be, or sums wider than any here
                    yield Tree(root, sums), ends


def within_zero(tree: Tree) -> Tree:
    """The tree whose total is added to +0."""
    return replace(tree, root=((), tree.root if isinstance(tree.root, tuple) else (tree.root,)))


def roundings_of(length: int, how: Arithmetic, prober: Prober) -> tuple[Sums | None, ...]:
    """How products may be rounded: to the format that was seen, by way of float32, too, where that shows, a narrow one
    also toward zero; or not unless they are subnormal. Narrow sums hide how some products are rounded."""
    name = how.products(length)
    some = max(how.rounded, key=lambda each: len(how.rounded[each]), default="")
    is_hidden = name is None and bool(how.some) and bits_of(Sums(how.widths[-1])) < bits_of(Sums(some))
    hidden, name = ([None], some) if is_hidden else ([], name)
    if name is not None:
        others = [Sums(name, way) for way in ("toward_zero", "nearest_away")] if name != FLOAT32.format else []
        others += [FLOAT32] if name == FLOAT32.format and how.rounding(name).rounding != FLOAT32.rounding else []
        return (*hidden, *ways(dict.fromkeys([how.rounding(name), *others]), _bits_of_terms(None, prober)))
    smallest = 2 * prober.inputs.quantum_exponent
    is_open = FLOAT32.format not in how.rounded and smallest < FORMATS["float32"].quantum_exponent
    is_open |= bits_of(Sums(how.widths[-1])) < bits_of(FLOAT32)  # which sums of fewer bits hide
    return (None, how.rounding(FLOAT32.format)) if is_open else (None,)


def compensated(prober: Prober) -> list[Summation]:
    """Compensated sums, which have no tree."""
    made = (Product(products=products, order=Kahan(), output=_output(prober)) for products in (None, FLOAT32))
    return [in_short(each) for each in made]


def from_zero(product: Product) -> Product:
    """The product whose total is added to +0 at the end, so that no result is -0."""
    return replace(product, order=Groups(Whole(), product.order, Rising(last_sums(product.order))))


def with_tails(products: Sequence[Summation]) -> list[Summation]:
    """Orders of lanes with a loop over what is left after whole turns."""
    found: list[Summation] = []
    for product in map(in_stages, products[:MOST_WITH_TAILS]):
        is_last = isinstance(product.order, Groups) and product.order.partition == Whole()
        order = product.order.inner if is_last and isinstance(product.order, Groups) else product.order
        if isinstance(order, Groups) and isinstance(order.partition, Lanes):
            turn = order.partition.number * order.partition.take
            tailed = replace(product, order=Tail(turn, order, Rising(last_sums(order), "first")))
            found += [in_short(each) for each in ((from_zero(tailed),) if is_last else (tailed, from_zero(tailed)))]
    return found


def _bits_of_terms(products: str | None, prober: Prober) -> int:
    """Significant bits of the products."""
    return 2 * (prober.inputs.mantissa_bits + 1) if products is None else bits_of(Sums(products))


def _output(prober: Prober) -> Sums:
    if prober.results is not None:
        return FLOAT32 if prober.results.format == FLOAT32.format else prober.results
    output = prober.subject.output
    return Sums(output) if output in FORMATS and as_format(output).fits_float32 else FLOAT32


def _variations(order: Order, length: int, prober: Prober, how: Arithmetic, seen: Seen) -> Iterator[Product]:
    """The order with every start and every format of sums that was seen, where they do not show by themselves."""
    is_aligned = any(isinstance(each, Aligned) for each in within(order))
    bits = _bits_of_terms(how.products(length), prober)
    for made in orders_of(order, [1 << k for k in range(length)], seen, bits, seen.start):
        for products in (None,) if is_aligned else roundings_of(length, how, prober):
            yield Product(products=products, order=made, output=_output(prober))
