"""A matrix product described in stages, as data (docs/semantics.md, "Products in stages").

``Product`` says what one dot product computes: how the operands are converted, whether products are rounded, in which
order terms are added and how each sum is rounded, and the format of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from functools import cached_property

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.products.aligned import LEAST_ALIGNMENT, Aligned, AlignedLate, AlignedScaled, Chain
from mpsim.products.orders import (
    MOST_CHUNK,
    PRODUCT,
    SINGLE,
    ByColumn,
    Carried,
    Exact,
    Folding,
    Groups,
    Halving,
    Kahan,
    Order,
    Pairwise,
    Reordered,
    Rising,
    Scaled,
    Tail,
    Unspecified,
    UpTo,
    begins_with_zero,
    bits_of,
    bits_of_sums,
    within,
)
from mpsim.products.partitions import MOST_PARTS, Blocks, Descending, Lanes, Partition, Parts, Splits, Whole
from mpsim.products.sums import FLOAT32, ROUNDINGS, AddC, Bias, Scale, Stage, Sums, check_sums_format, remembers_hash
from mpsim.products.trees import ADD, ROUND, ZERO, Node, Tree, Trees

#: Orders of one product, those inside others among them, and stages of an epilogue.
MOST_ORDERS = 64
MOST_STAGES = 16
CONVERSIONS = ("none", "truncate", "nearest_even", "nearest_away")
STARTS = ("zero", "c")

__all__ = [
    "ADD", "CONVERSIONS", "FLOAT32", "LEAST_ALIGNMENT", "MOST_CHUNK", "ROUND", "ROUNDINGS", "SINGLE", "STAGES", "AddC",
    "Aligned", "AlignedLate", "AlignedScaled", "Bias", "Blocks", "ByColumn", "Carried", "Chain", "Descending", "Exact",
    "Folding", "Groups", "Halving", "Kahan", "Lanes", "Node", "Operand", "Order", "Pairwise", "Partition", "Parts",
    "Product", "Reordered", "Rising", "Scale", "Scaled", "Splits", "Stage", "Sums", "Tail", "Tree", "Trees",
    "Unspecified", "UpTo", "Whole", "ZERO", "bits_after", "bits_of", "within",
]  # fmt: skip


@dataclass(frozen=True)
class Operand:
    """What is read of an operand, a float32 number.

    ``conversion="truncate"``: its significand is truncated toward zero to the mantissa bits of ``format``, and its
    exponent is kept, as TF32 instructions read float32 numbers. ``"nearest_even"``, ``"nearest_away"``: it is rounded
    to ``format``, ties to even or away from zero; a magnitude that rounds above the largest number becomes infinity,
    or NaN, or the largest number, whichever the format has first. Numbers of the format stay as they are.
    ``flush``: then, a magnitude below the smallest normal number of ``format`` becomes zero of the same sign.
    ``parts``: the number is the sum of this many parts: the first is read so, the next is what float32 subtraction
    leaves of the number, read so, and so on. ``above``: dot products of at most this many terms read the number as it
    is, as libraries do that have other kernels for them. ``format`` also gives ``Aligned`` the least exponent of the
    operand.

    >>> Operand("tf32", "nearest_away").rounds
    True
    """

    format: str = "float32"
    conversion: str = "none"
    flush: bool = False
    parts: int = 1
    above: int = 0

    def __post_init__(self) -> None:
        checks.whole("parts", self.parts, least=1, most=MOST_PARTS)
        checks.whole("above", self.above, least=0, most=MOST_CHUNK)
        if self.parts > 1 and self.above:
            raise UsageError("an operand in parts has them in products of any number of terms; leave out above")
        if self.parts > 1 and self.conversion == "none":
            raise UsageError("an operand in parts is converted; give a conversion, such as nearest_even")
        checks.named("conversion", self.conversion, CONVERSIONS)
        checks.instance("flush", self.flush, bool, "true or false")
        if not as_format(self.format).fits_float32:
            raise UsageError(f"operand format {self.format!r} has values that float32 cannot hold")
        if self.rounds:
            check_sums_format("operand", self.format)

    @property
    def rounds(self) -> bool:
        """Whether it is rounded to a nearest number of the format."""
        return self.conversion.startswith("nearest")

    def of_length(self, length: int) -> Operand:
        """How it is read in dot products of ``length`` terms."""
        return self if length > self.above else Operand(self.format)


@remembers_hash
@dataclass(frozen=True)
class Product:
    """A matrix product in stages: how each of its dot products is computed.

    ``left``, ``right``: how the factors are read. ``products``: None for exact products, or how each is rounded.
    ``order``: in which order they are added, and how sums are rounded. ``epilogue``: what happens to the total then:
    scales, a bias, C. ``output``: the format of the result, to which the number is rounded once at the end.
    ``start``: "c" if C, where one is given, takes the place of the first +0 that a sum begins with, rounded by that
    sum's ``sums``. ``parts``: which products of the operands' parts are the terms, where operands have parts.

    The default is mpsim's own: fused multiply-adds in rising k within blocks of 256, the blocks' results in rising
    order, and then a bias, all in float32.

    >>> lanes = Product(order=Groups(Lanes(8), Rising(), Folding()), output=Sums("bfloat16"))
    >>> lanes.promises_bits
    True
    >>> Product(epilogue=(Scale("alpha", None), AddC(products=FLOAT32))).takes_c
    True
    """

    left: Operand = Operand()
    right: Operand = Operand()
    products: Sums | None = None
    order: Order = Groups(Blocks(256), Rising(), Rising(start="first"))
    output: Sums = FLOAT32
    epilogue: tuple[Stage, ...] = (Bias(),)
    start: str = "zero"
    parts: Parts | None = None

    def __post_init__(self) -> None:
        kinds = [type(order) for order in within(self.order)]
        if len(kinds) > MOST_ORDERS:
            raise UsageError(f"a product has at most {MOST_ORDERS} orders inside each other, not {len(kinds)}")
        if self.products is not None and any(issubclass(kind, Chain) for kind in kinds):
            raise UsageError("an aligned order adds exact products; leave out the rounding of products")
        if Unspecified in kinds[1:]:
            raise UsageError("an unspecified order cannot be part of another order")
        if ByColumn in kinds:
            self._check_columns()
        if self.output.is_double:
            raise UsageError("results are float32 numbers, so the output cannot be float64")
        for order in within(self.order):
            if isinstance(order, AlignedScaled):
                both = self.left, self.right
                converts = all(operand.conversion != "none" for operand in both)
                rounds = all(operand.rounds for operand in both)
                order.check_operands(self.left.format, self.right.format, rounds, converts)
        self._check_epilogue()
        self._check_start()
        self._check_parts()

    def _check_epilogue(self) -> None:
        stages = self.epilogue
        if not isinstance(stages, tuple) or not all(isinstance(stage, Stage) for stage in stages):
            raise UsageError(f"an epilogue is a tuple of Bias, Scale and AddC, not {checks.shown(stages)}")
        if len(stages) > MOST_STAGES:
            raise UsageError(f"an epilogue has at most {MOST_STAGES} stages, not {len(stages)}")
        for kind in (Bias, AddC):
            if sum(isinstance(stage, kind) for stage in stages) > 1:
                raise UsageError(f"an epilogue has one {kind.__name__}, not several")
        if sum(isinstance(stage, Scale) and stage.of == "alpha" for stage in stages) > 1:
            raise UsageError("alpha is multiplied once")
        read = [*self.scales_of_blocks, *self.scales_of_totals]
        if len(set(read)) < len(read):
            raise UsageError("the scales of an operand are multiplied once: by an order's Scaled, or by one Scale")
        bits = bits_of(self.order)
        for stage in stages:
            if isinstance(stage, Scale) and bits > SINGLE:
                raise UsageError(
                    "a number that is scaled has at most 24 bits, but this one is a float64 sum or an exact product; "
                    "round it first (order=groups(whole(), ..., rising(float32, first)), or sums of the scale before)"
                )
            bits = bits_after(stage, bits)

    def _check_columns(self) -> None:
        order: Order = self.order
        parts: list[Order] = []
        while isinstance(order, ByColumn):
            parts, order = [*parts, order.first], order.rest
        inside = [each for part in (*parts, order) for each in within(part)]
        if any(isinstance(each, ByColumn) for each in inside):
            raise UsageError("an order by column is not part of another order, except as the rest of one by column")
        if any(sums.is_stochastic for sums in _sums_in(self)):  # whose random words are numbered over all columns
            raise UsageError("a product with an order by column is not stochastic")

    def columns(self, count: int) -> list[tuple[int, int, Product]]:
        """(start, stop, the product) of the columns that are summed alike, of ``count``.

        >>> found = Product(order=ByColumn(8, Rising(), Pairwise())).columns(10)
        >>> [(start, stop, each.order) for start, stop, each in found]
        [(0, 8, Rising(...)), (8, 10, Pairwise(...))]
        """
        found, order, start = [], self.order, 0
        while isinstance(order, ByColumn) and order.most < count:
            if order.most > start:
                found.append((start, order.most, replace(self, order=order.first)))
            start, order = max(start, order.most), order.rest
        return [*found, (start, count, replace(self, order=order.first if isinstance(order, ByColumn) else order))]

    def _check_start(self) -> None:
        checks.named("start", self.start, STARTS)
        if self.start == "zero":
            return
        if not begins_with_zero(self.order):
            raise UsageError("no sum of this order begins with +0, whose place C could take; add it by AddC instead")
        if any(isinstance(stage, AddC) for stage in self.epilogue):
            raise UsageError("C is added once: at the start, or by AddC")

    def _check_parts(self) -> None:
        found = self.left.parts, self.right.parts
        if self.parts is None:
            if found != (1, 1):
                raise UsageError("operands have parts; say which products of them are kept by Parts")
        elif self.parts.count[0] > found[0] or self.parts.count[1] > found[1]:
            raise UsageError(f"pairs name {self.parts.count} parts of the operands, which have {found}")
        elif self.scales_of_blocks:
            raise UsageError("an order that scales blocks of k takes operands of one part")

    @property
    def swapped(self) -> Product:
        """The same product with the ways in which its operands are read exchanged; scales stay where they are."""
        if self.left == self.right and self.parts is None:
            return self
        parts = self.parts and Parts(tuple((right, left) for left, right in self.parts.pairs), self.parts.within)
        return replace(self, left=self.right, right=self.left, parts=parts)

    @property
    def takes_c(self) -> bool:
        """Whether C takes part, where one is given."""
        return self.start == "c" or any(isinstance(stage, AddC) for stage in self.epilogue)

    @property
    def skips_c_at_zero(self) -> bool:
        """Whether C is not read where beta is 0."""
        return any(isinstance(stage, AddC) and stage.skips_zero for stage in self.epilogue)

    @property
    def takes_bias(self) -> bool:
        """Whether a bias is added, where one is given."""
        return any(isinstance(stage, Bias) for stage in self.epilogue)

    @property
    def scales_of_totals(self) -> tuple[str, ...]:
        """The operands whose scales multiply totals."""
        return tuple(each for stage in self.epilogue if isinstance(stage, Scale) for each in stage.operands)

    @cached_property
    def scales_of_blocks(self) -> dict[str, int]:
        """The operands whose scales multiply terms or sums of blocks of k -> the size of a block."""
        found: dict[str, int] = {}
        for order in within(self.order):
            if isinstance(order, Scaled | AlignedScaled):
                for each in order.scale.operands if isinstance(order, Scaled) else ("left", "right"):
                    if found.setdefault(each, order.block) != order.block:
                        raise UsageError(f"the scales of an operand have one size of block, not several ({each})")
        return found

    @property
    def format_of_scales(self) -> str | None:
        """The format that scales of blocks are numbers of, where the order has one."""
        return next((order.scales for order in within(self.order) if isinstance(order, AlignedScaled)), None)

    @cached_property
    def promises_bits(self) -> bool:
        """Whether two backends give the same bits."""
        return not any(isinstance(order, Unspecified) for order in within(self.order))


def bits_after(stage: Stage, bits: int) -> int:
    """The most bits of a number after a stage of the epilogue."""
    if isinstance(stage, Scale):
        return PRODUCT if stage.sums is None else SINGLE
    return max(bits, bits_of_sums(stage.sums))  # nothing is added where no bias or no C is given


def _sums_in(part: object) -> Iterator[Sums]:
    """Every rounding in a description."""
    if isinstance(part, Sums):
        yield part
    elif is_dataclass(part) or isinstance(part, tuple):
        for each in part if isinstance(part, tuple) else vars(part).values():
            yield from _sums_in(each)


#: name -> class, of everything that a description is made of
STAGES = {
    stage.__name__.lower(): stage
    for stage in (
        Sums, Operand, Blocks, Whole, Splits, Lanes, Descending, Rising, Kahan, Pairwise, Folding, Aligned, AlignedLate,
        AlignedScaled, Exact, Unspecified, Groups, Reordered, Tail, Carried, Halving, UpTo, ByColumn, Scaled, Tree,
        Trees, Bias, Scale, AddC, Parts, Product,
    )
}  # fmt: skip
