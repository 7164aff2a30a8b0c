"""What happens to the total of a dot product before it is rounded to its output: scales, a bias, C.

The numbers themselves are arguments of a product, not parts of its description.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.products.sums import FLOAT32, Sums, check_sums_format

#: What a scale is of: the left operand, the right one, the product of both, or the whole product.
FACTORS = ("left", "right", "both", "alpha")


@dataclass(frozen=True)
class Bias:
    """The bias is added, where one is given: one number for each column of a matrix product, for each output channel of
    a convolution. ``sums``: how the sum is rounded."""

    sums: Sums = FLOAT32


@dataclass(frozen=True)
class Scale:
    """The number is multiplied by a factor.

    ``of``: "left" or "right", the scale of that operand; "both", the product of the two scales, rounded to float32;
    "alpha", one number for the whole product. ``sums``: how the product is rounded. None: it is not rounded, so it
    enters the next addition exactly, which is a fused multiply-add.

    >>> Scale("both").sums == FLOAT32, Scale("alpha", None).operands
    (True, ())
    """

    of: str = "both"
    sums: Sums | None = FLOAT32

    def __post_init__(self) -> None:
        checks.named("factor", self.of, FACTORS)
        if self.sums is not None and self.sums.is_double:
            raise UsageError("a scaled number is rounded to a format that float32 holds, not to float64")

    @property
    def operands(self) -> tuple[str, ...]:
        """The operands whose scales are read."""
        return ("left", "right") if self.of == "both" else () if self.of == "alpha" else (self.of,)


@dataclass(frozen=True)
class AddC:
    """beta × C is added, where a C is given.

    C is first rounded to ``format``, to nearest even. ``products``: how beta × C is rounded; None: it is added exactly,
    with one rounding, that of the sum by ``sums``.

    >>> AddC(products=FLOAT32).format
    'float32'
    """

    sums: Sums = FLOAT32
    products: Sums | None = None
    format: str = "float32"

    def __post_init__(self) -> None:
        check_sums_format("C", self.format)
        if self.products is not None and self.products.is_double:
            raise UsageError("beta × C is rounded to a format that float32 holds, or not at all (None), not to float64")


Stage = Bias | Scale | AddC
