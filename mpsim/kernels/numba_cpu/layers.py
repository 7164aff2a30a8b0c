"""Numba kernels of the layers: the doors; the loops are in the files beside this one. The reference's bits.

What only moves elements, and what works on a few numbers per step, is NumPy's in every backend on the CPU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu import elementwise, loss, max_pooling, pooling, reductions
from mpsim.kernels.numba_cpu.jit import at_most, empty
from mpsim.kernels.reference.layers import (
    concatenate,
    nll_loss,
    nll_loss_gradient,
    permute,
    place_channels,
    slice_channels,
    update_running,
)

__all__ = [
    "add",
    "avg_pool2d",
    "avg_pool2d_gradient",
    "batch_norm",
    "batch_norm_gradient",
    "batch_norm_inference",
    "channel_sum",
    "concatenate",
    "log_softmax",
    "log_softmax_gradient",
    "max_pool2d",
    "max_pool2d_gradient",
    "nll_loss",
    "nll_loss_gradient",
    "permute",
    "place_channels",
    "positive",
    "relu",
    "relu_gradient",
    "scale",
    "sgd_update",
    "slice_channels",
    "total_sum",
    "update_running",
]

Array = NDArray[np.float32]
Pair = tuple[int, int]


def _flat(x: NDArray) -> NDArray:
    return x.reshape(-1)


def _made(x: Array, out: Array | None) -> Array:
    return empty(x.shape) if out is None else out


def _batch(x: Array) -> Array:
    """(N, C, ...) -> (N, C, area)."""
    return x.reshape(*x.shape[:2], -1)


def _planes(x: NDArray) -> NDArray:
    """(N, C, H, W) -> (N*C, H, W)."""
    return x.reshape(-1, *x.shape[2:])


def add(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """a + b; ``out`` may be a or b."""
    y = _made(a, out)
    with at_most(threads):
        elementwise.add(_flat(a), _flat(b), _flat(y))
    return y


def scale(x: Array, factor: float, *, out: Array | None = None, threads: int = 1) -> Array:
    """x times the factor; ``out`` may be x."""
    y = _made(x, out)
    with at_most(threads):
        elementwise.scale(_flat(x), np.float32(factor), _flat(y))
    return y


def relu(x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """x where not (x <= 0), so that NaN stays, else +0; ``out`` may be x."""
    y = _made(x, out)
    with at_most(threads):
        elementwise.relu(_flat(x), _flat(y))
    return y


def positive(x: Array, *, threads: int = 1) -> NDArray:
    """Whether x > 0, as a bool array."""
    mask = np.empty(x.shape, np.bool_)
    with at_most(threads):
        elementwise.positive(_flat(x), _flat(mask))
    return mask


def relu_gradient(gy: Array, x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """gy where x > 0, else +0; ``out`` may be gy, and x may be positive(x)."""
    gx = _made(gy, out)
    with at_most(threads):
        elementwise.relu_gradient(_flat(gy), _flat(x), _flat(gx))
    return gx


def sgd_update(
    master: Array,
    gradient: Array,
    velocity: Array,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    inverse_scale: float,
    *,
    threads: int = 1,
) -> None:
    """One step of SGD with momentum, in place in ``master`` and ``velocity``."""
    scalars = map(np.float32, (learning_rate, momentum, weight_decay, inverse_scale))
    with at_most(threads):
        elementwise.sgd_update(_flat(master), _flat(gradient), _flat(velocity), *scalars)


def channel_sum(x: Array, *, threads: int = 1) -> Array:
    """(N, C, ...) -> (C,): the sum over n, then the trailing axes."""
    sums = np.empty(x.shape[1], np.float32)
    with at_most(threads):
        reductions.channel_sums(_batch(x), sums)
    return sums


def total_sum(x: Array, *, threads: int = 1) -> float:
    """The sum of all elements, as a Python float."""
    return float(reductions.vector_sum(_flat(x)))


def batch_norm(
    x: Array, scale: Array, shift: Array, epsilon: float, *, out: Array | None = None, threads: int = 1
) -> tuple[Array, Array, Array, Array]:
    """Batch normalization in training: (y, mean, biased variance, inverse deviation); ``out`` may be x."""
    y = _made(x, out)
    mean, variance, inverse_deviation = (np.empty(x.shape[1], np.float32) for _ in range(3))
    with at_most(threads):
        reductions.batch_norm(
            _batch(x), scale, shift, np.float32(epsilon), _batch(y), mean, variance, inverse_deviation
        )
    return y, mean, variance, inverse_deviation


def batch_norm_inference(
    x: Array,
    mean: Array,
    variance: Array,
    scale: Array,
    shift: Array,
    epsilon: float,
    *,
    out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Batch normalization with the given mean and variance; ``out`` may be x."""
    y = _made(x, out)
    with at_most(threads):
        reductions.batch_norm_inference(_batch(x), mean, variance, scale, shift, np.float32(epsilon), _batch(y))
    return y


