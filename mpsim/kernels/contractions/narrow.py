"""Sums in a narrow format: the numbers a kernel needs to round an exact sum to it in a few float64 operations.

The sum of acc (in the format) and an exact product (48 bits, a float64) may need more than 53 bits. So it is
first rounded *to odd* to float64 (IEEE 754-2019 knows the method as roundTowardZero plus a sticky bit): s = fl(x + y),
the error e = x + y - s is exact (TwoSum, Knuth, TAOCP 4.2.2; nothing overflows, and every sum is a multiple of
2**-298, so nothing underflows), and if e is not 0 and the last bit of s is even, s moves to its neighbour on e's
side. A number rounded to odd with q bits and then to nearest with p bits is rounded correctly if q >= p + 2
(Boldo and Melquiond 2008): the odd last bit lies below every midpoint and keeps the side. Here q = 53 and
p <= 24; below the format's smallest normal number p only shrinks.

The second rounding: with c = 2**(52 + quantum exponent at s), (|s| + c) - c is |s| rounded to a multiple of the
quantum, to nearest even, as c <= |s| + c < 2c and the float64 numbers there are the multiples of that quantum.
"""

from __future__ import annotations

from typing import NamedTuple

from mpsim.formats import as_format
from mpsim.kernels.spec import own_infinity
from mpsim.products.sums import ROUNDINGS, Sums


class Narrow(NamedTuple):
    """What rounding to nearest even with overflow to infinity needs to know of a format."""

    least_exponent: int  # of a normal number, biased as in float64
    shift: int  # biased exponent of c less that of s, for s normal in the format
    low: int  # biased exponent of c below
    largest: float
    beyond: float  # what a larger magnitude becomes: infinity, NaN, or the largest number
    negative_zero: bool

    @staticmethod
    def of(name: str) -> Narrow:
        """The numbers for a signed format that has a zero.

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
    """How a sum is rounded, in numbers. The format of float64 is that of float32 and is not looked at."""

    format: Narrow
    mode: int  # the place in ROUNDINGS
    flush_below: float  # smaller magnitudes become zeros: 0, or the smallest normal number
    random_bits: int
    double: bool

    @staticmethod
    def of(sums: Sums) -> Rounding:
        """The numbers.

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
        """Whether nothing but the format and the direction counts."""
        return self.mode != STOCHASTIC and not self.flush_below and not self.double


NEAREST_EVEN, TOWARD_ZERO, STOCHASTIC = range(len(ROUNDINGS))
