"""Computes dot products of block formats, as mpsim/kernels/spec_blocks.py defines them.

Products of elements are summed exactly within a block. Elements are integers times a power of two. They are split into
pieces that are small enough for float64 matrix products of them to be exact in any order.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.blocks.quantized import Blocks
from mpsim.errors import UsageError
from mpsim.formats import FORMATS
from mpsim.kernels import spec_sums
from mpsim.kernels.contract import Array
from mpsim.process import in_default_environment
from mpsim.rounding import decode

__all__ = ["dot"]

FLOAT32 = FORMATS["float32"]
#: The bits of a piece. A block's sum of products of pieces stays below 2**53.
PIECE = 16
#: Terms are integers times 2**-UNIT. The lowest bit of a term is 2**-294: two elements of 2**-16, two scales of
#: 2**-127, and 8 bits.
UNIT = 340
ACCUMULATE = ("exact", "float32")


@in_default_environment
def dot(a: Blocks, b: Blocks, accumulate: str = "exact") -> Any:
    """Multiplies two quantised matrices or vectors whose blocks lie along the summed axis.

    Args:
        a: (M, K) or (K,), with blocks along K.
        b: (K, N) or (K,), with blocks along K.
        accumulate: "exact" rounds the sum of all scaled products once, to nearest even. "float32" adds each block's
            exact scaled sum to a float32 total, in rising order with one rounding each, and then multiplies the total
            by float32(product of the tensor scales).

    Returns:
        float32 of shape (M, N), without the axes that vectors lack. A NaN scale gives NaN.

    Raises:
        ValueError: Shapes, block axes or block sizes do not match.

    Source: OCP MX v1.0 §6.2, which defines the products and the scales and leaves precision and order open.

    >>> from mpsim.blocks import quantize
    >>> x, y = (quantize(np.float32(v), "mxfp4", backend="reference") for v in ([1, 2, 3], [4, 0.5, -1]))
    >>> print(dot(x, y))
    2.0
    """
    left, right = _matrix(a, "a", last=True), _matrix(b, "b", last=False)
    checks.named("accumulate", accumulate, ACCUMULATE)
    if left[0].shape[1] != right[0].shape[0] or a.format.size != b.format.size:
        raise UsageError(
            f"dot needs (M, K) and (K, N) in blocks of one size, got {left[0].shape} in blocks of {a.format.size} "
            f"and {right[0].shape} in blocks of {b.format.size}"
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
    """Returns the elements and scales of a matrix as float64. A vector becomes one row or one column."""
    shape, axis = blocks.codes.shape, blocks.axis
    if len(shape) not in (1, 2) or axis != (len(shape) - 1 if last else 0):
        side = "last" if last else "first"
        raise UsageError(f"{name} needs one or two axes and blocks along the {side} one; got {shape}, axis {axis}")
    elements = decode(blocks.codes, blocks.format.element, np.float64, backend="reference")
    scales = decode(blocks.scales, blocks.format.scale, np.float64, backend="reference")
    if len(shape) == 1:
        return (elements[None], scales[None]) if last else (elements[:, None], scales[:, None])
    return elements, scales


def _pieces(elements: Array, quantum: int) -> list[Array]:
    """Splits finite elements into integer pieces of their sign: sum(piece[i] * 2**(PIECE * i)) * 2**quantum."""
    integers = np.ldexp(np.where(np.isfinite(elements), elements, 0.0), -quantum)
    if np.abs(integers).max(initial=0.0) < 2.0**20:
        return [integers]
    high = np.trunc(np.ldexp(integers, -PIECE))
    return [integers - np.ldexp(high, PIECE), high]


class _Total:
    """Holds the running sums of M x N outputs."""

    def __init__(self, rows: int, columns: int, accumulate: str) -> None:
        self.exact = np.zeros((rows, columns), object)  # Python integers, in units of 2**-UNIT
        self.total = np.zeros((rows, columns), np.float32)
        self.special = np.zeros((rows, columns))
        self.once = accumulate == "exact"

    def add(self, rows: Array, columns: Array, scales: tuple[Array, Array], quanta: tuple[int, int]) -> None:
        """Adds one block, given rows (M, size), columns (size, N) and the scales of each row and column."""
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
            self.total = _add(self.total, np.ldexp(pairs[0][1], pairs[0][0]) * scale)  # the term is exact
            return
        term = sum(_integers(sums, scale, shift) for shift, sums in pairs)
        if self.once:
            self.exact = self.exact + term
        else:
            self.total = _rounded(np.asarray(term, object), self.total, Fraction(1, 1 << UNIT))

    def result(self, left: float, right: float) -> Array:
        """Returns the float32 result, including the tensor scales."""
        if self.once:
            unit = Fraction(left) * Fraction(right) / (1 << UNIT)
            found = _rounded(self.exact, np.zeros(self.total.shape, np.float32), unit)
        else:
            found = self.total * np.float32(left * right)
        found = np.where(self.special == 0, found, self.special.astype(np.float32))
        found[np.isnan(found)] = np.nan
        return np.asarray(found, np.float32)


def _integers(sums: Array, scale: Array, shift: int) -> Array:
    """Returns sums * scale * 2**shift in units of 2**-UNIT as Python integers.

    ``sums`` are integers below 2**53, and scales have 8 significant bits.
    """
    fraction, exponent = np.frexp(scale)
    digits = np.ldexp(fraction, 8).astype(np.int64).astype(object)
    shifts = (exponent + (shift - 8 + UNIT)).astype(object)
    return np.asarray(sums.astype(np.int64).astype(object) * digits << shifts, object)


def _rounded(sums: Array, totals: Array, unit: Fraction) -> Array:
    """Returns integers times the unit plus float32 totals, rounded once. Infinite totals stay infinite."""

    def one(term: int, total: float) -> float:
        if not np.isfinite(total):
            return float(total)
        exact = term * unit + Fraction(float(total))
        return spec_sums.rounded(exact, FLOAT32) if exact else 0.0

    return np.asarray(np.frompyfunc(one, 2, 1)(sums, totals), np.float32)


def _add(total: Array, term: Array) -> Array:
    """Returns float32(total + term), rounded once, by way of a float64 sum rounded to odd (contractions/narrow.py)."""
    wide = total.astype(np.float64)
    sum = wide + term
    part = sum - wide
    error = (wide - (sum - part)) + (term - part)
    even = (sum.view(np.uint64) & np.uint64(1)) == 0
    moved = np.nextafter(sum, np.where(error > 0, np.inf, -np.inf))
    odd = np.where((error != 0) & even & np.isfinite(sum), moved, sum)
    return (odd + 0.0).astype(np.float32)
