"""How dot products are summed on a device where each output is one thread's: every accumulator.

A kind of sum is two device functions: one for the sum of a chunk, one that adds the next chunk's to a total.
mpsim/kernels/narrow.py tells why a sum rounded to odd and then to the narrow format is rounded once,
mpsim/kernels/reference/exact.py what the digits of an exact sum are, and mpsim/kernels/reference/aligned.py why
instructions of tensor cores are exact in float64.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mpsim.accumulators import Accumulator
from mpsim.formats import as_format
from mpsim.kernels.cuda.intrinsics import (
    add64_rn,
    add_rn,
    double_as_long,
    float_as_int,
    fma_rn,
    int_as_float,
    long_as_double,
    mul64_rn,
    mul_rn,
    sub64_rn,
    to_float32,
)
from mpsim.kernels.cuda.launch import device_function
from mpsim.kernels.narrow import Narrow

MAGNITUDE = 0x7FFFFFFFFFFFFFFF
EXPONENT_BITS = 0x7FF0000000000000
LIMBS, BASE = 19, 298
LOW = 0xFFFFFFFF


class Nothing(NamedTuple):
    """The numbers of an accumulator that needs none."""

    none: int = 0


class Numbers(NamedTuple):
    """What an instruction of kind "aligned" needs to know: these, and the fields of Narrow."""

    terms: int
    quantum: float  # 2**-fraction_bits
    least_input: float
    least_sum: float
    least_scale: float  # terms are aligned to this power of two at least
    mask: int  # of the bits of float32 operands
    toward_zero: bool
    least_exponent: int
    shift: int
    low: int
    largest: float
    beyond: float
    negative_zero: bool

    @staticmethod
    def of(accumulator: Accumulator) -> Numbers:
        """The numbers of an accumulator."""
        inputs, format = as_format(accumulator.inputs), as_format(accumulator.format)
        return Numbers(
            accumulator.terms,
            2.0**-accumulator.fraction_bits,
            2.0**inputs.min_exponent,
            2.0**format.min_exponent,
            accumulator.least_scale,
            -1 << (23 - min(inputs.mantissa_bits, 23)),
            accumulator.rounding == "toward_zero",
            *Narrow.of(accumulator.format),
        )


@lru_cache(maxsize=256)
def numbers_of(accumulator: Accumulator) -> tuple[str, Any]:
    """The kind of sum, a key of KINDS, and the numbers that it takes."""
    if accumulator.kind == "exact":
        return "exact", Nothing()
    if accumulator.kind == "aligned":
        return "aligned", Numbers.of(accumulator)
    if accumulator.format != "float32":
        return "narrow", Narrow.of(accumulator.format)
    return ("fused" if accumulator.fma else "separate"), Nothing()


# -- float32, one element after another -----------------------------------------------------------------------


@device_function
def fused_sum(a, left, a_k, b, right, b_k, first, end, digits, numbers):  # type: ignore[no-untyped-def]
    """The sum over k from ``first`` to ``end`` of a[left + a_k[k]] * b[right + b_k[k]]; so every one of KINDS.

    ``digits`` is room for LIMBS integers, which exact sums need.
    """
    total = np.float32(0)
    for k in range(first, end):
        total = fma_rn(a[left + a_k[k]], b[right + b_k[k]], total)
    return total


@device_function
def separate_sum(a, left, a_k, b, right, b_k, first, end, digits, numbers):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for k in range(first, end):
        total = add_rn(total, mul_rn(a[left + a_k[k]], b[right + b_k[k]]))
    return total


@device_function
def add_float32(total, part, numbers):  # type: ignore[no-untyped-def]
    return add_rn(total, part)


# -- narrow formats: each sum is rounded once ------------------------------------------------------------------


@device_function
def sum_narrow(x, y, n):  # type: ignore[no-untyped-def]
    """x + y of float64 numbers rounded once to a narrow format, nearest even (fields of Narrow)."""
    s = add64_rn(x, y)
    carried = sub64_rn(s, x)
    error = add64_rn(sub64_rn(x, sub64_rn(s, carried)), sub64_rn(y, carried))
    bits = double_as_long(s)
    if bits & 1 == 0 and (error > 0 or error < 0):
        bits += 1 if (error > 0) == (s > 0) else -1  # to odd
    exponent = bits >> 52 & 2047
    c = long_as_double((n.low if exponent < n.least_exponent else exponent + n.shift) << 52)  # infinity stays
    rounded = sub64_rn(add64_rn(long_as_double(bits & MAGNITUDE), c), c)
    signed = math.copysign(n.beyond if rounded > n.largest else rounded, s)
    return signed if n.negative_zero else add64_rn(signed, 0.0)


@device_function
def narrow_sum(a, left, a_k, b, right, b_k, first, end, digits, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(first, end):
        product = mul64_rn(np.float64(a[left + a_k[k]]), np.float64(b[right + b_k[k]]))
        total = sum_narrow(product, total, n)
    return to_float32(total)  # exact


@device_function
def add_narrow(total, part, n):  # type: ignore[no-untyped-def]
    return to_float32(sum_narrow(np.float64(total), np.float64(part), n))


# -- exact: one rounding in all ---------------------------------------------------------------------------------


@device_function
def add_exact(limbs, product):  # type: ignore[no-untyped-def]
    """Adds a finite product of float32 numbers to the digits."""
    bits = double_as_long(product)
    shift = (bits >> 52 & 2047) - (1023 + 47 - BASE)
    integer = (bits & ((1 << 52) - 1) | 1 << 52) >> 5  # |product| = integer * 2**(shift - BASE)
    if bits & MAGNITUDE == 0:
        integer, shift = np.int64(0), np.int64(0)  # no other product is subnormal in float64
    if shift < 0:
        integer, shift = integer >> -shift, np.int64(0)
    sign = -1 if bits < 0 else 1
    limb, shift = shift >> 5, shift & 31
    lower, upper = (integer & LOW) << shift, (integer >> 32) << shift
    limbs[limb] += sign * (lower & LOW)
    limbs[limb + 1] += sign * ((lower >> 32) + (upper & LOW))
    limbs[limb + 2] += sign * (upper >> 32)


@device_function
def carry(limbs):  # type: ignore[no-untyped-def]
    """Brings every digit but the highest, which keeps the sign, into 0 .. 2**32 - 1."""
    for i in range(LIMBS - 1):
        limbs[i + 1] += limbs[i] >> 32
        limbs[i] &= LOW


@device_function
def round_exact(limbs):  # type: ignore[no-untyped-def]
    """The digits' value rounded once to float32: to odd to 53 bits, then to nearest even."""
    carry(limbs)
    negative = limbs[LIMBS - 1] < 0
    if negative:
        for i in range(LIMBS):
            limbs[i] = -limbs[i]
        carry(limbs)
    top = LIMBS - 1
    while top > 1 and limbs[top] == 0:
        top -= 1
    high = np.uint64(limbs[top]) << np.uint64(32) | np.uint64(limbs[top - 1])
    sticky = False
    for i in range(top - 1):
        sticky |= limbs[i] != 0
    if high >= np.uint64(1 << 53):
        sticky |= high & np.uint64(2047) != np.uint64(0)
        high = (high >> np.uint64(11) | np.uint64(sticky)) << np.uint64(11)
    else:
        high |= np.uint64(sticky)
    power = long_as_double(np.int64(32 * (top - 1) - BASE + 1023) << 52)
    magnitude = mul64_rn(np.float64(high), power)  # exact
    return to_float32(-magnitude if negative else magnitude)


