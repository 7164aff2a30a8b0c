"""Calls the compiled kernels of layers in ext/layers/, with the reference's bits and signatures.

Kernels that work on a few numbers per step are NumPy's in every CPU backend.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from mpsim import _kernels
from mpsim.kernels.compiled.arrays import empty
from mpsim.kernels.compiled.structs import Batch, Pooling, packed
from mpsim.kernels.reference.layers import nll_loss, nll_loss_gradient, update_running
from mpsim.kernels.reference.pooling import indexed_shape, pooled_shape

__all__ = [
    "add",
    "avg_pool2d",
    "avg_pool2d_gradient",
    "batch_norm",
    "batch_norm_gradient",
    "batch_norm_inference",
    "channel_sum",
    "log_softmax",
    "log_softmax_gradient",
    "max_pool2d",
    "max_pool2d_gradient",
    "nll_loss",
    "nll_loss_gradient",
    "positive",
    "relu",
    "relu_gradient",
    "scale",
    "total_sum",
    "update_running",
]

Array = NDArray[np.float32]
Pair = tuple[int, int]


def _flat(x: NDArray) -> NDArray:
    return x.reshape(-1)


def _made(x: Array, out: Array | None) -> Array:
    return empty(x.shape) if out is None else out


@lru_cache(maxsize=1024)
def _batch(shape: tuple[int, ...]) -> bytes:
    """Returns the struct Batch of (N, C, ...)."""
    images, channels, *rest = shape
    return packed(Batch(images, channels, prod(rest)))


def add(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns a + b. ``out`` may be a or b."""
    y = _made(a, out)
    _kernels.add(_flat(a), _flat(b), _flat(y), y.size, threads)
    return y


def scale(x: Array, factor: float, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns x times the factor. ``out`` may be x."""
    y = _made(x, out)
    _kernels.scale(_flat(x), factor, _flat(y), y.size, threads)
    return y


def relu(x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns x where not (x <= 0), so that NaN stays, and +0 elsewhere. ``out`` may be x."""
    y = _made(x, out)
    _kernels.relu(_flat(x), _flat(y), y.size, threads)
    return y


def positive(x: Array, *, threads: int = 1) -> NDArray:
    """Returns x > 0 as a bool array."""
    mask = empty(x.shape, np.bool_)
    _kernels.positive(_flat(x), _flat(mask).view(np.uint8), x.size, threads)
    return mask


def relu_gradient(gy: Array, x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Returns gy where x > 0 and +0 elsewhere. ``out`` may be gy, and x may be positive(x)."""
    gx = _made(gy, out)
    if x.dtype == np.bool_:
        _kernels.relu_gradient_where(_flat(gy), _flat(x).view(np.uint8), _flat(gx), gx.size, threads)
        return gx
    _kernels.relu_gradient(_flat(gy), _flat(x), _flat(gx), gx.size, threads)
    return gx


def channel_sum(x: Array, *, threads: int = 1) -> Array:
    """Returns the sum over n, then over the trailing axes: (N, C, ...) -> (C,)."""
    sums = np.empty(x.shape[1], np.float32)
    _kernels.channel_sum(_flat(x), _batch(x.shape), sums, threads)
    return sums


def total_sum(x: Array, *, threads: int = 1) -> float:
    """Returns the sum of all elements as a Python float."""
    return _kernels.total_sum(_flat(x), x.size)


def batch_norm(
    x: Array,
    scale: Array,
    shift: Array,
    epsilon: float,
    *,
    out: Array | None = None,
    threads: int = 1,
) -> tuple[Array, Array, Array, Array]:
    """Normalizes in training: (y, mean, biased variance, inverse deviation). ``out`` may be x."""
    y = _made(x, out)
    mean, variance, inverse_deviation = (np.empty(x.shape[1], np.float32) for _ in range(3))
    statistics = mean, variance, inverse_deviation
    _kernels.batch_norm(_flat(x), scale, shift, epsilon, _batch(x.shape), _flat(y), *statistics, threads)
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
    """Normalizes with the given mean and variance. ``out`` may be x."""
    y = _made(x, out)
    given = mean, variance, scale, shift
    _kernels.batch_norm_inference(_flat(x), *given, epsilon, _batch(x.shape), _flat(y), threads)
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
    """Returns the gradients of batch_norm: (gx, gscale, gshift). ``out`` may be gy or x."""
    gx = _made(x, out)
    gscale, gshift = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.float32)
    given = mean, inverse_deviation, scale
    _kernels.batch_norm_gradient(_flat(gy), _flat(x), *given, _batch(x.shape), _flat(gx), gscale, gshift, threads)
    return gx, gscale, gshift


@lru_cache(maxsize=1024)
def _pool(x_shape: tuple[int, ...], windows: Pair, kernel: Pair, stride: Pair, padding: Pair) -> bytes:
    """Returns the struct Pooling of images of this shape."""
    images, channels, height, width = x_shape
    rows, columns = windows
    return packed(Pooling(images * channels, height, width, rows, columns, kernel, stride, padding))


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> tuple[Array, NDArray]:
    """Returns the largest element of each window and its position: (y, index = h * W + w, int32)."""
    y = empty(indexed_shape(x.shape, kernel, stride, padding))
    index = empty(y.shape, np.int32)
    _kernels.max_pool2d(_flat(x), _pool(x.shape, y.shape[2:], kernel, stride, padding), _flat(y), _flat(index), threads)
    return y, index


def max_pool2d_gradient(gy: Array, index: NDArray, x_shape: tuple[int, ...], *, threads: int = 1) -> Array:
    """gy added at the place its maximum came from, in rising (i, j) of gy."""
    gx = empty(x_shape)
    pool = _pool(x_shape, gy.shape[2:], (1, 1), (1, 1), (0, 0))
    _kernels.max_pool2d_gradient(_flat(gy), _flat(index), pool, _flat(gx), threads)
    return gx


def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> Array:
    """The mean of each window, zeros of the padding included."""
    y = empty(pooled_shape(x.shape, kernel, stride, padding))
    _kernels.avg_pool2d(_flat(x), _pool(x.shape, y.shape[2:], kernel, stride, padding), _flat(y), threads)
    return y


def avg_pool2d_gradient(
    gy: Array, x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1
) -> Array:
    """Adds gy divided by the window's size to each element of its window, in rising (i, j) of gy."""
    gx = empty(x_shape)
    pool = _pool(x_shape, gy.shape[2:], kernel, stride, padding)
    _kernels.avg_pool2d_gradient(_flat(gy), pool, _flat(gx), threads)
    return gx


def log_softmax(x: Array, *, threads: int = 1) -> Array:
    """Returns the logarithm of the softmax of each row: (N, C) -> (N, C)."""
    y = np.empty(x.shape, np.float32)
    _kernels.log_softmax(_flat(x), *x.shape, _flat(y), threads)
    return y


def log_softmax_gradient(gy: Array, y: Array, *, threads: int = 1) -> Array:
    """Returns gy - exp(y) * (the sum of gy's row)."""
    gx = np.empty(y.shape, np.float32)
    _kernels.log_softmax_gradient(_flat(gy), _flat(y), *y.shape, _flat(gx), threads)
    return gx
