"""Random matrices that subjects are asked, by the seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mpsim.formats import Format, as_format
from mpsim.kernels.contract import Array
from mpsim.rounding import round_to

#: Pairs of vectors of one number of terms.
REPEATS = 8


def numbers_of_terms(length: int) -> tuple[int, ...]:
    """K of the random matrices for probes of ``length`` terms."""
    return length, length - 1, 33, 3, 1


def random_matrices(inputs: str, length: int, shape: tuple[int, int], seed: int) -> Iterator[tuple[str, Array, Array]]:
    """(name, (M, K), (K, N)) in numbers of the format: normal ones, far-apart ones that cancel, near the largest
    and the smallest, specials, and ones from the format's whole range, subnormal ones too, whose products are alike."""
    random, apart = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    format, side = as_format(inputs), max(shape)
    top = min(int(np.frexp(format.largest)[1]) - 1, 63)
    bottom = max(format.min_exponent - format.mantissa_bits, -80)
    for k in numbers_of_terms(length):
        for name in ("normal", "cancelling", "large", "small", "specials", "wide"):
            if name == "wide":
                a, b = _opposite(format, apart, (side, k))
            else:
                a, b = (_numbers(name, random, (side, k), (bottom, top)) for _ in range(2))
            a, b = a[: shape[0]], b[: shape[1]]
            if name == "cancelling" and k > 1:
                half = k // 2
                a[:, -half:], b[:, -half:] = -a[:, :half], b[:, :half]
            a, b = (round_to(x, inputs, overflow="saturate_propagate", threads=1) for x in (a, b))
            if not format.has_nan:
                a, b = np.nan_to_num(a, nan=0.0), np.nan_to_num(b, nan=0.0)
            yield f"{name}, K = {k}", a, np.ascontiguousarray(b.T)


def _numbers(name: str, random: np.random.Generator, shape: tuple[int, int], limits: tuple[int, int]) -> Array:
    bottom, top = limits
    normal = random.standard_normal(shape).astype(np.float32)
    if name == "specials":
        chosen = random.random(shape)
        normal[chosen < 0.3] = 0
        normal[chosen < 0.2] = -0.0
        normal[chosen < 0.01] = np.inf
        normal[chosen < 0.005] = -np.inf
        normal[chosen < 0.001] = np.nan
    elif name != "normal":
        low, high = {"large": (top - 3, top), "small": (bottom, bottom + 6)}.get(name, (max(bottom, -8), min(top, 8)))
        normal = np.ldexp(normal, random.integers(low, high + 1, shape)).astype(np.float32)
    return normal


def cancelling(inputs: str, length: int, count: int) -> tuple[Array, Array]:
    """Rows of far-apart numbers of the format whose products cancel: what is left are the roundings of the sums.

    The products of the last row are -0."""
    random, format = np.random.default_rng([length, count]), as_format(inputs)
    limits = max(format.min_exponent, -80), min(int(np.frexp(format.largest)[1]) - 1, 63)
    a, b = (_numbers("cancelling", random, (count, length), limits) for _ in range(2))
    half = length // 2
    if half:
        a[:, -half:], b[:, -half:] = -a[:, :half], b[:, :half]
    a, b = (round_to(x, inputs, overflow="saturate_propagate", threads=1) for x in (a, b))
    if format.has_negative_zero:  # the sign of what is left shows which sums begin with +0
        a[-1], b[-1] = -0.0, 1.0
    return (a, b) if format.has_nan else (np.nan_to_num(a), np.nan_to_num(b))


def _opposite(format: Format, random: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Twice (rows, K): at every k exponents of the format's range for one, and as far from its other end for the other;
    one subnormal in half of them."""
    lowest, highest = format.quantum_exponent, int(np.frexp(format.largest)[1]) - 1
    low = np.where(random.random(shape[1]) < 0.5, lowest, format.min_exponent)
    exponents = random.integers(low, np.where(low == lowest, format.min_exponent, highest) + 1)
    exponents = np.where(random.random(shape[1]) < 0.5, exponents, lowest + highest - exponents)
    a, b = random.uniform(1, 2, (2, *shape)) * random.choice([-1, 1], (2, *shape))
    with np.errstate(over="ignore"):
        x, y = (np.ldexp(m, e).astype(np.float32) for m, e in ((a, exponents), (b, lowest + highest - exponents)))
    return x, y


class Vectors(NamedTuple):
    """Pairs of vectors, float32 (pairs, K) each."""

    x: Array
    y: Array


def vectors(inputs: str, length: int, seed: int, count: int = REPEATS) -> Vectors:
    """Numbers of the format: half of the pairs normal, half of ones that cancel."""
    random = np.random.default_rng([seed, length])
    x, y = random.standard_normal((2, count, length)).astype(np.float32)
    half = length // 2
    if half:
        x[1::2, -half:], y[1::2, -half:] = -x[1::2, :half], y[1::2, :half] * np.float32(1.01)
    x, y = (round_to(each, inputs, overflow="saturate_propagate", threads=1) for each in (x, y))
    return Vectors(x, y) if as_format(inputs).has_nan else Vectors(np.nan_to_num(x), np.nan_to_num(y))
