"""Computes exp and log.

They use only float64 + - * / (each rounded once to nearest even, without contraction) and exact scaling by powers of
two. A backend repeats ``exp64`` and ``log64`` in its own language, constant by constant and operation by operation. The
relative error is below 2**-50, so exp32 and log32 are within 0.5000001 ulp of float32.
"""

from __future__ import annotations

import numpy as np

from mpsim.process import in_default_environment

LOG2_E = float.fromhex("0x1.71547652b82fep+0")
LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")  # 42 bits: its product with an 11-bit integer is exact
LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")
SHIFTER = float.fromhex("0x1.8p+52")  # t + SHIFTER - SHIFTER is t rounded to an integer, to nearest even
ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
EXP_LARGEST = float.fromhex("0x1.62e42fefa39efp+9")  # above: infinity
EXP_SMALLEST = float.fromhex("-0x1.74910d52d3051p+9")  # below: zero

#: 1 / n! for n = 13 down to 0.
EXP_TERMS = tuple(
    map(
        float.fromhex,
        (
            "0x1.6124613a86d09p-33", "0x1.1eed8eff8d898p-29", "0x1.ae64567f544e4p-26", "0x1.27e4fb7789f5cp-22",
            "0x1.71de3a556c734p-19", "0x1.a01a01a01a01ap-16", "0x1.a01a01a01a01ap-13", "0x1.6c16c16c16c17p-10",
            "0x1.1111111111111p-7", "0x1.5555555555555p-5", "0x1.5555555555555p-3", "0x1.0p-1", "0x1.0p+0", "0x1.0p+0",
        ),
    )
)  # fmt: skip
#: 2 / (2n + 1) for n = 11 down to 1.
LOG_TERMS = tuple(
    map(
        float.fromhex,
        (
            "0x1.642c8590b2164p-4", "0x1.8618618618618p-4", "0x1.af286bca1af28p-4", "0x1.e1e1e1e1e1e1ep-4",
            "0x1.1111111111111p-3", "0x1.3b13b13b13b14p-3", "0x1.745d1745d1746p-3", "0x1.c71c71c71c71cp-3",
            "0x1.2492492492492p-2", "0x1.999999999999ap-2", "0x1.5555555555555p-1",
        ),
    )
)  # fmt: skip


@in_default_environment
def exp64(x: np.ndarray) -> np.ndarray:
    """Returns e**x, float64 -> float64: infinity above EXP_LARGEST, zero below EXP_SMALLEST. NaN stays.

    n = x*LOG2_E + SHIFTER - SHIFTER; r = (x - n*LN2_HIGH) - n*LN2_LOW; p by Horner's rule over EXP_TERMS,
    p = p*r + term. The result is (p * 2**h) * 2**(n - h), h = floor(n / 2).

    >>> exp64(np.array([0.0, 1.0, -np.inf]))
    array([1.        , 2.71828183, 0.        ])
    """
    inside = (x >= EXP_SMALLEST) & (x <= EXP_LARGEST)
    t = np.where(inside, x, 0.0)
    n = (t * LOG2_E + SHIFTER) - SHIFTER
    r = (t - n * LN2_HIGH) - n * LN2_LOW
    p = np.full_like(t, EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        p = p * r + term
    whole = n.astype(np.int64)
    half = whole >> 1
    with np.errstate(under="ignore"):
        result = np.ldexp(np.ldexp(p, half), whole - half)
    return np.where(inside, result, np.where(x > 0, np.inf, np.where(x < 0, 0.0, x)))


def log64(x: np.ndarray) -> np.ndarray:
    """Returns the natural logarithm, float64 -> float64: -infinity of zero, NaN of negative numbers. Infinity stays.

    x = f * 2**k, ROOT_HALF <= f < 2 * ROOT_HALF; s = (f - 1) / (f + 1); z = s*s; p by Horner's rule over
    LOG_TERMS, p = p*z + term. The result is k*LN2_HIGH + ((2*s + (s*z)*p) + k*LN2_LOW).

    >>> log64(np.array([1.0, 10.0, 0.0]))
    array([0.        , 2.30258509,       -inf])
    """
    inside = (x > 0) & (x < np.inf)
    f, exponent = np.frexp(np.where(inside, x, 1.0))
    small = f < ROOT_HALF
    f = np.where(small, 2.0 * f, f)
    k = (exponent - small).astype(np.float64)
    s = (f - 1.0) / (f + 1.0)
    z = s * s
    p = np.full_like(f, LOG_TERMS[0])
    for term in LOG_TERMS[1:]:
        p = p * z + term
    result = k * LN2_HIGH + ((2.0 * s + (s * z) * p) + k * LN2_LOW)
    outside = np.where(x == 0, -np.inf, np.where(x < 0, np.nan, x))
    return np.where(inside, result, outside)


def exp32(x: np.ndarray) -> np.ndarray:
    """Returns float32(exp64(x)), float32 -> float32."""
    with np.errstate(over="ignore", under="ignore"):
        return exp64(x.astype(np.float64)).astype(np.float32)


def log32(x: np.ndarray) -> np.ndarray:
    """Returns float32(log64(x)), float32 -> float32."""
    return log64(x.astype(np.float64)).astype(np.float32)
