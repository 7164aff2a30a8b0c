"""Defines reference kernels of updates. Like those of layers they accept float64 arrays too, with the same formulas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["adam_update", "lion_update", "sgd_update"]


@np.errstate(all="ignore")
def sgd_update(
    master: NDArray,
    gradient: NDArray,
    velocity: NDArray,
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
    number = master.dtype.type
    g = gradient * number(inverse_scale)
    g = g + number(weight_decay) * master
    velocity[...] = number(momentum) * velocity + number(damping) * g
    step = g + number(momentum) * velocity if nesterov else velocity
    master[...] = master - number(learning_rate) * step


@np.errstate(all="ignore")
def adam_update(
    master: NDArray,
    gradient: NDArray,
    first_moment: NDArray,
    second_moment: NDArray,
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
    number = master.dtype.type
    g = gradient * number(inverse_scale)
    g = g + number(weight_decay) * master
    first_moment[...] = first_moment + number(1 - beta1) * (g - first_moment)
    second_moment[...] = number(beta2) * second_moment + number(1 - beta2) * (g * g)
    d = np.sqrt(second_moment) / number(root) + number(epsilon)
    master[...] = number(kept) * master - number(step_size) * (first_moment / d)


@np.errstate(all="ignore")
def lion_update(
    master: NDArray,
    gradient: NDArray,
    first_moment: NDArray,
    learning_rate: float,
    kept: float,
    beta1: float,
    beta2: float,
    inverse_scale: float,
    *,
    threads: int = 1,
) -> None:
    """Applies one step of Lion in place to ``master`` and ``first_moment``."""
    number = master.dtype.type
    g = gradient * number(inverse_scale)
    c = number(beta1) * first_moment + number(1 - beta1) * g
    sign = np.where(c > 0, number(1), np.where(c < 0, number(-1), c))
    master[...] = number(kept) * master - number(learning_rate) * sign
    first_moment[...] = number(beta2) * first_moment + number(1 - beta2) * g
