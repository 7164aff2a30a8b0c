"""Orders of summation that align terms to a common exponent before they add them, as matrix instructions do, as data.

``mpsim.kernels.spec_sums`` defines the result of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.products.partitions import MOST as MOST_CHUNK
from mpsim.products.partitions import Partition, Whole
from mpsim.products.sums import DIRECTED, FLOAT32, Sums

STARTS = ("zero", "first")
#: Terms that are added exactly before a sum is rounded.
MOST_TOGETHER = 1 << 20
#: The exponent of a c of zero in float32 sums, as an H200 has it (docs/hardware.md).
LEAST_ALIGNMENT = -133
#: Stands for no least exponent in kernels: products of float32 numbers have exponents of -252 at least.
NO_LEAST_EXPONENT = -300
#: Bits of a float64 number, in which kernels hold exact sums.
DOUBLE_BITS = 53


@dataclass(frozen=True)
class Aligned:
    """A chain of instructions, as tensor cores sum (Xie et al. 2025, arXiv:2511.10909).

    Each takes ``terms`` consecutive products: these and the sum so far, c, all exact, are truncated toward zero to
    multiples of 2**(E - fraction_bits), E being the largest exponent among those that are not zero, and at least
    ``least_exponent`` (None: no least), and added exactly; the sum is rounded once to the next c, and +0 where it is
    zero. A product's exponent is the sum of its operands' exponents, each at least the smallest normal exponent of
    the operand's format, c's at least that of the format of the sums. c starts at +0, or with ``start="first"`` at the
    first term, rounded: the C that an instruction is given.
    """

    terms: int = 16
    fraction_bits: int = 24
    sums: Sums = FLOAT32
    least_exponent: int | None = LEAST_ALIGNMENT
    start: str = "zero"

    def __post_init__(self) -> None:
        _check_sums(self.sums, self.start)
        checks.whole("terms", self.terms, least=1, most=MOST_CHUNK)
        checks.whole("fraction_bits", self.fraction_bits, least=1, most=51)
        _check_least(self.least_exponent)
        if self.fraction_bits + 2 + (self.terms + 1).bit_length() > 53:  # then float64 holds every sum
            raise UsageError(f"{self.terms} terms of {self.fraction_bits} fraction bits need more than 53 bits")

    @property
    def least_scale(self) -> float:
        """2**least_exponent, or a power of two below every product where there is no least."""
        return 2.0 ** (NO_LEAST_EXPONENT if self.least_exponent is None else self.least_exponent)


@dataclass(frozen=True)
class AlignedLate:
    """A chain of instructions that align their products first and c afterwards, as AMD's CDNA3 (Xie et al. 2025).

    Each takes ``terms`` consecutive products. Those of each group of ``parts`` are truncated as in ``Aligned``, to
    multiples of 2**(E - fraction_bits) of the group's largest exponent E, and added exactly. The groups' sums are
    rounded down to multiples of 2**(E - fraction_bits) of the largest of all E, and added. T is the larger of this E
    and the exponent of c. The sum is rounded down to a multiple of 2**(T - sum_bits - 1), c to one of
    2**(T - fraction_bits), and they are added exactly. This is rounded down to ``sum_bits`` bits below its leading one,
    and then by ``sums`` to the next c. Where ``reach`` is given, a c with an exponent below T - reach is left out.
    Exponents are those of ``Aligned``; that of a c of zero is the least one of its format. A product of a magnitude of
    2**128 or more is infinite.
    """

    terms: int = 8
    fraction_bits: int = 24
    sum_bits: int = 31
    parts: Partition = Whole()
    reach: int | None = None
    sums: Sums = FLOAT32
    start: str = "zero"

    def __post_init__(self) -> None:
        _check_sums(self.sums, self.start)
        checks.whole("terms", self.terms, least=1, most=MOST_TOGETHER)
        checks.whole("fraction_bits", self.fraction_bits, least=1, most=40)
        checks.whole("sum_bits", self.sum_bits, least=1, most=40)
        if self.reach is not None:
            checks.whole("reach", self.reach, least=1, most=100, note=", or None")
        bits = max(self.fraction_bits, self.sum_bits + 1)
        if bits + 3 + (self.terms + 1).bit_length() > 52:  # then float64 holds every sum
            raise UsageError(f"{self.terms} terms of {bits} fraction bits need more than 52 bits")


@dataclass(frozen=True)
class AlignedScaled:
    """A chain of block-scaled instructions: scales of blocks of k act before the alignment, as in ``tcgen05.mma`` and
    ``mma.sync`` with MX and NVFP4 operands (MMA-Sim 2.1.1; Xie et al. 2025).

    Both operands have a scale for each ``block`` of k: block j has the k from j * ``block`` on. Scales are numbers of
    the format ``scales`` that are not negative. Each instruction takes ``terms`` consecutive products.
    ``group=None``: a term is the exact product of both operands and both scales, and its exponent the sum of the four
    exponents. ``group=n``: a term is the exact sum of the products of n consecutive k of one block, times both scales;
    its exponent is the sum of those of the scales alone, wherever one of its products is not zero.
    The terms and c are then aligned, added and rounded as in ``Aligned``. A scale's exponent is at least the smallest
    normal exponent of its format.

    >>> nvfp4 = AlignedScaled(64, 35, 16, 16, "float8_e4m3fn", Sums(rounding="toward_zero"), -139)
    >>> nvfp4.places
    4
    """

    terms: int = 32
    fraction_bits: int = 25
    block: int = 32
    group: int | None = None
    scales: str = "float8_e8m0fnu"
    sums: Sums = FLOAT32
    least_exponent: int | None = LEAST_ALIGNMENT
    start: str = "zero"

    def __post_init__(self) -> None:
        _check_sums(self.sums, self.start)
        checks.whole("terms", self.terms, least=1, most=MOST_CHUNK)
        checks.whole("fraction_bits", self.fraction_bits, least=1, most=48)
        checks.whole("block", self.block, least=1, most=MOST_CHUNK)
        if self.group is not None:
            checks.whole("group", self.group, least=1, most=self.block, note=", or None for no groups")
            if self.block % self.group or self.terms % self.group:
                raise UsageError(
                    f"blocks of {self.block} k and {self.terms} terms are not whole groups of {self.group}"
                )
        _check_least(self.least_exponent)
        if not as_format(self.scales).fits_float32:
            raise UsageError(f"scales format {self.scales!r} has values that float32 cannot hold")

    @property
    def places(self) -> int:
        """How many terms an instruction aligns, c aside."""
        return self.terms // (self.group or 1)

    def check_operands(self, left: str, right: str, rounds: bool, converts: bool) -> None:
        """UsageError for operands whose products with scales float64 cannot hold, as kernels need. left, right: their
        formats. rounds: both are rounded to these. converts: both have the significands of these."""
        if not (converts if self.group is None else rounds):
            how = "read with a conversion" if self.group is None else "rounded to their formats"
            raise UsageError(f"an aligned order with scales takes operands that are {how}")
        formats = as_format(left), as_format(right)
        scale = 2 * (as_format(self.scales).mantissa_bits + 1)
        if self.group is None:
            bits, above = scale + sum(each.mantissa_bits + 1 for each in formats), 4  # four significands below 2
        else:
            largest = math.prod(each.largest for each in formats) * self.group
            quantum = math.prod(2.0**each.quantum_exponent for each in formats)
            bits = scale + math.frexp(largest / quantum)[1]
            above = 2 + math.frexp(largest)[1]
        aligned = self.fraction_bits + above + (self.places + 1).bit_length()
        if max(bits, aligned) > DOUBLE_BITS - 1:
            raise UsageError(
                f"{self.terms} terms of {left} and {right}, scales of {self.scales} and {self.fraction_bits} fraction "
                f"bits need {max(bits, aligned)} bits, more than {DOUBLE_BITS - 1}"
            )

    @property
    def least_scale(self) -> float:
        """2**least_exponent, or a power of two below every term where there is no least."""
        return 2.0 ** (2 * NO_LEAST_EXPONENT if self.least_exponent is None else self.least_exponent)


Chain = Aligned | AlignedLate | AlignedScaled


def _check_sums(sums: Sums, start: str) -> None:
    checks.named("start", start, STARTS)
    if sums.is_double or sums.rounding not in DIRECTED or sums.flush or sums.via:
        raise UsageError("aligned sums are rounded to nearest even or toward zero, to a format that float32 holds")


def _check_least(exponent: int | None) -> None:
    if exponent is not None:
        checks.whole("least_exponent", exponent, least=-252, most=127, note=", or None for no least")
