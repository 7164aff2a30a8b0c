"""What the quotients of a block quantiser are rounded to: numbers of a format, or integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.policies import Policy

#: What a zero element's sign is.
ZEROS = {
    "signed": "the quotient's, rounded to zero or zero before",
    "positive_if_exact": "+ where the quotient is zero, else the quotient's",
    "negative_if_exact": "- where the quotient is zero, else the quotient's",
    "positive": "+",
}


def name_of(format: str | Format) -> str | Format:
    """Returns the name of a format of the table; other formats stay as they are."""
    return format.name if isinstance(format, Format) and FORMATS.get(format.name) == format else format


@dataclass(frozen=True)
class Element:
    """Elements of a number format. ``zeros``: the signs of zeros, a key of ZEROS. NaN is +0 where the format has none.

    >>> Element("float4_e2m1fn").largest
    6.0
    """

    format: str | Format = "float8_e4m3fn"
    mode: str = "nearest_even"
    overflow: str = "saturate"
    random_bit_count: int | None = None
    zeros: str = "signed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", name_of(self.format))
        row = as_format(self.format)
        if row.bits > 16 or not row.fits_float32 or not row.signed or not row.has_zero:
            raise UsageError(f"elements are of a signed format of at most 16 bits with a zero, not {row}")
        checks.named("zeros", self.zeros, ZEROS)
        if self.policy.mode.is_legacy:
            raise UsageError(f"mode {self.mode!r} is QPyTorch's, which has no block formats")

    @property
    def row(self) -> Format:
        return as_format(self.format)

    @cached_property
    def policy(self) -> Policy:
        return Policy(self.mode, self.overflow, self.random_bit_count)  # type: ignore[arg-type]

    @property
    def bits(self) -> int:
        return self.row.bits

    @property
    def largest(self) -> float:
        return self.row.largest

    @property
    def max_exponent(self) -> int:
        return self.row.max_exponent

    @property
    def mantissa_bits(self) -> int:
        return self.row.mantissa_bits


@dataclass(frozen=True)
class Integer:
    """Integers of ``bits`` bits, two's complement or unsigned; an element is integer * 2**-fraction_bits.

    ``symmetric``: the least integer is the negative of the largest. ``zero_point``: each group has an integer that
    stands for 0: the least integer minus the least number / scale, rounded to nearest even, within the integers'
    range. It is added after the rounding, before the result is clamped to that range.

    >>> Integer(8, fraction_bits=6, symmetric=True).largest
    1.984375
    """

    bits: int = 8
    signed: bool = True
    symmetric: bool = False
    zero_point: bool = False
    fraction_bits: int = 0
    mode: str = "nearest_even"
    random_bit_count: int | None = None

    def __post_init__(self) -> None:
        checks.whole("bits of integers", self.bits, least=2, most=8)
        checks.whole("fraction_bits of integers", self.fraction_bits, most=16)
        for name in ("signed", "symmetric", "zero_point"):
            checks.instance(name, getattr(self, name), bool, "true or false")
        if self.symmetric and not self.signed:
            raise UsageError("unsigned integers are not symmetric around 0")
        if not self.signed and not self.zero_point:
            raise UsageError("unsigned integers need a zero point; give zero_point=true")
        if self.policy.mode.is_legacy:
            raise UsageError(f"mode {self.mode!r} is QPyTorch's, which has no integers")

    @cached_property
    def policy(self) -> Policy:
        return Policy(self.mode, "saturate", self.random_bit_count)  # type: ignore[arg-type]

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the greatest integer."""
        top = (1 << (self.bits - self.signed)) - 1
        return (-top - (not self.symmetric) if self.signed else 0), top

    @cached_property
    def grid(self) -> Format:
        """Multiples of 2**-fraction_bits up to beyond every integer: all of one spacing."""
        return Format("integers", 1, 20, -19 + self.fraction_bits, "none")

    @property
    def largest(self) -> float:
        return math.ldexp(self.ends[1], -self.fraction_bits)

    @property
    def max_exponent(self) -> int:
        return math.frexp(self.largest)[1] - 1

    @property
    def mantissa_bits(self) -> int:
        return self.ends[1].bit_length() - 1
