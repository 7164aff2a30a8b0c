"""Adds products one after another in float32 or a narrower format, and rounds each addition once."""

from __future__ import annotations

import math

import numpy as np

from mpsim.kernels.cuda.device.intrinsics import (
    add64_rn,
    add_rn,
    double_as_long,
    fma_rn,
    long_as_double,
    mul64_rn,
    mul_rn,
    sub64_rn,
    to_float32,
)
from mpsim.kernels.cuda.device.launch import device_function

#: Float64's bits without the sign.
MAGNITUDE = 0x7FFFFFFFFFFFFFFF


@device_function
def fused_sum(a, left, a_k, b, right, b_k, first, end, digits, numbers):
    """Adds each product by a fused multiply-add."""
    total = np.float32(0)
    for k in range(first, end):
        total = fma_rn(a[left + a_k[k]], b[right + b_k[k]], total)
    return total


@device_function
def separate_sum(a, left, a_k, b, right, b_k, first, end, digits, numbers):
    """Rounds each product before adding it."""
    total = np.float32(0)
    for k in range(first, end):
        total = add_rn(total, mul_rn(a[left + a_k[k]], b[right + b_k[k]]))
    return total


@device_function
def add_float32(total, part, numbers):
    return add_rn(total, part)


@device_function
def sum_narrow(x, y, n):
    """Rounds the sum of two float64 numbers once to the narrow format n (a Narrow), to nearest even."""
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
def narrow_sum(a, left, a_k, b, right, b_k, first, end, digits, n):
    total = 0.0
    for k in range(first, end):
        product = mul64_rn(np.float64(a[left + a_k[k]]), np.float64(b[right + b_k[k]]))
        total = sum_narrow(product, total, n)
    return to_float32(total)  # exact


@device_function
def add_narrow(total, part, n):
    return to_float32(sum_narrow(np.float64(total), np.float64(part), n))
