"""Numba: one pass over flat arrays. ``y`` may be an input."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import njit

Array = NDArray[np.float32]
ZERO = np.float32(0)


@njit(cache=True, parallel=True)
def add(a: Array, b: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = a[i] + b[i]


@njit(cache=True, parallel=True)
def scale(x: Array, factor: np.float32, y: Array) -> None:
    for i in prange(y.size):
        y[i] = x[i] * factor


@njit(cache=True, parallel=True)
def relu(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = ZERO if x[i] <= 0 else x[i]


@njit(cache=True, parallel=True)
def positive(x: Array, mask: Array) -> None:
    for i in prange(mask.size):
        mask[i] = x[i] > 0


@njit(cache=True, parallel=True)
def relu_gradient(gy: Array, x: Array, gx: Array) -> None:
    for i in prange(gx.size):
        gx[i] = gy[i] if x[i] > 0 else ZERO


@njit(cache=True, parallel=True)
def sgd_update(
    master: Array,
    gradient: Array,
    velocity: Array,
    learning_rate: np.float32,
    momentum: np.float32,
    weight_decay: np.float32,
    inverse_scale: np.float32,
) -> None:
    for i in prange(master.size):
        g = gradient[i] * inverse_scale
        g = g + weight_decay * master[i]
        velocity[i] = momentum * velocity[i] + g
        master[i] = master[i] - learning_rate * velocity[i]
