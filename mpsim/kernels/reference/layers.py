"""Defines reference kernels of layers that move arrays or work elementwise. Sums, pooling and loss have other files.

Every function accepts float32 arrays, and also float64 arrays for gradient checks. Then the same formulas run in
float64. ``mpsim.kernels.contract`` has the signatures and the specified orders of operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpsim.kernels.reference.loss import log_softmax, log_softmax_gradient, nll_loss, nll_loss_gradient
from mpsim.kernels.reference.pooling import avg_pool2d, avg_pool2d_gradient, max_pool2d, max_pool2d_gradient
from mpsim.kernels.reference.reductions import (
    batch_norm,
    batch_norm_gradient,
    batch_norm_inference,
    channel_sum,
    total_sum,
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
    "slice_channels",
    "total_sum",
    "update_running",
]


def permute(x: NDArray, axes: Sequence[int], *, threads: int = 1) -> NDArray:
    """Returns a contiguous copy with the axes in the given order."""
    return x.transpose(axes).copy(order="C")


def concatenate(arrays: Sequence[NDArray], *, threads: int = 1) -> NDArray:
    """Joins the arrays along axis 1."""
    return np.concatenate(arrays, axis=1)


def slice_channels(x: NDArray, start: int, stop: int, *, threads: int = 1) -> NDArray:
    """Returns a contiguous copy of x[:, start:stop]."""
    return x[:, start:stop].copy(order="C")


def place_channels(gy: NDArray, start: int, channels: int, *, threads: int = 1) -> NDArray:
    """Returns gy in the channels from ``start`` and +0 elsewhere: the gradient of slice_channels."""
    gx = np.zeros((gy.shape[0], channels, *gy.shape[2:]), gy.dtype)
    gx[:, start : start + gy.shape[1]] = gy
    return gx


@np.errstate(all="ignore")
def add(a: NDArray, b: NDArray, *, out: NDArray | None = None, threads: int = 1) -> NDArray:
    """Returns a + b. ``out`` may be a or b."""
    return np.add(a, b, out=out)


@np.errstate(all="ignore")
def scale(x: NDArray, factor: float, *, out: NDArray | None = None, threads: int = 1) -> NDArray:
    """Returns x times the factor. ``out`` may be x."""
    return np.multiply(x, x.dtype.type(factor), out=out)


def relu(x: NDArray, *, out: NDArray | None = None, threads: int = 1) -> NDArray:
    """Returns x where not (x <= 0), so that NaN stays, and +0 elsewhere. ``out`` may be x."""
    return _into(out, np.where(x <= 0, x.dtype.type(0), x))


def positive(x: NDArray, *, threads: int = 1) -> NDArray:
    """Returns whether x > 0 as a bool array."""
    return x > 0


def relu_gradient(gy: NDArray, x: NDArray, *, out: NDArray | None = None, threads: int = 1) -> NDArray:
    """Returns gy where x > 0 and +0 elsewhere. ``out`` may be gy, and x may be positive(x)."""
    return _into(out, np.where(x > 0, gy, gy.dtype.type(0)))


def _into(out: NDArray | None, result: NDArray) -> NDArray:
    if out is None:
        return result
    out[...] = result
    return out
