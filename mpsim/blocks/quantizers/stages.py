"""A block quantiser described in stages, as data (docs/block_formats.md, "Quantisers in stages").

statistic -> scale -> quotient -> element, with a scale of the whole tensor (``Second``), a rotation before and a
layout after. mpsim/blocks/definition.py defines what each stage computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from mpsim import checks
from mpsim.blocks.quantizers.elements import Element, Integer, name_of
from mpsim.blocks.quantizers.groups import Block, Column, Group, Row, Tensor, Tile
from mpsim.errors import UsageError
from mpsim.formats import Format, as_format
from mpsim.kernels.spec_blocks import SCALE_OVERFLOWS, SCALE_RULES

#: How the scale follows from a statistic, besides the powers of two of SCALE_RULES.
FORMULAS = {
    "ratio": "statistic / M, rounded to the scale's format",
    **SCALE_RULES,
    "ceil_log2": "2**ceil(log2(float32(statistic / M))), the logarithm rounded to float32",
}
#: Rounded float32 operations. s is the scale, t the tensor scale, e its multiplier.
SCALE_ARITHMETICS = {
    "exact": "statistic / (M * t), without rounding",
    "float32": "(statistic / M) / t, or (statistic / M) * e",
    "float32_product": "statistic / (M * t)",
    "float32_reciprocal": "statistic * (1 / M), or statistic * (e * (1 / M))",
}
QUOTIENT_ARITHMETICS = {
    "exact": "x / (s * t), without rounding",
    "float32": "x / (s * t)",
    "float32_reciprocal": "x * min(1 / (s * t), the largest float32)",
    "float32_reciprocals": "x * ((1 / t) / s)",
}
VALUE_ARITHMETICS = {
    "exact": "element * s * t, rounded once",
    "float32": "element * (s * t), each product rounded to float32",
    "float32_amax": "element * ((s * amax) * (1 / (M * most))), each operation rounded to float32",
}
STATISTICS, SOURCES = ("largest", "range"), ("input", "given")
ROUNDINGS, FORMS = ("nearest_even", "nearest_away", "up", "toward_zero"), ("divisor", "multiplier")
ZERO, NOT_FINITE = ("zeros", "divide", "one"), ("nan", "saturate", "one")
CHOICES = ("none", "mae", "mse", "mae_scaled", "mse_scaled")
PACKINGS, SCALE_LAYOUTS = ("none", "low_first", "high_first"), ("plain", "swizzled")


# -- the stages ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statistic:
    """What is known of a group before its scale: the largest magnitude, or the least and the greatest number.

    ``of="range"``: the least and the greatest number, with 0 between them; for integers with a zero point.
    ``source="given"``: the caller passes it, as delayed scaling does with that of earlier steps. ``least``: a smaller
    statistic is replaced by it, rounded to float32.
    """

    group: Group = Block(32)
    of: str = "largest"
    source: str = "input"
    least: float = 0.0

    def __post_init__(self) -> None:
        checks.named("statistic", self.of, STATISTICS)
        checks.named("source of the statistic", self.source, SOURCES)
        checks.real("least statistic", self.least, least=0, most=checks.FLOAT32_LARGEST)


@dataclass(frozen=True)
class Second:
    """A second scale for the tensor, or for each row, beside those of the blocks, in float32.

    ``form="divisor"``: t = amax / (M * most), at least 2**-149. ``form="multiplier"``: e = M * most / amax, at most
    the largest float32, and t = 1 / e. Both are 1 for a tensor of zeros. M is the element's largest number, ``most``
    the block scale that the largest magnitude gets. ``source="given"``: t, or for a multiplier the largest magnitude,
    is passed by the caller. Infinite numbers and NaNs are left out of the largest magnitude.
    """

    group: Group = Tensor()
    form: str = "divisor"
    most: float = 448.0
    source: str = "input"

    def __post_init__(self) -> None:
        if not isinstance(self.group, Tensor | Row):
            raise UsageError("a second scale is of the tensor or of each row: tensor() or row()")
        checks.named("form of the second scale", self.form, FORMS)
        checks.named("source of the second scale", self.source, SOURCES)
        checks.real("most of the second scale", self.most, above=0, most=checks.FLOAT32_LARGEST)


@dataclass(frozen=True)
class Scale:
    """How the scale follows from the statistic.

    ``formula``: a key of FORMULAS. ``arithmetic``: a key of SCALE_ARITHMETICS. ``format``: that of the stored scale,
    to which a ratio is rounded by ``rounding``. ``overflow``: a scale beyond the largest becomes the largest
    ("saturate") or NaN ("nan"). ``least``: a smaller scale becomes this before it is rounded. ``form="multiplier"``:
    float32(M / statistic) multiplies the elements, and float32(1 / it) is stored. ``target``: M, the number that the
    statistic is divided by; None for the element's largest. ``four_over_six``: a second scale, 1.5 times as large, is
    tried, and taken if the float32 sum of errors, absolute ("mae") or squared ("mse"), is smaller. "mae_scaled" and
    "mse_scaled" compare element * scale, exactly, with float32(x * e). A multiplier may be rounded to a power of two,
    ``format`` float8_e8m0fnu; then its reciprocal is stored in that format.
    """

    formula: str = "ratio"
    arithmetic: str = "exact"
    format: str | Format = "float32"
    rounding: str = "nearest_even"
    overflow: str = "saturate"
    least: float = 0.0
    form: str = "divisor"
    target: float | None = None
    four_over_six: str = "none"

    def __post_init__(self) -> None:
        checks.named("scale formula", self.formula, FORMULAS)
        checks.named("arithmetic of scales", self.arithmetic, SCALE_ARITHMETICS)
        checks.named("rounding of scales", self.rounding, ROUNDINGS)
        checks.named("overflow of scales", self.overflow, SCALE_OVERFLOWS)
        checks.named("form of the scale", self.form, FORMS)
        checks.named("four_over_six", self.four_over_six, CHOICES)
        checks.real("least scale", self.least, least=0, most=checks.FLOAT32_LARGEST)
        if self.target is not None:
            checks.real("target of the scale", self.target, above=0, most=checks.FLOAT32_LARGEST)
            if Fraction(self.target).numerator.bit_length() > 24:
                raise UsageError(f"the target of the scale must be a float32 number, got {self.target!r}")
        self._check_format()
        if self.formula != "ratio" and (self.rounding != "nearest_even" or self.form != "divisor"):
            raise UsageError(f"formula {self.formula!r} gives a power of two, which is neither rounded nor inverted")
        if self.form == "multiplier" and (
            self.arithmetic != "float32" or self.format not in ("float32", "float8_e8m0fnu")
        ):
            raise UsageError(
                "a scale that multiplies is computed in float32, and is a float32 number or a power of two "
                "(float8_e8m0fnu)"
            )

    def _check_format(self) -> None:
        object.__setattr__(self, "format", name_of(self.format))
        format = as_format(self.format)
        if not format.fits_float32:
            raise UsageError(f"scale format {str(format)!r} has values that float32 cannot hold")
        assert format.bias is not None
        if not format.min_exponent <= 0 <= format.max_exponent:
            raise UsageError(f"scale format {str(format)!r} cannot hold 1; give one that does, such as float8_e8m0fnu")


@dataclass(frozen=True)
class Quotient:
    """How x and its scale give the number that is rounded to an element.

    ``arithmetic``: a key of QUOTIENT_ARITHMETICS. ``fraction_bits``: then it is truncated toward zero to this many bits
    after the point. ``through``: then it is rounded to this format, to nearest even.
    """

    arithmetic: str = "exact"
    through: str = "none"
    fraction_bits: int | None = None

    def __post_init__(self) -> None:
        checks.named("arithmetic of quotients", self.arithmetic, QUOTIENT_ARITHMETICS)
        if self.fraction_bits is not None:
            checks.whole("fraction_bits of quotients", self.fraction_bits, most=40)
        if self.through != "none" and not as_format(self.through).fits_float32:
            raise UsageError(f"quotients cannot go through {self.through!r}, whose values float32 cannot hold")


@dataclass(frozen=True)
class Specials:
    """What blocks of zeros and blocks that are not finite give.

    ``zero``: where the scale is 0, the elements are zeros with the signs of x ("zeros"), or what the arithmetic gives,
    such as x / 0 ("divide"), or the scale is 1 instead ("one"). ``not_finite``: a block with an infinity or a NaN has
    the scale NaN ("nan"); or only a NaN does that, and an infinity counts as a large number ("saturate"); or the scale
    is 1 ("one"). Where the statistic is given, the block's own numbers do not matter. The elements of a block whose
    scale is NaN are zeros with the signs of x, + for NaN.
    """

    zero: str = "zeros"
    not_finite: str = "nan"

    def __post_init__(self) -> None:
        checks.named("zero blocks:", self.zero, ZERO)
        checks.named("blocks that are not finite:", self.not_finite, NOT_FINITE)


@dataclass(frozen=True)
class Hadamard:
    """A rotation before everything: each ``size`` numbers along the axis times a Hadamard matrix.

    y[j] = sum over i of x[i] * signs[i] * (-1)**(bits that i and j share) / sqrt(size), added in float32 in rising i
    and rounded to ``format``. ``signs``: 1 and -1; () for all 1.
    """

    size: int = 16
    signs: tuple[int, ...] = ()
    format: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.size not in (4, 16, 64, 256):
            raise UsageError(f"a rotation is of 4, 16, 64 or 256 numbers, whose root is exact; got {self.size!r}")
        if self.signs and (len(self.signs) != self.size or set(self.signs) - {1, -1}):
            raise UsageError(f"signs of a rotation of {self.size} are {self.size} numbers 1 or -1")
        if not as_format(self.format).fits_float32:
            raise UsageError(f"rotated numbers cannot be {self.format!r}, whose values float32 cannot hold")


@dataclass(frozen=True)
class Layout:
    """How codes and scales lie in memory (``Quantized.packed``).

    ``packing``: two 4-bit codes a byte, the first in the low bits ("low_first") or in the high ones. ``scales``:
    "swizzled" in tiles of 128 rows by 4 blocks, as block-scaled matrix instructions read them.
    """

    packing: str = "none"
    scales: str = "plain"

    def __post_init__(self) -> None:
        checks.named("packing", self.packing, PACKINGS)
        checks.named("layout of scales", self.scales, SCALE_LAYOUTS)


@dataclass(frozen=True)
class Quantizer:
    """A quantiser in stages. The default is a block of 32 float8_e4m3fn with a float32 scale amax / 448.

    ``values``: how numbers are computed from codes and scales, a key of VALUE_ARITHMETICS.

    >>> Quantizer(Statistic(Block(16)), Scale(format="float8_e4m3fn"), second=Second()).group.shape
    (1, 16)
    """

    statistic: Statistic = Statistic()
    scale: Scale = Scale()
    quotient: Quotient = Quotient()
    element: Element | Integer = Element()
    second: Second | None = None
    specials: Specials = Specials()
    rotation: Hadamard | None = None
    layout: Layout = Layout()
    values: str = "exact"

    def __post_init__(self) -> None:
        checks.named("arithmetic of values", self.values, VALUE_ARITHMETICS)
        self._check_statistic()
        self._check_arithmetic()
        self._check_layout()

    def _check_statistic(self) -> None:
        affine = isinstance(self.element, Integer) and self.element.zero_point
        if (self.statistic.of == "range") != affine:
            raise UsageError("a zero point follows from the range, and a range is for integers with a zero point")
        if affine and (self.scale.formula, self.scale.form, self.second) != ("ratio", "divisor", None):
            raise UsageError("a range gives a ratio as the one scale; leave out formula, form and second")
        if affine and self.specials.not_finite != "nan":
            raise UsageError("a range that is not finite gives the scale NaN; leave out not_finite")
        if affine and self.statistic.source == "given":
            raise UsageError("a given statistic is a largest magnitude; integers with a zero point need the range")
        if self.second is not None and isinstance(self.group, Tensor):
            raise UsageError("a second scale stands beside those of smaller groups than the tensor")
        if self.second is not None and isinstance(self.second.group, Row) and self.group.shape[0] != 1:
            raise UsageError("a second scale of each row needs groups within rows: block(n) or row()")

    def _check_arithmetic(self) -> None:
        scale, form = self.scale, None if self.second is None else self.second.form
        if scale.formula != "ratio" and form is not None:
            raise UsageError("a power of two has no second scale; leave out second")
        if scale.arithmetic == "float32_product" and form != "divisor":
            raise UsageError("arithmetic float32_product needs a second scale that divides")
        if scale.arithmetic == "float32_reciprocal" and form == "divisor":
            raise UsageError("arithmetic float32_reciprocal takes a second scale that multiplies")
        if scale.arithmetic == "exact" and form == "multiplier":
            raise UsageError("a second scale that multiplies is used in float32 arithmetic, not in exact one")
        if scale.form == "multiplier" and (form is not None or self.quotient.arithmetic != "float32_reciprocal"):
            raise UsageError("a scale that multiplies has no second, and quotients of arithmetic float32_reciprocal")
        if self.quotient.arithmetic == "exact" and form == "multiplier":
            raise UsageError("exact quotients need a second scale that divides")
        if scale.four_over_six != "none" and (
            form != "multiplier"
            or scale.arithmetic != "float32"
            or self.quotient.arithmetic != "float32_reciprocal"
            or not isinstance(self.element, Element)
            or self.group.shape[1] is None
            or self.group.shape[0] not in (1, 16)
        ):
            raise UsageError(
                "four_over_six is for blocks or tiles of 16 rows, float elements, a second scale that multiplies, "
                "scales in float32 and quotients of arithmetic float32_reciprocal"
            )
        if self.values == "float32_amax" and form != "multiplier":
            raise UsageError("values of arithmetic float32_amax need a second scale that multiplies")

    def _check_layout(self) -> None:
        if self.layout.packing != "none" and self.element.bits != 4:
            raise UsageError(f"two codes fit a byte if they have 4 bits; elements have {self.element.bits}")
        if self.layout.scales == "swizzled" and as_format(self.scale.format).bits != 8:
            raise UsageError("scales are swizzled if they have 8 bits")
        columns = self.group.shape[1]
        if self.rotation is not None and columns is not None and columns % self.rotation.size:
            raise UsageError(f"groups of {columns} columns are not whole rotations of {self.rotation.size}")

    @property
    def group(self) -> Group:
        """Which elements share a scale."""
        return self.statistic.group

    @property
    def target(self) -> float:
        """M, the number that the largest magnitude is divided by."""
        return self.element.largest if self.scale.target is None else self.scale.target

    @property
    def in_float32(self) -> bool:
        """Whether a stage rounds to float32, so that the input has to be float32 numbers."""
        return (self.scale.arithmetic, self.quotient.arithmetic) != ("exact", "exact") or self.rotation is not None


#: The stages of a description by name.
STAGES: dict[str, type] = {
    stage.__name__.lower(): stage
    for stage in (
        Quantizer, Statistic, Tensor, Row, Column, Block, Tile, Scale, Second, Quotient, Element, Integer, Specials,
        Hadamard, Layout,
    )
}  # fmt: skip
