"""Computes the functions of one argument that ops use, and the slopes of their derivatives, in float64.

FUNCTIONS has all of them by name. A float32 argument is converted to float64, and the result is rounded once to float32
(``evaluate``). The numbers ``a`` and ``b`` are float32 too. A slope is a factor of a derivative. Slopes whose name ends
in ``_of_output`` take the function's value.

For finite float32 arguments a function (but not a slope) has a relative error below 2**-42 in float64. Its float32
result is therefore within 0.50001 ulp.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpsim.kernels.elementary.exp_log import ROOT_HALF, exp64, log64

#: Coefficients of (1 + 2u) exp(u*u) erfc(u) in powers of s = (u - ERFC_CENTER) / (u + ERFC_CENTER), s**18 down to 1,
#: from its values at the 19 Chebyshev nodes of s. Shepherd and Laframboise, "Chebyshev Approximation of
#: (1+2x)exp(x^2)erfc x in 0 <= x < infinity", 1981, approximate the same function of the same variable.
ERFC_TERMS = tuple(
    map(
        float.fromhex,
        (
            "-0x1.192dc64e1011fp-23", "0x1.ba4e4b2344902p-27", "0x1.9a8415e20188dp-20", "-0x1.248f08aabd4f2p-20",
            "-0x1.7865b28800924p-17", "0x1.797abb6015758p-16", "0x1.b014069c503e5p-15", "-0x1.30529bf6c52b7p-12",
            "0x1.3409afb066dadp-12", "0x1.cc3bd9bc3c64dp-10", "-0x1.3f605696a1d38p-7", "0x1.d0affd06e32d5p-6",
            "-0x1.e0d0f99d41b41p-5", "0x1.7a1418bd7beb8p-4", "-0x1.bda930a00cc37p-4", "0x1.510169cdb96dap-4",
            "0x1.d5f294847c04fp-9", "-0x1.1f367683f284cp-3", "0x1.3ccda0b5d5dc2p+0",
        ),
    )
)  # fmt: skip
ERFC_CENTER, ERFC_LARGEST = 3.75, 30.0
#: 2 / sqrt(pi) * (-1)**n / (n! (2n + 1)) for n = 7 down to 0, and the argument below which the series is used.
ERF_TERMS = tuple(
    map(
        float.fromhex,
        (
            "-0x1.f4d25c3e0c2ebp-17", "0x1.f9a326f9b89b7p-14", "-0x1.c02db40040b86p-11", "0x1.565bcd0e6a53fp-8",
            "-0x1.b82ce31288b51p-6", "0x1.ce2f21a042be2p-4", "-0x1.812746b0379e7p-2", "0x1.20dd750429b6dp+0",
        ),
    )
)  # fmt: skip
ERF_SERIES = 0.25
#: -17/315, 2/15, -1/3, and the argument below which this series is used.
TANH_TERMS = tuple(map(float.fromhex, ("-0x1.ba1ba1ba1ba1cp-5", "0x1.1111111111111p-3", "-0x1.5555555555555p-2")))
TANH_SERIES = 0.03125
#: The slope of erf at 0, 2 / sqrt(pi), and the density of the normal distribution at 0, 1 / sqrt(2 pi).
ERF_SLOPE, DENSITY = ERF_TERMS[-1], float.fromhex("0x1.9884533d43651p-2")
#: gelu_tanh(x) = x * sigmoid(v), v = GELU_FACTOR * (x + GELU_CUBIC * x**3): 2 * sqrt(2 / pi), and 0.044715.
GELU_FACTOR, GELU_CUBIC = float.fromhex("0x1.9884533d43651p+0"), 0.044715

Floats = NDArray[np.float64]


def scaled_erfc(u: Floats) -> Floats:
    """Returns exp(u*u) * erfc(u) for u >= 0, and its value at ERFC_LARGEST beyond.

    s = (u - ERFC_CENTER) / (u + ERFC_CENTER); p by Horner's rule over ERFC_TERMS, p = p*s + term. The result is
    p / (1 + 2*u).

    >>> scaled_erfc(np.array([0.0, 1.0]))
    array([1.        , 0.42758358])
    """
    u = np.where(u > ERFC_LARGEST, ERFC_LARGEST, u)
    s = (u - ERFC_CENTER) / (u + ERFC_CENTER)
    return _horner(ERFC_TERMS, s) / (1.0 + 2.0 * u)


def erf(x: Floats) -> Floats:
    """Returns the error function: x*p, p by Horner's rule over ERF_TERMS in z = x*x, for |x| < ERF_SERIES, and with
    the sign of x else 1 - exp(-z) * scaled_erfc(|x|)."""
    u, z = np.abs(x), x * x
    large = 1.0 - exp64(-z) * scaled_erfc(u)
    return np.where(u < ERF_SERIES, x * _horner(ERF_TERMS, z), np.where(x < 0, -large, large))


def tanh(x: Floats) -> Floats:
    """Returns x*(1 + z*p), p by Horner's rule over TANH_TERMS in z = x*x, for |x| < TANH_SERIES, and with the sign of x
    else (1 - t) / (1 + t), t = exp(-2*|x|)."""
    u, z = np.abs(x), x * x
    t = exp64(-2.0 * u)
    large = (1.0 - t) / (1.0 + t)
    return np.where(u < TANH_SERIES, x * (1.0 + z * _horner(TANH_TERMS, z)), np.where(x < 0, -large, large))


def sigmoid(x: Floats) -> Floats:
    """Returns 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp64(-x))