@device_function
def exact_sum(a, left, a_k, b, right, b_k, first, end, digits, numbers):  # type: ignore[no-untyped-def]
    for i in range(LIMBS):
        digits[i] = 0
    special = 0.0
    for k in range(first, end):
        product = mul64_rn(np.float64(a[left + a_k[k]]), np.float64(b[right + b_k[k]]))
        if math.isfinite(product):
            add_exact(digits, product)
        else:
            special = add64_rn(special, product)
    return round_exact(digits) if special == 0.0 else to_float32(special)


# -- aligned: as tensor cores sum -------------------------------------------------------------------------------


@device_function
def masked(x, mask):  # type: ignore[no-untyped-def]
    """A float32 number with fewer significand bits, as float64."""
    return np.float64(x) if math.isnan(x) else np.float64(int_as_float(np.int32(float_as_int(x) & mask)))


@device_function
def scale(x, least):  # type: ignore[no-untyped-def]
    """2**exponent(x), at least ``least``; 0 for zeros."""
    power = long_as_double(double_as_long(x) & EXPONENT_BITS)
    return 0.0 if x == 0.0 else max(power, least)


@device_function
def truncated(x, quantum):  # type: ignore[no-untyped-def]
    """x toward zero to a multiple of the quantum: rounded to nearest, less the quantum where that went up."""
    magnitude, shifter = abs(x), mul64_rn(quantum, 2.0**52)
    part = sub64_rn(add64_rn(magnitude, shifter), shifter)
    return math.copysign(sub64_rn(part, quantum) if part > magnitude else part, x)


