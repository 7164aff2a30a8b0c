"""The 'compiled' backend's contractions for every accumulator: the door to ext/simd_accumulators.c.

Speed is not the aim here, but a whole layer can be checked: the default order has its own kernels
(mpsim/kernels/compiled/contraction.py), which call this module for every other accumulator.
"""

from __future__ import annotations

import numpy as np

from mpsim import _kernels
from mpsim.accumulators import Accumulator
from mpsim.kernels.lowering import (
    Contraction,
    Pair,
    add_bias,
    of_conv2d,
    of_conv2d_input_gradient,
    of_conv2d_weight_gradient,
    of_matmul,
    product,
)
from mpsim.kernels.narrow import Narrow

FUSED, SEPARATE, NARROW, EXACT = range(4)  # enum accumulator_kind of ext/accumulators.h


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: np.ndarray | None = None,
    *,
    threads: int = 1,
    accumulator: Accumulator,
) -> np.ndarray:
    """See mpsim.kernels.contract."""
    return add_bias(contract(of_matmul(a, b, transpose_a, transpose_b), accumulator, threads), bias)


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    groups: int,
    *,
    threads: int = 1,
    accumulator: Accumulator,
) -> np.ndarray:
    """See mpsim.kernels.contract."""
    return add_bias(contract(of_conv2d(x, w, stride, padding, groups), accumulator, threads), bias)


def conv2d_input_gradient(
    gy: np.ndarray,
    w: np.ndarray,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    *,
    threads: int = 1,
    accumulator: Accumulator,
) -> np.ndarray:
    """See mpsim.kernels.contract."""
    return contract(of_conv2d_input_gradient(gy, w, x_shape, stride, padding, groups), accumulator, threads)


def conv2d_weight_gradient(
    x: np.ndarray,
    gy: np.ndarray,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    *,
    threads: int = 1,
    accumulator: Accumulator,
) -> np.ndarray:
    """See mpsim.kernels.contract."""
    return contract(of_conv2d_weight_gradient(x, gy, w_shape, stride, padding, groups), accumulator, threads)


def contract(c: Contraction, accumulator: Accumulator, threads: int) -> np.ndarray:
    """Every output of the contraction, in the written order of the accumulator."""
    if c.is_double or accumulator.kind == "blas":
        return product(c)
    out = np.zeros(c.out_shape, np.float32)
    length = c.shape[2]
    if length == 0 or out.size == 0:
        return out
    narrow = Narrow.of(accumulator.format)  # read by kind NARROW only
    if accumulator.kind == "exact":
        kind = EXACT
    elif accumulator.format != "float32":
        kind = NARROW
    else:
        kind = FUSED if accumulator.fma else SEPARATE
    _kernels.accumulate(
        *(c.a, c.a_group, c.a_row, c.a_k),
        *(c.b, c.b_group, c.b_column, c.b_k),
        *(out.reshape(-1), c.out_group, c.out_row, c.out_column),
        *(kind, min(accumulator.chunk or length, length), tuple(narrow), threads),
    )
    return out