def softplus(x: Floats) -> Floats:
    """Returns max(x, 0) + l: e = exp(-|x|), w = 1 + e, and l = log(w) * (e / (w - 1)), or e if w = 1."""
    e = exp64(-np.abs(x))
    w = 1.0 + e
    return np.where(x > 0, x, 0.0) + np.where(w == 1.0, e, log64(w) * (e / (w - 1.0)))


def normal_distribution(x: Floats) -> Floats:
    """Returns the normal distribution function: q = 0.5*exp(-0.5*(x*x)) * scaled_erfc(ROOT_HALF*|x|) for x < 0, else
    1 - q."""
    q = 0.5 * exp64(-0.5 * (x * x)) * scaled_erfc(ROOT_HALF * np.abs(x))
    return np.where(x < 0, q, 1.0 - q)


def silu_slope(x: Floats) -> Floats:
    """Returns s * (1 + x*(1 - s)), s = sigmoid(x)."""
    s = sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


def gelu_slope(x: Floats) -> Floats:
    """Returns normal_distribution(x) + x * (DENSITY * exp(-0.5*(x*x)))."""
    return normal_distribution(x) + x * (DENSITY * exp64(-0.5 * (x * x)))


def _inner(x: Floats) -> Floats:
    return GELU_FACTOR * (x + GELU_CUBIC * (x * x * x))


def gelu_tanh_slope(x: Floats) -> Floats:
    """Returns s + x * ((s * (1 - s)) * (GELU_FACTOR * (1 + 3*GELU_CUBIC * (x*x)))), s = sigmoid(v)."""
    s = sigmoid(_inner(x))
    return s + x * ((s * (1.0 - s)) * (GELU_FACTOR * (1.0 + 3.0 * GELU_CUBIC * (x * x))))


def clamp(x: Floats, low: float, high: float) -> Floats:
    """Returns low below it, high above it, and else x. NaN stays."""
    return np.where(x < low, low, np.where(x > high, high, x))


def between(x: Floats, low: float, high: float) -> Floats:
    """Returns 0 for x <= low and x >= high, else 1."""
    return np.where((x <= low) | (x >= high), 0.0, 1.0)


def hard_swish_slope(x: Floats) -> Floats:
    """Returns 0 for x <= -3, 1 for x >= 3, and else x / 3 + 0.5."""
    return np.where(x <= -3.0, 0.0, np.where(x >= 3.0, 1.0, x / 3.0 + 0.5))


#: name -> function of (x, a, b). The order numbers them for the other backends.
FUNCTIONS: dict[str, Callable[[Floats, float, float], Floats]] = {
    "exp": lambda x, a, b: exp64(x),
    "log": lambda x, a, b: log64(x),
    "sqrt": lambda x, a, b: np.sqrt(x),
    "erf": lambda x, a, b: erf(x),
    "tanh": lambda x, a, b: tanh(x),
    "sigmoid": lambda x, a, b: sigmoid(x),
    "softplus": lambda x, a, b: softplus(x),
    "silu": lambda x, a, b: x / (1.0 + exp64(-x)),
    "gelu": lambda x, a, b: x * normal_distribution(x),
    "gelu_tanh": lambda x, a, b: x / (1.0 + exp64(-_inner(x))),
    "inverse_root": lambda x, a, b: 1.0 / np.sqrt(x),
    "shift": lambda x, a, b: x + a,
    "clamp": clamp,
    "leaky_relu": lambda x, a, b: np.where(x > 0, x, a * x),
    "hard_sigmoid": lambda x, a, b: clamp(x + 3.0, 0.0, 6.0) / 6.0,
    "hard_swish": lambda x, a, b: (x * clamp(x + 3.0, 0.0, 6.0)) / 6.0,
    "erf_slope": lambda x, a, b: ERF_SLOPE * exp64(-(x * x)),
    "tanh_slope_of_output": lambda y, a, b: 1.0 - y * y,
    "sigmoid_slope_of_output": lambda y, a, b: y * (1.0 - y),
    "silu_slope": lambda x, a, b: silu_slope(x),
    "gelu_slope": lambda x, a, b: gelu_slope(x),
    "gelu_tanh_slope": lambda x, a, b: gelu_tanh_slope(x),
    "clamp_slope": between,
    "leaky_relu_slope": lambda x, a, b: np.where(x > 0, 1.0, a),
    "hard_sigmoid_slope": lambda x, a, b: between(x, -3.0, 3.0) / 6.0,
    "hard_swish_slope": lambda x, a, b: hard_swish_slope(x),
}
#: name -> number, which other backends use.
NUMBER = {name: number for number, name in enumerate(FUNCTIONS)}


@np.errstate(all="ignore")
def evaluate(x: NDArray, function: str, a: float = 0.0, b: float = 0.0) -> NDArray:
    """Returns a function of FUNCTIONS, rounded to the dtype of x.

    >>> evaluate(np.float32([0, 1]), "sigmoid")
    array([0.5      , 0.7310586], dtype=float32)
    """
    number = x.dtype.type
    return FUNCTIONS[function](x.astype(np.float64), float(number(a)), float(number(b))).astype(x.dtype)


def _horner(terms: tuple[float, ...], s: Floats) -> Floats:
    p = np.full_like(s, terms[0])
    for term in terms[1:]:
        p = p * s + term
    return p
