"""Contractions of the 'numba' backend: calls the loops of panels.py for an accumulator and a lowering."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.kernels.contract import Array, Shape
from mpsim.kernels.contractions.functions import FastPaths, Geometry, How, contractions, over_lowering
from mpsim.kernels.contractions.lowering import (
    Contraction,
    add_bias,
    of_conv2d_input_gradient,
    of_conv2d_weight_gradient,
    product,
    significand_mask,
    truncated,
)
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.contractions.pairs import sum_in_pairs
from mpsim.kernels.contractions.phases import phases
from mpsim.kernels.numba_cpu import depthwise, panels
from mpsim.kernels.numba_cpu.jit import at_most, empty
from mpsim.kernels.numba_cpu.rounding import round_array
from mpsim.kernels.numba_cpu.steps import run
from mpsim.kernels.numba_cpu.sums import Aligned, Single
from mpsim.products.accumulators import Accumulator
from mpsim.products.sums import ROUNDINGS

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "matmul"]

STRETCH = 64  # consecutive k in a panel
NEGATIVE_ZERO = np.uint32(0x80000000)


class Order(NamedTuple):
    """An accumulator as arguments of the loops, for a certain length of k."""

    length: int
    chunk: int
    numbers: Single | Narrow | Aligned
    by_library: bool = False  # NumPy's matmul, without a specified order
    exact: bool = False  # correctly rounded: neither the chunk nor the numbers have an effect
    in_pairs: bool = False  # whether chunk results are added in pairs
    operands: tuple[str, str] = ("float32", "float32")  # formats whose significand bits are read

    @property
    def plain(self) -> bool:
        """Whether products are added in float32 one after another."""
        return isinstance(self.numbers, Single) and not (self.by_library or self.exact or self.in_pairs)

    @property
    def fused(self) -> bool:
        """Whether exact products are added in float32."""
        return isinstance(self.numbers, Single) and self.numbers.fused

    @property
    def ends(self) -> Array:
        """0 and the end of each chunk."""
        return np.append(np.arange(0, self.length, self.chunk), self.length)


def order_of(accumulator: Accumulator, length: int) -> Order:
    """Converts an accumulator. This backend reads it nowhere else."""
    kind, chunk = accumulator.kind, max(1, min(accumulator.chunk or length, length))
    if kind == "aligned":
        return Order(length, chunk, aligned(accumulator, length), operands=accumulator.operands)
    if kind == "sequential" and accumulator.format != "float32":
        return Order(length, chunk, Narrow.of(accumulator.format))
    return Order(length, chunk, Single(accumulator.fma), kind == "blas", kind == "exact", kind == "pairwise")


def aligned(accumulator: Accumulator, length: int) -> Aligned:
    left, right, sums = (2.0 ** as_format(name).min_exponent for name in (*accumulator.operands, accumulator.format))
    return Aligned(
        max(1, min(accumulator.terms, length)),
        2.0**-accumulator.fraction_bits,
        left,
        right,
        sums,
        accumulator.least_scale,
        *Narrow.of(accumulator.format),
        ROUNDINGS.index(accumulator.rounding),
    )


def contract(c: Contraction, accumulator: Accumulator, threads: int) -> Array:
    """Computes every output of the contraction in the accumulator's specified order."""
    order = order_of(accumulator, c.shape[2])
    if c.is_double or order.by_library:
        return product(c)
    if order.length == 0:
        return np.zeros(c.out_shape, np.float32)
    if order.operands != ("float32", "float32"):
        left, right = map(significand_mask, order.operands)
        c = replace(c, a=truncated(c.a, left), b=truncated(c.b, right))
    with at_most(threads):
        if order.in_pairs:
            return sum_in_pairs(c, order.chunk, lambda part: summed(part, order.numbers, np.array([0, part.shape[2]])))
        if not order.exact:
            return summed(c, order.numbers, order.ends)
        out = empty(c.out_shape)
        panels.contract_exactly(*tables(c, out))
        return out


def summed(c: Contraction, numbers: Single | Narrow | Aligned, ends: Array) -> Array:
    """Returns the outputs of the contraction. ``ends``: 0 and the end of each chunk."""
    out = empty(c.out_shape)
    sum_into(out, c, numbers, ends)
    return out


