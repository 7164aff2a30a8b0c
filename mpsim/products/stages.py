"""A matrix product described in stages, as data (docs/semantics.md, "Products in stages").

``Product`` says what one dot product computes: how the operands are converted, whether products are rounded, in which
order terms are added and how each sum is rounded, and the format of the result. An order may contain orders.
``mpsim.kernels.spec_dot`` defines the result of each in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import as_format

ROUNDINGS = ("nearest_even", "toward_zero")
STARTS = ("zero", "first")
CONVERSIONS = ("none", "truncate")
#: The longest chunks, and the most terms added at once.
MOST_CHUNK = 1 << 40
#: The exponent of a c of zero in float32 sums, as an H200 has it (docs/hardware.md).
LEAST_ALIGNMENT = -133


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
        format = as_format(self.format)
        if not format.fits_float32:
            raise UsageError(f"sums format {self.format!r} has values that float32 cannot hold")
        if not (format.signed and format.has_zero):
            raise UsageError(f"sums format {self.format!r} has no sign or no zero, where every sum starts")


FLOAT32 = Sums()


@dataclass(frozen=True)
class Operand:
    """What is read of an operand, a float32 number.

    ``conversion="truncate"``: its significand is truncated toward zero to the mantissa bits of ``format``, and its
    exponent is kept, as TF32 instructions read float32 numbers. Numbers of the format stay as they are.
    ``format`` also gives ``Aligned`` the least exponent of the operand.
    """

    format: str = "float32"
    conversion: str = "none"

    def __post_init__(self) -> None:
        checks.named("conversion", self.conversion, CONVERSIONS)
        if not as_format(self.format).fits_float32:
            raise UsageError(f"operand format {self.format!r} has values that float32 cannot hold")


# -- which terms belong together --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blocks:
    """Runs of ``size`` consecutive terms; the last may be shorter.

    >>> Blocks(2).split(5)
    [[0, 1], [2, 3], [4]]
    """

    size: int = 256

    def __post_init__(self) -> None:
        checks.whole("size of blocks", self.size, least=1, most=MOST_CHUNK)

    def split(self, length: int) -> list[list[int]]:
        """The terms of each group, in the order in which the group's inner order takes them."""
        return [list(range(start, min(start + self.size, length))) for start in range(0, length, self.size)]


