"""Defines block formats, one block at a time, in Python integers and fractions.

Source: OCP Microscaling Formats (MX) v1.0, §5 (formats), §6.2 (dot product), §6.3 (conversion from float32); NVIDIA's
description of NVFP4 (blocks of 16, E4M3 scales, one float32 scale per tensor). docs/block_formats.md lists what mpsim
follows in them and what they leave open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels import spec, spec_sums
from mpsim.policies import Mode, Overflow, Policy


class Ends(Protocol):
    """The properties of elements that scale rules use: a format's, or those of integers (mpsim/blocks/elements.py)."""

    @property
    def largest(self) -> float: ...
    @property
    def max_exponent(self) -> int: ...
    @property
    def mantissa_bits(self) -> int: ...


@dataclass(frozen=True)
class BlockFormat:
    """``size`` elements share one scale. With ``tensor_scale`` all elements of a tensor also share one float32 number
    (NVFP4).

    >>> BLOCK_FORMATS["mxfp4"].bits_per_element
    4.25
    """

    name: str
    element: Format
    size: int
    scale: Format
    tensor_scale: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or max(self.element.bits, self.scale.bits) > 8:
            raise UsageError(
                f"block format {self.name!r} needs blocks of at least 1 element, and elements and scales of at most 8 "
                f"bits; got {self.size}, {self.element} and {self.scale}"
            )
        if self.scale.mantissa_bits and not self.tensor_scale:
            raise UsageError(
                f"block format {self.name!r}: a scale with a mantissa needs tensor_scale=True (as in NVFP4), and "
                f"other scales are powers of two (float8_e8m0fnu); got {self.scale}"
            )

    @property
    def bits_per_element(self) -> float:
        """Returns the bits of an element and its share of the scale."""
        return self.element.bits + self.scale.bits / self.size


_E8M0 = FORMATS["float8_e8m0fnu"]

BLOCK_FORMATS = {
    row.name: row
    for row in (
        BlockFormat("mxfp8_e4m3", FORMATS["float8_e4m3fn"], 32, _E8M0),
        BlockFormat("mxfp8_e5m2", FORMATS["float8_e5m2"], 32, _E8M0),
        BlockFormat("mxfp6_e2m3", FORMATS["float6_e2m3fn"], 32, _E8M0),
        BlockFormat("mxfp6_e3m2", FORMATS["float6_e3m2fn"], 32, _E8M0),
        BlockFormat("mxfp4", FORMATS["float4_e2m1fn"], 32, _E8M0),
        BlockFormat("nvfp4", FORMATS["float4_e2m1fn"], 16, FORMATS["float8_e4m3fn"], tensor_scale=True),
    )
}

#: How a power-of-two scale X follows from the largest magnitude of a block; M is the element's largest number, with
#: exponent E, and m its mantissa bits.
SCALE_RULES = {
    "floor": "the largest power of two <= amax, / 2**E (OCP MX v1.0 §6.3)",
    "ceil": "the smallest power of two >= amax, / 2**E",
    "even": "amax is first rounded to m mantissa bits, to nearest even; then as floor",
    "nearest": "the power of two nearest to amax, halfway to the larger, / 2**E",
    "cover": "the smallest power of two with amax / X <= M",
}

SCALE_OVERFLOWS = ("saturate", "nan")


def quantize_block(
    values: Sequence[float],
    format: BlockFormat,
    scale_rule: str = "floor",
    scale_overflow: str = "saturate",
    policy: Policy = Policy(Mode.NEAREST_EVEN, Overflow.SATURATE),
    random_bits: Sequence[int] | None = None,
    tensor_scale: float = 1.0,
) -> tuple[list[float], float]:
    """Returns (elements, scale) of one block as numbers of their formats. A block with NaN or infinity has scale NaN.

    >>> elements, scale = quantize_block([7.0, -0.3], BLOCK_FORMATS["mxfp4"])
    >>> elements, scale
    ([6.0, -0.5], 1.0)
    """
    zeros = [math.copysign(0.0, x) if not math.isnan(x) else 0.0 for x in values]
    if not all(map(math.isfinite, values)):
        return zeros, math.nan
    amax = max((abs(Fraction(x)) for x in values), default=Fraction(0))
    scale = block_scale(amax, format, scale_rule, scale_overflow, tensor_scale)
    if math.isnan(scale) or scale == 0:
        return zeros, scale
    divisor = Fraction(scale) * Fraction(tensor_scale)
    elements = []
    for i, x in enumerate(values):
        bits = None if random_bits is None else random_bits[i]
        elements.append(spec.round_fraction(Fraction(x) / divisor, spec.is_negative(x), format.element, policy, bits))
    return elements, scale


