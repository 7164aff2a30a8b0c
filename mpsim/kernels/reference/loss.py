"""Defines reference kernels: log-softmax, negative log-likelihood, and their gradients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpsim.kernels import elementary
from mpsim.kernels.reference.reductions import sum_rows


def _exp(x: NDArray) -> NDArray:
    return elementary.exp32(x) if x.dtype == np.float32 else elementary.exp64(x)


def _log(x: NDArray) -> NDArray:
    return elementary.log32(x) if x.dtype == np.float32 else elementary.log64(x)


@np.errstate(all="ignore")
def log_softmax(x: NDArray, *, threads: int = 1) -> NDArray:
    """Returns the logarithm of the softmax of each row: (N, C) -> (N, C).

    The largest is the first of equals, and the first NaN if there is one (as np.argmax says).
    """
    largest = np.take_along_axis(x, x.argmax(axis=1)[:, None], axis=1)
    distance = x - largest
    return distance - _log(sum_rows(_exp(distance)))[:, None]


@np.errstate(all="ignore")
def log_softmax_gradient(gy: NDArray, y: NDArray, *, threads: int = 1) -> NDArray:
    """Returns gy - exp(y) * (the sum of gy's row)."""
    return gy - _exp(y) * sum_rows(gy)[:, None]


@np.errstate(all="ignore")
def nll_loss(log_probabilities: NDArray, labels: NDArray, *, threads: int = 1) -> NDArray:
    """Returns the mean over n of -log_probabilities[n, labels[n]], shape (1,)."""
    count = len(labels)
    chosen = -log_probabilities[np.arange(count), labels]
    return sum_rows(chosen[None]) / log_probabilities.dtype.type(count)


@np.errstate(all="ignore")
def nll_loss_gradient(g: NDArray, labels: NDArray, shape: tuple[int, int], *, threads: int = 1) -> NDArray:
    """Returns -(g / N) at (n, labels[n]) and +0 elsewhere."""
    gx = np.zeros(shape, g.dtype)
    gx[np.arange(shape[0]), labels] = -(g / g.dtype.type(shape[0]))
    return gx
