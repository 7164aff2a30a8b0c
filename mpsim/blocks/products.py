"""Dot products of block formats, every bit as mpsim/kernels/spec_blocks.py defines them.

Products of elements are summed exactly within a block: elements are integers times a power of two, cut into pieces
so small that float64 matrix products of them are exact in any order.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.blocks.quantization import Blocks
from mpsim.errors import UsageError
from mpsim.formats import FORMATS
from mpsim.kernels import spec_dot
from mpsim.kernels.contract import Array
from mpsim.rounding import decode

__all__ = ["dot"]

FLOAT32 = FORMATS["float32"]
PIECE = 16  # bits of a piece; a block's sum of products of pieces stays below 2**53
UNIT = 340  # the least bit of a term is 2**-294: two elements of 2**-16, two scales of 2**-127, and 8 bits
ACCUMULATE = ("exact", "float32")


def dot(a: Blocks, b: Blocks, accumulate: str = "exact") -> Any:
    """The product of quantised a (M, K), blocks along K, and b (K, N), blocks along K; vectors (K,) too. float32.

    ``accumulate``: "exact": the sum of all products and scales, rounded once to nearest even. "float32": each block's
    exact sum with its scales is added to a float32 total in rising order, one rounding each; the total is multiplied
    by float32(product of the tensor scales). A NaN scale gives NaN. Source: OCP MX v1.0 §6.2, which fixes the
    products and the scales and leaves precision and order open.

    Raises ValueError for shapes, block axes, or block sizes that do not match.

    >>> from mpsim.blocks import quantize
    >>> x, y = (quantize(np.float32(v), "mxfp4", backend="reference") for v in ([1, 2, 3], [4, 0.5, -1]))
    >>> print(dot(x, y))
    2.0
    """
    left, right = _matrix(a, "a", last=True), _matrix(b, "b", last=False)
    checks.named("accumulate", accumulate, ACCUMULATE)
    if left[0].shape[1] != right[0].shape[0] or a.format.size != b.format.size:
        raise UsageError(
            f"dot multiplies (M, K) by (K, N) in blocks of one size, got {left[0].shape} in blocks of {a.format.size} "
            f"by {right[0].shape} in blocks of {b.format.size}"
        )
    total = _Total(left[0].shape[0], right[0].shape[1], accumulate)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        for block in range(left[1].shape[1]):
            inside = slice(block * a.format.size, (block + 1) * a.format.size)
            rows, columns = left[0][:, inside], right[0][inside]
            scales = left[1][:, block], right[1][block]
            total.add(rows, columns, scales, (a.format.element.quantum_exponent, b.format.element.quantum_exponent))
        found = total.result(float(a.tensor_scale), float(b.tensor_scale))
    shape = (*a.codes.shape[:-1], *b.codes.shape[1:])
    return found.reshape(shape) if shape else found.reshape(-1)[0]


def _matrix(blocks: Blocks, name: str, last: bool) -> tuple[Array, Array]:
    """(elements, scales) of a matrix, float64; a vector becomes one row or one column."""
    shape, axis = blocks.codes.shape, blocks.axis
    if len(shape) not in (1, 2) or axis != (len(shape) - 1 if last else 0):
        side = "last" if last else "first"
        raise UsageError(f"{name} has one or two axes and blocks along the {side} one; got {shape}, axis {axis}")
    elements = decode(blocks.codes, blocks.format.element, np.float64, backend="reference")
    scales = decode(blocks.scales, blocks.format.scale, np.float64, backend="reference")
    if len(shape) == 1:
        return (elements[None], scales[None]) if last else (elements[:, None], scales[:, None])
    return elements, scales


def _pieces(elements: Array, quantum: int) -> list[Array]:
    """Finite elements as integers, sum(piece[i] * 2**(PIECE * i)) * 2**quantum, pieces of their sign."""
    integers = np.ldexp(np.where(np.isfinite(elements), elements, 0.0), -quantum)
    if np.abs(integers).max(initial=0.0) < 2.0**20:
        return [integers]
    high = np.trunc(np.ldexp(integers, -PIECE))
    return [integers - np.ldexp(high, PIECE), high]


class _Total:
    """Running sums of M x N outputs."""

    def __init__(self, rows: int, columns: int, accumulate: str) -> None:
        self.exact = np.zeros((rows, columns), object)  # Python integers, in units of 2**-UNIT
        self.total = np.zeros((rows, columns), np.float32)
        self.special = np.zeros((rows, columns))
        self.once = accumulate == "exact"

    def add(self, rows: Array, columns: Array, scales: tuple[Array, Array], quanta: tuple[int, int]) -> None:
        """One block: rows (M, size), columns (size, N), the scales of each row and column."""
        scale = np.multiply.outer(*scales)  # exact: 4 bits each, or powers of two
        product = rows @ columns
        wrong = np.where(np.isfinite(product), 0.0, product)
        self.special += wrong + np.where(np.isnan(scale), np.nan, 0.0)
        scale = np.where(np.isnan(scale), 0.0, scale)
        pairs = [
            (PIECE * (i + j) + sum(quanta), left @ right)
            for i, left in enumerate(_pieces(rows, quanta[0]))
            for j, right in enumerate(_pieces(columns, quanta[1]))
        ]
        if not self.once and len(pairs) == 1:
            self.total = _add(self.total, np.ldexp(pairs[0][1], pairs[0][0]) * scale)  # an exact term
            return
        term = sum(_integers(sums, scale, shift) for shift, sums in pairs)
        if self.once:
            self.exact = self.exact + term
        else:
            self.total = _rounded(np.asarray(term, object), self.total, Fraction(1, 1 << UNIT))

    def result(self, left: float, right: float) -> Array:
        """float32, tensor scales included."""
        if self.once:
            unit = Fraction(left) * Fraction(right) / (1 << UNIT)
            found = _rounded(self.exact, np.zeros(self.total.shape, np.float32), unit)
        else:
            found = self.total * np.float32(left * right)
        found = np.where(self.special == 0, found, self.special.astype(np.float32))
        found[np.isnan(found)] = np.nan
        return np.asarray(found, np.float32)


def _integers(sums: Array, scale: Array, shift: int) -> Any:
    """sums * scale * 2**shift in units of 2**-UNIT, as Python integers. sums: integers below 2**53; scale: 8 bits."""
    fraction, exponent = np.frexp(scale)
    digits = np.ldexp(fraction, 8).astype(np.int64).astype(object)
    return sums.astype(np.int64).astype(object) * digits << (exponent + (shift - 8 + UNIT)).astype(object)


def _rounded(sums: Array, totals: Array, unit: Fraction) -> Array:
    """Integers times the unit plus float32 totals, rounded once; infinite totals stay."""

    def one(term: int, total: Any) -> float:
        if not np.isfinite(total):
            return float(total)
        exact = term * unit + Fraction(float(total))
        return spec_dot.rounded(exact, FLOAT32) if exact else 0.0

    return np.asarray(np.frompyfunc(one, 2, 1)(sums, totals), np.float32)


def _add(total: Array, term: Array) -> Array:
    """float32(total + term), rounded once: the float64 sum is first rounded to odd (kernels/contractions/narrow.py)."""
    wide = total.astype(np.float64)
    sum = wide + term
    part = sum - wide
    error = (wide - (sum - part)) + (term - part)
    even = (sum.view(np.uint64) & np.uint64(1)) == 0
    moved = np.nextafter(sum, np.where(error > 0, np.inf, -np.inf))
    odd = np.where((error != 0) & even & np.isfinite(sum), moved, sum)
    return (odd + 0.0).astype(np.float32)
