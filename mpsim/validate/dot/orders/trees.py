"""The tree in which a subject adds, found from its answers alone.

A large number at one k and its negative at another take away every small number that is added below the node where the
two meet. What is left says how many terms that node has, and these sizes determine the tree (Xie et al. 2024, FPRev;
here also with nodes that add more than two terms at once).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from mpsim.kernels.contractions import steps
from mpsim.kernels.contractions.rules import steps_of
from mpsim.products.stages import Node, Product
from mpsim.validate.dot.inputs.probes import Prober

#: Probes that one tree may take.
MOST_PROBES = 40_000


#: A tree as the set of its nodes, each the set of its terms as bits.
Nodes = frozenset[int]


class NoTree(Exception):
    """The answers are not those of sums in one tree."""


class Revealer:
    """Asks a subject for the sizes of the nodes where pairs of terms meet."""

    def __init__(self, prober: Prober) -> None:
        self.prober, self.length = prober, prober.length
        self.asked = 0
        self.units = self._units()

    def tree(self) -> Node:
        """The tree: a leaf is its k, a node a tuple of what it adds, by the first k. Raises NoTree."""
        if self.length == 1:
            return 0
        children, size = self._built(list(range(self.length)), 0)
        if size != self.length:
            raise NoTree(f"a node of {size} of {self.length} terms has no term beside it")
        return children[0] if len(children) == 1 else tuple(children)

    def _units(self) -> int:
        """How many small numbers are added without an error, and lost together beside a large one: a power of 2, 2**e,
        or all terms. 2**e - 1 of them show a format of fewer bits than e, which has 2**e itself."""
        most = [*(1 << e for e in range(20) if 1 << e <= self.length), self.length]
        counts = np.array(most)[:, None] - (0, 1)
        small = 2.0**self.prober.small
        products = small * (np.arange(self.length) < counts[:, :, None])
        sums = self.prober.ask_products(products.reshape(-1, self.length)).reshape(counts.shape)
        exact = (sums == counts * small).all(axis=1)
        return most[max(0, int(np.argmin(exact)) - 1)] if not exact.all() else self.length

    def sizes(self, first: int, others: Sequence[int]) -> list[int]:
        """For each of the others, the number of terms below the node where it meets the first."""
        groups = -(-self.length // self.units)
        self.asked += len(others) * groups
        if self.asked > MOST_PROBES:
            raise NoTree(f"more than {MOST_PROBES} probes would be needed")
        small, big = 2.0**self.prober.small, 2.0**self.prober.big
        products = np.zeros((len(others), groups, self.length))
        for group, start in enumerate(range(0, self.length, self.units)):
            products[:, group, start : start + self.units] = small
        products[:, :, first] = big
        products[np.arange(len(others)), :, others] = -big
        left = self.prober.ask_products(products.reshape(-1, self.length)) / small
        lost = (products == small).sum(axis=2).ravel() - left
        if not np.isfinite(lost).all() or (lost != np.round(lost)).any() or (lost < 0).any():
            raise NoTree("what is left beside a large number and its negative is not a number of terms")
        return [int(total) + 2 for total in lost.reshape(len(others), groups).sum(axis=1)]

    def _built(self, terms: Sequence[int], above: int) -> tuple[list[Node], int]:
        """(subtrees over the terms that hang below one node of ``above`` terms; terms of the largest node in them).

        0: the terms are all that there are. One subtree, unless several are added at once in the node above.
        """
        first, others = terms[0], terms[1:]
        meeting: dict[int, list[int]] = defaultdict(list)
        for other, size in zip(others, self.sizes(first, others) if others else (), strict=True):
            meeting[size].append(other)
        tree: Node = first
        covered = 1
        for size in sorted(meeting):
            group = meeting[size]
            if size == above:
                siblings, _ = self._built(group, above)
                return [tree, *siblings], covered
            if size != covered + len(group):
                raise NoTree(f"{len(group)} terms meet {covered} others in a node of {size}")
            siblings, _ = self._built(group, size)
            tree, covered = (tree, *siblings), size
        return [tree], covered


def nodes_below(tree: Node) -> Iterator[tuple[Node, ...]]:
    """Every node of a tree of leaves and tuples, the root first."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            yield node
            waiting += node