@dataclass(frozen=True)
class Splits:
    """``number`` runs of consecutive terms, as split-k kernels make them: each has length / number terms, rounded up to
    a multiple of ``multiple``; later runs may be shorter or absent.

    >>> Splits(2, multiple=2).split(5)
    [[0, 1, 2, 3], [4]]
    """

    number: int
    multiple: int = 1

    def __post_init__(self) -> None:
        checks.whole("number of splits", self.number, least=1, most=MOST_CHUNK)
        checks.whole("multiple", self.multiple, least=1, most=MOST_CHUNK)

    def split(self, length: int) -> list[list[int]]:
        """The terms of each group."""
        size = -(-length // (self.number * self.multiple)) * self.multiple
        return Blocks(max(1, size)).split(length)


@dataclass(frozen=True)
class Lanes:
    """``number`` groups that take ``take`` consecutive terms in turn, as the lanes of vector registers do.

    >>> Lanes(2).split(5), Lanes(2, take=2).split(5)
    ([[0, 2, 4], [1, 3]], [[0, 1, 4], [2, 3]])
    """

    number: int
    take: int = 1

    def __post_init__(self) -> None:
        checks.whole("number of lanes", self.number, least=1, most=MOST_CHUNK)
        checks.whole("take", self.take, least=1, most=MOST_CHUNK)

    def split(self, length: int) -> list[list[int]]:
        """The terms of each lane that has any."""
        starts = range(0, min(self.number * self.take, length), self.take)
        turn = self.number * self.take
        return [
            [k for first in range(start, length, turn) for k in range(first, min(first + self.take, length))]
            for start in starts
        ]


Partition = Blocks | Splits | Lanes

# -- orders of summation ----------------------------------------------------------------------------------------


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
    the operand's format, c's at least that of the format of the sums. c starts at +0.
    """

    terms: int = 16
    fraction_bits: int = 24
    sums: Sums = FLOAT32
    least_exponent: int | None = LEAST_ALIGNMENT

    def __post_init__(self) -> None:
        checks.whole("terms", self.terms, least=1, most=MOST_CHUNK)
        checks.whole("fraction_bits", self.fraction_bits, least=1, most=51)
        if self.least_exponent is not None:
            checks.whole("least_exponent", self.least_exponent, least=-252, most=127, note=", or None for no least")
        if self.fraction_bits + 2 + (self.terms + 1).bit_length() > 53:  # then float64 holds every sum
            raise UsageError(f"{self.terms} terms of {self.fraction_bits} fraction bits need more than 53 bits")


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
class Tree:
    """An explicit tree of additions over a fixed number of terms: a leaf is a term's index, a node a tuple of two
    or more trees, which are added from the left, each sum rounded.

    >>> Tree(((0, 2), (1, 3))).length
    4
    """

    root: Node
    sums: Sums = FLOAT32

    def __post_init__(self) -> None:
        leaves = sorted(leaf for leaf in self.postfix() if leaf is not None)
        if leaves != list(range(len(leaves))):
            shown = f"{leaves[:8]}{'...' if len(leaves) > 8 else ''}"
            raise UsageError(f"a tree has each of its terms 0 to n - 1 once, not {shown}")

    @property
    def length(self) -> int:
        """The number of terms."""
        return sum(leaf is not None for leaf in self.postfix())

    def postfix(self) -> Iterator[int | None]:
        """The leaves, and None where the last two values are added: the tree in postfix notation.

        >>> list(Tree(((0, 2), 1)).postfix())
        [0, 2, None, 1, None]
        """
        waiting: list[Node | None] = [self.root]
        while waiting:
            node = waiting.pop()
            if node is None or (isinstance(node, int) and not isinstance(node, bool)):
                yield node
            elif isinstance(node, tuple) and len(node) >= 2:
                for child in reversed(node[1:]):
                    waiting += [None, child]
                waiting.append(node[0])
            else:
                raise UsageError(f"a tree is a term's index or a tuple of two or more trees, not {node!r}")


Node = int | tuple["Node", ...]
Order = Rising | Pairwise | Folding | Aligned | Exact | Unspecified | Groups | Reordered | Tree


def within(order: Order) -> Iterator[Order]:
    """The order and every order inside it.

    >>> [type(each).__name__ for each in within(Groups(Blocks(8), Rising(), Pairwise()))]
    ['Groups', 'Rising', 'Pairwise']
    """
    yield order
    for inner in _parts(order):
        yield from within(inner)


def _parts(order: Order) -> Sequence[Order]:
    if isinstance(order, Groups):
        return order.inner, order.outer
    return (order.order,) if isinstance(order, Reordered) else ()


# -- the whole --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """A matrix product in stages: how each of its dot products is computed.

    ``left``, ``right``: how the factors are read. ``products``: None for exact products, or how each is rounded.
    ``order``: in which order they are added, and how sums are rounded. ``output``: the format of the result, to which
    the total, with the bias added in float32, is rounded once.

    The default is mpsim's own: fused multiply-adds in rising k within blocks of 256, the blocks' results in rising
    order, all in float32.

    >>> lanes = Product(order=Groups(Lanes(8), Rising(), Folding()), output=Sums("bfloat16"))
    >>> lanes.promises_bits
    True
    """

    left: Operand = Operand()
    right: Operand = Operand()
    products: Sums | None = None
    order: Order = Groups(Blocks(256), Rising(), Rising(start="first"))
    output: Sums = FLOAT32

    def __post_init__(self) -> None:
        kinds = [type(order) for order in within(self.order)]
        if self.products is not None and Aligned in kinds:
            raise UsageError("an aligned order adds exact products; leave out the rounding of products")
        if Unspecified in kinds[1:]:
            raise UsageError("an unspecified order cannot be part of another order")

    @property
    def promises_bits(self) -> bool:
        """Whether two backends give the same bits."""
        return not any(isinstance(order, Unspecified) for order in within(self.order))


#: name -> class, of everything that a description is made of
STAGES = {
    stage.__name__.lower(): stage
    for stage in (
        Sums, Operand, Blocks, Splits, Lanes, Rising, Pairwise, Folding, Aligned, Exact, Unspecified, Groups, Reordered,
        Tree, Product,
    )
}  # fmt: skip
