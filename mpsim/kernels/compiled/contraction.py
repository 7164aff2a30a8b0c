"""Contractions of the compiled backend, with vector kernels for the default accumulator.

CONTRACTION in ``mpsim.kernels.contract`` specifies the order. The bits depend neither on ``threads`` nor on the
instruction set.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import mpsim._kernels as _kernels
from mpsim.kernels.compiled import accumulators
from mpsim.kernels.compiled.arrays import empty
from mpsim.kernels.compiled.rounding import round_array
from mpsim.kernels.compiled.steps import run
from mpsim.kernels.compiled.structs import Convolution, packed
from mpsim.kernels.contract import Array, Shape
from mpsim.kernels.contractions.functions import FastPaths, Geometry, How, contractions, over_lowering
from mpsim.kernels.contractions.lowering import add_bias

#: Multiplications from which a contraction uses more than one thread. With fewer, waking threads costs more time.
WORTH_THREADS = 1 << 20

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "matmul"]


class _Vectorized(FastPaths):
    """Implements the default accumulator."""

    def matmul(
        self, a: Array, b: Array, transpose_a: bool, transpose_b: bool, bias: Array | None, how: How
    ) -> Array | None:
        """(M, K), (K, N) -> (M, N)."""
        if not how.accumulator.is_default:
            return None
        rows, depth = a.shape[::-1] if transpose_a else a.shape
        columns = b.shape[0] if transpose_b else b.shape[1]
        c = empty((rows, columns))
        team = _team(rows * columns * depth, how.threads)
        _kernels.matmul(_flat(a), _flat(b), bias, _flat(c), rows, columns, depth, transpose_a, transpose_b, team)
        return c

    def conv2d(self, x: Array, w: Array, bias: Array | None, geometry: Geometry, how: How) -> Array | None:
        """(N, C, H, W), (O, C / groups, R, S) -> (N, O, OH, OW)."""
        if not how.accumulator.is_default:
            return None
        stride, padding, _ = geometry
        height, width = (
            (x.shape[axis + 2] + 2 * padding[axis] - w.shape[axis + 2]) // stride[axis] + 1 for axis in range(2)
        )
        y = empty((x.shape[0], w.shape[0], height, width))
        shape, team = _shape(x.shape, w.shape, y.shape, geometry), _team(y.size * prod(w.shape[1:]), how.threads)
        _kernels.convolution_forward(shape, _flat(x), _flat(w), bias, _flat(y), team)
        return y

    def conv2d_input_gradient(self, gy: Array, w: Array, x_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        """(N, O, OH, OW), (O, C / groups, R, S) -> (N, C, H, W)."""
        if not how.accumulator.is_default:
            return None
        gx = empty(x_shape)
        shape, team = _shape(x_shape, w.shape, gy.shape, geometry), _team(gy.size * prod(w.shape[1:]), how.threads)
        _kernels.convolution_input_gradient(shape, _flat(gy), _flat(w), _flat(gx), team)
        return gx

    def conv2d_weight_gradient(self, x: Array, gy: Array, w_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        """(N, C, H, W), (N, O, OH, OW) -> (O, C / groups, R, S)."""
        if not how.accumulator.is_default:
            return None
        gw = empty(w_shape)
        shape, team = _shape(x.shape, w_shape, gy.shape, geometry), _team(gy.size * prod(w_shape[1:]), how.threads)
        _kernels.convolution_weight_gradient(shape, _flat(x), _flat(gy), _flat(gw), team)
        return gw


@lru_cache(maxsize=1024)
def _shape(x: Shape, w: Shape, y: Shape, geometry: Geometry) -> bytes:
    """Returns the struct Convolution of a convolution from x to y."""
    stride, padding, groups = geometry
    (outputs, _, *kernel), (_, _, *size) = w, y
    return packed(Convolution._make((*x, outputs, *size, *kernel, *stride, *padding, groups)))


def _team(multiplications: int, threads: int) -> int:
    """Returns how many of the threads to use. It changes no bit."""
    return threads if multiplications >= WORTH_THREADS else 1


def _flat(array: Array) -> Array:
    """Returns a flat view of a contiguous array."""
    return array.reshape(-1)


matmul, conv2d, conv2d_input_gradient, conv2d_weight_gradient = contractions(
    over_lowering(accumulators.contract), add_bias, round_array, _Vectorized(), run
)
