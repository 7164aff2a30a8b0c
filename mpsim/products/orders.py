"""Orders of summation, as data: in which order terms are added, and how each sum is rounded.

An order may contain orders. ``mpsim.kernels.spec_dot`` defines the result of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.products.aligned import MOST_TOGETHER, STARTS, Aligned, AlignedLate, AlignedScaled, Chain
from mpsim.products.partitions import MOST as MOST_CHUNK
from mpsim.products.partitions import Partition
from mpsim.products.sums import FLOAT32, Scale, Sums, remembers_hash
from mpsim.products.trees import Tree, Trees


@remembers_hash
@dataclass(frozen=True)
class Rising:
    """One term after the other: sum = round(sum + term), from +0, or with ``start="first"`` from the first term,
    rounded. A product that is not rounded itself is added exactly, which is a fused multiply-add. ``together``: this
    many consecutive terms and the sum are added exactly and rounded once, as AMD's CDNA1 adds (Xie et al. 2025)."""

    sums: Sums = FLOAT32
    start: str = "zero"
    together: int = 1

    def __post_init__(self) -> None:
        checks.named("start", self.start, STARTS)
        checks.whole("together", self.together, least=1, most=MOST_TOGETHER)
        if self.together > 1 and self.sums.is_double:
            raise UsageError("terms that are added together are rounded to a format that float32 holds, not float64")


@dataclass(frozen=True)
class Kahan:
    """Compensated summation in rising order: sum and lost start at +0; for each term, y = term - lost, next = sum + y,
    lost = (next - sum) - y, sum = next, each of the four rounded (Kahan 1965, "Further remarks on reducing truncation
    errors"). The sum is the result."""

    sums: Sums = FLOAT32

    def __post_init__(self) -> None:
        if self.sums.via is not None:
            raise UsageError("compensated sums are rounded once; leave out via")


@dataclass(frozen=True)
class Pairwise:
    """Neighbours are added, (0, 1), (2, 3), ..., again and again until one is left; an odd one passes up as it is."""

    sums: Sums = FLOAT32


@dataclass(frozen=True)
class Folding:
    """The second half is added to the first, term i + h to term i, h being half the number of terms rounded up; again
    and again until one is left, as vector registers are reduced. ``lanes``: the halves of fewer terms are those of
    this many, and missing terms are left out, as where the other lanes of a register hold zeros. ``padded``: +0 takes
    the place of missing terms up to the next power of two, as in blocks that are loaded with a mask.

    >>> Folding(padded=True).size(5)
    8
    """

    sums: Sums = FLOAT32
    lanes: int = 1
    padded: bool = False

    def __post_init__(self) -> None:
        checks.whole("lanes", self.lanes, least=1, most=MOST_CHUNK)
        checks.instance("padded", self.padded, bool, "true or false")
        if self.padded and self.lanes > 1:
            raise UsageError("padded terms are folded by their number, not by lanes; leave out one of the two")

    def size(self, length: int) -> int:
        """The number of terms whose halves are folded first."""
        return 1 << (length - 1).bit_length() if self.padded else max(length, self.lanes)


@dataclass(frozen=True)
class Exact:
    """The exact sum, rounded once to float32, to nearest even. An exact zero is +0; NaN, 0 * infinity, or infinite
    terms of both signs give NaN, infinite terms of one sign that infinity."""


@dataclass(frozen=True)
class Unspecified:
    """NumPy's matmul: no promise of bits, refused where a digest is taken."""


@remembers_hash
@dataclass(frozen=True)
class Groups:
    """``inner`` sums the terms of each group of ``partition``; ``outer`` sums the groups' results, in their order."""

    partition: Partition
    inner: Order
    outer: Order

    def __post_init__(self) -> None:
        check_results(self.outer, self.inner, "the outer order of groups adds results")


@remembers_hash
@dataclass(frozen=True)
class Reordered:
    """The terms in the order of the groups of ``partition``, one group after the other, summed by ``order``. An aligned
    order begins a new instruction with each group."""

    partition: Partition
    order: Order


@remembers_hash
@dataclass(frozen=True)
class Tail:
    """``main`` sums the first terms, as many as a multiple of ``multiple`` holds; ``rest`` sums its result and the
    remaining terms, in this order. A loop over vectors with a loop after it does so."""

    multiple: int
    main: Order
    rest: Order

    def __post_init__(self) -> None:
        checks.whole("multiple", self.multiple, least=1, most=MOST_CHUNK)
        check_results(self.rest, self.main, "the rest of a tail adds the result of the main part too")


@remembers_hash
@dataclass(frozen=True)
class Carried:
    """Runs of ``size`` consecutive terms: ``order`` sums the total so far and then the terms of the run, and the new
    total is rounded by ``sums``, but not after a last run that is shorter. The total starts at +0, or with
    ``start="first"`` the first run is summed alone. Blocked kernels do so that store C in a narrow format after every
    panel of k and go on from it with the next (Goto and van de Geijn 2008, ACM TOMS 34(3))."""

    size: int
    order: Order
    sums: Sums
    start: str = "zero"

    def __post_init__(self) -> None:
        checks.whole("size of runs", self.size, least=1, most=MOST_CHUNK)
        checks.named("start", self.start, STARTS)
        check_results(self.order, Rising(self.sums), "the order of carried runs adds the total before too")


@remembers_hash
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


@remembers_hash
@dataclass(frozen=True)
class UpTo:
    """``few`` sums ``most`` terms or fewer, ``many`` sums more. Libraries have kernels of their own for short sums."""

    most: int
    few: Order
    many: Order

    def __post_init__(self) -> None:
        checks.whole("most", self.most, least=1, most=MOST_CHUNK)