def first_terms(tree: Node) -> frozenset[int]:
    """The first leaf of every node of leaves alone: where a sum may begin.

    >>> sorted(first_terms((((0, 2), 4), (1, 3))))
    [0, 1]
    """
    found = [0] if tree == 0 else []
    for node in nodes_below(tree):
        leaves = [child for child in node if isinstance(child, int)]
        found += [min(leaves)] if len(leaves) == len(node) else []
    return frozenset(found)


def terms_of(tree: Node) -> dict[int, int]:
    """id of a node -> its terms as bits.

    >>> tree = ((0, 2), 1)
    >>> sorted(map(bin, terms_of(tree).values()))
    ['0b101', '0b111']
    """
    found: dict[int, int] = {}
    for node in reversed(list(nodes_below(tree))):  # those below first
        found[id(node)] = sum(1 << each if isinstance(each, int) else found[id(each)] for each in node)
    return found


def first_leaf(node: Node) -> int:
    """The leaf that comes first in a tree of leaves and tuples."""
    while isinstance(node, tuple):
        node = node[0]
    return int(node)


def sizes_of(tree: Node) -> dict[int, int]:
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


def nodes_of(tree: Node) -> Nodes:
    """The tree as the set of its nodes, each the set of its terms as bits.

    >>> sorted(map(bin, nodes_of(((0, 2), 1))))
    ['0b101', '0b111']
    """
    found: set[int] = set()
    waiting: list[Node | None] = [tree]
    values: list[int] = []
    sizes: list[int] = []
    while waiting:
        node = waiting.pop()
        if node is None:
            size = sizes.pop()
            values[-size:] = [sum(values[-size:])]
            found.add(values[-1])
        elif isinstance(node, int):
            values.append(1 << node)
        else:
            sizes.append(len(node))
            waiting += [None, *node]
    return frozenset(found)


def nodes_of_product(product: Product, length: int) -> Nodes:
    """The same of the order of a product.

    >>> from mpsim.products.stages import Lanes, Groups, Rising, Folding
    >>> lanes = Product(order=Groups(Lanes(2), Rising(), Folding()))
    >>> nodes_of_product(lanes, 3) == nodes_of(((0, 2), 1))
    True
    """
    return frozenset(mask for mask, _ in _sums_of(product, length)) - {0}


def tree_of_product(product: Product, length: int) -> Node:
    """The tree of the order of a product.

    >>> from mpsim.products.stages import Pairwise
    >>> tree_of_product(Product(order=Pairwise()), 3)
    ((0, 1), 2)
    """
    trees: dict[int, Node] = {1 << k: k for k in range(length)}
    for mask, parts in _sums_of(product, length):
        trees[mask] = tuple(trees[part] for part in parts)
    return trees[(1 << length) - 1]


def _sums_of(product: Product, length: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Every sum of two values or more, as they are computed: its terms as bits, and those of its parts."""
    program = steps_of(product, length)
    registers = [0] * program.registers
    exact: list[tuple[int, ...]] = [()] * program.exact_sums
    for what, to, x, y, how in program.code.tolist():
        runs: list[tuple[int, ...]] = []  # what is added to the register, at once in each
        if what in (steps.ZERO, steps.LOAD):
            registers[to] = 0
        elif what in (steps.TIMES, steps.SUBTRACT, steps.ROUND):  # by a scale; what Kahan's sums have lost
            registers[to] = registers[x]
        elif what == steps.MULTIPLY:
            registers[to] = 1 << x
        elif what == steps.ADD:
            registers[to], runs = registers[x], [(registers[y],)]
        elif what == steps.RISING:
            runs = [(1 << k,) for k in program.places[x : x + y].tolist()]
        elif what == steps.ALIGNED:
            terms = program.aligned[how].terms
            places = program.places[x : x + y].tolist()
            runs = [tuple(1 << k for k in places[start : start + terms]) for start in range(0, y, terms)]
        elif what in (steps.LATE, steps.SCALED):  # how many groups, their sizes (and blocks), and their terms
            groups, *places = program.places[x : x + y].tolist()
            runs = [tuple(1 << k for k in places[groups * (1 + (what == steps.SCALED)) :])]  # added at once
        elif what == steps.CLEAR:
            exact[to] = ()
        elif what == steps.GATHER:
            exact[to] += (registers[x],)
        elif what in (steps.TOTAL, steps.ODD):
            registers[to], runs = 0, [exact[x]]
        for run in runs:
            parts = tuple(part for part in (registers[to], *run) if part)
            registers[to] = sum(parts)
            if len(parts) > 1:
                yield registers[to], parts
