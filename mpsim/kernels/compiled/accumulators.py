"""Calls ext/orders/accumulators.c and aligned.c: contractions of the 'compiled' backend for every accumulator.

These are fast enough to check a whole layer. The default accumulator has faster kernels
(mpsim/kernels/compiled/contraction.py), which call this module for every other one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mpsim import _kernels
from mpsim.formats import as_format
from mpsim.kernels.compiled.structs import Aligned, packed
from mpsim.kernels.contractions.lowering import Contraction, product, significand_masks
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.contractions.pairs import sum_in_pairs
from mpsim.products.accumulators import Accumulator

FUSED, SEPARATE, NARROW, EXACT, ALIGNED = range(5)  # the enum of ext/orders/sums.h


def contract(c: Contraction, accumulator: Accumulator, threads: int) -> np.ndarray:
    """Computes every output of the contraction in the accumulator's specified order."""
    if c.is_double or accumulator.kind == "blas":
        return product(c)
    out = np.zeros(c.out_shape, np.float32)
    length = c.shape[2]
    if length == 0 or out.size == 0:
        return out
    if accumulator.kind == "pairwise":
        chunks = replace(accumulator, kind="sequential", chunk=None)
        return sum_in_pairs(c, accumulator.chunk or length, lambda part: contract(part, chunks, threads))
    narrow, chunk = Narrow.of(accumulator.format), min(accumulator.chunk or length, length)
    tables = (
        *(c.a, c.a_group, c.a_row, c.a_k),
        *(c.b, c.b_group, c.b_column, c.b_k),
        *(out.reshape(-1), c.out_group, c.out_row, c.out_column),
        *c.shape,
    )
    aligned = None
    if accumulator.kind == "aligned":
        kind, aligned = ALIGNED, packed(_aligned(accumulator, length))
    elif accumulator.kind == "exact":
        kind = EXACT
    elif accumulator.format != "float32":
        kind = NARROW
    else:
        kind = FUSED if accumulator.fma else SEPARATE
    _kernels.accumulate(*tables, kind, chunk, packed(narrow), aligned, threads)
    return out


def _aligned(accumulator: Accumulator, length: int) -> Aligned:
    """Returns the parameters of a sum of aligned, truncated products."""
    formats = *accumulator.operands, accumulator.format
    left, right, sums = (2.0 ** as_format(name).min_exponent for name in formats)
    return Aligned(
        min(accumulator.terms, length),
        2.0**-accumulator.fraction_bits,
        left,
        right,
        sums,
        accumulator.least_scale,
        *significand_masks(accumulator),
        accumulator.rounding == "toward_zero",
    )
