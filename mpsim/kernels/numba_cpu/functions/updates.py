"""Updates parameters, by the reference's operations in one loop over the elements."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import at_most, njit

__all__ = ["adam_update", "lion_update", "sgd_update"]

Array = NDArray[np.float32]
Scalar = np.float32


@njit(cache=True, parallel=True)
def _sgd_update(
    master: Array,
    gradient: Array,
    velocity: Array,
    learning_rate: Scalar,
    momentum: Scalar,
    weight_decay: Scalar,
    inverse_scale: Scalar,
    damping: Scalar,
    nesterov: bool,
) -> None:
    for i in prange(master.size):
        g = gradient[i] * inverse_scale
        g = g + weight_decay * master[i]
        velocity[i] = momentum * velocity[i] + damping * g
        step = g + momentum * velocity[i] if nesterov else velocity[i]
        master[i] = master[i] - learning_rate * step


@njit(cache=True, parallel=True, error_model="numpy")
def _adam_update(
    master: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    step_size: Scalar,
    kept: Scalar,
    weight_decay: Scalar,
    rest1: Scalar,
    beta2: Scalar,
    rest2: Scalar,
    root: Scalar,
    epsilon: Scalar,
    inverse_scale: Scalar,
) -> None:
    for i in prange(master.size):
        g = gradient[i] * inverse_scale
        g = g + weight_decay * master[i]
        first = first_moment[i] + rest1 * (g - first_moment[i])
        second = beta2 * second_moment[i] + rest2 * (g * g)
        first_moment[i], second_moment[i] = first, second
        d = np.sqrt(second) / root + epsilon
        master[i] = kept * master[i] - step_size * (first / d)


@njit(cache=True, parallel=True)
def _lion_update(
    master: Array,
    gradient: Array,
    first_moment: Array,
    learning_rate: Scalar,
    kept: Scalar,
    beta1: Scalar,
    rest1: Scalar,
    beta2: Scalar,
    rest2: Scalar,
    inverse_scale: Scalar,
) -> None:
    for i in prange(master.size):
        g = gradient[i] * inverse_scale
        c = beta1 * first_moment[i] + rest1 * g
        sign = np.float32(1) if c > 0 else np.float32(-1) if c < 0 else c
        master[i] = kept * master[i] - learning_rate * sign
        first_moment[i] = beta2 * first_moment[i] + rest2 * g


def sgd_update(
    master: Array,
    gradient: Array,
    velocity: Array,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    inverse_scale: float,
    damping: float = 1.0,
    nesterov: bool = False,
    *,
    threads: int = 1,
) -> None:
    """Applies one step of SGD with momentum in place to ``master`` and ``velocity``."""
    scalars = map(np.float32, (learning_rate, momentum, weight_decay, inverse_scale, damping))
    with at_most(threads):
        _sgd_update(master.reshape(-1), gradient.reshape(-1), velocity.reshape(-1), *scalars, nesterov)


def adam_update(
    master: Array,
    gradient: Array,
    first_moment: Array,
    second_moment: Array,
    step_size: float,
    kept: float,
    weight_decay: float,
    beta1: float,
    beta2: float,
    root: float,
    epsilon: float,
    inverse_scale: float,
    *,
    threads: int = 1,
) -> None:
    """Applies one step of Adam in place to ``master`` and both moments."""
    arrays = (array.reshape(-1) for array in (master, gradient, first_moment, second_moment))
    numbers = step_size, kept, weight_decay, 1 - beta1, beta2, 1 - beta2, root, epsilon, inverse_scale
    with at_most(threads):
        _adam_update(*arrays, *map(np.float32, numbers))


def lion_update(
    master: Array,
    gradient: Array,
    first_moment: Array,
    learning_rate: float,
    kept: float,
    beta1: float,
    beta2: float,
    inverse_scale: float,
    *,
    threads: int = 1,
) -> None:
    """Applies one step of Lion in place to ``master`` and ``first_moment``."""
    arrays = (array.reshape(-1) for array in (master, gradient, first_moment))
    numbers = learning_rate, kept, beta1, 1 - beta1, beta2, 1 - beta2, inverse_scale
    with at_most(threads):
        _lion_update(*arrays, *map(np.float32, numbers))