def batch_norm_gradient(
    gy: Array,
    x: Array,
    mean: Array,
    inverse_deviation: Array,
    scale: Array,
    *,
    out: Array | None = None,
    threads: int = 1,
) -> tuple[Array, Array, Array]:
    """The gradients of batch_norm: (gx, gscale, gshift); ``out`` may be gy or x."""
    gx = _made(x, out)
    gscale, gshift = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
    with at_most(threads):
        reductions.batch_norm_gradient(
            _batch(gy), _batch(x), mean, inverse_deviation, scale, _batch(gx), gscale, gshift
        )
    return gx, gscale, gshift


def _windows(x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair) -> tuple[int, ...]:
    """The shape of the result: only whole windows of the padded image count."""
    rows, columns = ((x_shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return *x_shape[:2], rows, columns


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> tuple[Array, NDArray]:
    """The largest element of each window, and where it stands: (y, index = h * W + w, int32)."""
    y = empty(_windows(x.shape, kernel, stride, padding))
    index = empty(y.shape, np.int32)
    with at_most(threads):
        max_pooling.max_pool2d(_planes(x), kernel, stride, padding, _planes(y), _planes(index))
    return y, index


def max_pool2d_gradient(gy: Array, index: NDArray, x_shape: tuple[int, ...], *, threads: int = 1) -> Array:
    """gy added at the place its maximum came from, in rising (i, j) of gy."""
    gx = empty(x_shape)
    planes = x_shape[0] * x_shape[1]
    with at_most(threads):
        max_pooling.max_pool2d_gradient(gy.reshape(planes, -1), index.reshape(planes, -1), gx.reshape(planes, -1))
    return gx


def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> Array:
    """The mean of each window, zeros of the padding included."""
    y = empty(_windows(x.shape, kernel, stride, padding))
    with at_most(threads):
        pooling.avg_pool2d(_planes(x), kernel, stride, padding, _planes(y))
    return y


def avg_pool2d_gradient(
    gy: Array, x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1
) -> Array:
    """gy divided by the window's size, added to each element of its window, in rising (i, j) of gy."""
    gx = empty(x_shape)
    with at_most(threads):
        pooling.avg_pool2d_gradient(_planes(gy), kernel, stride, padding, _planes(gx))
    return gx


def log_softmax(x: Array, *, threads: int = 1) -> Array:
    """Logarithm of the softmax of each row: (N, C) -> (N, C)."""
    y = empty(x.shape)
    with at_most(threads):
        loss.log_softmax(x, y)
    return y


def log_softmax_gradient(gy: Array, y: Array, *, threads: int = 1) -> Array:
    """gy - exp(y) * (the sum of gy's row)."""
    gx = empty(y.shape)
    with at_most(threads):
        loss.log_softmax_gradient(gy, y, gx)
    return gx
