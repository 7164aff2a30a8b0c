"""Orders of summation, as data: in which order terms are added, and how each sum is rounded.

An order may contain orders. ``mpsim.kernels.spec_dot`` defines the result of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.products.partitions import MOST as MOST_CHUNK
from mpsim.products.partitions import Partition

ROUNDINGS = ("nearest_even", "toward_zero")
STARTS = ("zero", "first")
#: The exponent of a c of zero in float32 sums, as an H200 has it (docs/hardware.md).
LEAST_ALIGNMENT = -133
#: Stands for no least exponent in kernels: products of float32 numbers have exponents of -252 at least.
NO_LEAST_EXPONENT = -300


def check_sums_format(what: str, name: str) -> None:
    """UsageError for a format that no sum can be rounded to; ``what`` it is of."""
    format = as_format(name)
    if not format.fits_float32:
        raise UsageError(f"{what} format {name!r} has values that float32 cannot hold")
    if not (format.signed and format.has_zero):
        raise UsageError(f"{what} format {name!r} has no sign or no zero, where every sum starts")
    if format.is_p3109 and format.mantissa_bits == 0:
        raise UsageError(f"{what} format {name!r} has one significant bit and P3109's ties, in which no sum is rounded")


@dataclass(frozen=True)
class Sums:
    """How the exact result of an addition or a multiplication is rounded: to ``format``, by ``rounding``.

    A magnitude that rounds above the largest number becomes infinity, or NaN, or the largest number, whichever the
    format has first.
    """

    format: str = "float32"
    rounding: str = "nearest_even"

    def __post_init__(self) -> None:
        checks.named("rounding of sums", self.rounding, ROUNDINGS)
        check_sums_format("sums", self.format)


FLOAT32 = Sums()


@dataclass(frozen=True)
class Rising:
    """One term after the other: sum = round(sum + term), from +0, or with ``start="first"`` from the first term,
    rounded. A product that is not rounded itself is added exactly, which is a fused multiply-add."""

    sums: Sums = FLOAT32
    start: str = "zero"

    def __post_init__(self) -> None:
        checks.named("start", self.start, STARTS)


@dataclass(frozen=True)
class Pairwise:
    """Neighbours are added, (0, 1), (2, 3), ..., again and again until one is left; an odd one passes up as it is."""

    sums: Sums = FLOAT32


@dataclass(frozen=True)
class Folding:
    """The second half is added to the first, term i + h to term i, h being half the number of terms rounded up; again
    and again until one is left, as vector registers are reduced."""

    sums: Sums = FLOAT32


@dataclass(frozen=True)
class Aligned:
    """A chain of instructions, as tensor cores sum (Xie et al. 2025, arXiv:2511.10909).

    Each takes ``terms`` consecutive products: these and the sum so far, c, all exact, are truncated toward zero to
    multiples of 2**(E - fraction_bits), E being the largest exponent among those that are not zero, and at least
    ``least_exponent`` (None: no least), and added exactly; the sum is rounded once to the next c, and +0 where it is
    zero. A product's exponent is the sum of its operands' exponents, each at least the smallest normal exponent of
    the operand's format, c's at least that of the format of the sums. c starts at +0, or with ``start="first"`` at the
    first term, rounded: the C that an instruction is given.
    """

    terms: int = 16
    fraction_bits: int = 24
    sums: Sums = FLOAT32
    least_exponent: int | None = LEAST_ALIGNMENT
    start: str = "zero"

    def __post_init__(self) -> None:
        checks.named("start", self.start, STARTS)
        checks.whole("terms", self.terms, least=1, most=MOST_CHUNK)
        checks.whole("fraction_bits", self.fraction_bits, least=1, most=51)
        if self.least_exponent is not None:
            checks.whole("least_exponent", self.least_exponent, least=-252, most=127, note=", or None for no least")
        if self.fraction_bits + 2 + (self.terms + 1).bit_length() > 53:  # then float64 holds every sum
            raise UsageError(f"{self.terms} terms of {self.fraction_bits} fraction bits need more than 53 bits")

    @property
    def least_scale(self) -> float:
        """2**least_exponent, or a power of two below every product where there is no least."""
        return 2.0 ** (NO_LEAST_EXPONENT if self.least_exponent is None else self.least_exponent)


@dataclass(frozen=True)
class Exact:
    """The exact sum, rounded once to float32, to nearest even. An exact zero is +0; NaN, 0 * infinity, or infinite
    terms of both signs give NaN, infinite terms of one sign that infinity."""


@dataclass(frozen=True)
class Unspecified:
    """NumPy's matmul: no promise of bits, refused where a digest is taken."""


@dataclass(frozen=True)
class Groups:
    """``inner`` sums the terms of each group of ``partition``; ``outer`` sums the groups' results, in their order."""

    partition: Partition
    inner: Order
    outer: Order

    def __post_init__(self) -> None:
        if any(isinstance(order, Aligned) for order in within(self.outer)):
            raise UsageError("an aligned order adds products; the outer order of groups adds results")


