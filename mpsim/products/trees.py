"""Explicit trees of additions, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.products.sums import FLOAT32, Sums, remembers_hash


@remembers_hash
@dataclass(frozen=True)
class Tree:
    """An explicit tree of additions over a fixed number of terms.

    A leaf is a term's index, or () for +0. A node is a tuple of trees, which are added from the left, each sum rounded
    by ``sums``, or to a format whose name stands first in the tuple. A tuple of one rounds it: ((0,), 1) adds the exact
    product 1 to the rounded product 0, and so does ((), 0, 1).

    >>> Tree(((0, 2), ("bfloat16", 1, 3))).length
    4
    """

    root: Node
    sums: Sums = FLOAT32

    def __post_init__(self) -> None:
        leaves = sorted(leaf for leaf, _ in self.postfix() if leaf >= 0)
        if leaves != list(range(len(leaves))):
            shown = f"{leaves[:8]}{'...' if len(leaves) > 8 else ''}"
            raise UsageError(f"a tree has each of its terms 0 to n - 1 once, not {shown}")

    @cached_property
    def length(self) -> int:
        """The number of terms."""
        return sum(leaf >= 0 for leaf, _ in self.postfix())

    @cached_property
    def is_double(self) -> bool:
        """Whether a number is rounded to float64."""
        return any(sums.is_double for _, sums in self.postfix())

    def postfix(self) -> Iterator[tuple[int, Sums]]:
        """The tree in postfix notation, with how each operation rounds: leaves, ZERO for +0, ADD where the last two
        values are added, ROUND where one is rounded.

        >>> [what for what, _ in Tree((((0,), 2), 1)).postfix()] == [0, ROUND, 2, ADD, 1, ADD]
        True
        """
        waiting: list[tuple[Node, tuple[int, Sums] | None, int]] = [(self.root, None, 0)]
        while waiting:
            node, operation, depth = waiting.pop()
            if depth > DEEPEST:
                raise UsageError(f"a tree is at most {DEEPEST} deep; write a chain of sums as one tuple: (0, 1, 2)")
            if operation is not None:
                yield operation
            elif isinstance(node, int) and not isinstance(node, bool) and node >= 0:
                yield node, self.sums
            elif node == ():
                yield ZERO, self.sums
            elif isinstance(node, tuple):
                sums, children = (Sums(node[0]), node[1:]) if isinstance(node[0], str) else (self.sums, node)
                if not children:
                    raise UsageError(f"a node of a tree adds trees, and {node!r} has none")
                if len(children) == 1:
                    waiting.append((node, (ROUND, sums), depth))
                for child in reversed(children[1:]):
                    waiting += [(node, (ADD, sums), depth), (child, None, depth + 1)]
                waiting.append((children[0], None, depth + 1))
            else:
                raise UsageError(f"a tree is a term's index or a tuple of trees, not {node!r}")


Node = int | str | tuple["Node", ...]
#: How deep a tree may be: as its text can be read.
DEEPEST = 90
#: What stands for operations in a tree in postfix notation.
ADD, ROUND, ZERO = -1, -2, -3


@remembers_hash
@dataclass(frozen=True)
class Trees:
    """Explicit trees for several numbers of terms, one for each."""

    trees: tuple[Tree, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.trees, tuple) or not all(isinstance(tree, Tree) for tree in self.trees):
            raise UsageError(f"trees are a tuple of trees, not {checks.shown(self.trees)}")
        lengths = [tree.length for tree in self.trees]
        if not lengths or len(set(lengths)) < len(lengths):
            raise UsageError(f"there is one tree for each number of terms, not for {lengths}")

    def of_length(self, length: int) -> Tree:
        """The tree of ``length`` terms. UsageError where there is none."""
        for tree in self.trees:
            if tree.length == length:
                return tree
        lengths = ", ".join(str(tree.length) for tree in self.trees)
        raise UsageError(f"the trees add {lengths} terms, and the dot product has {length}")
