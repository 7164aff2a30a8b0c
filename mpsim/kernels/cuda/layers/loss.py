"""Log-softmax, negative log-likelihood, and their gradients."""

from __future__ import annotations

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.device.arrays import Array, cleared, empty, flattened
from mpsim.kernels.cuda.device.intrinsics import div_rn, mul_rn, sub_rn
from mpsim.kernels.cuda.device.launch import VECTOR, kernel
from mpsim.kernels.cuda.layers.division import DIVISOR, Divisor, check_size, quotient
from mpsim.kernels.cuda.layers.elementary import exp32, log32
from mpsim.kernels.cuda.layers.sums import channel_sums, over

__all__ = ["log_softmax", "log_softmax_gradient", "nll_loss", "nll_loss_gradient"]


def _rows(x: Array) -> Array:
    """Reshapes (N, C) to (1, N, C), so that the sums of channels are sums of rows."""
    return x.reshape(1, *tuple(x.shape))


def log_softmax(x: Array, *, threads: int = 1) -> Array:
    """Computes the logarithm of the softmax of each row: (N, C) -> (N, C)."""
    check_size(x.size)
    y, largest = empty(x.shape), empty(x.shape[0])
    find_largest.over(x.shape[0])(flattened(x), x.shape[1], largest)
    sums = channel_sums("exponential", _rows(x), u=largest)
    subtract_logarithms.over(x.size)(flattened(x), largest, sums, Divisor.of(x.shape[1]), flattened(y))
    return y


@kernel(f"{VECTOR}, int64, {VECTOR}")
def find_largest(x, columns, largest):
    """Finds the first largest element of each row, or the first NaN if there is one."""
    for row in range(cuda.grid(1), largest.size, cuda.gridsize(1)):
        found = x[row * columns]
        for c in range(1, columns):
            value = x[row * columns + c]
            if value > found or (value != value and found == found):  # noqa: PLR0124
                found = value
        largest[row] = found


@kernel((f"{VECTOR}, {VECTOR}, {VECTOR}", DIVISOR, VECTOR))
def subtract_logarithms(x, largest, sums, columns, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        row = quotient(i, columns)
        y[i] = sub_rn(sub_rn(x[i], largest[row]), log32(sums[row]))


def log_softmax_gradient(gy: Array, y: Array, *, threads: int = 1) -> Array:
    """Computes gy - exp(y) * (the sum of gy's row)."""
    check_size(y.size)
    gx, sums = empty(y.shape), channel_sums("element", _rows(gy))
    subtract_shares.over(y.size)(flattened(gy), flattened(y), sums, Divisor.of(y.shape[1]), flattened(gx))
    return gx


@kernel((f"{VECTOR}, {VECTOR}, {VECTOR}", DIVISOR, VECTOR))
def subtract_shares(gy, y, sums, columns, gx):
    for i in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        gx[i] = sub_rn(gy[i], mul_rn(exp32(y[i]), sums[quotient(i, columns)]))


def nll_loss(log_probabilities: Array, labels: Array, *, threads: int = 1) -> Array:
    """Computes the mean over n of -log_probabilities[n, labels[n]], with shape (1,)."""
    count, columns = log_probabilities.shape
    chosen = empty(count)
    choose.over(count)(flattened(log_probabilities), labels, columns, chosen)
    return over(channel_sums("element", chosen.reshape(1, 1, -1)), count)


@kernel(f"{VECTOR}, int64[::1], int64, {VECTOR}")
def choose(log_probabilities, labels, columns, chosen):
    for n in range(cuda.grid(1), chosen.size, cuda.gridsize(1)):
        chosen[n] = -log_probabilities[n * columns + labels[n]]


def nll_loss_gradient(g: Array, labels: Array, shape: tuple[int, int], *, threads: int = 1) -> Array:
    """Computes an array of -(g / N) at (n, labels[n]) and +0 elsewhere."""
    gx = cleared(empty(shape))
    spread.over(shape[0])(g, labels, np.float32(shape[0]), shape[1], flattened(gx))
    return gx


@kernel(f"{VECTOR}, int64[::1], float32, int64, {VECTOR}")
def spread(g, labels, count, columns, gx):
    for n in range(cuda.grid(1), labels.size, cuda.gridsize(1)):
        gx[n * columns + labels[n]] = -div_rn(g[0], count)
