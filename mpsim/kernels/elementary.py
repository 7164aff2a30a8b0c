"""exp and log for every backend: one algorithm in float64, so that rounding its result once gives one float32.

Only + - * / and exact scaling by powers of two, in the order written, without contraction: each of them is
exactly defined by IEEE 754, so every processor computes the same bits. The Numba and C kernels are the same
operations in the same order. After rounding to float32 the error is below 0.51 units in the last place.
"""

from __future__ import annotations

from math import factorial

import numpy as np
from numpy.typing import NDArray

LOG_2 = 0.6931471805599453
INVERSE_LOG_2 = 1.4426950408889634
SQUARE_ROOT_HALF = 0.7071067811865476
#: Arguments of exp64 beyond this are taken as this: far beyond what float32 holds.
EXP_LIMIT = 200.0
#: 1/13!, 1/12!, ... 1/0!: the Taylor series of exp, for Horner's rule.
EXP_COEFFICIENTS = tuple(1.0 / factorial(k) for k in range(13, -1, -1))
#: 1/21, 1/19, ... 1/1: the series of artanh(t) / t in t * t, for Horner's rule.
LOG_COEFFICIENTS = tuple(1.0 / k for k in range(21, 0, -2))


@np.errstate(all="ignore")
def exp64(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """e to the x, relative error about 1e-14, for |x| <= 200 (beyond: as at 200, which float32 does not hold).

    >>> exp64(np.array([0.0, 1.0, -np.inf])).astype(np.float32)
    array([1.       , 2.7182817, 0.       ], dtype=float32)
    """
    x = np.minimum(np.maximum(x, -EXP_LIMIT), EXP_LIMIT)  # NaN stays
    k = np.rint(x * INVERSE_LOG_2)
    r = x - k * LOG_2  # |r| <= 0.35
    p = np.full_like(r, EXP_COEFFICIENTS[0])
    for coefficient in EXP_COEFFICIENTS[1:]:
        p = p * r + coefficient
    return np.ldexp(p, np.where(np.isnan(k), 0, k).astype(np.int32))


@np.errstate(all="ignore")
def log64(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The natural logarithm, relative error about 1e-15; of 0 it is -inf, of a negative number NaN.

    >>> log64(np.array([1.0, 10.0, 0.0])).astype(np.float32)
    array([0.       , 2.3025851,      -inf], dtype=float32)
    """
    m, e = np.frexp(x)  # 0.5 <= m < 1
    low = m < SQUARE_ROOT_HALF
    m = np.where(low, m * 2.0, m)  # 0.707 <= m < 1.414
    k = (e - low).astype(np.float64)
    t = (m - 1.0) / (m + 1.0)
    t2 = t * t
    p = np.full_like(t, LOG_COEFFICIENTS[0])
    for coefficient in LOG_COEFFICIENTS[1:]:
        p = p * t2 + coefficient
    y = k * LOG_2 + (t * 2.0) * p
    y = np.where(x == 0, -np.inf, y)
    y = np.where(x == np.inf, np.inf, y)
    return np.where(x < 0, np.nan, y)
