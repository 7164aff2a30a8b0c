"""Calls the compiled kernels of updates in ext/layers/updates.c, with the reference's bits and signatures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpsim import _kernels

__all__ = ["adam_update", "lion_update", "sgd_update"]

Array = NDArray[np.float32]


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
    arrays = (array.reshape(-1) for array in (master, gradient, velocity))
    scalars = learning_rate, momentum, weight_decay, inverse_scale, damping, nesterov
    _kernels.sgd_update(*arrays, *scalars, master.size, threads)


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
    scalars = step_size, kept, weight_decay, 1 - beta1, beta2, 1 - beta2, root, epsilon, inverse_scale
    _kernels.adam_update(*arrays, *scalars, master.size, threads)


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
    scalars = learning_rate, kept, beta1, 1 - beta1, beta2, 1 - beta2, inverse_scale
    _kernels.lion_update(*arrays, *scalars, master.size, threads)
