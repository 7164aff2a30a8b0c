"""Defines the input types of casts: their bit patterns, their exact values, and the arrays passed to subjects.

Source: IEEE 754-2019 §3.4. bfloat16 is the upper half of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.integers import Integer, as_integer, from_integer, is_integer_name
from mpsim.integers.rounding import as_dtype
from mpsim.kernels.contract import Array
from mpsim.plugins import require
from mpsim.policies import Policy
from mpsim.rounding import decode, of_integers

#: The floats that NumPy, C and PyTorch have as types.
FLOATS = ("float16", "bfloat16", "float32", "float64")
#: The widest format whose codes are a source. All of them are tried.
MOST_CODE_BITS = 16


@dataclass(frozen=True)
class Source:
    """An input type: a float, an integer, or the codes of a format of at most 16 bits.

    Patterns are unsigned integers. Values are exact: float32 or float64, and integers for integer types of 64 bits.

    >>> SOURCES["bfloat16"].values(np.array([0x3F80], np.uint16))
    array([1.], dtype=float32)
    """

    name: str

    @cached_property
    def integer(self) -> Integer | None:
        """The integer type, None for floats."""
        return as_integer(self.name) if is_integer_name(self.name) else None

    @property
    def is_float(self) -> bool:
        """Whether it is one of ``FLOATS``."""
        return self.name in FLOATS

    @property
    def format(self) -> Format:
        """The format of a float or of codes."""
        return FORMATS[self.name]

    @property
    def bits(self) -> int:
        """The width of a pattern's meaningful bits."""
        return self.format.bits if self.integer is None else self.integer.bits

    @property
    def digits(self) -> int:
        """The number of hexadecimal digits of a pattern."""
        return -(-self.bits // 4)

    @property
    def mantissa_bits(self) -> int:
        """The significant bits after the first."""
        return self.format.mantissa_bits if self.integer is None else self.integer.bits - 1

    @property
    def smallest_normal(self) -> float:
        """The smallest normal number, 0 for integers, all of which are exact."""
        return self.format.smallest_normal if self.integer is None else 0.0

    @property
    def min_exponent(self) -> int:
        """The exponent of the numbers below which the spacing does not shrink."""
        return self.format.min_exponent if self.integer is None else self.mantissa_bits

    @property
    def unsigned(self) -> np.dtype[np.unsignedinteger]:
        """The dtype of patterns."""
        width = self.format.code_bits if self.integer is None else self.integer.code_bits
        return np.dtype(f"uint{width}")

    @property
    def wide(self) -> str:
        """The type in which values are represented, except those of integers of 64 bits."""
        if self.integer is not None or self.name == "float64":
            return "float64"
        return "float32" if self.format.fits_float32 else "float64"

    @property
    def sign_mask(self) -> int:
        """The sign bit of a pattern. In two's complement the others are not the magnitude."""
        if self.integer is None:
            return self.format.sign_mask
        return 1 << self.integer.bits - 1 if self.integer.signed else 0

    @property
    def magnitude_mask(self) -> int:
        """The bits of a pattern besides the sign bit: all of them where there is none."""
        return ((1 << self.bits) - 1) & ~self.sign_mask

    @property
    def has_magnitudes(self) -> bool:
        """Whether a pattern is a sign bit and a magnitude, so that patterns of one sign rise with the magnitude."""
        return self.integer is None

    def may_pass(self, format: Format) -> bool:
        """Returns whether a number of this type may be rounded to ``format`` on the way to a narrower one."""
        if self.integer is not None:
            return format.mantissa_bits < self.mantissa_bits
        return format.bits < self.bits

    def values(self, patterns: Array) -> Array:
        """Converts bit patterns to numbers, float32, or float64 for float64. NaNs keep their signs and payloads."""
        if self.integer is not None:
            numbers = from_integer(patterns, self.integer)
            return np.asarray(numbers if self.integer.bits > 53 else numbers.astype(np.float64))
        if self.name == "bfloat16":
            return (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if not self.is_float:
            return np.asarray(decode(patterns, self.format, self.wide, threads=1))
        with np.errstate(invalid="ignore"):
            return np.asarray(patterns.view(self.name).astype(self.wide, copy=False))

    def patterns(self, values: Array) -> Array:
        """Rounds values (float64 or narrower) to nearest even, with infinity on overflow, and returns bit patterns."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if self.name == "bfloat16":
                words = np.asarray(values, np.float32).view(np.uint32)
                bumped = words + np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))
                kept = np.where(np.isnan(values), words | np.uint32(0x400000), bumped) >> np.uint32(16)
                return np.asarray(kept.astype(np.uint16))
            return np.asarray(values, np.float64).astype(self.name).view(self.unsigned)

    def array(self, patterns: Array) -> Array:
        """Returns the array that a NumPy subject receives. For bfloat16 it is an array of ml_dtypes.

        Raises:
            MissingExtra: The type is bfloat16, and ml_dtypes is not installed.
        """
        if self.name == "bfloat16":
            return patterns.view(require("ml_dtypes", "an array of bfloat16").bfloat16)
        return patterns.view(self.name)

    def typed(self, patterns: Array, as_numbers: bool = True) -> tuple[str, Array]:
        """Returns the name of the type and the words that a subject receives.

        Codes of formats are passed as unsigned integers, or, ``as_numbers``, as arrays of the format's own type.
        """
        if self.integer is not None:
            return self.integer.dtype, as_dtype(patterns.astype(np.uint64), self.integer)
        return self.name if self.is_float or as_numbers else self.unsigned.name, patterns


def widened(x: Array) -> Array:
    """Converts x to float64. Signaling NaNs become quiet without a warning.

    Integers that float64 does not hold are rounded to odd, which keeps them on their side of every number and midpoint
    of a format of at most 51 bits of precision.
    """
    if x.dtype.kind in "iu":
        return of_integers(x, FORMATS["float32"], Policy())
    with np.errstate(invalid="ignore"):
        return np.asarray(x, np.float64)


SOURCES = {name: Source(name) for name in FLOATS}


def as_source(name: str | Source) -> Source:
    """Returns a Source unchanged, or the source of a name. Raises UsageError for others."""
    if isinstance(name, Source):
        return name
    if name in SOURCES:
        return SOURCES[name]
    if is_integer_name(name):
        return Source(as_integer(name).name)
    try:
        format = as_format(name)
    except UsageError:
        format = None
    if format is None:
        raise UsageError(
            f"unknown source {name!r}. Known: {', '.join(SOURCES)}, integers (int8, uint4, ...) and formats of at most "
            f"{MOST_CODE_BITS} bits ('mpsim formats' lists them)"
        )
    if format.bits > MOST_CODE_BITS:
        raise UsageError(f"source {name!r} has {format.bits} bits; codes of at most {MOST_CODE_BITS} bits are a source")
    return Source(name)


def as_float_source(name: str | Source) -> Source:
    """Returns a source that is a float. Raises UsageError for others."""
    source = as_source(name)
    if not source.is_float:
        raise UsageError(f"the source must be one of {', '.join(FLOATS)} here, got {source.name!r}")
    return source