@device_function
def round_sum(s, n):  # type: ignore[no-untyped-def]
    """A finite float64 number rounded once to the format of the accumulator; never -0."""
    magnitude = abs(s)
    exponent = double_as_long(magnitude) >> 52
    c = long_as_double((n.low if exponent < n.least_exponent else exponent + n.shift) << 52)
    rounded = sub64_rn(add64_rn(magnitude, c), c)
    if n.toward_zero and rounded > magnitude:
        rounded = sub64_rn(rounded, mul64_rn(c, 2.0**-52))
    return add64_rn(math.copysign(n.beyond if rounded > n.largest else rounded, s), 0.0)


@device_function
def instruction(a, left, a_k, b, right, b_k, first, end, c, n):  # type: ignore[no-untyped-def]
    """The next c."""
    top, plain = max(scale(c, n.least_sum), n.least_scale), c
    for k in range(first, end):
        x, y = masked(a[left + a_k[k]], n.mask), masked(b[right + b_k[k]], n.mask)
        top = max(top, mul64_rn(scale(x, n.least_input), scale(y, n.least_input)))
        plain = add64_rn(plain, mul64_rn(x, y))
    if not math.isfinite(plain):  # an infinity or NaN took part: these sums are too short to overflow
        return plain if math.isnan(plain) else math.copysign(n.beyond, plain)
    quantum = mul64_rn(top, n.quantum)
    total = add64_rn(0.0, truncated(c, quantum))
    for k in range(first, end):
        x, y = masked(a[left + a_k[k]], n.mask), masked(b[right + b_k[k]], n.mask)
        total = add64_rn(total, truncated(mul64_rn(x, y), quantum))
    return round_sum(total, n)


@device_function
def aligned_sum(a, left, a_k, b, right, b_k, first, end, digits, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for start in range(first, end, n.terms):
        total = instruction(a, left, a_k, b, right, b_k, start, min(start + n.terms, end), total, n)
    return to_float32(total)  # exact


#: kind -> (sum of a chunk, sum of a total and a chunk's sum, numbers of some accumulator of the kind)
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "fused": (fused_sum, add_float32, Nothing()),
    "separate": (separate_sum, add_float32, Nothing()),
    "narrow": (narrow_sum, add_narrow, Narrow.of("bfloat16")),
    "exact": (exact_sum, add_float32, Nothing()),
    "aligned": (aligned_sum, add_float32, Numbers.of(Accumulator(kind="aligned"))),
}
