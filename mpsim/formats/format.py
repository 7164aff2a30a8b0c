"""Defines what a floating-point format is: a declaration, from which all other properties are derived."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.process import in_default_environment

#: The meaning of the codes at the end of the range.
SPECIALS = {
    "ieee": "the top exponent encodes infinity (mantissa 0) and NaN",
    "fn": "no infinity; NaN is the code of all ones",
    "fnuz": "no infinity, no negative zero; NaN is the code of -0",
    "none": "every code is a finite number",
    "p3109": "infinity is the largest code, no negative zero; NaN is the code of -0, or, unsigned, the last code",
    "p3109_finite": "no infinity, no negative zero; NaN is the code of -0, or, unsigned, the last code",
    "e8m0": "unsigned powers of two, no zero; NaN is the code of all ones",
}

#: The largest bias. The values of a format reach from about 2**-MOST_BIAS to 2**MOST_BIAS.
MOST_BIAS = 1 << 16
MOST_EXPONENT_BITS = 16  # beyond float64's 11, for exact arithmetic on codes
_RANGES = (("exponent_bits", 1, MOST_EXPONENT_BITS), ("mantissa_bits", 0, 52), ("bias", -MOST_BIAS, MOST_BIAS))


@dataclass(frozen=True)
class Format:
    """A binary floating-point format of at most 64 bits.

    A code is ``sign | exponent | mantissa``. If float64 cannot hold some of the values (``fits_float64`` is False), the
    format has exact values (``value``) and arithmetic on codes (``mpsim.arithmetic``), but no arrays of numbers.

    ``bias`` defaults to 2**(exponent_bits - 1) - 1. ``specials``, a key of ``SPECIALS``, is the meaning of the codes at
    the end of the range. Without ``subnormals``, codes with exponent 0 are zeros. Raises UsageError if the arguments do
    not describe a format.

    >>> Format("tiny", exponent_bits=2, mantissa_bits=1, specials="none").largest
    6.0
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int | None = None
    specials: str = "ieee"
    subnormals: bool = True
    signed: bool = True

    def __post_init__(self) -> None:
        for field, least, most in _RANGES:
            if (given := getattr(self, field)) is not None:
                number = checks.whole(f"{field} of format {self.name!r}", given, least=least, most=most)
                object.__setattr__(self, field, number)  # an int, where NumPy's would overflow in a shift
        if self.bits > 64:
            raise UsageError(f"format {self.name!r} has {self.bits} bits; a code has at most 64")
        if self.specials not in SPECIALS:
            raise checks.unknown(f"specials of format {self.name!r}:", self.specials, SPECIALS)
        if self.specials == "e8m0" and (self.mantissa_bits or self.signed):
            raise UsageError(f"format {self.name!r}: specials 'e8m0' need signed=False and mantissa_bits=0")
        if self.specials == "fnuz" and not self.signed:
            raise UsageError(f"format {self.name!r}: specials 'fnuz' encode NaN as -0, so they need signed=True")
        if self.bias is None:
            object.__setattr__(self, "bias", 2 ** (self.exponent_bits - 1) - 1)
        if self.largest_code < (1 if self.subnormals else 1 << self.mantissa_bits):
            raise UsageError(f"format {self.name!r} has no finite number besides zero")

    # -- layout ---------------------------------------------------------------------------------
    @property
    def bits(self) -> int:
        """The width of a code in bits."""
        return int(self.signed) + self.exponent_bits + self.mantissa_bits

    @property
    def precision(self) -> int:
        """The number of significant bits of a normal number, including the implicit one (IEEE 754's p)."""
        return self.mantissa_bits + 1

    @property
    def magnitude_mask(self) -> int:
        """The mask of all code bits except the sign."""
        return (1 << (self.exponent_bits + self.mantissa_bits)) - 1

    @property
    def sign_mask(self) -> int:
        """The mask of the sign bit of a code, 0 in an unsigned format."""
        return (self.magnitude_mask + 1) if self.signed else 0

    # -- special values -------------------------------------------------------------------------
    @property
    def has_infinity(self) -> bool:
        return self.specials in ("ieee", "p3109")

    @property
    def has_nan(self) -> bool:
        return self.specials != "none" and not (self.specials == "ieee" and self.mantissa_bits == 0)

    @property
    def has_negative_zero(self) -> bool:
        return self.signed and self.specials in ("ieee", "fn", "none")

    @property
    def has_zero(self) -> bool:
        return self.specials != "e8m0"

    @property
    def is_p3109(self) -> bool:
        """Whether the rules of IEEE P3109 apply where they differ from those of IEEE 754 (docs/semantics.md)."""
        return self.specials in ("p3109", "p3109_finite")

    @property
    def has_parity_of_code(self) -> bool:
        """Whether a number is odd if its code is, not its significand, which has one bit (P3109 v4.0 §4.7.4)."""
        return self.is_p3109 and self.mantissa_bits == 0

    # -- codes ----------------------------------------------------------------------------------
    @cached_property
    def largest_code(self) -> int:
        """The code of the largest finite number."""
        if self.specials == "ieee":
            return (1 << (self.exponent_bits + self.mantissa_bits)) - (1 << self.mantissa_bits) - 1
        reserved = {"fn": 1, "e8m0": 1, "p3109": 1}.get(self.specials, 0)
        if not self.signed and self.is_p3109:
            reserved += 1
        return self.magnitude_mask - reserved

    @property
    def infinity_code(self) -> int | None:
        """The code of +infinity, or None."""
        return self.largest_code + 1 if self.has_infinity else None

    @property
    def nan_code(self) -> int | None:
        """The canonical NaN code, or None. Where both signs have NaN, its sign bit is clear."""
        if not self.has_nan:
            return None
        if self.specials == "ieee":  # a quiet NaN has the top mantissa bit set (IEEE 754-2019 §6.2.1)
            return self.largest_code + 1 + (1 << (self.mantissa_bits - 1))
        if self.specials in ("fn", "e8m0") or not self.signed:
            return self.magnitude_mask
        return self.sign_mask

    # -- values ---------------------------------------------------------------------------------
    @property
    def min_exponent(self) -> int:
        """The exponent of the smallest normal number."""
        assert self.bias is not None
        return (0 if self.specials == "e8m0" else 1) - self.bias

    @property
    def quantum_exponent(self) -> int:
        """The exponent of the spacing of numbers near the smallest normal one, i.e. min_exponent - mantissa_bits."""
        return self.min_exponent - self.mantissa_bits

    def split(self, code: int) -> tuple[int, int]:
        """Returns (significand, exponent) of a finite non-negative code, whose value is significand * 2**exponent."""
        biased, mantissa = code >> self.mantissa_bits, code & ((1 << self.mantissa_bits) - 1)
        if biased == 0 and self.has_zero:
            return mantissa, self.quantum_exponent
        significand = mantissa | 1 << self.mantissa_bits
        return significand, self.quantum_exponent + biased - (1 if self.has_zero else 0)

    def value(self, code: int) -> Fraction:
        """Returns the exact number of a finite non-negative code.

        >>> from mpsim.formats import FORMATS
        >>> FORMATS["p3109_k16p1u"].value(1).denominator.bit_length()
        32768
        """
        significand, exponent = self.split(code)
        return significand * Fraction(2) ** exponent

    @cached_property
    @in_default_environment
    def largest(self) -> float:
        """The largest finite number. Raises UsageError if it is not a float64 number."""
        self.require_float64()
        significand, exponent = self.split(self.largest_code)
        return significand * 2.0**exponent

    @cached_property
    def max_exponent(self) -> int:
        """The exponent of the largest finite number: 2**max_exponent <= largest < 2**(max_exponent + 1)."""
        significand, exponent = self.split(self.largest_code)
        return significand.bit_length() - 1 + exponent

    @property
    @in_default_environment
    def smallest_normal(self) -> float:
        """Smallest positive normal number. Raises UsageError if float64 does not hold the format.

        It is infinity if all numbers of the format are subnormal and it would be 2**1024."""
        self.require_float64()
        return _nearest(1, self.min_exponent)

    @property
    @in_default_environment
    def smallest(self) -> float:
        """The smallest positive number, which is subnormal if the format has subnormals."""
        if not self.has_zero or not self.subnormals or self.mantissa_bits == 0:
            return self.smallest_normal
        return 2.0**self.quantum_exponent

    @cached_property
    @in_default_environment
    def overflow_threshold(self) -> tuple[float, bool]:
        """The midpoint between the largest number and the next one with an unlimited exponent, and whether
        nearest_even rounds the midpoint itself to overflow, which it does if the largest number is odd.

        If float64 does not hold the midpoint, it is the even one of its neighbours. That is the next number if the
        largest is odd, and else the largest, so that the same float64 numbers overflow."""
        self.require_float64()
        significand, exponent = self.split(self.largest_code)
        return _nearest(2 * significand + 1, exponent - 1), self.is_odd(significand, exponent)

    def is_odd(self, significand: int, exponent: int) -> bool:
        """Whether significand * 2**exponent, a magnitude on the format's grid, is the odd one of two neighbours."""
        if not self.has_parity_of_code:
            return significand % 2 == 1
        assert self.bias is not None
        return significand != 0 and (exponent + self.bias) % 2 == 1

    @property
    def finite_codes(self) -> range:
        """The codes of the non-negative finite numbers in rising order of value, including all subnormal codes."""
        return range(self.largest_code + 1)

    def fits(self, exponent_bits: int, mantissa_bits: int) -> bool:
        """Returns whether the IEEE format with these widths, including its subnormals, holds every finite value."""
        top = 2 ** (exponent_bits - 1) - 1
        return (
            self.mantissa_bits <= mantissa_bits
            and self.max_exponent <= top
            and min(self.quantum_exponent, self.min_exponent) >= 1 - top - mantissa_bits
        )

    @cached_property
    def fits_float32(self) -> bool:
        """Whether float32 holds every finite value."""
        return self.fits(exponent_bits=8, mantissa_bits=23)

    @cached_property
    def fits_float64(self) -> bool:
        """Whether float64 holds every finite value."""
        return self.fits(exponent_bits=11, mantissa_bits=52)

    def require_float64(self) -> None:
        """Raises UsageError if float64 does not hold every finite value."""
        if not self.fits_float64:
            raise UsageError(
                f"format {self.name!r} has values that float64 cannot hold; use exact values (Format.value) or "
                f"arithmetic on codes (mpsim.arithmetic)"
            )

    @property
    def code_bits(self) -> int:
        """The width of the unsigned integer that holds a code: 8, 16, 32 or 64."""
        return next(width for width in (8, 16, 32, 64) if self.bits <= width)

    def __str__(self) -> str:
        return self.name


def _nearest(significand: int, exponent: int) -> float:
    """Returns significand * 2**exponent, rounded to nearest even in float64, or infinity."""
    try:
        return math.ldexp(significand, exponent)
    except OverflowError:
        return math.inf
