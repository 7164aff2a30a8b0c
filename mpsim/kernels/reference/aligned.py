"""Sums of aligned, truncated products in NumPy: one instruction at a time, for many outputs at once.

Everything is exact in float64: a product of float32 numbers has 48 bits, and a sum of terms that are multiples of one
quantum below 2**(fraction_bits + 2) of it stays below 2**53 of it (mpsim/accumulators.py refuses more).
"""

from __future__ import annotations

import numpy as np

from mpsim.accumulators import Accumulator
from mpsim.formats import as_format
from mpsim.kernels.lowering import Contraction
from mpsim.kernels.narrow import Narrow
from mpsim.kernels.reference.fma import exact_product, narrow_sum

EXPONENT_BITS = np.int64(0x7FF0000000000000)


class Aligned:
    """c + sum of a_k * b_k over one instruction, as mpsim.kernels.spec_dot defines it."""

    def __init__(self, accumulator: Accumulator) -> None:
        inputs, format = as_format(accumulator.inputs), as_format(accumulator.format)
        self.terms, self.chunk = accumulator.terms, accumulator.chunk
        self.fraction_bits, self.least_scale = accumulator.fraction_bits, accumulator.least_scale
        self.toward_zero = accumulator.rounding == "toward_zero"
        self.narrow = Narrow.of(accumulator.format)
        self.least_input, self.least_sum = 2.0**inputs.min_exponent, 2.0**format.min_exponent
        self.mask = np.uint32(0xFFFFFFFF << (23 - min(inputs.mantissa_bits, 23)) & 0xFFFFFFFF)

    def total(self, c: Contraction) -> np.ndarray:
        """The totals, shape (groups, rows, columns)."""
        groups, rows, length, columns = c.shape
        chunk = self.chunk or max(1, length)
        total = np.zeros((groups, rows, columns), np.float32)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for start in range(0, length, chunk):
                result = np.zeros((groups, rows, columns))
                for first in range(start, min(start + chunk, length), self.terms):
                    k = np.arange(first, min(first + self.terms, start + chunk, length))
                    result = self.instruction(c.left(k)[:, :, :, None], c.right(k)[:, :, None, :], result)
                total = result.astype(np.float32) if start == 0 else total + result.astype(np.float32)
        return total

    def instruction(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """a (terms, groups, rows, 1), b (terms, groups, 1, columns), c (groups, rows, columns) -> the next c."""
        a, b = self.truncated(a), self.truncated(b)
        products = exact_product(a, b)
        addends = np.concatenate([products, c[None]])  # (terms + 1, groups, rows, columns)
        scales = scale(a, self.least_input) * scale(b, self.least_input)
        largest = np.maximum(np.maximum(scales.max(axis=0), scale(c, self.least_sum)), self.least_scale)
        quantum = np.where(np.isfinite(largest), np.ldexp(largest, -self.fraction_bits), 1.0)
        exact = (np.trunc(addends / quantum).sum(axis=0) + 0.0) * quantum
        plain = addends.sum(axis=0)  # too short to overflow: what is not finite here comes from an infinity or NaN
        special = np.where(np.isnan(plain), plain, np.copysign(self.narrow.beyond, plain))
        return np.where(np.isfinite(plain), self.rounded(exact) + 0.0, special)

    def truncated(self, x: np.ndarray) -> np.ndarray:
        """x with as many significand bits as the inputs have."""
        return np.where(np.isnan(x), x, (x.view(np.uint32) & self.mask).view(np.float32))

    def rounded(self, exact: np.ndarray) -> np.ndarray:
        """Sums in the accumulator's format."""
        if not self.toward_zero:
            return narrow_sum(exact, np.zeros_like(exact), self.narrow)
        narrow, magnitude = self.narrow, np.abs(exact)
        exponent = magnitude.view(np.int64) >> 52
        bits = np.where(exponent < narrow.least_exponent, narrow.low, exponent + narrow.shift) - 52
        quantum = (bits << 52).view(np.float64)
        value = np.trunc(magnitude / quantum) * quantum
        return np.copysign(np.where(value > narrow.largest, narrow.beyond, value), exact)


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
