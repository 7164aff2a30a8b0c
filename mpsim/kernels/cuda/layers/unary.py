"""The functions of one float64 number: the same operations as in mpsim/kernels/elementary/functions.py."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.cuda.device.intrinsics import add64_rn, div64_rn, mul64_rn, sqrt64_rn, sub64_rn
from mpsim.kernels.cuda.device.launch import device_function
from mpsim.kernels.cuda.layers.elementary import exp64, log64
from mpsim.kernels.elementary import functions as defined
from mpsim.kernels.elementary.exp_log import ROOT_HALF
from mpsim.kernels.elementary.functions import NUMBER

ERFC_TERMS, ERFC_CENTER, ERFC_LARGEST = defined.ERFC_TERMS, defined.ERFC_CENTER, defined.ERFC_LARGEST
ERF_TERMS, ERF_SERIES, ERF_SLOPE = defined.ERF_TERMS, defined.ERF_SERIES, defined.ERF_SLOPE
TANH_TERMS, TANH_SERIES, DENSITY = defined.TANH_TERMS, defined.TANH_SERIES, defined.DENSITY
GELU_FACTOR, GELU_CUBIC, GELU_CUBIC_3 = defined.GELU_FACTOR, defined.GELU_CUBIC, 3.0 * defined.GELU_CUBIC
(
    EXP, LOG, SQRT, ERF, TANH, SIGMOID, SOFTPLUS, SILU, GELU, GELU_TANH, INVERSE_ROOT, SHIFT, CLAMP, LEAKY,
    HARD_SIGMOID, HARD_SWISH, ERF_DERIVATIVE, TANH_OUTPUT, SIGMOID_OUTPUT, SILU_SLOPE, GELU_SLOPE, GELU_TANH_SLOPE,
    CLAMP_SLOPE, LEAKY_SLOPE, HARD_SIGMOID_SLOPE, HARD_SWISH_SLOPE,
) = NUMBER.values()  # fmt: skip
#: The functions of ``slope`` and of ``in_pieces``. All others are in ``smooth``.
SLOPES = (ERF_DERIVATIVE, TANH_OUTPUT, SIGMOID_OUTPUT, SILU_SLOPE, GELU_SLOPE, GELU_TANH_SLOPE)
PIECES = (CLAMP, LEAKY, HARD_SIGMOID, HARD_SWISH, CLAMP_SLOPE, LEAKY_SLOPE, HARD_SIGMOID_SLOPE, HARD_SWISH_SLOPE)


@device_function
def magnitude(x):
    """Computes |x|."""
    return -x if x < 0.0 else x


@device_function
def scaled_erfc(u):
    """Computes exp(u*u) * erfc(u) for u >= 0."""
    u = ERFC_LARGEST if u > ERFC_LARGEST else u
    s = div64_rn(sub64_rn(u, ERFC_CENTER), add64_rn(u, ERFC_CENTER))
    p = ERFC_TERMS[0]
    for k in range(1, len(ERFC_TERMS)):
        p = add64_rn(mul64_rn(p, s), ERFC_TERMS[k])
    return div64_rn(p, add64_rn(1.0, mul64_rn(2.0, u)))


@device_function
def erf(x):
    """Computes the error function."""
    u, z = magnitude(x), mul64_rn(x, x)
    p = ERF_TERMS[0]
    for k in range(1, len(ERF_TERMS)):
        p = add64_rn(mul64_rn(p, z), ERF_TERMS[k])
    large = sub64_rn(1.0, mul64_rn(exp64(-z), scaled_erfc(u)))
    return mul64_rn(x, p) if u < ERF_SERIES else -large if x < 0.0 else large


@device_function
def tanh(x):
    """Computes the hyperbolic tangent."""
    u, z = magnitude(x), mul64_rn(x, x)
    p = TANH_TERMS[0]
    for k in range(1, len(TANH_TERMS)):
        p = add64_rn(mul64_rn(p, z), TANH_TERMS[k])
    t = exp64(mul64_rn(-2.0, u))
    large = div64_rn(sub64_rn(1.0, t), add64_rn(1.0, t))
    return mul64_rn(x, add64_rn(1.0, mul64_rn(z, p))) if u < TANH_SERIES else -large if x < 0.0 else large


@device_function
def over_one_and_exp(x, v):
    """Computes x / (1 + exp(-v))."""
    return div64_rn(x, add64_rn(1.0, exp64(-v)))


@device_function
def softplus(x):
    """Computes max(x, 0) + log(1 + exp(-|x|))."""
    e = exp64(-magnitude(x))
    w = add64_rn(1.0, e)
    rest = e if w == 1.0 else mul64_rn(log64(w), div64_rn(e, sub64_rn(w, 1.0)))
    return add64_rn(x if x > 0.0 else 0.0, rest)


@device_function
def normal_distribution(x):
    """Computes the normal distribution function."""
    e = exp64(mul64_rn(-0.5, mul64_rn(x, x)))
    q = mul64_rn(mul64_rn(0.5, e), scaled_erfc(mul64_rn(ROOT_HALF, magnitude(x))))
    return q if x < 0.0 else sub64_rn(1.0, q)


@device_function
def inner(x):
    """Computes the argument of the sigmoid in gelu_tanh."""
    cube = mul64_rn(mul64_rn(x, x), x)
    return mul64_rn(GELU_FACTOR, add64_rn(x, mul64_rn(GELU_CUBIC, cube)))


@device_function
def clamp(x, low, high):
    """Computes low below it, high above it, else x."""
    return low if x < low else high if x > high else x


@device_function
def between(x, low, high):
    """Computes 0 for x <= low and x >= high, else 1."""
    return 0.0 if x <= low or x >= high else 1.0


@device_function
def smooth(k, x, a):
    """Computes function number k, a smooth one."""
    result = add64_rn(x, a)
    if k == EXP:
        result = exp64(x)
    elif k == LOG:
        result = log64(x)
    elif k == SQRT:
        result = sqrt64_rn(x)
    elif k == ERF:
        result = erf(x)
    elif k == TANH:
        result = tanh(x)
    elif k == SIGMOID:
        result = over_one_and_exp(1.0, x)
    elif k == SOFTPLUS:
        result = softplus(x)
    elif k == SILU:
        result = over_one_and_exp(x, x)
    elif k == GELU:
        result = mul64_rn(x, normal_distribution(x))
    elif k == GELU_TANH:
        result = over_one_and_exp(x, inner(x))
    elif k == INVERSE_ROOT:
        result = div64_rn(1.0, sqrt64_rn(x))
    return result


@device_function
def slope(k, x):
    """Computes function number k, the slope of a smooth one."""
    s = over_one_and_exp(1.0, inner(x) if k == GELU_TANH_SLOPE else x)
    rest = sub64_rn(1.0, s)
    if k == ERF_DERIVATIVE:
        result = mul64_rn(ERF_SLOPE, exp64(-mul64_rn(x, x)))
    elif k == TANH_OUTPUT:
        result = sub64_rn(1.0, mul64_rn(x, x))
    elif k == SIGMOID_OUTPUT:
        result = mul64_rn(x, sub64_rn(1.0, x))
    elif k == SILU_SLOPE:
        result = mul64_rn(s, add64_rn(1.0, mul64_rn(x, rest)))
    elif k == GELU_SLOPE:
        density = mul64_rn(DENSITY, exp64(mul64_rn(-0.5, mul64_rn(x, x))))
        result = add64_rn(normal_distribution(x), mul64_rn(x, density))
    else:
        factor = mul64_rn(GELU_FACTOR, add64_rn(1.0, mul64_rn(GELU_CUBIC_3, mul64_rn(x, x))))
        result = add64_rn(s, mul64_rn(x, mul64_rn(mul64_rn(s, rest), factor)))
    return result


@device_function
def in_pieces(k, x, a, b):
    """Computes function number k, a function in pieces or its slope."""
    clamped = clamp(add64_rn(x, 3.0), 0.0, 6.0)
    if k == CLAMP:
        result = clamp(x, a, b)
    elif k == LEAKY:
        result = x if x > 0.0 else mul64_rn(a, x)
    elif k == HARD_SIGMOID:
        result = div64_rn(clamped, 6.0)
    elif k == HARD_SWISH:
        result = div64_rn(mul64_rn(x, clamped), 6.0)
    elif k == CLAMP_SLOPE:
        result = between(x, a, b)
    elif k == LEAKY_SLOPE:
        result = 1.0 if x > 0.0 else a
    elif k == HARD_SIGMOID_SLOPE:
        result = div64_rn(between(x, -3.0, 3.0), 6.0)
    else:
        middle = add64_rn(div64_rn(x, 3.0), 0.5)
        result = 0.0 if x <= -3.0 else 1.0 if x >= 3.0 else middle
    return np.float64(result)
