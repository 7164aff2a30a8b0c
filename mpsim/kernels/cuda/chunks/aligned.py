"""Sums aligned terms, as tensor cores do."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mpsim.kernels.cuda.device.intrinsics import (
    add64_rn,
    double_as_long,
    float_as_int,
    int_as_float,
    long_as_double,
    mul64_rn,
    sub64_rn,
    to_float32,
)
from mpsim.kernels.cuda.device.launch import device_function

#: Float64's exponent bits.
EXPONENT_BITS = 0x7FF0000000000000


class Numbers(NamedTuple):
    """The parameters of an instruction: these and the fields of Narrow."""

    terms: int
    quantum: float  # 2**-fraction_bits
    least_left: float
    least_right: float
    least_sum: float
    least_scale: float  # the least power of two that terms are aligned to
    mask_left: int  # the bits that stay of float32 operands
    mask_right: int
    toward_zero: bool
    least_exponent: int
    shift: int
    low: int
    largest: float
    beyond: float
    negative_zero: bool


@device_function
def masked(x, mask):
    """Returns a float32 number with fewer significand bits, as float64."""
    return np.float64(x) if math.isnan(x) else np.float64(int_as_float(np.int32(float_as_int(x) & mask)))


@device_function
def scale(x, least):
    """Returns 2**exponent(x), at least ``least``, or 0 for a zero."""
    power = long_as_double(double_as_long(x) & EXPONENT_BITS)
    return 0.0 if x == 0.0 else max(power, least)


@device_function
def truncated(x, quantum):
    """Truncates x to a multiple of the quantum: rounds to nearest and subtracts the quantum where that rounded up."""
    magnitude, shifter = abs(x), mul64_rn(quantum, 2.0**52)
    part = sub64_rn(add64_rn(magnitude, shifter), shifter)
    return math.copysign(sub64_rn(part, quantum) if part > magnitude else part, x)


@device_function
def round_sum(s, n):
    """Rounds a finite float64 number once to the accumulator's format. The result is never -0."""
    magnitude = abs(s)
    exponent = double_as_long(magnitude) >> 52
    c = long_as_double((n.low if exponent < n.least_exponent else exponent + n.shift) << 52)
    rounded = sub64_rn(add64_rn(magnitude, c), c)
    if n.toward_zero and rounded > magnitude:
        rounded = sub64_rn(rounded, mul64_rn(c, 2.0**-52))
    return add64_rn(math.copysign(n.beyond if rounded > n.largest else rounded, s), 0.0)


@device_function
def instruction(a, left, a_k, b, right, b_k, first, end, c, n):
    """Adds the products of k from ``first`` to ``end`` to c in one aligned sum."""
    top, plain = max(scale(c, n.least_sum), n.least_scale), c
    for k in range(first, end):
        x, y = masked(a[left + a_k[k]], n.mask_left), masked(b[right + b_k[k]], n.mask_right)
        top = max(top, mul64_rn(scale(x, n.least_left), scale(y, n.least_right)))
        plain = add64_rn(plain, mul64_rn(x, y))
    if not math.isfinite(plain):  # an operand is infinite or NaN: these sums are too short to overflow
        return plain if math.isnan(plain) else math.copysign(n.beyond, plain)
    quantum = mul64_rn(top, n.quantum)
    total = add64_rn(0.0, truncated(c, quantum))
    for k in range(first, end):
        x, y = masked(a[left + a_k[k]], n.mask_left), masked(b[right + b_k[k]], n.mask_right)
        total = add64_rn(total, truncated(mul64_rn(x, y), quantum))
    return round_sum(total, n)


@device_function
def aligned_sum(a, left, a_k, b, right, b_k, first, end, digits, n):
    total = 0.0
    for start in range(first, end, n.terms):
        total = instruction(a, left, a_k, b, right, b_k, start, min(start + n.terms, end), total, n)
    return to_float32(total)  # exact