def block_scale(
    amax: Fraction, format: BlockFormat, rule: str = "floor", overflow: str = "saturate", tensor_scale: float = 1.0
) -> float:
    """Returns the scale, a number of the scale's format, of a block whose largest magnitude is ``amax``."""
    if not format.tensor_scale:
        return power_scale(amax, format.element, rule, overflow)
    exact = amax / (Fraction(format.element.largest) * Fraction(tensor_scale))
    policy = Policy(Mode.NEAREST_EVEN, Overflow.SATURATE if overflow == "saturate" else Overflow.INFINITY)
    return spec.round_fraction(exact, False, format.scale, policy)


def power_scale(amax: Fraction, element: Format, rule: str, overflow: str) -> float:
    """Returns a scale in E8M0, 2**-127 to 2**127. Smaller scales, and that of a block of zeros, become the smallest."""
    if amax == 0:
        return 2.0**-127
    exponent = power_exponent(amax, element, rule)
    if exponent > 127 and overflow == "nan":
        return math.nan
    return 2.0 ** min(max(exponent, -127), 127)


def power_exponent(amax: Fraction, element: Ends, rule: str) -> int:
    """Returns the exponent of a rule's scale for a positive ``amax``, without limits."""
    if rule == "even":
        amax = fraction_to_precision(amax, element.mantissa_bits)
    exponent = spec.floor_log2(amax)
    significand = amax / Fraction(2) ** exponent  # in [1, 2)
    largest = Fraction(element.largest) / Fraction(2) ** element.max_exponent
    steps = {
        "floor": False,
        "ceil": significand > 1,
        "even": False,
        "nearest": significand >= Fraction(3, 2),
        "cover": significand > largest,
    }
    return exponent + steps[rule] - element.max_exponent


def fraction_to_precision(x: Fraction, mantissa_bits: int) -> Fraction:
    """Rounds x to nearest even with the given number of bits after the first."""
    quantum = Fraction(2) ** (spec.floor_log2(x) - mantissa_bits)
    return round(x / quantum) * quantum  # Fraction's round: half to even


def dequantize_block(elements: Sequence[float], scale: float, tensor_scale: float = 1.0) -> list[float]:
    """Returns element * scale * tensor scale, rounded once to float32. With a NaN scale, all elements are NaN."""
    found = []
    for element in elements:
        if not (math.isfinite(element) and math.isfinite(scale) and math.isfinite(tensor_scale)):
            found.append(spec.to_float32(element * scale * tensor_scale))
            continue
        product = Fraction(element) * Fraction(scale) * Fraction(tensor_scale)
        negative = spec.is_negative(element) != spec.is_negative(tensor_scale)
        found.append(spec.round_fraction(product, negative, FORMATS["float32"], Policy()))
    return found


def dot(
    a: Sequence[tuple[Sequence[float], float]],
    b: Sequence[tuple[Sequence[float], float]],
    accumulate: str = "exact",
    tensor_scales: tuple[float, float] = (1.0, 1.0),
) -> float:
    """Returns the dot product of two vectors of blocks (elements, scale) in float32 (OCP MX v1.0 §6.2).

    "exact": the sum of all products with their scales, tensor scales included, rounded once. "float32": the exact sum
    of each block with its two scales is added to a float32 total in rising order, from +0, one rounding per block; at
    the end the total is multiplied by float32(product of the tensor scales).
    """
    exact, total, special = Fraction(0), 0.0, 0.0
    for (left, left_scale), (right, right_scale) in zip(a, b, strict=True):
        for x, y in zip(left, right, strict=True):
            if not math.isfinite(x) or not math.isfinite(y):
                special += x * y
        special += 0.0 * left_scale * right_scale  # NaN if a scale is NaN
        if special == 0:
            pairs = zip(left, right, strict=True)
            inside = sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(0))
            term = inside * Fraction(left_scale) * Fraction(right_scale)
            exact += term
            if accumulate == "float32" and math.isfinite(total):
                summed = term + Fraction(total)
                total = spec_sums.rounded(summed, FORMATS["float32"]) if summed else 0.0
            # an infinite total stays: a block's sum is finite
    if special != 0:
        return special
    if accumulate == "exact":
        product = exact * Fraction(tensor_scales[0]) * Fraction(tensor_scales[1])
        return spec_sums.rounded(product, FORMATS["float32"]) if product else 0.0
    return spec.to_float32(total * spec.to_float32(tensor_scales[0] * tensor_scales[1]))


def as_block_format(format: str | BlockFormat) -> BlockFormat:
    """Returns a BlockFormat unchanged, or the format of a name. Raises UsageError, with the known names, for others."""
    if isinstance(format, BlockFormat):
        return format
    return BLOCK_FORMATS[checks.named("block format", format, BLOCK_FORMATS)]


__all__ = [
    "BLOCK_FORMATS", "SCALE_OVERFLOWS", "SCALE_RULES", "BlockFormat", "as_block_format", "as_format", "block_scale",
    "dequantize_block", "dot", "quantize_block",
]  # fmt: skip
