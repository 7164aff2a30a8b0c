"""Orders of summation whose tree is one that was found: families with names, and the tree itself.

A node that holds the first term may be a group of a partition: its terms say which. If all groups of that partition are
nodes, then the tree of the first group is recognised as the inner order and the tree over the groups as the outer one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from mpsim.products.stages import (
    Aligned,
    Blocks,
    Descending,
    Folding,
    Groups,
    Halving,
    Lanes,
    Node,
    Order,
    Pairwise,
    Partition,
    Product,
    Reordered,
    Rising,
    Splits,
    Tail,
    within,
)
from mpsim.validate.dot.orders.trees import Nodes, nodes_of, nodes_of_product

#: Orders inside orders, at most.
DEPTH = 3
#: Orders that one tree is recognised as, at most.
MOST_ORDERS = 24
#: How many orders of a part are tried within an order of the whole.
SIMPLEST = 2
#: Orders of a chain that are not rising.
REORDERED = (Descending(), *(kind(1 << e) for e in range(1, 7) for kind in (Descending, Lanes)))
#: Fewer terms than this are halved only where that is the whole order: halves of four are pairs as well.
SMALLEST_HALF = 3


def recognised(tree: Node, length: int) -> list[Order]:
    """Orders whose sums of ``length`` terms are formed in the tree, the simplest first.

    >>> recognised(((0, 2), (1, 3)), 4)
    [Folding(...), Groups(partition=Lanes(number=2, take=1, ...), inner=Rising(...), outer=Rising(...)), ...]
    """
    return list(_orders(nodes_of(tree), length, DEPTH))


@lru_cache(maxsize=1 << 14)
def _orders(nodes: Nodes, length: int, depth: int) -> tuple[Order, ...]:
    found: list[Order] = []
    for order in _candidates(nodes, length, depth):
        if order not in found and _nodes_of(order, length) == nodes:
            found.append(order)
            if order == Rising() or len(found) == MOST_ORDERS:  # a chain has no parts
                break
    return tuple(found)


@lru_cache(maxsize=1 << 14)
def _nodes_of(order: Order, length: int) -> Nodes:
    return nodes_of_product(Product(order=order), length)


def _of_results(nodes: Nodes, length: int, depth: int) -> list[Order]:
    """Orders that add results: aligned ones add products only."""
    found = _orders(nodes, length, depth)
    return [order for order in found if not any(isinstance(each, Aligned) for each in within(order))]


def _candidates(nodes: Nodes, length: int, depth: int) -> Iterator[Order]:
    yield Rising()
    if length <= 2:
        return
    yield Pairwise()
    yield from (Folding(lanes=lanes) for lanes in (1, length, 1 << (length - 1).bit_length()))
    yield Folding(padded=True)
    lowest = min(node.bit_count() for node in nodes)
    if lowest > 2:
        yield Aligned(lowest)
    if len(nodes) == length - 1 and len({node.bit_count() for node in nodes}) == length - 1:
        shorter = (each for each in REORDERED if each == Descending() or 1 < len(each.split(length)) < length)
        yield from (Reordered(partition, Rising()) for partition in shorter)  # a chain
        return
    if depth:
        yield from _halvings(nodes, length, depth)
        yield from _tails(nodes, length, depth)
        yield from _groups(nodes, length, depth)
    if depth == DEPTH:
        reverse = frozenset(sum(1 << (length - 1 - k) for k in _terms(node)) for node in nodes)
        yield from (Reordered(Descending(), order) for order in _orders(reverse, length, depth - 1))


def _groups(nodes: Nodes, length: int, depth: int) -> Iterator[Order]:
    own = sorted((node for node in nodes if node & 1 and node.bit_count() < length), key=int.bit_count)
    for node in own:
        for partition in _partitions(_terms(node), length):
            groups, masks = _split(partition, length)
            if not all(mask in nodes or len(group) == 1 for mask, group in zip(masks, groups, strict=True)):
                continue
            inner = _orders(_within(nodes, groups[0]), len(groups[0]), depth - 1)[:SIMPLEST]
            if not inner:
                continue
            for outer in _of_results(_over(nodes, masks), len(groups), depth - 1)[:SIMPLEST]:
                start = Rising(start="first") if outer == Rising() else outer
                yield from (Groups(partition, each, start) for each in inner)


@lru_cache(maxsize=1 << 12)
def _split(partition: Partition, length: int) -> tuple[list[list[int]], list[int]]:
    """The groups of so many terms, and their terms as bits."""
    groups = partition.split(length)
    return groups, [sum(1 << k for k in group) for group in groups]


def _halvings(nodes: Nodes, length: int, depth: int) -> Iterator[Order]:
    """Halves of halves, down to parts of another order: the first such part, or the last, shows which."""
    for multiple in (1 << e for e in range(7)):
        first, last, whole = (0, length), (0, length), length
        while (half := _half(nodes, first, multiple)) is not None:
            first, whole = half[0], first[1]
        while (half := _half(nodes, last, multiple)) is not None:
            last = half[1]
        least = max(first[1], last[1] - last[0], 2 * multiple - 1)
        sizes = [1 << e for e in range(1, 20) if least <= 1 << e < whole] or [least]
        is_pairs = depth < DEPTH and first[1] < SMALLEST_HALF
        for start, stop in () if is_pairs or whole == first[1] else dict.fromkeys((first, last)):
            inside = _within(nodes, list(range(start, stop)))
            for inner in _orders(inside, stop - start, depth - 1)[:SIMPLEST]:
                yield from (Halving(size, multiple, inner) for size in sizes)


def _half(nodes: Nodes, part: tuple[int, int], multiple: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The two halves of a part, if both are nodes."""
    start, stop = part
    middle = start + (stop - start) // 2 // multiple * multiple
    halves = (start, middle), (middle, stop)
    masks = [(1 << last) - (1 << first) for first, last in halves]
    is_node = [mask in nodes or mask.bit_count() == 1 for mask in masks]
    return halves if middle > start and all(is_node) else None