@remembers_hash
@dataclass(frozen=True)
class ByColumn:
    """In the columns 0 to ``most`` - 1 of a matrix product ``first`` sums, in the others ``rest``. Libraries have other
    kernels for the columns that do not fill a tile. Only ``rest`` may be by column, too."""

    most: int
    first: Order
    rest: Order

    def __post_init__(self) -> None:
        checks.whole("most", self.most, least=1, most=MOST_CHUNK)

    def of_column(self, column: int) -> Order:
        """The order in one column."""
        if column < self.most:
            return self.first
        return self.rest.of_column(column) if isinstance(self.rest, ByColumn) else self.rest


@remembers_hash
@dataclass(frozen=True)
class Scaled:
    """The sum of terms by ``order``, multiplied by the scales of the block of k that the terms are of.

    ``scale``: whose scales, and how the product is rounded; None there lets it enter the next sum exactly. Block j
    has the k from j * ``block`` on. Sums of blocks that are promoted by fused multiply-adds, as DeepGEMM does with
    float8 sums, are ``Groups(Blocks(128), Scaled(Rising(), Scale("both", None), 128), Rising())``.
    """

    order: Order
    scale: Scale = Scale()
    block: int = 128

    def __post_init__(self) -> None:
        checks.whole("block", self.block, least=1, most=MOST_CHUNK)
        if not self.scale.operands:
            raise UsageError(f"the scales of blocks are those of left, right or both, not {self.scale.of!r}")
        for inner in within(self.order):
            twice = isinstance(inner, Scaled) and {*inner.scale.operands} & {*self.scale.operands}
            if twice or isinstance(inner, AlignedScaled):
                raise UsageError(
                    "the scales of an operand are multiplied once, not in two scaled orders inside each other"
                )
        if bits_of(self.order) > SINGLE:
            raise UsageError(
                "a sum that is scaled has at most 24 bits; round it to float32 first, by groups(whole(), ...)"
            )


Order = (
    Rising | Kahan | Pairwise | Folding | Chain | Exact | Unspecified | Groups | Reordered | Tail | Carried | Halving
    | UpTo | ByColumn | Scaled | Tree | Trees
)  # fmt: skip


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
    match order:
        case Groups():
            return order.inner, order.outer
        case Tail():
            return order.main, order.rest
        case Halving():
            return (order.inner,)
        case UpTo():
            return order.few, order.many
        case ByColumn():
            return order.first, order.rest
        case Trees():
            return order.trees
        case Reordered() | Scaled() | Carried():
            return (order.order,)
    return ()


def check_results(outer: Order, inner: Order, why: str) -> None:
    """UsageError where ``outer`` cannot add results of ``inner``."""
    for order in within(outer):
        if isinstance(order, Chain):
            raise UsageError(f"an aligned order adds products; {why}")
        if isinstance(order, Scaled):
            raise UsageError(f"a scaled order adds products of one block of k; {why}")
        exactly = isinstance(order, Exact) or (isinstance(order, Rising) and order.together > 1)
        if exactly and bits_of(inner) == DOUBLE:
            raise UsageError(f"numbers that are added exactly have at most 48 bits, which float64 sums exceed; {why}")


#: Bits of a float32 number, of an exact product of two, and of a float64 number.
SINGLE, PRODUCT, DOUBLE = 24, 48, 53


def bits_of(order: Order) -> int:
    """The most bits of the order's total.

    >>> bits_of(Rising()), bits_of(Rising(Sums("float64"))), bits_of(Scaled(Rising(), Scale("both", None)))
    (24, 53, 48)
    """
    match order:
        case Groups():
            return bits_of(order.outer)
        case Reordered():
            return bits_of(order.order)
        case Scaled():
            return PRODUCT if order.scale.sums is None else SINGLE
        case Tail() | UpTo() | ByColumn():
            return max(map(bits_of, _parts(order)))
        case Carried():
            return max(bits_of(order.order), bits_of_sums(order.sums))
        case Halving():
            return max(bits_of(order.inner), bits_of_sums(order.sums))
        case Trees():
            return max(map(bits_of, order.trees))
        case Tree():
            return DOUBLE if order.is_double else SINGLE
        case Exact() | Unspecified():
            return SINGLE
        case _:
            return bits_of_sums(order.sums)


def bits_of_sums(sums: Sums) -> int:
    """The most bits of a number that was rounded."""
    return DOUBLE if sums.is_double else SINGLE


def begins_with_zero(order: Order, inner: bool = False) -> bool:
    """Whether a sum begins with +0 before anything is added; inner: whether the order's own terms begin so.

    >>> begins_with_zero(Rising()), begins_with_zero(Pairwise()), begins_with_zero(Rising(start="first"), inner=True)
    (True, False, True)
    >>> begins_with_zero(ByColumn(8, Pairwise(), Rising()))  # not in the first 8 columns
    False
    """
    match order:
        case Kahan():
            return True
        case Rising() | Aligned() | AlignedLate() | AlignedScaled():
            return order.start == "zero" or inner
        case Groups():
            return begins_with_zero(order.outer, begins_with_zero(order.inner, inner))
        case Tail():
            return begins_with_zero(order.rest, begins_with_zero(order.main, inner))
        case Reordered() | Scaled():
            return begins_with_zero(order.order, inner)
        case Carried():
            return order.start == "zero" or begins_with_zero(order.order, inner)
        case ByColumn():
            return all(begins_with_zero(each, inner) for each in _parts(order))
        case Halving() | UpTo():
            return begins_with_zero(_parts(order)[-1], inner)
    return inner
