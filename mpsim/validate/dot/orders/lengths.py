"""Products whose sums have the trees that a subject's answers show, for every number of terms that is asked.

One order with a name may give all of them, or one the sums of few terms and another those of more. Otherwise the trees
themselves are the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from mpsim.products.accumulators import Summation, in_short, in_stages
from mpsim.products.stages import Groups, Halving, Node, Operand, Order, Product, Rising, UpTo, within
from mpsim.validate.dot.judge import Judge
from mpsim.validate.dot.orders.arithmetic import Arithmetic
from mpsim.validate.dot.orders.conversions import reading
from mpsim.validate.dot.orders.found import products_of_orders, products_of_trees, tree_of
from mpsim.validate.dot.results import is_drawn
from mpsim.validate.dot.shapes import every_number_of_terms

#: Products that one tree is given by, at most: the simplest orders come first.
MOST_PRODUCTS = 24


#: Partitions inside each other from which another tree is asked, too.
DEEP = 3


class Span(NamedTuple):
    """Numbers of terms, the largest first, and the products with named orders that give the results of all of them."""

    lengths: tuple[int, ...]
    products: tuple[Summation, ...]


def products_by_length(judge: Judge, operands: tuple[Operand, Operand]) -> list[Summation]:
    """What gives the results for every number of terms, or else what gives those of the most terms."""
    search = _Search(judge, operands)
    lengths = every_number_of_terms(judge.prober.length)
    spans = search.spans(sorted(lengths))
    found = search.joined(spans) or search.joined(search.with_trees(spans)) or search.drawn(lengths)
    return found or [each for span in spans[:1] for each in span.products]


def _depth(summation: Summation) -> int:
    return sum(isinstance(each, Groups | Halving) for each in within(in_stages(summation).order))


class _Search:
    def __init__(self, judge: Judge, operands: tuple[Operand, Operand]) -> None:
        self.judge, self.operands = judge, operands
        self.trees: dict[int, tuple[Node, Arithmetic] | None] = {}

    def spans(self, lengths: Sequence[int]) -> list[Span]:
        """The numbers of terms, the smallest first, by what gives their results. The last come first. A tree is looked
        for where nothing known gives the results; those that nothing named gives are each by themselves."""
        found: list[Span] = []
        for length in lengths:
            span = found.pop() if found else Span((), ())
            left = self._that_give(span.products, [length])
            if not left and span.lengths:
                found.append(span)
                span = Span((), ())
            products = left or self._named(length)
            while not left and found and (both := self._that_give(products, found[-1].lengths)):
                span = Span((*span.lengths, *found.pop().lengths), ())
                products = both
            found.append(Span((length, *span.lengths), products))
        return [self._simplified(span) for span in found[::-1]]

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

    def _named(self, length: int) -> tuple[Summation, ...]:
        """Products with an order that has a name, which give some results of so many terms."""
        if (known := self._tree(length)) is None:
            return ()
        return self._giving(length, *known, False) or self._giving(length, *known, True)

    def _giving(self, length: int, tree: Node, how: Arithmetic, ends: bool) -> tuple[Summation, ...]:
        found: dict[Summation, None] = {}
        for product in products_of_orders(tree, length, self.judge.prober, how, ends):
            each = reading(product, self.operands)
            if each in found or not self.judge.gives_terms(each, length) or not self.judge.gives(each, how.asked):
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
        found = []
        for rest in dict.fromkeys(replace(in_stages(each), order=Rising()) for each in spans[0].products):
            orders = [order for span in spans if (order := self._order(rest, span)) is not None]
            if len(orders) == len(spans):
                found.append(in_short(replace(rest, order=self._by_terms(rest, spans, orders))))
        return found

    def _order(self, rest: Product, span: Span) -> Order | None:
        """The first order that gives the results of the span with these other stages."""
        stages = list(map(in_stages, span.products))
        for order in (each.order for each in sorted(stages, key=lambda each: replace(each, order=Rising()) != rest)):
            if all(self.judge.gives_terms(replace(rest, order=order), length) for length in span.lengths):
                return order
        return None

    def _by_terms(self, rest: Product, spans: Sequence[Span], orders: Sequence[Order]) -> Order:
        """Each order for the numbers of terms of its span."""
        found = orders[0]
        for place in range(1, len(spans)):
            few, many = (replace(rest, order=orders[at]) for at in (place, place - 1))
            most = self._most(few, many, spans[place].lengths[0], spans[place - 1].lengths[-1])
            found = UpTo(most, few.order, found)
        return found

    def _most(self, few: Summation, many: Summation, least: int, above: int) -> int:
        """The most terms that are summed as few, of at least ``least`` and fewer than ``above``."""
        low, high = least, above
        while high - low > 1:
            middle = (low + high) // 2
            is_few, is_many = (not is_drawn(each) and self.judge.gives_terms(each, middle) for each in (few, many))
            if not is_few and not is_many and not is_drawn(few) and not is_drawn(many):
                note = f"sums of more than {low} and fewer than {high} terms have an order that was not looked for"
                self.judge.prober.subject.notes.append(note)
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
        """Products with the trees themselves, where there is one for every number of terms."""
        trees = {length: known for length in lengths if (known := self._tree(length)) is not None}
        if len(trees) < len(lengths):
            return []
        asked = trees[lengths[0]][1].asked
        found = (reading(each, self.operands) for each in products_of_trees(trees, self.judge.prober))
        return [each for each in dict.fromkeys(found) if self.judge.gives(each, asked)]
