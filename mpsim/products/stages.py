"""A matrix product described in stages, as data (docs/semantics.md, "Products in stages").

``Product`` says what one dot product computes: how the operands are converted, whether products are rounded, in which
order terms are added and how each sum is rounded, and the format of the result.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.products.orders import (
    ADD,
    FLOAT32,
    LEAST_ALIGNMENT,
    MOST_CHUNK,
    ROUND,
    ROUNDINGS,
    Aligned,
    Exact,
    Folding,
    Groups,
    Halving,
    Node,
    Order,
    Pairwise,
    Reordered,
    Rising,
    Sums,
    Tail,
    Tree,
    Trees,
    Unspecified,
    check_sums_format,
    within,
)
from mpsim.products.partitions import Blocks, Lanes, Partition, Splits, Whole

#: Orders of one product, those inside others among them.
MOST_ORDERS = 64
CONVERSIONS = ("none", "truncate", "nearest_even", "nearest_away")

__all__ = [
    "ADD", "CONVERSIONS", "FLOAT32", "LEAST_ALIGNMENT", "MOST_CHUNK", "ROUND", "ROUNDINGS", "STAGES", "Aligned",
    "Blocks", "Exact", "Folding", "Groups", "Halving", "Lanes", "Node", "Operand", "Order", "Pairwise", "Partition",
    "Product", "Reordered", "Rising", "Splits", "Sums", "Tail", "Tree", "Trees", "Unspecified", "Whole", "within",
]  # fmt: skip


@dataclass(frozen=True)
class Operand:
    """What is read of an operand, a float32 number.

    ``conversion="truncate"``: its significand is truncated toward zero to the mantissa bits of ``format``, and its
    exponent is kept, as TF32 instructions read float32 numbers. ``"nearest_even"``, ``"nearest_away"``: it is rounded
    to ``format``, ties to even or away from zero; a magnitude that rounds above the largest number becomes infinity,
    or NaN, or the largest number, whichever the format has first. Numbers of the format stay as they are.
    ``flush``: then, a magnitude below the smallest normal number of ``format`` becomes zero of the same sign.
    ``format`` also gives ``Aligned`` the least exponent of the operand.

    >>> Operand("tf32", "nearest_away").rounds
    True
    """

    format: str = "float32"
    conversion: str = "none"
    flush: bool = False

    def __post_init__(self) -> None:
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
        if len(kinds) > MOST_ORDERS:
            raise UsageError(f"a product has at most {MOST_ORDERS} orders inside each other, not {len(kinds)}")
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
        Sums, Operand, Blocks, Whole, Splits, Lanes, Rising, Pairwise, Folding, Aligned, Exact, Unspecified, Groups,
        Reordered, Tail, Halving, Tree, Trees, Product,
    )
}  # fmt: skip
