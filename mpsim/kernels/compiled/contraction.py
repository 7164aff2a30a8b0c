"""Contractions of the compiled backend: ext/'s vector kernels for the default accumulator, others for the rest.

The written order is CONTRACTION in ``mpsim.kernels.contract``; the bits depend neither on ``threads`` nor on the
instruction set that runs.
"""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np
import numpy.typing as npt

import mpsim._kernels as _kernels
from mpsim.accumulators import Accumulator
from mpsim.kernels.compiled.arrays import empty
from mpsim.kernels.compiled.rounding import begun, round_array
from mpsim.kernels.epilogue import Epilogue, applied_after

Array = npt.NDArray[np.float32]
Pair = tuple[int, int]

#: Multiplications from which a contraction uses more than one thread: below, waking them costs more than it saves.
WORTH_THREADS = 1 << 20

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "matmul"]


def matmul(
    a: Array,
    b: Array,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Array | None = None,
    *,
    threads: int = 1,
    accumulator: Accumulator = Accumulator(),
) -> Array:
    """op(a) (M, K) times op(b) (K, N), plus ``bias`` (N,): (M, N).

    >>> matmul(np.float32([[1, 2]]), np.float32([[3], [4]]), bias=np.float32([0.5]))
    array([[11.5]], dtype=float32)
    """
    if not accumulator.is_default:
        from mpsim.kernels.compiled import accumulators

        return accumulators.matmul(a, b, transpose_a, transpose_b, bias, threads=threads, accumulator=accumulator)
    rows, depth = a.shape[::-1] if transpose_a else a.shape
    columns = b.shape[0] if transpose_b else b.shape[1]
    c = empty((rows, columns))
    team = _team(rows * columns * depth, threads)
    _kernels.matmul(
        _flat(a), _flat(b), bias, _flat(c), rows, columns, depth, transpose_a, transpose_b, team
    )  # (M, K), (K, N) -> (M, N)
    return c


def conv2d(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    groups: int,
    *,
    epilogue: Epilogue | None = None,
    threads: int = 1,
    accumulator: Accumulator = Accumulator(),
) -> Array:
    """x (N, C, H, W), w (O, C / groups, R, S), bias (O,) or None: (N, O, OH, OW).

    >>> conv2d(np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32), None, (1, 1), (0, 0), 1)
    array([[[[4., 4.],
             [4., 4.]]]], dtype=float32)
    """
    if not accumulator.is_default:
        from mpsim.kernels.compiled import accumulators

        return applied_after(accumulators.conv2d, partial(round_array, threads=threads))(
            x, w, bias, stride, padding, groups, epilogue=epilogue, threads=threads, accumulator=accumulator
        )
    height, width = (
        (x.shape[axis + 2] + 2 * padding[axis] - w.shape[axis + 2]) // stride[axis] + 1 for axis in range(2)
    )
    y = empty((x.shape[0], w.shape[0], height, width))
    shapes, team = (x.shape, w.shape, y.shape), _team(prod(y.shape) * prod(w.shape[1:]), threads)
    finish = begun(epilogue, team)
    _kernels.convolution_forward(_flat(x), _flat(w), bias, _flat(y), *shapes, stride, padding, groups, finish, team)
    return y


def conv2d_input_gradient(
    gy: Array,
    w: Array,
    x_shape: tuple[int, int, int, int],
    stride: Pair,
    padding: Pair,
    groups: int,
    *,
    epilogue: Epilogue | None = None,
    threads: int = 1,
    accumulator: Accumulator = Accumulator(),
) -> Array:
    """gy (N, O, OH, OW), w (O, C / groups, R, S): the gradient by x, of ``x_shape`` (N, C, H, W).

    >>> gy, w = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 2), np.float32)
    >>> conv2d_input_gradient(gy, w, (1, 1, 3, 3), (1, 1), (0, 0), 1)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]], dtype=float32)
    """
    if not accumulator.is_default:
        from mpsim.kernels.compiled import accumulators

        return applied_after(accumulators.conv2d_input_gradient, partial(round_array, threads=threads))(
            gy, w, x_shape, stride, padding, groups, epilogue=epilogue, threads=threads, accumulator=accumulator
        )
    gx = empty(x_shape)
    shapes, team = (tuple(x_shape), w.shape, gy.shape), _team(prod(gy.shape) * prod(w.shape[1:]), threads)
    finish = begun(epilogue, team)
    _kernels.convolution_input_gradient(_flat(gy), _flat(w), _flat(gx), *shapes, stride, padding, groups, finish, team)
    return gx


def conv2d_weight_gradient(
    x: Array,
    gy: Array,
    w_shape: tuple[int, int, int, int],
    stride: Pair,
    padding: Pair,
    groups: int,
    *,
    threads: int = 1,
    accumulator: Accumulator = Accumulator(),
) -> Array:
    """x (N, C, H, W), gy (N, O, OH, OW): the gradient by w, of ``w_shape`` (O, C / groups, R, S).

    >>> x, gy = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
    >>> conv2d_weight_gradient(x, gy, (1, 1, 2, 2), (1, 1), (0, 0), 1)
    array([[[[4., 4.],
             [4., 4.]]]], dtype=float32)
    """
    if not accumulator.is_default:
        from mpsim.kernels.compiled import accumulators

        return accumulators.conv2d_weight_gradient(
            x, gy, w_shape, stride, padding, groups, threads=threads, accumulator=accumulator
        )
    gw = empty(w_shape)
    shapes, team = (x.shape, tuple(w_shape), gy.shape), _team(prod(gy.shape) * prod(w_shape[1:]), threads)
    _kernels.convolution_weight_gradient(_flat(x), _flat(gy), _flat(gw), *shapes, stride, padding, groups, team)
    return gw


def _team(multiplications: int, threads: int) -> int:
    """How many of the threads are worth it; no bit depends on them."""
    return threads if multiplications >= WORTH_THREADS else 1


def _flat(array: Array) -> Array:
    """A flat view of a contiguous array."""
    return array.reshape(-1)
