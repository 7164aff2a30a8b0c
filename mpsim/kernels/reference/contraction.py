"""Contractions in NumPy, in the order of mpsim.kernels.contract: one k at a time, for many outputs.

Chunks do not depend on each other, so one step processes the same k of every chunk. float64 arrays (only in gradient
checks) have no specified order and use NumPy's matmul.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from mpsim.kernels.contractions.functions import contractions, over_lowering
from mpsim.kernels.contractions.lowering import Contraction, add_bias, product
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.reference.aligned import aligned_total, pairwise
from mpsim.kernels.reference.exact import ExactSum
from mpsim.kernels.reference.fma import exact_product, fma, narrow_sum
from mpsim.kernels.reference.rounding import round_array
from mpsim.kernels.reference.steps import run
from mpsim.products.accumulators import Accumulator

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "matmul"]

#: Sums computed together: few enough for the cache, and enough to hide the cost of a NumPy call.
BLOCK = 16384


def contract(c: Contraction, accumulator: Accumulator, threads: int = 1) -> np.ndarray:
    """Computes every output of the contraction in the accumulator's specified order."""
    if c.is_double or accumulator.kind == "blas":
        return product(c)
    total = _sum_of(accumulator)
    out = np.zeros(c.out_shape, np.float32)
    groups, rows, _, columns = c.shape
    width = max(1, BLOCK // max(1, groups * rows))
    for start in range(0, columns, width):
        block = c.columns(start, start + width)
        block.put(out.reshape(-1), total(block))
    return out


def _sum_of(accumulator: Accumulator) -> Callable[[Contraction], np.ndarray]:
    """Returns a function: contraction -> totals (groups, rows, columns)."""
    if accumulator.kind == "exact":
        return exact
    if accumulator.kind == "aligned":
        return partial(aligned_total, accumulator=accumulator)
    return _Sequential(accumulator).total


def exact(c: Contraction) -> np.ndarray:
    """Computes correctly rounded totals (groups, rows, columns)."""
    groups, rows, length, columns = c.shape
    total = ExactSum(groups * rows * columns)
    with np.errstate(invalid="ignore"):
        for k in range(length):
            total.add(exact_product(c.left(k)[:, :, None], c.right(k)[:, None, :]).ravel())
    return total.total().reshape(groups, rows, columns)


class _Sequential:
    """Computes acc = acc + a_k * b_k in rising k from +0 in each chunk, and adds chunks in rising order or pairs."""

    def __init__(self, accumulator: Accumulator) -> None:
        self.chunk = accumulator.chunk
        self.fma = accumulator.fma
        self.pairwise = accumulator.kind == "pairwise"
        self.narrow = None if accumulator.format == "float32" else Narrow.of(accumulator.format)

    def advance(self, a: np.ndarray, b: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Adds one product to every sum."""
        if self.narrow:
            return narrow_sum(exact_product(a, b), sums, self.narrow)
        return fma(a, b, sums) if self.fma else sums + a * b

    def add(self, total: np.ndarray, chunk: np.ndarray) -> np.ndarray:
        """Adds a chunk to the total."""
        return narrow_sum(total, chunk, self.narrow) if self.narrow else total + chunk

    def total(self, c: Contraction) -> np.ndarray:
        """Returns the totals (groups, rows, columns)."""
        groups, rows, length, columns = c.shape
        chunk = self.chunk or max(1, length)
        starts = np.arange(0, length, chunk)
        together = max(1, BLOCK // max(1, groups * rows * columns))
        total, all = None, []
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for first in range(0, starts.size, together):
                for result in self._chunks(c, starts[first : first + together], chunk):
                    if self.pairwise:
                        all.append(result)
                        continue
                    total = result if total is None else self.add(total, result)
            if all:
                return pairwise(all)
        return np.zeros((groups, rows, columns)) if total is None else total

    def _chunks(self, c: Contraction, starts: np.ndarray, chunk: int) -> np.ndarray:
        """Returns the results of the chunks that begin at ``starts``: (chunks, groups, rows, columns)."""
        groups, rows, length, columns = c.shape
        sums = np.zeros((starts.size, groups, rows, columns), np.float64 if self.narrow else np.float32)
        for step in range(min(chunk, length - starts[0])):
            k = starts + step
            k = k[k < length]  # the last chunk may be shorter
            a, b = c.left(k)[:, :, :, None], c.right(k)[:, :, None, :]
            sums[: k.size] = self.advance(a, b, sums[: k.size])
        return sums


matmul, conv2d, conv2d_input_gradient, conv2d_weight_gradient = contractions(
    over_lowering(contract), add_bias, round_array, run=run
)