def _partitions(terms: list[int], length: int) -> Iterator[Partition]:
    """Partitions of which the terms are the first group."""
    take = next((i for i, k in enumerate(terms) if k != i), len(terms))
    if take == len(terms):
        yield Blocks(take)
        number = -(-length // take)
        for parts in dict.fromkeys((number, 1 << (number - 1).bit_length())):  # some of which may have no terms
            for multiple in (1 << e for e in range(6)):
                if take % multiple == 0 and -(-length // (parts * multiple)) * multiple == take:
                    yield Splits(parts, multiple)
        if length <= 2 * take:
            yield Lanes(2, take)
    elif terms[take] % take == 0:
        number = terms[take] // take
        yield Lanes(number, take)
        if length % (number * take) > take:
            yield Lanes(number, take, "first")


def _tails(nodes: Nodes, length: int, depth: int) -> Iterator[Order]:
    """The first terms, up to a multiple of a power of two, in an order, and then the others."""
    for whole in range(2, length):
        main = (1 << whole) - 1
        if main not in nodes:
            continue
        multiples = [1 << e for e in range(1, 12) if whole % (1 << e) == 0 and length - whole < 1 << e]
        masks = [main, *(1 << k for k in range(whole, length))]
        if not multiples:
            continue
        for rest in _of_results(_over(nodes, masks), len(masks), 0):
            start = Rising(start="first") if rest == Rising() else rest
            for inner in _orders(_within(nodes, list(range(whole))), whole, depth - 1)[:SIMPLEST]:
                yield from (Tail(multiple, inner, start) for multiple in multiples)


def _terms(node: int) -> list[int]:
    return [k for k, bit in enumerate(bin(node)[:1:-1]) if bit == "1"]


def _within(nodes: Nodes, terms: list[int]) -> Nodes:
    """The nodes inside a group, over its terms by number."""
    whole = sum(1 << k for k in terms)
    place = {k: number for number, k in enumerate(terms)}
    inside = [node for node in nodes if node & whole == node]
    if terms[-1] - terms[0] == len(terms) - 1:
        return frozenset(node >> terms[0] for node in inside)
    return frozenset(sum(1 << place[k] for k in _terms(node)) for node in inside)


def _over(nodes: Nodes, groups: list[int]) -> Nodes:
    """The nodes above the groups, which are nodes or terms, over the groups by number: a node with the first terms of
    two of them has all terms of both."""
    firsts = [group & -group for group in groups]
    every = sum(firsts)
    number = {first: 1 << place for place, first in enumerate(firsts)}
    found = {node & every for node in nodes if (node & every).bit_count() > 1}
    return frozenset(sum(number[1 << k] for k in _terms(node)) for node in found)
