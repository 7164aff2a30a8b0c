"""What is rounded in a tree of sums that is known: products before they are added, and each sum to some bits.

Every leaf and every node is asked on its own, so no combination of formats has to be guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from mpsim.formats import FORMATS, as_format
from mpsim.kernels.contract import Array
from mpsim.products.stages import FLOAT32, Node, Sums
from mpsim.validate.dot.inputs.edges import Term, operands
from mpsim.validate.dot.inputs.pools import Asked, Pool, ask_pooled
from mpsim.validate.dot.inputs.probes import Prober
from mpsim.validate.dot.orders.trees import first_leaf, nodes_below, sizes_of, terms_of

#: Formats of sums and products that differ in their bits, beside that of the answers.
NAMES = ("bfloat16", "float16", "float32", "float64")
#: Exponent of the products whose last bits are looked at, so that what is left of them is not too small to see.
EXPONENT = 8
#: Exponent of products too small for any sum.
TINY = -160


class Met(NamedTuple):
    """A leaf, another that it is added to first, and the terms of the node where they meet, as bits."""

    leaf: int
    other: int
    terms: int


class Added(NamedTuple):
    """A node of two; a leaf of either part, and one of what its sum is added to; the terms of all three, as bits."""

    node: Node
    places: tuple[int, int, int]
    terms: int


class Cancelled(NamedTuple):
    """Products 2**exponent · (two factors) at a leaf and at another, and what is left of them where they are exact."""

    exponent: int
    at_leaf: tuple[float, float]
    at_other: tuple[float, float]
    unit: float


class Arithmetic(NamedTuple):
    """rounded: format -> leaves whose product is rounded to it before it is added. widths: formats of the sums that
    could be seen, the widest first; a sum at the root cannot. sums: id of a node -> the format of its sum, where it was
    seen. flush: whether subnormal float32 sums were seen to become zero. asked: the probes, as (a, b, answers).
    truncates: whether float32 sums are toward zero. away: formats of sums whose ties were seen to go away from zero."""

    rounded: dict[str, frozenset[int]]
    widths: tuple[str, ...]
    sums: dict[int, str]
    flush: bool
    asked: tuple[Array, Array, Array]
    truncates: bool = False
    away: frozenset[str] = frozenset()

    def products(self, length: int) -> str | None:
        """The narrowest format that every product is rounded to; None where some or all are added exactly."""
        return next((name for name, leaves in self.rounded.items() if len(leaves) == length), None)

    @property
    def from_zero(self) -> bool:
        """Whether products of -0 have the sum +0, as where a sum begins with it."""
        return not np.signbit(self.asked[2][0])

    @property
    def ends_with_zero(self) -> bool:
        """Whether products that are rounded to -0 have it, too: then +0 is added to a sum, not to an exact product."""
        return not np.signbit(self.asked[2][1])

    def rounding(self, name: str) -> Sums:
        """How numbers are rounded to a format."""
        way = "toward_zero" if self.truncates else "nearest_away" if name in self.away else "nearest_even"
        return Sums(name, way, flush=self.flush and name == FLOAT32.format)

    @property
    def shows_zeros(self) -> bool:
        """Whether the smallest products are rounded to zero, so that its sign shows where +0 is added."""
        return bool(self.asked[2][1] == 0)

    @property
    def some(self) -> frozenset[int]:
        """Leaves that are rounded where others are not."""
        return max(self.rounded.values(), key=len, default=frozenset())


def arithmetic_of(prober: Prober, tree: Node, most: int = 1) -> Arithmetic:
    """What the subject of a prober rounds in its tree. most: tests that are asked at once, whose units it adds exactly.
    The widest format is asked for first, and narrower ones only where something is rounded to it."""
    tiny = max(2 * prober.inputs.quantum_exponent, TINY)
    probes: list[list[Term]] = [[(k, e, (x, 1.0)) for k in range(prober.length)] for e, x in ((0, -0.0), (tiny, -1.0))]
    probes += (subnormal_probes(prober) or [[(0, 0, 1.0)]] * 2)[:2]
    a, b = operands(probes, prober.length)
    first = a, b, prober.ask_numbers(a, b)
    terms = terms_of(tree)
    rounded, of_products = _rounded(prober, [*_leaves(tree, terms)], most)
    seen, away, of_sums = _widths(prober, [*_sums(tree, terms)], most)
    every = set(seen.values()) or {"float32"}
    widths = tuple(name for name in reversed(_formats(prober)) if name in every)
    truncates = prober.results == replace(FLOAT32, rounding="toward_zero")
    if prober.results is not None and prober.results.rounding == "nearest_away":
        away.add(prober.results.format)
    a, b, found = (np.concatenate(each) for each in zip(first, *of_products, *of_sums, strict=True))
    return Arithmetic(rounded, widths, seen, not found[2], (a, b, found), truncates, frozenset(away))


def _rounded(prober: Prober, leaves: Sequence[Met], most: int) -> tuple[dict[str, frozenset[int]], list[Asked]]:
    """Format -> leaves whose product is rounded to it, the narrowest format first; and what was asked."""
    rounded: dict[str, frozenset[int]] = {}
    asked: list[Asked] = []
    left = list(leaves)
    for name in reversed([name for name in _formats(prober) if _rounds_products(prober, name)]):
        bits = _half(name)
        at_leaf, at_other = (1 + 2.0**-bits,) * 2, (-1.0, 1 + 2.0 ** (1 - bits))
        left = _lost(prober, left, Cancelled(EXPONENT, at_leaf, at_other, 2.0 ** (EXPONENT - 2 * bits)), most, asked)
        rounded[name] = frozenset(each.leaf for each in left)
    beyond = _overflowing(prober) if FLOAT32.format not in rounded else 0
    if beyond:  # rounded alone it is infinite, but not beside one of half its size that was added before
        left = _lost(prober, leaves, Cancelled(beyond, (1.0, 1.0), (1.0, -0.5), 0.0), 1, asked)
        rounded = {FLOAT32.format: frozenset(each.leaf for each in left), **rounded}
    return dict(reversed(rounded.items())), asked


def _lost(prober: Prober, leaves: Sequence[Met], what: Cancelled, most: int, asked: list[Asked]) -> list[Met]:
    """The leaves that leave nothing beside what cancels the most of them, or twice the unit, as ties away do."""
    found: list[Met] = []
    for group in _sides(leaves):
        rows = partial(_against, prober, group, what)
        outcome = ask_pooled(prober, [each.terms for each in group], rows, what.unit, most)
        asked += outcome.asked
        lost = (outcome.left == 0) | (outcome.left == 2 * what.unit) | ~np.isfinite(outcome.left)
        found += [each for each, is_lost in zip(group, lost, strict=True) if is_lost]
    return found


def _widths(prober: Prober, sums: Sequence[Added], most: int) -> tuple[dict[int, str], set[str], list[Asked]]:
    """id of a node -> the format of its sum; formats in which ties go away from zero; what was asked."""
    names, asked, away = _formats(prober), list[Asked](), set[str]()
    found = {id(each.node): names[0] for each in sums}
    for wider, name in list(zip(names[1:], names, strict=False))[::-1]:
        bits = as_format(name).mantissa_bits + 1
        if bits > prober.big - prober.small:
            continue
        values = 2.0**prober.small * np.array([2.0**bits, 1, -(2.0**bits)])

        def rows(pools: list[Pool], sums: Sequence[Added] = sums, values: Array = values) -> tuple[Array, Array]:
            products = np.zeros((len(pools), prober.length))
            for row, pool in zip(products, pools, strict=True):
                for test in pool:
                    row[list(sums[test].places)] = values
            return prober.factors(products)

        outcome = ask_pooled(prober, [each.terms for each in sums], rows, 2.0**prober.small, most)
        asked += outcome.asked
        kept = outcome.left == 2.0**prober.small
        away |= {name} if (outcome.left == 2.0 ** (prober.small + 1)).any() else set()  # 2**bits + 1 was a tie
        found |= {id(each.node): wider for each, is_kept in zip(sums, kept, strict=True) if is_kept}
        sums = [each for each, is_kept in zip(sums, kept, strict=True) if not is_kept]
    return found, away, asked


def subnormal_probes(prober: Prober) -> list[list[Term]]:
    """A subnormal float32 number alone, and sums that are subnormal only on the way, not as a result. None where the
    inputs have no such products, or the answers do not show them."""
    normal, last = as_format("float32").min_exponent, prober.length - 1
    low = normal - 1
    if low // 2 < prober.inputs.min_exponent or prober.least > normal:
        return []
    probes: list[list[Term]] = [[(0, low, 1.0)], [(k, low, 1.0) for k in {0, last}]]
    if last > 1:
        probes += [[(0, low, 1.0), (1, low, 1.0)], [(0, normal, 1.5), (1, normal, -1.0), (last, normal, 1.0)]]
    return probes


def _against(prober: Prober, group: Sequence[Met], what: Cancelled, pools: list[Pool]) -> tuple[Array, Array]:
    """Operands of a product at each leaf of a pool and one at the leaf that it meets: each is 2**exponent times two
    factors. The first factors are one vector."""
    one, other = np.zeros((2, len(pools), prober.length), np.float32)
    half = what.exponent // 2
    one[:] = np.ldexp(what.at_other[0], what.exponent - half)
    one[:, [each.leaf for each in group]] = np.ldexp(what.at_leaf[0], what.exponent - half)
    for row, pool in zip(other, pools, strict=True):
        for met in (group[test] for test in pool):
            row[[met.leaf, met.other]] = np.ldexp([what.at_leaf[1], what.at_other[1]], half)
    return prober.with_shared(one, other)


def _sides(met: Sequence[Met]) -> list[list[Met]]:
    """The leaves in groups in which none is what another one meets.

    >>> _sides([Met(2, 0, 7), Met(1, 0, 3), Met(0, 1, 3)])
    [[Met(leaf=2, other=0, terms=7), Met(leaf=1, other=0, terms=3)], [Met(leaf=0, other=1, terms=3)]]
    """
    groups: list[list[Met]] = []
    left = list(met)
    while left:
        leaves, others = set[int](), set[int]()
        group: list[Met] = []
        rest: list[Met] = []
        for each in left:
            fits = each.leaf not in others and each.other not in leaves
            (group if fits else rest).append(each)
            if fits:
                leaves.add(each.leaf)
                others.add(each.other)
        groups.append(group)
        left = rest
    return groups


def _formats(prober: Prober) -> list[str]:
    """Formats with different numbers of mantissa bits, the narrowest first."""
    output = prober.subject.output
    found = {as_format(name).mantissa_bits: name for name in NAMES}
    if output in FORMATS and as_format(output).fits_float32:
        found[as_format(output).mantissa_bits] = output
    return [found[bits] for bits in sorted(found)]


def _overflowing(prober: Prober) -> int:
    """The exponent of a product beyond float32's numbers whose half the subject answers; 0 where there is none."""
    beyond = as_format(FLOAT32.format).max_exponent + 1
    return beyond if 2 * prober.inputs.max_exponent >= beyond <= prober.greatest + 1 else 0


