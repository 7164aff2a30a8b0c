"""Computes the numbers with which kernels round an exact sum to a narrow format in a few float64 operations.

The sum of acc (in the format) and an exact product (48 bits, a float64) may need more than 53 bits. It is therefore
first rounded *to odd* to float64 (IEEE 754-2019: roundTowardZero plus a sticky bit). For s = fl(x + y) the error
e = x + y - s is exact (TwoSum, Knuth, TAOCP 4.2.2): nothing overflows, and every sum is a multiple of 2**-298, so
nothing underflows. If e is not 0 and the last bit of s is even, s is replaced by its neighbour in the direction of e. A
number rounded to odd with q bits and then to nearest with p bits is rounded correctly if q >= p + 2 (Boldo and
Melquiond 2008), because the odd last bit is below every midpoint and preserves the side. Here q = 53 and p <= 24. Below
the format's smallest normal number p is smaller.

For the second rounding let c = 2**(52 + quantum exponent at s). Then (|s| + c) - c is |s| rounded to a multiple of the
quantum, to nearest even, because c <= |s| + c < 2c and the float64 numbers there are the multiples of that quantum.
Where it is half a quantum below |s|, which float64 subtraction shows, a tie away from zero is one quantum above it.
"""

from __future__ import annotations

from typing import NamedTuple

from mpsim.formats import as_format
from mpsim.kernels.spec import own_infinity
from mpsim.products.sums import ROUNDINGS, Sums


class Narrow(NamedTuple):
    """The parameters of rounding to a format, with overflow to infinity."""

    least_exponent: int  # of a normal number, biased as in float64
    shift: int  # biased exponent of c minus that of s, if s is normal in the format
    low: int  # biased exponent of c for smaller s
    largest: float
    beyond: float  # the result for a larger magnitude: infinity, NaN, or the largest number
    negative_zero: bool

    @staticmethod
    def of(name: str) -> Narrow:
        """Returns the parameters of a signed format that has a zero.

        >>> Narrow.of("fp_6_9_0").beyond == Narrow.of("fp_6_9_0").largest
        True
        """
        format = as_format(name)
        below = format.quantum_exponent if format.subnormals else format.min_exponent
        beyond = own_infinity(format)
        return Narrow(
            format.min_exponent + 1023,
            52 - format.mantissa_bits,
            below + 52 + 1023,
            format.largest,
            beyond,
            format.has_negative_zero,
        )


class Rounding(NamedTuple):
    """The rounding of a sum as numbers. For float64 the format is float32's and is ignored."""

    format: Narrow
    mode: int  # the index in ROUNDINGS
    flush_below: float  # smaller magnitudes become zeros: 0, or the smallest normal number
    random_bits: int
    double: bool

    @staticmethod
    def of(sums: Sums) -> Rounding:
        """Returns the numbers.

        >>> Rounding.of(Sums("float16", flush=True)).flush_below == 2.0**-14
        True
        """
        format = as_format("float32" if sums.is_double else sums.format)
        narrow = Narrow.of(format.name)
        return Rounding(
            narrow._replace(beyond=narrow.largest) if sums.saturate else narrow,
            ROUNDINGS.index(sums.rounding),
            format.smallest_normal if sums.flush and not sums.is_double else 0.0,
            sums.random_bits or 0,
            sums.is_double,
        )

    @property
    def toward_zero(self) -> bool:
        """Whether sums are truncated."""
        return self.mode == TOWARD_ZERO

    @property
    def plain(self) -> bool:
        """Whether only the format and the direction matter."""
        return self.mode != STOCHASTIC and not self.flush_below and not self.double


NEAREST_EVEN, TOWARD_ZERO, STOCHASTIC, NEAREST_AWAY = range(len(ROUNDINGS))
