"""What is rounded in a tree of sums that is known: products before they are added, and each sum to some bits.

Every leaf and every node is asked on its own, so no combination of formats has to be guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mpsim.formats import FORMATS, as_format
from mpsim.kernels.contract import Array
from mpsim.products.stages import FLOAT32, Node, Sums
from mpsim.validate.dot.inputs.edges import Term, operands
from mpsim.validate.dot.inputs.probes import Prober

#: Formats of sums and products that differ in their bits, beside that of the answers.
NAMES = ("bfloat16", "float16", "float32", "float64")
#: Exponent of the products whose last bits are looked at, so that what is left of them is not too small to see.
EXPONENT = 8
#: Exponent of products too small for any sum.
TINY = -160


class Arithmetic(NamedTuple):
    """rounded: format -> leaves whose product is rounded to it before it is added. widths: formats of the sums that
    could be seen, the widest first; a sum at the root cannot. sums: id of a node -> the format of its sum, where it was
    seen. flush: whether subnormal float32 sums were seen to become zero. asked: the probes, as (a, b, answers).
    truncates: whether float32 sums are toward zero."""

    rounded: dict[str, frozenset[int]]
    widths: tuple[str, ...]
    sums: dict[int, str]
    flush: bool
    asked: tuple[Array, Array, Array]
    truncates: bool = False

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
        way = "toward_zero" if self.truncates else "nearest_even"
        return Sums(name, way, flush=self.flush and name == FLOAT32.format)

    @property
    def shows_zeros(self) -> bool:
        """Whether the smallest products are rounded to zero, so that its sign shows where +0 is added."""
        return bool(self.asked[2][1] == 0)

    @property
    def some(self) -> frozenset[int]:
        """Leaves that are rounded where others are not."""
        return max(self.rounded.values(), key=len, default=frozenset())


def arithmetic_of(prober: Prober, tree: Node) -> Arithmetic:
    """What the subject of a prober rounds in its tree."""
    groups, sums = _sides(list(_leaves(tree))), list(_sums(tree))
    met = [pair for group in groups for pair in group]
    tiny = max(2 * prober.inputs.quantum_exponent, TINY)
    probes: list[list[Term]] = [[(k, e, (x, 1.0)) for k in range(prober.length)] for e, x in ((0, -0.0), (tiny, -1.0))]
    probes += (subnormal_probes(prober) or [[(0, 0, 1.0)]] * 2)[:2]
    pairs = [operands(probes, prober.length)]
    formats = [name for name in _formats(prober) if _rounds_products(prober, name)]
    for name in formats:
        bits = _half(name)
        pairs.append(_against(prober, groups, EXPONENT, (1 + 2.0**-bits,) * 2, (-1.0, 1 + 2.0 ** (1 - bits))))
    beyond = _overflowing(prober) if FLOAT32.format not in formats else 0
    if beyond:  # rounded alone it is infinite, but not beside one of half its size that was added before
        formats.append(FLOAT32.format)
        pairs.append(_against(prober, groups, beyond, (1.0, 1.0), (1.0, -0.5)))
    names = _formats(prober)
    every_width = [as_format(name).mantissa_bits + 1 for name in names[:-1]]
    asked = [bits for bits in every_width if bits <= prober.big - prober.small]
    products = np.zeros((len(asked), len(sums), prober.length))
    for row, bits in zip(products, asked, strict=True):
        for probe, (_, (first, small, last)) in zip(row, sums, strict=True):
            probe[[first, small, last]] = 2.0**prober.small * np.array([2.0**bits, 1, -(2.0**bits)])
    pairs.append(prober.factors(products.reshape(-1, prober.length)))
    a, b = (np.concatenate(each) for each in zip(*pairs, strict=True))
    found = prober.ask_numbers(a, b)
    rounded, place = {}, 4
    for name in formats:
        lost = (found[place : place + len(met)] == 0) | ~np.isfinite(found[place : place + len(met)])
        rounded[name] = frozenset(leaf for (leaf, _), gone in zip(met, lost, strict=True) if gone)
        place += len(met)
    kept = found[place:].reshape(len(asked), len(sums)) == 2.0**prober.small
    seen = {id(node): names[int(count)] for (node, _), count in zip(sums, kept.sum(axis=0), strict=True)}
    every = set(seen.values()) or {"float32"}
    widths = tuple(name for name in reversed(names) if name in every)
    truncates = prober.results == replace(FLOAT32, rounding="toward_zero")
    return Arithmetic(rounded, widths, seen, not found[2], (a, b, found), truncates)


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


def _against(
    prober: Prober,
    groups: Sequence[Sequence[tuple[int, int]]],
    exponent: int,
    at_leaf: tuple[float, float],
    at_other: tuple[float, float],
) -> tuple[Array, Array]:
    """Operands of a product at each leaf and one at the leaf that it meets, for the pairs (leaf, other) of all groups:
    each is 2**exponent times two factors. The first factors of a group's pairs are one vector."""
    pairs = np.array([pair for group in groups for pair in group], int).reshape(-1, 2)
    one, other = np.zeros((2, len(pairs), prober.length), np.float32)
    start = 0
    for group in groups:
        one[start : start + len(group)] = np.ldexp(at_other[0], exponent - exponent // 2)
        one[start : start + len(group), [leaf for leaf, _ in group]] = np.ldexp(at_leaf[0], exponent - exponent // 2)
        start += len(group)
    for places, factors in zip(pairs.T, (at_leaf, at_other), strict=True):
        other[np.arange(len(pairs)), places] = np.ldexp(factors[1], exponent // 2)
    return prober.with_shared(one, other)


def _sides(met: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Pairs (leaf, other) in groups in which no leaf is another pair's other.

    >>> _sides([(2, 0), (1, 0), (0, 1)])
    [[(2, 0), (1, 0)], [(0, 1)]]
    """
    groups: list[list[tuple[int, int]]] = []
    left = list(met)
    while left:
        leaves, others = set[int](), set[int]()
        group: list[tuple[int, int]] = []
        rest: list[tuple[int, int]] = []
        for leaf, other in left:
            fits = leaf not in others and other not in leaves
            (group if fits else rest).append((leaf, other))
            if fits:
                leaves.add(leaf)
                others.add(other)
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


def _nodes(tree: Node) -> Iterator[tuple[Node, ...]]:
    """Every node of a tree of leaves and tuples, the root first."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            yield node
            waiting += node


def _leaves(tree: Node) -> Iterator[tuple[int, int]]:
    """Each leaf, and one of those that it is added to first."""
    for node in _nodes(tree):
        for place, child in enumerate(node):
            if isinstance(child, int) and len(node) > 1:
                yield child, first_leaf(node[place - 1])


def first_terms(tree: Node) -> frozenset[int]:
    """The first leaf of every node of leaves alone: where a sum may begin.

    >>> sorted(first_terms((((0, 2), 4), (1, 3))))
    [0, 1]
    """
    found = [0] if tree == 0 else []
    for node in _nodes(tree):
        leaves = [child for child in node if isinstance(child, int)]
        found += [min(leaves)] if len(leaves) == len(node) else []
    return frozenset(found)


def _sums(tree: Node) -> Iterator[tuple[Node, tuple[int, int, int]]]:
    """Each node of two below another: a leaf of either part, and one that the node's sum is added to."""
    for node in _nodes(tree):
        for place, child in enumerate(node):
            if isinstance(child, tuple) and len(child) == 2 and len(node) == 2:
                yield child, (first_leaf(child[0]), first_leaf(child[1]), first_leaf(node[place - 1]))


def terms_of(tree: Node) -> dict[int, int]:
    """id of a node -> its terms as bits.

    >>> tree = ((0, 2), 1)
    >>> sorted(map(bin, terms_of(tree).values()))
    ['0b101', '0b111']
    """
    found: dict[int, int] = {}
    for node in reversed(list(_nodes(tree))):  # those below first
        found[id(node)] = sum(1 << each if isinstance(each, int) else found[id(each)] for each in node)
    return found


def runs_of(tree: Node, how: Arithmetic) -> dict[str, int]:
    """Formats narrower than others to which a sum was seen to be rounded before a term is added to it -> the terms of
    the smallest such sum."""
    if len(how.widths) < 2:
        return {}
    sizes, found = _sizes(tree), dict[str, int]()
    for node in _nodes(tree):
        for child in node:
            name = how.sums.get(id(child), how.widths[0])
            is_alone = len(node) == 2 and any(isinstance(each, int) for each in node)
            if is_alone and name != how.widths[0] and how.sums.get(id(node), how.widths[0]) == how.widths[0]:
                found[name] = min(sizes[id(child)], found.get(name, sizes[id(child)]))
    return found


def first_leaf(node: Node) -> int:
    """The leaf that comes first in a tree of leaves and tuples."""
    while isinstance(node, tuple):
        node = node[0]
    return int(node)


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
        self.sizes = _sizes(tree)

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


def _sizes(tree: Node) -> dict[int, int]:
    """id of a node -> how many leaves it has."""
    found: dict[int, int] = {}
    waiting: list[tuple[Node, bool]] = [(tree, False)]
    while waiting:
        node, ready = waiting.pop()
        if not isinstance(node, tuple):
            continue
        if ready:
            found[id(node)] = sum(found.get(id(child), 1) if isinstance(child, tuple) else 1 for child in node)
        else:
            waiting += [(node, True), *((child, False) for child in node)]
    return found