def _half(name: str) -> int:
    """1 + 2**-h, squared, has a last bit that the format does not keep."""
    return as_format(name).mantissa_bits // 2 + 1


def _rounds_products(prober: Prober, name: str) -> bool:
    """Whether the inputs have products that the format does not hold, of which probes are made."""
    return _half(name) <= prober.inputs.mantissa_bits and prober.least <= EXPONENT - 2 * _half(name)


def _leaves(tree: Node, terms: Mapping[int, int]) -> Iterator[Met]:
    """Each leaf, and one of those that it is added to first."""
    for node in nodes_below(tree):
        for place, child in enumerate(node):
            if isinstance(child, int) and len(node) > 1:
                yield Met(child, first_leaf(node[place - 1]), terms[id(node)])


def _sums(tree: Node, terms: Mapping[int, int]) -> Iterator[Added]:
    """Each node of two below another."""
    for node in nodes_below(tree):
        for place, child in enumerate(node):
            if isinstance(child, tuple) and len(child) == 2 and len(node) == 2:
                places = first_leaf(child[0]), first_leaf(child[1]), first_leaf(node[place - 1])
                yield Added(child, places, terms[id(node)])


def runs_of(tree: Node, how: Arithmetic) -> dict[str, int]:
    """Formats narrower than others to which a sum was seen to be rounded before a term is added to it -> the terms of
    the smallest such sum."""
    if len(how.widths) < 2:
        return {}
    sizes, found = sizes_of(tree), dict[str, int]()
    for node in nodes_below(tree):
        for child in node:
            name = how.sums.get(id(child), how.widths[0])
            is_alone = len(node) == 2 and any(isinstance(each, int) for each in node)
            if is_alone and name != how.widths[0] and how.sums.get(id(node), how.widths[0]) == how.widths[0]:
                found[name] = min(sizes[id(child)], found.get(name, sizes[id(child)]))
    return found


