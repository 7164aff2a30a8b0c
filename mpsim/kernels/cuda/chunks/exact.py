"""Computes exact sums, rounded once. A sum has LIMBS digits of 32 bits, in units of 2**-BASE."""

from __future__ import annotations

import math

import numpy as np

from mpsim.kernels.cuda.device.intrinsics import add64_rn, double_as_long, long_as_double, mul64_rn, to_float32
from mpsim.kernels.cuda.device.launch import device_function

LIMBS, BASE = 19, 298
LOW = 0xFFFFFFFF
#: Float64's bits without the sign.
MAGNITUDE = 0x7FFFFFFFFFFFFFFF


@device_function
def add_exact(limbs, product):
    """Adds a finite product of float32 numbers to the digits."""
    bits = double_as_long(product)
    shift = (bits >> 52 & 2047) - (1023 + 47 - BASE)
    integer = (bits & ((1 << 52) - 1) | 1 << 52) >> 5  # |product| = integer * 2**(shift - BASE)
    if bits & MAGNITUDE == 0:
        integer, shift = np.int64(0), np.int64(0)  # only a zero is subnormal in float64
    if shift < 0:
        integer, shift = integer >> -shift, np.int64(0)
    sign = -1 if bits < 0 else 1
    limb, shift = shift >> 5, shift & 31
    lower, upper = (integer & LOW) << shift, (integer >> 32) << shift
    limbs[limb] += sign * (lower & LOW)
    limbs[limb + 1] += sign * ((lower >> 32) + (upper & LOW))
    limbs[limb + 2] += sign * (upper >> 32)


@device_function
def carry(limbs):
    """Carries until every digit is in 0 .. 2**32 - 1, except the highest, which keeps the sign."""
    for i in range(LIMBS - 1):
        limbs[i + 1] += limbs[i] >> 32
        limbs[i] &= LOW


@device_function
def round_exact(limbs):
    """Rounds the digits' value once to float32: to 53 bits to odd, then to nearest even."""
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
def exact_sum(a, left, a_k, b, right, b_k, first, end, digits, numbers):
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
