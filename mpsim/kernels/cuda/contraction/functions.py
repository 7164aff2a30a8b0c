"""The contractions of the contract."""

from __future__ import annotations

from math import prod
from typing import Any

from mpsim.kernels.contract import Shape
from mpsim.kernels.contractions.functions import FastPaths, Geometry, How, contractions
from mpsim.kernels.contractions.lowering import Lowering, of_matmul
from mpsim.kernels.cuda.chunks.accumulators import summation
from mpsim.kernels.cuda.contraction import depthwise, strided
from mpsim.kernels.cuda.contraction.each import add_bias
from mpsim.kernels.cuda.contraction.launches import contract
from mpsim.kernels.cuda.contraction.tables import tables_of
from mpsim.kernels.cuda.device.arrays import flattened
from mpsim.kernels.cuda.rounding import kernels

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "matmul"]

#: An array on a device. mpsim.kernels.contractions.functions annotates arrays of every backend with NumPy's type.
Array = Any
round_array: Any = kernels.round_array


class _OnDevice(FastPaths):
    """Computes depthwise convolutions, and gradients by the input in phases."""

    def conv2d(self, x: Array, w: Array, bias: Array | None, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        sums = summation(how.accumulator)
        if not depthwise.takes(x, w, groups, sums):
            return None
        return biased(depthwise.forward(x, w, stride, padding, sums.fused), bias)

    def conv2d_input_gradient(self, gy: Array, w: Array, x_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        sums = summation(how.accumulator)
        if depthwise.takes(gy, w, groups, sums):
            return depthwise.input_gradient(gy, w, x_shape, stride, padding, sums.fused)
        if strided.takes(gy, w, stride, sums):
            return strided.input_gradient(gy, w, x_shape, geometry, sums)
        return None


def sum_of(lowering: Lowering, how: How) -> Array:
    """Implements mpsim.kernels.contractions.functions.Sum. The lowering uses only the shapes of the arrays."""
    lower, options = lowering.lower, lowering.options
    first: Array = lowering.first
    second: Array = lowering.second
    tables = tables_of(lower, tuple(first.shape), tuple(second.shape), *options)
    left, right = (first, second) if lower is of_matmul else (second, first)
    return contract(tables, left, right, summation(how.accumulator))


def biased(out: Array, bias: Array | None) -> Array:
    """Adds one number per column of a matrix or per channel of images to the output."""
    if bias is not None and out.size:
        add_bias.over(out.size)(flattened(out), bias, prod(out.shape[2:]))
    return out


matmul, conv2d, conv2d_input_gradient, conv2d_weight_gradient = contractions(sum_of, biased, round_array, _OnDevice())
