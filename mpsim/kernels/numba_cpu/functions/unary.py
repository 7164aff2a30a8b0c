"""Computes the functions of one argument.

They follow mpsim/kernels/elementary/ operation by operation.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.elementary import functions as defined
from mpsim.kernels.elementary.exp_log import (
    EXP_LARGEST,
    EXP_SMALLEST,
    EXP_TERMS,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_TERMS,
    ROOT_HALF,
    SHIFTER,
)
from mpsim.kernels.elementary.functions import NUMBER
from mpsim.kernels.numba_cpu.jit import at_most, empty, njit

__all__ = ["unary"]

Array = NDArray[np.float32]
ERFC_TERMS, ERFC_CENTER, ERFC_LARGEST = defined.ERFC_TERMS, defined.ERFC_CENTER, defined.ERFC_LARGEST
ERF_TERMS, ERF_SERIES, ERF_SLOPE = defined.ERF_TERMS, defined.ERF_SERIES, defined.ERF_SLOPE
TANH_TERMS, TANH_SERIES, DENSITY = defined.TANH_TERMS, defined.TANH_SERIES, defined.DENSITY
GELU_FACTOR, GELU_CUBIC, GELU_CUBIC_3 = defined.GELU_FACTOR, defined.GELU_CUBIC, 3.0 * defined.GELU_CUBIC
(
    EXP, LOG, SQRT, ERF, TANH, SIGMOID, SOFTPLUS, SILU, GELU, GELU_TANH, INVERSE_ROOT, SHIFT, CLAMP, LEAKY,
    HARD_SIGMOID, HARD_SWISH, ERF_DERIVATIVE, TANH_OUTPUT, SIGMOID_OUTPUT, SILU_SLOPE, GELU_SLOPE, GELU_TANH_SLOPE,
    CLAMP_SLOPE, LEAKY_SLOPE, HARD_SIGMOID_SLOPE, HARD_SWISH_SLOPE,
) = NUMBER.values()  # fmt: skip


@njit(cache=True)
def horner(terms, s):  # type: ignore[no-untyped-def]
    p = terms[0]
    for term in terms[1:]:
        p = p * s + term
    return p


@njit(cache=True)
def power_of_two(exponent):  # type: ignore[no-untyped-def]
    return np.int64((exponent + 1023) << 52).view(np.float64)


@njit(cache=True)
def exp64(x: float) -> float:
    if not (x >= EXP_SMALLEST and x <= EXP_LARGEST):
        return np.inf if x > 0 else 0.0 if x < 0 else x
    n = (x * LOG2_E + SHIFTER) - SHIFTER
    p = horner(EXP_TERMS, (x - n * LN2_HIGH) - n * LN2_LOW)
    whole = np.int64(n)
    half = whole >> 1
    return (p * power_of_two(half)) * power_of_two(whole - half)


@njit(cache=True, error_model="numpy")
def log64(x: float) -> float:
    if not (x > 0 and x < np.inf):
        return -np.inf if x == 0 else np.nan if x < 0 else x
    f, exponent = math.frexp(x)
    if f < ROOT_HALF:
        f, exponent = 2.0 * f, exponent - 1
    k, s = np.float64(exponent), (f - 1.0) / (f + 1.0)
    z = s * s
    return k * LN2_HIGH + ((2.0 * s + (s * z) * horner(LOG_TERMS, z)) + k * LN2_LOW)


@njit(cache=True, error_model="numpy")
def scaled_erfc(u: float) -> float:
    u = ERFC_LARGEST if u > ERFC_LARGEST else u
    return horner(ERFC_TERMS, (u - ERFC_CENTER) / (u + ERFC_CENTER)) / (1.0 + 2.0 * u)


@njit(cache=True)
def erf(x: float) -> float:
    u, z = abs(x), x * x
    if u < ERF_SERIES:
        return x * horner(ERF_TERMS, z)
    large = 1.0 - exp64(-z) * scaled_erfc(u)
    return -large if x < 0 else large


@njit(cache=True, error_model="numpy")
def tanh(x: float) -> float:
    u, z = abs(x), x * x
    if u < TANH_SERIES:
        return x * (1.0 + z * horner(TANH_TERMS, z))
    t = exp64(-2.0 * u)
    large = (1.0 - t) / (1.0 + t)
    return -large if x < 0 else large


@njit(cache=True, error_model="numpy")
def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + exp64(-x))


@njit(cache=True, error_model="numpy")
def softplus(x: float) -> float:
    e = exp64(-abs(x))
    w = 1.0 + e
    return (x if x > 0 else 0.0) + (e if w == 1.0 else log64(w) * (e / (w - 1.0)))


@njit(cache=True)
def normal_distribution(x: float) -> float:
    q = 0.5 * exp64(-0.5 * (x * x)) * scaled_erfc(ROOT_HALF * abs(x))
    return q if x < 0 else 1.0 - q


@njit(cache=True)
def inner(x: float) -> float:
    return GELU_FACTOR * (x + GELU_CUBIC * (x * x * x))


@njit(cache=True)
def clamp(x: float, low: float, high: float) -> float:
    return low if x < low else high if x > high else x


@njit(cache=True)
def between(x: float, low: float, high: float) -> float:
    return 0.0 if x <= low or x >= high else 1.0


@njit(cache=True, error_model="numpy")
def smooth(k: int, x: float, a: float) -> float:
    """Computes a function whose formula has one piece, or one of the functions above."""
    if k == EXP:
        return exp64(x)
    if k == LOG:
        return log64(x)
    if k == SQRT:
        return np.sqrt(x)
    if k == ERF:
        return erf(x)
    if k == TANH:
        return tanh(x)
    if k == SIGMOID:
        return sigmoid(x)
    if k == SOFTPLUS:
        return softplus(x)
    if k == SILU:
        return x / (1.0 + exp64(-x))
    if k == GELU:
        return x * normal_distribution(x)
    if k == GELU_TANH:
        return x / (1.0 + exp64(-inner(x)))
    if k == INVERSE_ROOT:
        return 1.0 / np.sqrt(x)
    return x + a


@njit(cache=True, error_model="numpy")
def slope(k: int, x: float) -> float:
    """Computes the slope of a smooth function."""
    if k == ERF_DERIVATIVE:
        return ERF_SLOPE * exp64(-(x * x))
    if k == TANH_OUTPUT:
        return 1.0 - x * x
    if k == SIGMOID_OUTPUT:
        return x * (1.0 - x)
    if k == SILU_SLOPE:
        s = sigmoid(x)
        return s * (1.0 + x * (1.0 - s))
    if k == GELU_SLOPE:
        return normal_distribution(x) + x * (DENSITY * exp64(-0.5 * (x * x)))
    s = sigmoid(inner(x))
    return s + x * ((s * (1.0 - s)) * (GELU_FACTOR * (1.0 + GELU_CUBIC_3 * (x * x))))


@njit(cache=True, error_model="numpy")
def in_pieces(k: int, x: float, a: float, b: float) -> float:
    """Computes a function that is linear or quadratic in pieces, or its slope."""
    if k == CLAMP:
        return clamp(x, a, b)
    if k == LEAKY:
        return x if x > 0 else a * x
    if k == HARD_SIGMOID:
        return clamp(x + 3.0, 0.0, 6.0) / 6.0
    if k == HARD_SWISH:
        return (x * clamp(x + 3.0, 0.0, 6.0)) / 6.0
    if k == CLAMP_SLOPE:
        return between(x, a, b)
    if k == LEAKY_SLOPE:
        return 1.0 if x > 0 else a
    if k == HARD_SIGMOID_SLOPE:
        return between(x, -3.0, 3.0) / 6.0
    return 0.0 if x <= -3.0 else 1.0 if x >= 3.0 else x / 3.0 + 0.5


@njit(cache=True, parallel=True)
def apply_smooth(k: int, x: Array, a: float, y: Array) -> None:
    for i in prange(y.size):
        y[i] = np.float32(smooth(k, np.float64(x[i]), a))


@njit(cache=True, parallel=True)
def apply_slope(k: int, x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = np.float32(slope(k, np.float64(x[i])))


@njit(cache=True, parallel=True)
def apply_pieces(k: int, x: Array, a: float, b: float, y: Array) -> None:
    for i in prange(y.size):
        y[i] = np.float32(in_pieces(k, np.float64(x[i]), a, b))


def unary(
    x: Array, function: str, a: float = 0.0, b: float = 0.0, *, out: Array | None = None, threads: int = 1
) -> Array:
    """Returns the function of each element. ``out`` may be x."""
    k, y = NUMBER[function], empty(x.shape) if out is None else out
    a, b = float(np.float32(a)), float(np.float32(b))
    with at_most(threads):
        if k <= SHIFT:
            apply_smooth(k, x.reshape(-1), a, y.reshape(-1))
        elif ERF_DERIVATIVE <= k <= GELU_TANH_SLOPE:
            apply_slope(k, x.reshape(-1), y.reshape(-1))
        else:
            apply_pieces(k, x.reshape(-1), a, b, y.reshape(-1))
    return y
