"""How a sum or a product is rounded, and what happens to a total before it is rounded to its output: scales, a bias, C.

The scales, the bias and C themselves are arguments of a product, not parts of its description.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import as_format

#: How an accumulator's sums are rounded.
DIRECTED = ("nearest_even", "toward_zero")
ROUNDINGS = (*DIRECTED, "stochastic", "nearest_away")
#: Below a float32 number, a float64 has 29 bits, the last of which stands for all that are lost.
MOST_RANDOM_BITS = 24


Described = TypeVar("Described")


def remembers_hash(described: type[Described]) -> type[Described]:
    """A class of frozen values that compute their hash once: an order contains orders, and a tree all its terms.

    >>> from mpsim.products.trees import Tree
    >>> tree = Tree((0, 1))
    >>> hash(tree) == hash(Tree((0, 1))), "_hash" in vars(tree), "_hash" in tree.__getstate__()
    (True, True, False)
    """
    computed = described.__hash__

    def __hash__(self: object) -> int:
        found = self.__dict__.get("_hash")
        if found is None:
            found = self.__dict__["_hash"] = computed(self)
        return found

    def __getstate__(self: object) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}  # another process has others

    described.__hash__ = __hash__  # type: ignore[method-assign]
    described.__getstate__ = __getstate__  # type: ignore[method-assign]
    return described


def check_sums_format(what: str, name: str) -> None:
    """UsageError for a format that no sum can be rounded to; ``what`` it is of."""
    format = as_format(name)
    if not format.fits_float32:
        raise UsageError(f"{what} format {name!r} has values that float32 cannot hold")
    if not (format.signed and format.has_zero):
        raise UsageError(f"{what} format {name!r} has no sign or no zero, where every sum starts")
    if format.has_parity_of_code:
        raise UsageError(f"{what} format {name!r} has one significant bit and P3109's ties, in which no sum is rounded")


@dataclass(frozen=True)
class Sums:
    """How the exact result of an addition or a multiplication is rounded: to ``format``, by ``rounding``.

    A magnitude that rounds above the largest number becomes infinity, or NaN, or the largest number, whichever the
    format has first; with ``saturate``, it and an infinity become the largest number. ``flush``: then, a magnitude
    below the smallest normal number becomes zero of the same sign.
    ``rounding="nearest_away"`` rounds to nearest, ties away from zero, as adding half a unit to the bits does.
    ``rounding="stochastic"`` rounds up if the discarded part, truncated to ``random_bits`` bits, and as many random
    bits carry (docs/semantics.md, "Rounding"). The format is "float64" or one that float32 holds.
    ``via``: the result is first rounded to that wider format, to nearest even, and then to ``format``. Code does this
    that adds numbers of a narrow format in float32 (double rounding, Figueroa 1995).

    >>> Sums("bfloat16", "stochastic", random_bits=8).is_double
    False
    >>> Sums("float16", via="float32").parts
    (Sums(format='float32', ...), Sums(format='float16', ...))
    """

    format: str = "float32"
    rounding: str = "nearest_even"
    flush: bool = False
    random_bits: int | None = None
    saturate: bool = False
    via: str | None = None

    def __post_init__(self) -> None:
        checks.named("rounding of sums", self.rounding, ROUNDINGS)
        checks.instance("flush", self.flush, bool, "true or false")
        checks.instance("saturate", self.saturate, bool, "true or false")
        if self.saturate and self.is_double:
            raise UsageError("float64 sums do not saturate; leave saturate out")
        if not self.is_double:
            check_sums_format("sums", self.format)
        if self.is_double and self.rounding == "nearest_away":
            raise UsageError("float64 sums are rounded to nearest even or toward zero, not 'nearest_away'")
        if self.via is not None:
            self._check_via(self.via)
        if not self.is_stochastic:
            if self.random_bits is not None:
                raise UsageError(f"random_bits are for stochastic sums, not {self.rounding!r}; leave them out")
            return
        if self.is_double:
            raise UsageError("stochastic sums are of a format that float32 holds, not float64")
        if self.random_bits is None:
            raise UsageError(f"stochastic sums need random_bits, a whole number from 1 to {MOST_RANDOM_BITS}")
        checks.whole("random_bits", self.random_bits, least=1, most=MOST_RANDOM_BITS)

    def _check_via(self, via: str) -> None:
        if via != "float64":
            check_sums_format("intermediate", via)
        if self.is_double or as_format(via).mantissa_bits <= as_format(self.format).mantissa_bits:
            raise UsageError(f"via is a format with more bits than {self.format!r}, not {via!r}; leave it out")

    @property
    def parts(self) -> tuple[Sums, ...]:
        """The roundings one after another, each of which rounds once."""
        return (self,) if self.via is None else (Sums(self.via), replace(self, via=None))

    def by_way_of(self, via: str, bits: int) -> Sums | None:
        """The same by way of a wider format; None where that changes no sum of two numbers, one of the format and one
        of ``bits`` significant bits: the wider sum is then exact, or no tie (Figueroa 1995).

        >>> Sums("float16").by_way_of("float32", 22)  # and an exact product of float16 numbers
        Sums(format='float16', ..., via='float32')
        >>> Sums("bfloat16").by_way_of("float32", 8)
        """
        wide, narrow = (as_format(name).mantissa_bits + 1 for name in (via, self.format))
        return replace(self, via=via) if wide > narrow and bits > wide - narrow else None

    @property
    def is_double(self) -> bool:
        """Whether the format is float64."""
        return self.format == "float64"

    @property
    def is_stochastic(self) -> bool:
        """Whether random bits decide."""
        return self.rounding == "stochastic"


FLOAT32 = Sums()

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
    with one rounding, that of the sum by ``sums``. ``skips_zero``: where beta is 0, C is not read and nothing is added,
    as BLAS defines (Dongarra et al. 1990): a NaN in C does not reach the result.

    >>> AddC(products=FLOAT32).format
    'float32'
    """

    sums: Sums = FLOAT32
    products: Sums | None = None
    format: str = "float32"
    skips_zero: bool = False

    def __post_init__(self) -> None:
        checks.instance("skips_zero", self.skips_zero, bool, "true or false")
        check_sums_format("C", self.format)
        if self.products is not None and self.products.is_double:
            raise UsageError("beta × C is rounded to a format that float32 holds, or not at all (None), not to float64")


Stage = Bias | Scale | AddC