@dataclass(frozen=True)
class Reordered:
    """The terms in the order of the groups of ``partition``, one group after the other, summed by ``order``."""

    partition: Partition
    order: Order


@dataclass(frozen=True)
class Tail:
    """``main`` sums the first terms, as many as a multiple of ``multiple`` holds; ``rest`` sums its result and the
    remaining terms, in this order. A loop over vectors with a loop after it does so."""

    multiple: int
    main: Order
    rest: Order

    def __post_init__(self) -> None:
        checks.whole("multiple", self.multiple, least=1, most=MOST_CHUNK)
        if any(isinstance(order, Aligned) for order in within(self.rest)):
            raise UsageError("an aligned order adds products; the rest of a tail adds the result of the main part too")


@dataclass(frozen=True)
class Halving:
    """More than ``most`` terms are split in two, the first part being half of them rounded down to a multiple of
    ``multiple``. Each part is summed in the same way, and the two results are added. ``inner`` sums ``most`` terms or
    fewer. NumPy's sums have ``most=128, multiple=8`` (pairwise summation, Higham 1993)."""

    most: int
    multiple: int
    inner: Order
    sums: Sums = FLOAT32

    def __post_init__(self) -> None:
        checks.whole("multiple", self.multiple, least=1, most=MOST_CHUNK)
        checks.whole("most", self.most, least=2 * self.multiple - 1, most=MOST_CHUNK)

    def half(self, length: int) -> int:
        """How many terms the first part has."""
        return length // 2 // self.multiple * self.multiple


@dataclass(frozen=True)
class Tree:
    """An explicit tree of additions over a fixed number of terms: a leaf is a term's index; a node is a tuple of trees,
    which are added from the left, each sum rounded. A tuple of one rounds it: ((0,), 1) adds the exact product 1 to the
    rounded product 0.

    >>> Tree(((0, 2), (1, 3))).length
    4
    """

    root: Node
    sums: Sums = FLOAT32

    def __post_init__(self) -> None:
        leaves = sorted(leaf for leaf in self.postfix() if leaf >= 0)
        if leaves != list(range(len(leaves))):
            shown = f"{leaves[:8]}{'...' if len(leaves) > 8 else ''}"
            raise UsageError(f"a tree has each of its terms 0 to n - 1 once, not {shown}")

    @property
    def length(self) -> int:
        """The number of terms."""
        return sum(leaf >= 0 for leaf in self.postfix())

    def postfix(self) -> Iterator[int]:
        """The tree in postfix notation: leaves, ADD where the last two values are added, ROUND where one is rounded.

        >>> list(Tree((((0,), 2), 1)).postfix()) == [0, ROUND, 2, ADD, 1, ADD]
        True
        """
        waiting: list[tuple[Node, int | None, int]] = [(self.root, None, 0)]
        while waiting:
            node, operation, depth = waiting.pop()
            if depth > DEEPEST:
                raise UsageError(f"a tree is at most {DEEPEST} deep; write a chain of sums as one tuple: (0, 1, 2)")
            if operation is not None:
                yield operation
            elif isinstance(node, int) and not isinstance(node, bool) and node >= 0:
                yield node
            elif isinstance(node, tuple) and node:
                if len(node) == 1:
                    waiting.append((node, ROUND, depth))
                for child in reversed(node[1:]):
                    waiting += [(node, ADD, depth), (child, None, depth + 1)]
                waiting.append((node[0], None, depth + 1))
            else:
                raise UsageError(f"a tree is a term's index or a tuple of trees, not {node!r}")


Node = int | tuple["Node", ...]
#: How deep a tree may be: as its text can be read.
DEEPEST = 90
#: What stands for operations in a tree in postfix notation.
ADD, ROUND = -1, -2


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
        """The tree of so many terms. UsageError where there is none."""
        for tree in self.trees:
            if tree.length == length:
                return tree
        lengths = ", ".join(str(tree.length) for tree in self.trees)
        raise UsageError(f"the trees add {lengths} terms, and the dot product has {length}")


Order = Rising | Pairwise | Folding | Aligned | Exact | Unspecified | Groups | Reordered | Tail | Halving | Tree | Trees


def within(order: Order) -> Iterator[Order]:
    """The order and every order inside it.

    >>> from mpsim.products.partitions import Blocks
    >>> [type(each).__name__ for each in within(Groups(Blocks(8), Rising(), Pairwise()))]
    ['Groups', 'Rising', 'Pairwise']
    """
    waiting = [order]
    while waiting:
        order = waiting.pop()
        yield order
        waiting += reversed(_parts(order))


def _parts(order: Order) -> Sequence[Order]:
    if isinstance(order, Groups):
        return order.inner, order.outer
    if isinstance(order, Tail):
        return order.main, order.rest
    if isinstance(order, Halving):
        return (order.inner,)
    if isinstance(order, Trees):
        return order.trees
    return (order.order,) if isinstance(order, Reordered) else ()
