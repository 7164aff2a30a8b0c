"""Sums of aligned, truncated products in NumPy: one instruction at a time, for many outputs at once.

Everything is exact in float64: a product of float32 numbers has 48 bits, and a sum of terms that are multiples of one
quantum below 2**(fraction_bits + 2) of it stays below 2**53 of it (mpsim/products/accumulators.py refuses more).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.kernels.contractions.lowering import Contraction, significand_mask, truncated
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.reference.fma import exact_product, round_narrow
from mpsim.products.accumulators import Accumulator

EXPONENT_BITS = np.int64(0x7FF0000000000000)


class Instruction(NamedTuple):
    """c + sum of a_k * b_k over the terms of one instruction, as mpsim.kernels.spec_dot defines it."""

    terms: int
    fraction: float  # 2**-fraction_bits
    least: tuple[float, float, float, float]  # 2**(least exponent) of the operands, of c, and of all
    narrow: Narrow
    toward_zero: bool

    @staticmethod
    def of(accumulator: Accumulator) -> Instruction:
        """The instruction of an accumulator of kind "aligned"."""
        formats = *accumulator.operands, accumulator.format
        left, right, sums = (2.0 ** as_format(name).min_exponent for name in formats)
        return Instruction(
            accumulator.terms,
            2.0**-accumulator.fraction_bits,
            (left, right, sums, accumulator.least_scale),
            Narrow.of(accumulator.format),
            accumulator.rounding == "toward_zero",
        )

    def __call__(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """a (terms, groups, rows, 1), b (terms, groups, 1, columns), c (groups, rows, columns) -> the next c."""
        left, right, sums, least = self.least
        addends = np.concatenate([exact_product(a, b), c[None]])  # (terms + 1, groups, rows, columns)
        scales = scale(a, left) * scale(b, right)
        largest = np.maximum(np.maximum(scales.max(axis=0), scale(c, sums)), least)
        quantum = np.where(np.isfinite(largest), largest * self.fraction, 1.0)
        exact = (np.trunc(addends / quantum).sum(axis=0) + 0.0) * quantum
        plain = addends.sum(axis=0)  # too short to overflow: what is not finite here comes from an infinity or NaN
        special = np.where(np.isnan(plain), plain, np.copysign(self.narrow.beyond, plain))
        return np.where(np.isfinite(plain), round_narrow(exact, self.narrow, self.toward_zero) + 0.0, special)


def aligned_total(c: Contraction, accumulator: Accumulator) -> np.ndarray:
    """The totals, shape (groups, rows, columns)."""
    groups, rows, length, columns = c.shape
    instruction = Instruction.of(accumulator)
    left, right = map(significand_mask, accumulator.operands)
    chunk = accumulator.chunk or max(1, length)
    total = np.zeros((groups, rows, columns), np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for start in range(0, length, chunk):
            result = np.zeros((groups, rows, columns))
            for first in range(start, min(start + chunk, length), accumulator.terms):
                k = np.arange(first, min(first + accumulator.terms, start + chunk, length))
                a, b = truncated(c.left(k), left), truncated(c.right(k), right)
                result = instruction(a[:, :, :, None], b[:, :, None, :], result)
            total = result.astype(np.float32) if start == 0 else total + result.astype(np.float32)
    return total


def scale(x: np.ndarray, least: float) -> np.ndarray:
    """2**exponent(x), at least ``least``, as float64; 0 for zeros, infinity for infinities and NaN."""
    bits = x.astype(np.float64).view(np.int64) & EXPONENT_BITS
    return np.where(x == 0, 0.0, np.maximum(bits.view(np.float64), least))


def pairwise(results: list[np.ndarray]) -> np.ndarray:
    """Neighbours added in pairs until one is left."""
    while len(results) > 1:
        pairs = [x + y for x, y in zip(results[::2], results[1::2], strict=False)]
        results = pairs + results[2 * len(pairs) :]
    return results[0]
