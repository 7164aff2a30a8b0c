"""Each element by itself, in one pass. The result may be an input."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import at_most, empty, njit

__all__ = ["add", "positive", "relu", "relu_gradient", "scale", "sgd_update"]

Array = NDArray[np.float32]
ZERO = np.float32(0)


@njit(cache=True, parallel=True)
def _add(a: Array, b: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = a[i] + b[i]


@njit(cache=True, parallel=True)
def _scale(x: Array, factor: np.float32, y: Array) -> None:
    for i in prange(y.size):
        y[i] = x[i] * factor


@njit(cache=True, parallel=True)
def _relu(x: Array, y: Array) -> None:
    for i in prange(y.size):
        y[i] = ZERO if x[i] <= 0 else x[i]


@njit(cache=True, parallel=True)
def _positive(x: Array, mask: Array) -> None:
    for i in prange(mask.size):
        mask[i] = x[i] > 0


@njit(cache=True, parallel=True)
def _relu_gradient(gy: Array, x: Array, gx: Array) -> None:
    for i in prange(gx.size):
        gx[i] = gy[i] if x[i] > 0 else ZERO


@njit(cache=True, parallel=True)
def _sgd_update(
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


def _flat(x: NDArray) -> NDArray:
    return x.reshape(-1)


def _made(x: Array, out: Array | None) -> Array:
    return empty(x.shape) if out is None else out


def add(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """a + b; ``out`` may be a or b."""
    y = _made(a, out)
    with at_most(threads):
        _add(_flat(a), _flat(b), _flat(y))
    return y


def scale(x: Array, factor: float, *, out: Array | None = None, threads: int = 1) -> Array:
    """x times the factor; ``out`` may be x."""
    y = _made(x, out)
    with at_most(threads):
        _scale(_flat(x), np.float32(factor), _flat(y))
    return y


def relu(x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """x where not (x <= 0), so that NaN stays, else +0; ``out`` may be x."""
    y = _made(x, out)
    with at_most(threads):
        _relu(_flat(x), _flat(y))
    return y


def positive(x: Array, *, threads: int = 1) -> NDArray:
    """Whether x > 0, as a bool array."""
    mask = np.empty(x.shape, np.bool_)
    with at_most(threads):
        _positive(_flat(x), _flat(mask))
    return mask


def relu_gradient(gy: Array, x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """gy where x > 0, else +0; ``out`` may be gy, and x may be positive(x)."""
    gx = _made(gy, out)
    with at_most(threads):
        _relu_gradient(_flat(gy), _flat(x), _flat(gx))
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
        _sgd_update(_flat(master), _flat(gradient), _flat(velocity), *scalars)
