"""Products made of the trees that a subject's answers show: what is rounded, and to what, is tried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from itertools import product as product_of_choices

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, as_format
from mpsim.products.accumulators import Summation, in_short
from mpsim.products.stages import (
    FLOAT32,
    Aligned,
    Folding,
    Groups,
    Halving,
    Kahan,
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
    """The tree in which the subject of a prober adds ``length`` terms, and what it rounds; None where there is no tree,
    or it is too large."""
    own = prober.of_length(length)
    try:
        tree = Revealer(own).tree() if length <= MOST_LENGTH else None
    except NoTree:
        return None
    return None if tree is None else (tree, arithmetic_of(own, tree))


def products_of_orders(
    tree: Node, length: int, prober: Prober, how: Arithmetic, ends: bool = False
) -> Iterator[Summation]:
    """Products with an order that has a name, whose tree for ``length`` terms is this one, and that round as it does.
    ends: those that add their total to +0."""
    if ends and not (how.from_zero and (how.ends_with_zero or not how.shows_zeros)):
        return
    flushes = (False, True) if how.flush else (False,)  # each sum, or the result alone
    for order, at_the_end in product_of_choices(recognised(tree, length), flushes):
        seen = how._replace(flush=False) if at_the_end else how
        for product in islice(_variations(order, length, prober, seen), MOST_VARIATIONS):
            product = replace(product, output=replace(product.output, flush=True)) if at_the_end else product
            if ends:
                yield in_short(from_zero(product))
            elif not (how.shows_zeros and how.ends_with_zero and product.products is None):
                yield in_short(product)


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
        root = marked(tree, leaves, how.sums, base, first)
        for sums in _ways([how.rounding(base)], _bits_of_terms(how.products(length), prober)):
            with suppress(UsageError):  # deeper than a description may be, or sums wider than any here
                yield Tree(root, sums), ends


def within_zero(tree: Tree) -> Tree:
    """The tree whose total is added to +0."""
    return replace(tree, root=((), tree.root if isinstance(tree.root, tuple) else (tree.root,)))


def roundings_of(length: int, how: Arithmetic, prober: Prober) -> tuple[Sums | None, ...]:
    """How products may be rounded: to the format that was seen, by way of float32, too, where that shows, a narrow one
    also toward zero; or not unless they are subnormal."""
    name = how.products(length)
    if name is not None:
        cut = [Sums(name, "toward_zero")] if name != FLOAT32.format else []
        return tuple(_ways([how.rounding(name), *cut], _bits_of_terms(None, prober)))
    smallest = 2 * prober.inputs.quantum_exponent
    is_open = FLOAT32.format not in how.rounded and smallest < FORMATS["float32"].quantum_exponent
    return (None, how.rounding(FLOAT32.format)) if is_open else (None,)


def compensated(prober: Prober) -> list[Summation]:
    """Compensated sums, which have no tree."""
    made = (Product(products=products, order=Kahan(), output=_output(prober)) for products in (None, FLOAT32))
    return [in_short(each) for each in made]


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


def _bits_of_terms(products: str | None, prober: Prober) -> int:
    """Significant bits of the products."""
    return 2 * (prober.inputs.mantissa_bits + 1) if products is None else _bits(Sums(products))


def _output(prober: Prober) -> Sums:
    output = prober.subject.output
    return Sums(output) if output in FORMATS and as_format(output).fits_float32 else FLOAT32


def _variations(order: Order, length: int, prober: Prober, how: Arithmetic) -> Iterator[Product]:
    """The order with every start and every format of sums that was seen, where they do not show by themselves."""
    is_aligned = any(isinstance(each, Aligned) for each in within(order))
    formats = tuple(map(how.rounding, how.widths))
    bits = _bits_of_terms(how.products(length), prober)
    for start in ("zero",) if how.from_zero else ("first",):
        for made in _choices(order, formats, start, bits):
            for products in (None,) if is_aligned else roundings_of(length, how, prober):
                yield Product(products=products, order=made, output=_output(prober))


def _choices(order: Order, formats: Sequence[Sums], start: str, bits: int) -> Iterator[Order]:
    """The order with its sums of products started so, and each of its stages rounded to one of the formats. bits: of
    the numbers that are added."""
    ways = _ways(formats, bits)
    if isinstance(order, Rising):
        yield from (Rising(sums, start) for sums in ways)
    elif isinstance(order, Pairwise | Folding):
        yield from (replace(order, sums=sums) for sums in ways)
    elif isinstance(order, Reordered):
        yield from (replace(order, order=inner) for inner in _choices(order.order, formats, start, bits))
    elif isinstance(order, Tail):
        for main in _choices(order.main, formats, start, bits):
            most = max(bits, _bits(_last_sums(main)))
            yield from (replace(order, main=main, rest=rest) for rest in _choices(order.rest, formats, "first", most))
    elif isinstance(order, Halving):
        for inner in _choices(order.inner, formats, start, bits):
            ways = _ways(formats, _bits(_last_sums(inner)))
            yield from (replace(order, inner=inner, sums=sums) for sums in ways)
    elif isinstance(order, Groups):
        for inner in _choices(order.inner, formats, start, bits):
            for outer in _choices(order.outer, formats, "first", _bits(_last_sums(inner))):
                yield replace(order, inner=inner, outer=outer)
                last = _last_sums(inner)  # a group's result may be rounded before it is added
                for sums in dict.fromkeys(
                    (_last_sums(outer), *(each for each in formats if _bits(each) < _bits(last)))
                ):
                    if sums != last and sums.via is None:
                        yield replace(order, inner=Groups(Whole(), inner, Rising(sums, "first")), outer=outer)
    else:
        yield order


def _ways(formats: Sequence[Sums], bits: int) -> list[Sums]:
    """How sums of numbers of ``bits`` bits may be rounded to the formats: by way of float32, too, where that shows."""
    twice = (each.by_way_of(FLOAT32.format, bits) for each in formats)
    return [*formats, *(each for each in twice if each is not None)]


def _bits(sums: Sums) -> int:
    return as_format(sums.format).mantissa_bits + 1
