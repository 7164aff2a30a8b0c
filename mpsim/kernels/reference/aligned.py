"""Sums aligned, truncated products in NumPy, one instruction at a time for many outputs.

All steps are exact in float64. A product of float32 numbers has 48 bits. Each term is a multiple of one quantum, and
below 2**(fraction_bits + 2) quanta, and a sum of terms stays below 2**53 quanta (mpsim/products/accumulators.py rejects
larger ones).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.kernels.contractions.lowering import Contraction, significand_mask, truncated
from mpsim.kernels.contractions.narrow import Narrow, Rounding
from mpsim.kernels.contractions.steps import LateNumbers, ScaledNumbers
from mpsim.kernels.reference.fma import exact_product, round_narrow
from mpsim.products.accumulators import Accumulator
from mpsim.products.sums import ROUNDINGS

EXPONENT_BITS = np.int64(0x7FF0000000000000)


class Instruction(NamedTuple):
    """Computes c + sum of a_k * b_k over the terms of one instruction, as mpsim.kernels.spec_sums defines it."""

    terms: int
    fraction: float  # 2**-fraction_bits
    least: tuple[float, float, float, float]  # 2**(least exponent) of the operands, of c, and of all
    narrow: Narrow
    mode: int  # the index in ROUNDINGS

    @staticmethod
    def of(accumulator: Accumulator) -> Instruction:
        """Returns the instruction of an accumulator of kind "aligned"."""
        formats = *accumulator.operands, accumulator.format
        left, right, sums = (2.0 ** as_format(name).min_exponent for name in formats)
        return Instruction(
            accumulator.terms,
            2.0**-accumulator.fraction_bits,
            (left, right, sums, accumulator.least_scale),
            Narrow.of(accumulator.format),
            ROUNDINGS.index(accumulator.rounding),
        )

    def __call__(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """a (terms, groups, rows, 1), b (terms, groups, 1, columns), c (groups, rows, columns) -> the next c."""
        left, right, sums, least = self.least
        addends = np.concatenate([exact_product(a, b), c[None]])  # (terms + 1, groups, rows, columns)
        scales = scale(a, left) * scale(b, right)
        largest = np.maximum(np.maximum(scales.max(axis=0), scale(c, sums)), least)
        quantum = np.where(np.isfinite(largest), largest * self.fraction, 1.0)
        exact = (np.trunc(addends / quantum).sum(axis=0) + 0.0) * quantum
        plain = addends.sum(axis=0)  # too short to overflow: finite unless an operand is infinite or NaN
        return _result(exact, plain, self.narrow, self.mode)


def aligned_total(c: Contraction, accumulator: Accumulator) -> np.ndarray:
    """Returns the totals (groups, rows, columns)."""
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


def grouped(places: np.ndarray) -> tuple[list[slice], np.ndarray]:
    """Returns the position of each group among the terms, and their k (mpsim.kernels.contractions.steps.LATE)."""
    count = int(places[0])
    ends = np.cumsum(places[: count + 1]) - count
    return [slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)], places[count + 1 :]


def late_instruction(
    a: np.ndarray, b: np.ndarray, groups: list[slice], c: np.ndarray, numbers: LateNumbers, rounding: Rounding
) -> np.ndarray:
    """Returns the next c of an instruction that aligns its products first and c afterwards."""
    products = exact_product(a, b)
    infinite = np.abs(products) >= 2.0**128
    plain = np.where(infinite, np.copysign(np.inf, products), products).sum(axis=0) + c
    scales = np.where(infinite, 0, scale(a, numbers.least_left) * scale(b, numbers.least_right))
    scales, products = np.where(np.isfinite(scales), scales, 0), np.where(np.isfinite(products), products, 0)
    largest, total = scales.max(axis=0), np.zeros(c.shape)
    for group in groups:
        quantum = _or_one(scales[group].max(axis=0) * numbers.fraction)
        part = np.trunc(products[group] / quantum).sum(axis=0) * quantum
        total += _down(part, largest * numbers.fraction)
    of_c = np.maximum(scale(c, numbers.least_sum), numbers.least_sum)
    top = np.maximum(largest, of_c)
    total = _down(total, top * (numbers.sum_fraction / 2))
    total += np.where(of_c >= top * numbers.reach, _down(c, top * numbers.fraction), 0)
    total = _down(total, scale(total, numbers.least_sum) * numbers.sum_fraction) + 0.0
    result = round_narrow(total, rounding.format, rounding.mode)
    special = np.where(np.isnan(plain), plain, np.copysign(rounding.format.beyond, plain))
    return np.where(np.isfinite(plain), result, special)


def scaled_instruction(
    a: np.ndarray,
    b: np.ndarray,
    groups: list[slice],
    scales: list[tuple[np.ndarray, np.ndarray]],
    c: np.ndarray,
    numbers: ScaledNumbers,
    rounding: Rounding,
) -> np.ndarray:
    """Returns the next c of an instruction with scales: each group has those of its block."""
    addends, powers = [c], [scale(c, numbers.least_sum), np.full(c.shape, numbers.least)]
    for group, (left, right) in zip(groups, scales, strict=True):
        products = exact_product(a[group], b[group])
        power = scale(left, numbers.least_scale) * scale(right, numbers.least_scale)
        if numbers.grouped:
            power = np.where((products != 0).any(axis=0), power, 0)
            products = products.sum(axis=0)[None]
        else:
            power = (scale(a[group], numbers.least_left) * scale(b[group], numbers.least_right)).max(axis=0) * power
        addends += list(products * (left * right))
        powers.append(power)
    terms, largest = np.stack(addends), np.stack(powers).max(axis=0)
    quantum = np.where(np.isfinite(largest), largest * numbers.fraction, 1.0)
    exact = (np.trunc(terms / quantum).sum(axis=0) + 0.0) * quantum
    return _result(exact, terms.sum(axis=0), rounding.format, rounding.mode)


def _result(exact: np.ndarray, plain: np.ndarray, narrow: Narrow, mode: int) -> np.ndarray:
    """Returns the exact sum rounded. Where the plain sum is infinite or NaN, so is the result."""
    special = np.where(np.isnan(plain), plain, np.copysign(narrow.beyond, plain))
    return np.where(np.isfinite(plain), round_narrow(exact, narrow, mode) + 0.0, special)


def _down(x: np.ndarray, quantum: np.ndarray) -> np.ndarray:
    """Rounds down to a multiple of the quantum. The quantum of zeros is 0."""
    quantum = _or_one(quantum)
    return np.where(np.isfinite(x), np.floor(x / quantum) * quantum, 0)


def _or_one(quantum: np.ndarray) -> np.ndarray:
    return np.where((quantum > 0) & np.isfinite(quantum), quantum, 1.0)


def scale(x: np.ndarray, least: float) -> np.ndarray:
    """Returns 2**exponent(x), at least ``least``, as float64: 0 for zeros, infinity for infinities and NaN."""
    bits = x.astype(np.float64).view(np.int64) & EXPONENT_BITS
    return np.where(x == 0, 0.0, np.maximum(bits.view(np.float64), least))


def pairwise(results: list[np.ndarray]) -> np.ndarray:
    """Adds neighbours in pairs until one is left."""
    while len(results) > 1:
        pairs = [x + y for x, y in zip(results[::2], results[1::2], strict=False)]
        results = pairs + results[2 * len(pairs) :]
    return results[0]