def sum_into(out: Array, c: Contraction, numbers: Single | Narrow | Aligned, ends: Array) -> None:
    """Stores the outputs of the contraction in ``out``."""
    stretch = STRETCH
    if isinstance(numbers, Aligned):
        stretch = max(1, STRETCH // numbers.terms) * numbers.terms  # whole instructions
    if not isinstance(numbers, Single):
        c = replace(c, a=c.a.astype(np.float64), b=c.b.astype(np.float64))
    panels.contract(*tables(c, out), ends, stretch, numbers)


def tables(c: Contraction, out: Array) -> tuple[Array, ...]:
    """Returns the arguments of a loop over the contraction."""
    left = (c.a, c.a_group, c.a_row, c.a_k)
    right = (c.b, c.b_group, c.b_column, c.b_k)
    result = (out.reshape(-1), c.out_group, c.out_row, c.out_column)
    return tuple(x.view(np.uint64) if x.dtype == np.int64 else x for x in (*left, *right, *result))


class _Faster(FastPaths):
    """Computes depthwise convolutions, and gradients by the input without the zeros of a stride, with plain sums."""

    def conv2d(self, x: Array, w: Array, bias: Array | None, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        order = plain_order(x, w, w[0].size, how)
        if order is None or not is_depthwise(w.shape, groups):
            return None
        canvas = (x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1])
        rows, columns = ((canvas[i] - w.shape[2 + i]) // stride[i] + 1 for i in (0, 1))
        y = empty((*x.shape[:2], rows, columns))
        with at_most(how.threads):
            depthwise.correlate(x, w, padding, (1, 1), canvas, stride, order.ends, order.fused, y)
        return add_bias(y, bias)

    def conv2d_input_gradient(self, gy: Array, w: Array, x_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        kernel, length = w.shape[2:], w[:, 0].size // groups
        order = plain_order(gy, w, length, how)
        if order is None:
            return None
        with at_most(how.threads):
            if is_depthwise(w.shape, groups):
                around = (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1])
                canvas = (x_shape[2] + kernel[0] - 1, x_shape[3] + kernel[1] - 1)
                gx = empty(x_shape)
                depthwise.correlate(
                    gy, w[:, :, ::-1, ::-1], around, stride, canvas, (1, 1), order.ends, order.fused, gx
                )
                return gx
            if stride == (1, 1) or not np.isfinite(w).all():
                return None
            return _in_phases(gy, w, x_shape, geometry, order)

    def conv2d_weight_gradient(self, x: Array, gy: Array, w_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        order = plain_order(x, gy, gy[:, 0].size, how)
        if order is None or not is_depthwise(w_shape, geometry[2]):
            return None
        c, gw = of_conv2d_weight_gradient(x, gy, w_shape, *geometry), empty(w_shape)
        columns = np.append(c.b_column, c.b_column[-1:].repeat(-c.b_column.size % 5))
        with at_most(how.threads):
            depthwise.weight_gradient(*tables(replace(c, b_column=columns), gw), order.ends, order.fused)
        return gw


def is_depthwise(w_shape: Shape, groups: int) -> bool:
    """Returns whether each group has one channel and one output."""
    return groups > 1 and tuple(w_shape[:2]) == (groups, 1)


def plain_order(first: Array, second: Array, length: int, how: How) -> Order | None:
    """Returns the order if products are added in float32 one after another, else None."""
    order = order_of(how.accumulator, length)
    single = first.dtype == second.dtype == np.float32 and first.size > 0 and second.size > 0
    return order if single and order.plain else None


def _in_phases(gy: Array, w: Array, x_shape: Shape, geometry: Geometry, order: Order) -> Array:
    """Computes the gradient by the input without zeros between gy's elements (mpsim/kernels/contractions/phases.py)."""
    gx = empty(x_shape)
    gx[...] = 0
    for phase, ends in phases(gy, w, x_shape, *geometry, order.chunk):
        sum_into(gx, phase, order.numbers, ends)
    pending = np.flatnonzero((gx.view(np.uint32) == NEGATIVE_ZERO).any(axis=1))
    if pending.size:
        c = of_conv2d_input_gradient(gy, w, x_shape, *geometry)
        c = replace(c, b_column=c.b_column[pending], out_column=c.out_column[pending])
        sum_into(gx, c, order.numbers, order.ends)
    return gx


matmul, conv2d, conv2d_input_gradient, conv2d_weight_gradient = contractions(
    over_lowering(contract), add_bias, round_array, _Faster(), run
)
