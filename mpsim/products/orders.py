"""Orders of summation, as data: in which order terms are added, and how each sum is rounded.

An order may contain orders. ``mpsim.kernels.spec_dot`` defines the result of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.products.epilogue import Scale
from mpsim.products.partitions import MOST as MOST_CHUNK
from mpsim.products.partitions import Partition, Whole
from mpsim.products.sums import FLOAT32, Sums
from mpsim.products.trees import Tree, Trees

STARTS = ("zero", "first")
#: Terms that are added exactly before a sum is rounded.
MOST_TOGETHER = 1 << 20
#: The exponent of a c of zero in float32 sums, as an H200 has it (docs/hardware.md).
LEAST_ALIGNMENT = -133
#: Stands for no least exponent in kernels: products of float32 numbers have exponents of -252 at least.
NO_LEAST_EXPONENT = -300


@dataclass(frozen=True)
class Rising:
    """One term after the other: sum = round(sum + term), from +0, or with ``start="first"`` from the first term,
    rounded. A product that is not rounded itself is added exactly, which is a fused multiply-add. ``together``: so many
    consecutive terms and the sum are added exactly and rounded once, as AMD's CDNA1 adds (Xie et al. 2025)."""

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
        if self.sums.is_double or self.sums.is_stochastic or self.sums.flush:
            raise UsageError("aligned sums are rounded to nearest even or toward zero, to a format that float32 holds")
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
class AlignedLate:
    """A chain of instructions that align their products first and c afterwards, as AMD's CDNA3 (Xie et al. 2025).

    Each takes ``terms`` consecutive products. Those of each group of ``parts`` are truncated as in ``Aligned``, to
    multiples of 2**(E - fraction_bits) of the group's largest exponent E, and added exactly. The groups' sums are
    rounded down to multiples of 2**(E - fraction_bits) of the largest of all E, and added. T is the larger of this E
    and the exponent of c. The sum is rounded down to a multiple of 2**(T - sum_bits - 1), c to one of
    2**(T - fraction_bits), and they are added exactly. This is rounded down to ``sum_bits`` bits below its leading one,
    and then by ``sums`` to the next c. Where ``reach`` is given, a c with an exponent below T - reach is left out.
    Exponents are those of ``Aligned``; that of a c of zero is the least one of its format. A product of a magnitude of
    2**128 or more is infinite.
    """

    terms: int = 8
    fraction_bits: int = 24
    sum_bits: int = 31
    parts: Partition = Whole()
    reach: int | None = None
    sums: Sums = FLOAT32
    start: str = "zero"

    def __post_init__(self) -> None:
        checks.named("start", self.start, STARTS)
        if self.sums.is_double or self.sums.is_stochastic or self.sums.flush:
            raise UsageError("aligned sums are rounded to nearest even or toward zero, to a format that float32 holds")
        checks.whole("terms", self.terms, least=1, most=MOST_TOGETHER)
        checks.whole("fraction_bits", self.fraction_bits, least=1, most=40)
        checks.whole("sum_bits", self.sum_bits, least=1, most=40)
        if self.reach is not None:
            checks.whole("reach", self.reach, least=1, most=100, note=", or None")
        bits = max(self.fraction_bits, self.sum_bits + 1)
        if bits + 3 + (self.terms + 1).bit_length() > 52:  # then float64 holds every sum
            raise UsageError(f"{self.terms} terms of {bits} fraction bits need more than 52 bits")


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
        check_results(self.outer, self.inner, "the outer order of groups adds results")


@dataclass(frozen=True)
class Reordered:
    """The terms in the order of the groups of ``partition``, one group after the other, summed by ``order``. An aligned
    order begins a new instruction with each group."""

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
        check_results(self.rest, self.main, "the rest of a tail adds the result of the main part too")


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
class UpTo:
    """``few`` sums ``most`` terms or fewer, ``many`` sums more. Libraries have kernels of their own for short sums."""

    most: int
    few: Order
    many: Order

    def __post_init__(self) -> None:
        checks.whole("most", self.most, least=1, most=MOST_CHUNK)


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
            if isinstance(inner, Scaled) and {*inner.scale.operands} & {*self.scale.operands}:
                raise UsageError(
                    "the scales of an operand are multiplied once, not in two scaled orders inside each other"
                )
        if bits_of(self.order) > SINGLE:
            raise UsageError(
                "a sum that is scaled has at most 24 bits; round it to float32 first, by groups(whole(), ...)"
            )


Order = (
    Rising | Kahan | Pairwise | Folding | Aligned | AlignedLate | Exact | Unspecified | Groups | Reordered | Tail
    | Halving | UpTo | Scaled | Tree | Trees
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
        case Trees():
            return order.trees
        case Reordered() | Scaled():
            return (order.order,)
    return ()


def check_results(outer: Order, inner: Order, why: str) -> None:
    """UsageError where ``outer`` cannot add results of ``inner``."""
    for order in within(outer):
        if isinstance(order, Aligned | AlignedLate):
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
        case Tail() | UpTo():
            return max(map(bits_of, _parts(order)))
        case Halving():
            return max(bits_of(order.inner), bits_of_sums(order.sums))
        case Trees():
            return max(map(bits_of, order.trees))
        case Tree():
            return max(bits_of_sums(sums) for _, sums in order.postfix())
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
    """
    match order:
        case Rising(start="zero") | Aligned(start="zero") | AlignedLate(start="zero") | Kahan():
            return True
        case Groups():
            return begins_with_zero(order.outer, begins_with_zero(order.inner, inner))
        case Tail():
            return begins_with_zero(order.rest, begins_with_zero(order.main, inner))
        case Reordered() | Scaled():
            return begins_with_zero(order.order, inner)
        case Halving() | UpTo():
            return begins_with_zero(_parts(order)[-1], inner)
    return inner
