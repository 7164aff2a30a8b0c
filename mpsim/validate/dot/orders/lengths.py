"""Products whose sums have the trees that a subject's answers show, for every number of terms that is asked.

One order with a name may give all of them, or one the sums of few terms and another those of more. Otherwise the trees
themselves are the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from mpsim.errors import UsageError
from mpsim.products.accumulators import Summation, in_short, in_stages
from mpsim.products.stages import (
    Blocks,
    Groups,
    Halving,
    Node,
    Operand,
    Order,
    Product,
    Rising,
    Sums,
    Tree,
    UpTo,
    within,
)
from mpsim.validate.dot.judge import Judge
from mpsim.validate.dot.orders.arithmetic import Arithmetic, subnormal_probes
from mpsim.validate.dot.orders.conversions import flushing, reading
from mpsim.validate.dot.orders.found import (
    from_zero,
    product_of_trees,
    products_of_orders,
    roundings_of,
    tree_of,
    with_tails,
    within_zero,
    written_trees,
)
from mpsim.validate.dot.results import is_drawn
from mpsim.validate.dot.shapes import every_number_of_terms

#: Products that one tree is given by, at most: the simplest orders come first.
MOST_PRODUCTS = 24

#: Partitions inside each other from which another tree is asked, too.
DEEP = 3

#: Spans of one subject, at most.
MOST_SPANS = 5


class Span(NamedTuple):
    """Numbers of terms, the largest first, and the products with named orders that give the results of all of them."""

    lengths: tuple[int, ...]
    products: tuple[Summation, ...]


def products_by_length(judge: Judge, operands: tuple[Operand, Operand]) -> list[Summation]:
    """What gives the results for every number of terms, or else what gives those of the most terms."""
    search = _Search(judge, operands)
    if probes := subnormal_probes(judge.prober):
        judge.prober.ask(probes)
    lengths = every_number_of_terms(judge.prober.length)
    tried: list[Summation] = []
    first: list[Summation] = []
    for found in search.attempts(lengths):
        equal = [each for each in found if judge.equal(each)]
        steady = [each for each in equal if judge.gives_other_terms(each)]
        if first:  # trees do not say more of the other numbers of terms
            return [each for each in steady if not is_drawn(each)] or first
        if steady:
            return steady
        first = equal
        tried += found
    return first or list(dict.fromkeys(tried))


def _depth(summation: Summation) -> int:
    return sum(isinstance(each, Groups | Halving) for each in within(in_stages(summation).order))


def _above(operand: Operand, most: int) -> Operand:
    return replace(operand, above=most) if operand != Operand(operand.format) else operand


def _with_products(product: Product, products: Sums | None) -> list[Order]:
    """The order of a product among exact products, or those rounded so: each may be rounded in a group of its own."""
    rounded = product.products
    if products is not None or rounded is None:
        return [product.order]
    with suppress(UsageError):  # an order that adds products only
        return [product.order, Groups(Blocks(1), Rising(rounded, "first"), product.order)]
    return [product.order]


def _falling(lengths: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(lengths, reverse=True))


class _Search:
    def __init__(self, judge: Judge, operands: tuple[Operand, Operand]) -> None:
        self.judge, self.operands = judge, operands
        self.reads: dict[int, tuple[Operand, Operand]] = {}
        self.trees: dict[int, tuple[Node, Arithmetic] | None] = {}

    def attempts(self, lengths: Sequence[int]) -> Iterator[Sequence[Summation]]:
        """Products that may give every result, the likely ones first."""
        rising = self.spans(sorted(lengths))
        yield self.joined(rising)
        falling = self.spans(sorted(lengths, reverse=True))  # what few terms allow may have misled
        yield self.joined(falling)
        yield self.joined(self.with_trees(rising))
        yield self.joined(self.with_trees(falling))
        yield self.drawn(lengths)
        yield [each for span in falling[:1] for each in span.products]

    def spans(self, lengths: Sequence[int]) -> list[Span]:
        """The numbers of terms by what gives their results, the largest first. A tree is looked for where nothing known
        gives the results; those that nothing named gives are each by themselves."""
        found: list[Span] = []
        for length in lengths:
            span = found.pop() if found else Span((), ())
            left = self._that_give(span.products, [length])
            if not left:
                left = self._that_give(with_tails(span.products), [*span.lengths, length])
            if not left and span.lengths:
                found.append(span)
                span = Span((), ())
            products = left or self._named(length)
            while not left and found and (both := self._that_give(products, found[-1].lengths)):
                span = Span((*span.lengths, *found.pop().lengths), ())
                products = both
            found.append(Span(_falling((length, *span.lengths)), products))
        found.sort(key=lambda span: -span.lengths[0])
        return self._filled([self._simplified(span) for span in found])

    def _filled(self, spans: Sequence[Span]) -> list[Span]:
        """The spans, with those of numbers of terms in between that have yet another order."""
        found, waiting = [spans[0]], list(spans[1:])
        while waiting:
            span = waiting.pop(0)
            middle = self._between(span, found[-1]) if len(found) + len(waiting) < MOST_SPANS else None
            named = () if middle is None else self._named(middle)
            if middle is None or not named:
                found.append(span)
            elif both := self._that_give(named, span.lengths):
                waiting.insert(0, Span((middle, *span.lengths), both))
            else:
                waiting[:0] = [Span((middle,), named), span]
        return found

    def _between(self, small: Span, large: Span) -> int | None:
        """A number of terms between those of two spans that neither gives the results of."""
        low, high = small.lengths[0], large.lengths[-1]
        while small.products and large.products and high - low > 1:
            middle = (low + high) // 2
            if self._that_give(large.products, [middle]):
                high = middle
            elif self._that_give(small.products, [middle]):
                low = middle
            else:
                return middle
        return None

    def _simplified(self, span: Span) -> Span:
        """The products that the tree of the probes' own length shows first, if those found are nested deep: a tree of
        fewer terms has other orders with as many levels."""
        length = self.judge.prober.length
        is_deep = span.products and all(_depth(each) >= DEEP for each in span.products)
        if not is_deep or length not in span.lengths or length in self.trees:
            return span
        more = self._that_give(self._named(length), span.lengths)
        return Span(span.lengths, tuple(dict.fromkeys((*more, *span.products))))

    def _that_give(self, products: Sequence[Summation], lengths: Sequence[int]) -> tuple[Summation, ...]:
        return tuple(each for each in products if all(self.judge.gives_terms(each, length) for length in lengths))

    def _tree(self, length: int) -> tuple[Node, Arithmetic] | None:
        if length not in self.trees:
            self.trees[length] = tree_of(self.judge.prober, length)
        return self.trees[length]

    def _operands(self, length: int) -> tuple[Operand, Operand]:
        """How operands of ``length`` terms are read."""
        if length not in self.reads:
            self.reads[length] = flushing(self.judge.prober.of_length(length), self.operands)
        return self.reads[length]

    def _named(self, length: int) -> tuple[Summation, ...]:
        """Products with an order that has a name, which give some results of ``length`` terms."""
        if (known := self._tree(length)) is None:
            return ()
        for anywhere in (False, True)[: len(known[1].widths)]:
            ways = (self._giving(length, *known, ends, anywhere) for ends in (False, True))
            if found := tuple(each for way in ways for each in way):
                return found
        return ()

    def _giving(self, length: int, tree: Node, how: Arithmetic, ends: bool, anywhere: bool) -> tuple[Summation, ...]:
        """Those that add the total to +0, or not; with the formats of sums at other nodes, too, or not."""
        found: dict[Summation, None] = {}
        for product in products_of_orders(tree, length, self.judge.prober, how, ends, anywhere):
            each = reading(product, self._operands(length))
            if each in found:
                continue
            if not self.judge.gives_terms(each, length) or not self.judge.gives(each, how.asked):
                continue
            found[each] = None
            if len(found) == MOST_PRODUCTS:
                break
        return tuple(found)

    def joined(self, spans: Sequence[Span]) -> list[Summation]:
        """Products that give the results of all spans."""
        if not all(span.products for span in spans):
            return []
        if len(spans) == 1:
            return list(spans[0].products)
        rests = [replace(in_stages(each), order=Rising()) for each in spans[0].products]
        made = self._of_rests(spans, rests)
        return made or self._of_rests(spans, [replace(each, products=None) for each in rests])

    def _of_rests(self, spans: Sequence[Span], rests: Sequence[Product]) -> list[Summation]:
        """Products with these other stages that give the results of all spans."""
        found = []
        for rest in dict.fromkeys(rests):
            parts: list[Product] = []
            for span in spans:
                part = self._part(rest, span)
                if part is None:  # operands may be read in another way where there are few terms
                    rest = replace(rest, left=Operand(), right=Operand())
                    part = self._part(rest, span)
                if part is not None:
                    parts.append(part)
            if len(parts) == len(spans):
                with suppress(UsageError):  # more orders inside each other than a description may have
                    found.append(in_short(self._by_terms(spans, parts)))
        return found

    def _part(self, rest: Product, span: Span) -> Product | None:
        """The first product with these other stages that gives the results of the span."""
        stages = sorted(map(in_stages, span.products), key=lambda each: replace(each, order=Rising()) != rest)
        products = [replace(rest, order=order) for each in stages for order in _with_products(each, rest.products)]
        products += [from_zero(each) for each in products]
        return next((each for each in products if self._that_give([each], span.lengths)), None)

    def _by_terms(self, spans: Sequence[Span], parts: Sequence[Product]) -> Product:
        """The product that is each of the parts for the numbers of terms of its span."""
        found = parts[0]
        for place in range(1, len(spans)):
            few, many = parts[place], parts[place - 1]
            most = self._most(few, many, spans[place].lengths[0], spans[place - 1].lengths[-1])
            if few.order != many.order:
                found = replace(found, order=UpTo(most, few.order, found.order))
            if (few.left, few.right) != (many.left, many.right):
                found = replace(found, left=_above(found.left, most), right=_above(found.right, most))
        return found

    def _most(self, few: Summation, many: Summation, least: int, above: int) -> int:
        """The most terms that are summed as few, of at least ``least`` and fewer than ``above``."""
        low, high = least, above
        while high - low > 1:
            middle = (low + high) // 2
            is_few, is_many = (not is_drawn(each) and self.judge.gives_terms(each, middle) for each in (few, many))
            if not is_few and not is_many and not is_drawn(few) and not is_drawn(many):
                note = f"sums of more than {low} and fewer than {high} terms have an order that was not looked for"
                notes = self.judge.prober.subject.notes
                notes += [note] if note not in notes else []
                return low
            low, high = (low, middle) if is_many or (not is_few and is_drawn(many)) else (middle, high)
        return low

    def with_trees(self, spans: Sequence[Span]) -> list[Span]:
        """The same with trees for numbers of terms that nothing named gives."""
        found: list[Span] = []
        for span in spans:
            if span.products:
                found.append(span)
            elif found and not found[-1].products:
                found[-1] = Span((*found[-1].lengths, *span.lengths), ())
            else:
                found.append(span)
        return [span if span.products else Span(span.lengths, tuple(self.drawn(span.lengths))) for span in found]

    def drawn(self, lengths: Sequence[int]) -> list[Summation]:
        """The product with the trees themselves, where there is one for every number of terms."""
        known = {length: tree for length in lengths if (tree := self._tree(length)) is not None}
        if len(known) < len(lengths):
            return []
        rounded: dict[Sums | None, None] = {None: None}
        for length, (_, how) in known.items():
            rounded |= dict.fromkeys(roundings_of(length, how, self.judge.prober))
        ways = [(products, False) for products in rounded] + [(None, True)]  # True: some trees round all products
        return next((found for way in ways if (found := self._with_roundings(known, *way))), [])

    def _with_roundings(
        self, known: Mapping[int, tuple[Node, Arithmetic]], products: Sums | None, some: bool
    ) -> list[Summation]:
        """The product with a tree for each number of terms. some: trees themselves may round products."""
        parts: list[tuple[Tree, bool]] = []
        for length, (tree, how) in known.items():
            written = (
                each
                for way in (False, True)[: 1 + some]
                for each in written_trees(tree, length, how, way, self.judge.prober)
            )
            if (part := next((each for each in written if self._gives(length, each, products)), None)) is None:
                return []
            parts.append(part)
        ends = all(is_last for _, is_last in parts)
        trees = [within_zero(tree) if is_last and not ends else tree for tree, is_last in parts]
        try:
            product = product_of_trees(trees, ends, products, self.judge.prober)
        except UsageError:  # deeper than a description may be
            return []
        return [reading(product, self._operands_of(list(known)))]

    def _gives(self, length: int, part: tuple[Tree, bool], products: Sums | None) -> bool:
        """Whether a tree gives every result of ``length`` terms."""
        product = reading(product_of_trees([part[0]], part[1], products, self.judge.prober), self._operands(length))
        known = self._tree(length)
        is_likely = self.judge.gives_terms(product, length) and known and self.judge.gives(product, known[1].asked)
        return bool(is_likely) and self.judge.gives_length(product, length)

    def _operands_of(self, lengths: Sequence[int]) -> tuple[Operand, Operand]:
        """How operands are read, as they are where there are few terms."""
        most = max(lengths)
        plain = [length for length in lengths if self._operands(length) != self._operands(most)]
        left, right = self._operands(most)
        return (_above(left, max(plain)), _above(right, max(plain))) if plain else (left, right)