def marked(
    tree: Node,
    leaves: frozenset[int] = frozenset(),
    sums: Mapping[int, str] = {},
    base: str = "",
    first: frozenset[int] = frozenset(),
    total: str = "",
    twice: bool = False,
) -> Node:
    """The tree as one nested tuple with chains written flat. leaves: those that are rounded before they are added.
    first: those that are added to +0.
    sums: the formats of nodes by their id, which are written where they are not ``base``. total: that of the root,
    which is not seen; by default the widest of its parts'. twice: narrower ones than ``base`` round what is of that.

    The larger part of a node comes first, which no sum of two depends on, so that tuples are few inside each other.

    >>> marked((0, (1, (2, 3))), frozenset([2]))
    ((2,), 3, 1, 0)
    """
    return _Marker(tree, leaves, {**sums, id(tree): total} if total else sums, base, first, twice).written(tree)


class _Marker:
    def __init__(
        self, tree: Node, leaves: frozenset[int], sums: Mapping[int, str], base: str, first: frozenset[int], twice: bool
    ) -> None:
        self.leaves, self.sums, self.base, self.first, self.twice = leaves, sums, base, first, twice
        self.sizes = sizes_of(tree)

    def written(self, node: Node) -> Node:
        if not isinstance(node, tuple):
            return ((), node) if node in self.first else (node,) if node in self.leaves else node
        children: list[Node] = []
        format = self.format(node)
        rest: Node = node
        is_apart = self.twice and as_format(format).mantissa_bits < as_format(self.base).mantissa_bits
        while isinstance(rest, tuple) and self.format(rest) == format:  # down the larger part
            place = max(range(len(rest)), key=lambda at, rest=rest: self.sizes.get(id(rest[at]), 0))  # type: ignore
            children[:0] = [self.written(child) for child in (*rest[:place], *rest[place + 1 :])]
            rest = rest[place]
            if is_apart:
                return format, (self.written(rest), *children)
        name = () if format == self.base else (format,)
        return (*name, self.written(rest), *children)

    def format(self, node: Node) -> str:
        """The format of a node's sum: at the root, which is not seen, the widest of its parts'."""
        parts = node if isinstance(node, tuple) else ()
        below = [self.sums[id(child)] for child in parts if id(child) in self.sums]
        widest = max(below, key=lambda name: as_format(name).mantissa_bits, default=self.base)
        return self.sums.get(id(node), widest)
