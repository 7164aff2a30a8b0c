"""A correct cast from float32 to float8_e4m3 (nearest even), written in integers, and fifteen with one defect each.

Written without mpsim: the subject of a test is not made of what tests it. float8_e4m3: bias 7, 3 mantissa bits,
largest 240 (0x77), infinity 0x78, NaN 0x7c, smallest 2**-9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Mutant(NamedTuple):
    """A defect; the classes it must be found in, each with the pattern of its smallest counterexample; a word of
    the cause that must be named."""

    defect: str
    classes: dict[str, int]
    cause: str


OBSERVED = "unexplained; "
#: 0x3a800000 is 2**-10, half the smallest number: the first tie. 0x43700000 is 240.
MUTANTS = (
    Mutant("ties_away", {"tie": 0x3A800000}, "rounded as nearest_away"),
    Mutant("truncation", {"rounding": 0x3A800001, "overflow_edge": 0x43780000}, "rounded as toward_zero"),
    Mutant("lost_sticky", {"near_tie": 0x3A800001}, "without a sticky bit"),
    Mutant("tolerant_ties", {"near_tie": 0x3A800001}, OBSERVED + "inputs this close to a tie are treated as ties"),
    Mutant("via_float16", {"double_rounding": 0x3A800001}, "float16"),
    Mutant("flushed_results", {"subnormal": 0x3A800001}, "become zero"),
    Mutant("subnormals_truncated", {"subnormal": 0x3A800001}, "rounded as toward_zero, but only below the smallest"),
    Mutant(
        "carry_lost", {"power_of_two_edge": 0x3CF80000, "overflow_edge": 0x43780000}, "the carry from the significand"
    ),
    Mutant(
        "exponent_too_high",
        {"power_of_two_edge": 0x3CF0F0F1, "overflow_edge": 0x4370F0F1},
        OBSERVED + "every result is the neighbour of larger magnitude",
    ),
    Mutant(
        "early_overflow", {"overflow_edge": 0x43700001}, OBSERVED + "beyond the largest number everything overflows"
    ),
    Mutant("saturating", {"overflow_edge": 0x43780000}, "overflow saturate_propagate"),
    Mutant("infinity_to_largest", {"infinity": 0x7F800000}, "infinity becomes the largest number"),
    Mutant("nan_to_infinity", {"nan": 0x7F800001}, "NaN becomes infinity of its sign"),
    Mutant("other_nan_code", {"nan_code": 0x7F800001}, OBSERVED + "NaN has code 0x7f where 0x7c"),
    Mutant("zero_without_sign", {"sign_of_zero": 0x80000000}, "every zero is +0"),
)


def cast(defect: str = "") -> Callable[[Array], Array]:
    """float32 array -> codes of float8_e4m3, with a defect by name, or none."""

    def run(x: Array) -> Array:
        if defect == "via_float16":
            with np.errstate(all="ignore"):
                x = x.astype(np.float16).astype(np.float32)
        pattern = x.view(np.uint32)
        if defect == "lost_sticky":
            pattern = pattern & np.uint32(0xFFFFE000)  # ten mantissa bits are left
        sign = (pattern >> np.uint32(31)).astype(np.int64)
        magnitude = (pattern & np.uint32(0x7FFFFFFF)).astype(np.int64)
        nan = (x.view(np.uint32) & np.uint32(0x7FFFFFFF)) > 0x7F800000
        infinite = magnitude == 0x7F800000
        code = _finite(magnitude, defect)
        code = np.where(code > 0x77, 0x77 if defect == "saturating" else 0x78, code)
        if defect == "early_overflow":
            code = np.where(magnitude > 0x43700000, 0x78, code)
        code = np.where(infinite, 0x77 if defect == "infinity_to_largest" else 0x78, code)
        code = np.where(nan, {"nan_to_infinity": 0x78, "other_nan_code": 0x7F}.get(defect, 0x7C), code)
        if defect == "zero_without_sign":
            sign = np.where(code == 0, 0, sign)
        return (code | sign << 7).astype(np.uint8)

    return run


def _finite(magnitude: Array, defect: str) -> Array:
    """Codes of finite magnitudes, by pattern; more than 0x77 for overflow."""
    exponent = (magnitude >> 23) - 127
    significand = (magnitude & 0x7FFFFF) | np.where(exponent > -127, 1 << 23, 0)
    subnormal = exponent < -6
    used = np.maximum(exponent, -6)
    if defect == "exponent_too_high":  # of x * (1 + 1/16): wrong just below a power of two
        used = np.maximum(used, exponent + (significand * 17 >= 1 << 28))
    shift = np.minimum(20 + used - exponent, 40)
    keep, discarded = significand >> shift, significand & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    up = (discarded > half) | ((discarded == half) & (keep % 2 == 1))
    if defect == "ties_away":
        up = discarded >= half
    elif defect == "truncation":
        up &= False
    elif defect == "subnormals_truncated":
        up &= ~subnormal
    elif defect == "tolerant_ties":
        tie = np.abs(discarded - half) * 1_000_000 < 1 << shift
        up = np.where(tie, keep % 2 == 1, discarded > half)
    keep = keep + up
    if defect == "flushed_results":
        keep = np.where(subnormal & (keep < 8), 0, keep)
    elif defect == "carry_lost":
        keep = np.where(keep == 16, 8, keep)
    return keep + ((used + 6) << 3)
