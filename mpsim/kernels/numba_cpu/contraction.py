"""Contractions of the 'numba' backend: the door to panels.py (float32 sums), sums.py (narrow and
exact ones) and aligned.py (as tensor cores sum)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mpsim.accumulators import Accumulator
from mpsim.kernels.contract import Array, Shape
from mpsim.kernels.contraction import FasterWays, Geometry, How, contractions, over_lowering
from mpsim.kernels.lowering import (
    Contraction,
    add_bias,
    of_conv2d_input_gradient,
    of_conv2d_weight_gradient,
    of_matmul,
    product,
)
from mpsim.kernels.narrow import Narrow
from mpsim.kernels.numba_cpu import aligned, depthwise, lanes, panels, strided, sums
from mpsim.kernels.numba_cpu.arrays import empty
from mpsim.kernels.numba_cpu.rounding import round_array
from mpsim.kernels.numba_cpu.steps import run
from mpsim.kernels.numba_cpu.threads import at_most
from mpsim.kernels.pairs import sum_in_pairs
from mpsim.kernels.phases import phases

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "matmul"]


class _InLanes(FasterWays):
    """Depthwise convolutions, gradients by the input in phases, and few columns or many rows as lanes."""

    def matmul(
        self, a: Array, b: Array, transpose_a: bool, transpose_b: bool, bias: Array | None, how: How
    ) -> Array | None:
        """Few columns are lanes, and nothing of the rows is packed."""
        if b.shape[0 if transpose_b else 1] > panels.LANES:
            return None
        c = exchanged(of_matmul(a, b, transpose_a, transpose_b))
        return add_bias(contract(c, how.accumulator, how.threads, rows_as_lanes=True), bias)

    def conv2d(self, x: Array, w: Array, bias: Array | None, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        if not (is_depthwise(x, w, w.shape, groups, how.accumulator) and in_one_chunk(w, how.accumulator)):
            return None
        canvas = (x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1])
        rows, columns = ((canvas[i] - w.shape[2 + i]) // stride[i] + 1 for i in (0, 1))
        y = empty((*x.shape[:2], rows, columns))
        with at_most(how.threads):
            weights = w.reshape(groups, -1)
            depthwise.correlate(x, weights, w.shape[2:], stride, padding, (1, 1), canvas, how.accumulator.fma, y)
        return add_bias(y, bias)

    def conv2d_input_gradient(self, gy: Array, w: Array, x_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        kernel = w.shape[2:]
        around = (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1])
        if (
            is_depthwise(gy, w, w.shape, groups, how.accumulator)
            and in_one_chunk(w, how.accumulator)
            and min(around) >= 0
        ):
            canvas = (x_shape[2] + kernel[0] - 1, x_shape[3] + kernel[1] - 1)
            flipped = np.ascontiguousarray(w[:, 0, ::-1, ::-1]).reshape(groups, -1)
            gx = empty(x_shape)
            with at_most(how.threads):
                depthwise.correlate(gy, flipped, kernel, (1, 1), around, stride, canvas, how.accumulator.fma, gx)
            return gx
        plain = is_plain(how.accumulator) and gy.dtype == w.dtype == np.float32 and gy.size > 0 and w.size > 0
        if stride == (1, 1) or not plain or not np.isfinite(w).all():
            return None
        return _in_phases(gy, w, x_shape, geometry, how.accumulator, how.threads)

    def conv2d_weight_gradient(self, x: Array, gy: Array, w_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        if is_depthwise(x, gy, w_shape, groups, how.accumulator):
            length = gy[:, 0].size
            gw = np.empty(w_shape, np.float32)
            chunk = min(how.accumulator.chunk or length, length)
            with at_most(how.threads):
                weights = gw.reshape(groups, -1)
                depthwise.weight_gradient(x, gy, w_shape[2:], stride, padding, chunk, how.accumulator.fma, weights)
            return gw
        if w_shape[0] // groups < panels.LANES // 2:
            return None
        return contract(
            of_conv2d_weight_gradient(x, gy, w_shape, *geometry), how.accumulator, how.threads, rows_as_lanes=True
        )


def _in_phases(
    gy: Array, w: Array, x_shape: Shape, geometry: Geometry, accumulator: Accumulator, threads: int
) -> Array:
    """The gradient by the input without the zeros between the elements of gy (mpsim.kernels.phases)."""
    length = w[:, 0].size // geometry[2]
    chunk = accumulator.chunk or length
    gx = empty(x_shape)
    gx[...] = 0
    with at_most(threads):
        for phase, ends in phases(gy, w, x_shape, *geometry, chunk):
            panels.contract(*tables(phase, gx, ends, accumulator.fma))
        columns = strided.unsettled(gx)
        if columns.size:
            c = of_conv2d_input_gradient(gy, w, x_shape, *geometry)
            c = replace(c, b_column=c.b_column[columns], out_column=c.out_column[columns])
            panels.contract(*tables(c, gx, ends_of(length, chunk), accumulator.fma))
    return gx


def exchanged(c: Contraction) -> Contraction:
    """The same outputs with rows and columns exchanged: a product of two numbers does not mind."""
    left, right = (c.a, c.a_group, c.a_row, c.a_k), (c.b, c.b_group, c.b_column, c.b_k)
    return Contraction(*right, *left, c.out_shape, c.out_group, c.out_column, c.out_row)


def is_plain(accumulator: Accumulator) -> bool:
    """Whether sums are in float32, one element after another."""
    return accumulator.kind == "sequential" and accumulator.format == "float32"


def is_depthwise(
    x: np.ndarray, other: np.ndarray, w_shape: tuple[int, ...], groups: int, accumulator: Accumulator
) -> bool:
    """Whether each group has one channel and one output, and the sums are in float32 one after another."""
    single = x.dtype == other.dtype == np.float32
    return (
        is_plain(accumulator)
        and single
        and groups > 1
        and x.size > 0
        and other.size > 0
        and tuple(w_shape[:2]) == (groups, 1)
    )


def in_one_chunk(w: np.ndarray, accumulator: Accumulator) -> bool:
    """Whether the sum over one kernel is one chunk."""
    return accumulator.chunk is None or w[0].size <= accumulator.chunk


def tables(c: Contraction, out: np.ndarray, *others: Any) -> Any:
    """The arguments of a loop over the contraction."""
    return (
        *(c.a, c.a_group, c.a_row, c.a_k),
        *(c.b, c.b_group, c.b_column, c.b_k),
        *(out.reshape(-1), c.out_group, c.out_row, c.out_column),
        *others,
    )


def ends_of(length: int, chunk: int) -> np.ndarray:
    """0 and where each chunk ends."""
    return np.append(np.arange(0, length, chunk), length)


def contract(c: Contraction, accumulator: Accumulator, threads: int, rows_as_lanes: bool = False) -> np.ndarray:
    """Every output of the contraction, in the written order of the accumulator."""
    if c.is_double or accumulator.kind == "blas":
        return product(c)
    length = c.shape[2]
    if length == 0:
        return np.zeros(c.out_shape, np.float32)
    out = empty(c.out_shape)
    if accumulator.kind == "pairwise":
        chunks = replace(accumulator, kind="sequential", chunk=None)
        return sum_in_pairs(c, accumulator.chunk or length, lambda part: contract(part, chunks, threads))
    chunk = min(accumulator.chunk or length, length)
    with at_most(threads):
        if accumulator.kind == "exact":
            sums.exact(*tables(c, out))
        elif accumulator.kind == "aligned":
            numbers = aligned.Numbers.of(accumulator, length)
            aligned.contract(*tables(c, out, chunk, numbers, Narrow.of(accumulator.format)))
        elif accumulator.format != "float32":
            sums.narrow(*tables(c, out, chunk, Narrow.of(accumulator.format)))
        elif rows_as_lanes:
            lanes.contract(*tables(c, out, chunk, accumulator.fma))
        else:
            panels.contract(*tables(c, out, ends_of(length, chunk), accumulator.fma))
    return out


matmul, conv2d, conv2d_input_gradient, conv2d_weight_gradient = contractions(
    over_lowering(contract), add_bias, round_array, _InLanes(), run
)
