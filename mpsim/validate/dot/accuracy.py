"""How far results are from the exact sums rounded once, counted in numbers of the type that they are in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mpsim.formats import FORMATS
from mpsim.kernels.contract import Array
from mpsim.rounding import round_to
from mpsim.validate.grid import distances


@dataclass(frozen=True)
class Error:
    """Distance from the correctly rounded result, in numbers of ``output`` between, over random normal numbers.

    counts: results at distance 0, 1, 2 to 3, 4 to 7, and so on."""

    output: str
    largest: int
    mean: float
    correct: float  # share of results that are correctly rounded
    counts: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The fields as JSON values."""
        return dict(vars(self))


def error_of(products: Iterable[tuple[Array, Array, Array]], output: str) -> Error:
    """Of matrix products (a, b, found), against sums that share no code with mpsim's: Python's ``math.fsum``."""
    found = []
    for a, b, results in products:
        exact = correctly_rounded(a, b, output)
        found.append(distances(exact, results, FORMATS[output]).ravel())
    places = np.concatenate(found)
    counts = np.bincount([int(place).bit_length() for place in places])
    return Error(output, int(places.max()), float(places.mean()), float((places == 0).mean()), tuple(counts.tolist()))


def correctly_rounded(a: Array, b: Array, output: str) -> Array:
    """The matrix product of finite float32 numbers, each element's exact sum rounded once; float64."""
    x, y = a.astype(np.float64), b.astype(np.float64).T
    odd = np.array([[_to_odd((row * column).tolist()) for column in y] for row in x])  # products are exact in float64
    if output == "float64":
        return np.array([[math.fsum(row * column) for column in y] for row in x])
    return np.asarray(round_to(odd, output, "nearest_even", "infinity", threads=1))


def _to_odd(terms: list[float]) -> float:
    """The sum in float64, to odd where it is not exact: rounding it to fewer bits is then one rounding."""
    total = math.fsum(terms)
    error = math.fsum([*terms, -total])
    if error == 0 or not math.isfinite(total):
        return total
    if not np.float64(total).view(np.uint64) & 1:
        return math.nextafter(total, math.copysign(math.inf, error))
    return total
