"""Updates of parameters, in place, by the reference's operations in one pass over flat arrays."""

from __future__ import annotations

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.device.arrays import Array, flattened
from mpsim.kernels.cuda.device.intrinsics import add_rn, div_rn, mul_rn, sqrt_rn, sub_rn
from mpsim.kernels.cuda.device.launch import VECTOR, kernel

__all__ = ["adam_update", "lion_update", "sgd_update"]

ZERO, ONE = np.float32(0), np.float32(1)


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
    """Computes one step of SGD with momentum in place to ``master`` and ``velocity``."""
    arrays = map(flattened, (master, gradient, velocity))
    scalars = map(np.float32, (learning_rate, momentum, weight_decay, inverse_scale, damping))
    sgd_elements.over(master.size)(*arrays, *scalars, bool(nesterov))


@kernel(f"{VECTOR}, {VECTOR}, {VECTOR}, float32, float32, float32, float32, float32, boolean")
def sgd_elements(master, gradient, velocity, learning_rate, momentum, weight_decay, inverse_scale, damping, nesterov):
    for i in range(cuda.grid(1), master.size, cuda.gridsize(1)):
        g = mul_rn(gradient[i], inverse_scale)
        g = add_rn(g, mul_rn(weight_decay, master[i]))
        v = add_rn(mul_rn(momentum, velocity[i]), mul_rn(damping, g))
        velocity[i] = v
        step = add_rn(g, mul_rn(momentum, v)) if nesterov else v
        master[i] = sub_rn(master[i], mul_rn(learning_rate, step))


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
    """Computes one step of Adam in place to ``master`` and both moments."""
    arrays = map(flattened, (master, gradient, first_moment, second_moment))
    numbers = step_size, kept, weight_decay, 1 - beta1, beta2, 1 - beta2, root, epsilon, inverse_scale
    adam_elements.over(master.size)(*arrays, *map(np.float32, numbers))


@kernel(f"{VECTOR}, {VECTOR}, {VECTOR}, {VECTOR}" + 9 * ", float32")
def adam_elements(
    master, gradient, first_moment, second_moment, step_size, kept, weight_decay, rest1, beta2, rest2, root, epsilon,
    inverse_scale,
):  # fmt: skip
    for i in range(cuda.grid(1), master.size, cuda.gridsize(1)):
        g = mul_rn(gradient[i], inverse_scale)
        g = add_rn(g, mul_rn(weight_decay, master[i]))
        first = add_rn(first_moment[i], mul_rn(rest1, sub_rn(g, first_moment[i])))
        second = add_rn(mul_rn(beta2, second_moment[i]), mul_rn(rest2, mul_rn(g, g)))
        first_moment[i] = first
        second_moment[i] = second
        d = add_rn(div_rn(sqrt_rn(second), root), epsilon)
        master[i] = sub_rn(mul_rn(kept, master[i]), mul_rn(step_size, div_rn(first, d)))


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
    """Computes one step of Lion in place to ``master`` and ``first_moment``."""
    arrays = map(flattened, (master, gradient, first_moment))
    numbers = learning_rate, kept, beta1, 1 - beta1, beta2, 1 - beta2, inverse_scale
    lion_elements.over(master.size)(*arrays, *map(np.float32, numbers))


@kernel(f"{VECTOR}, {VECTOR}, {VECTOR}" + 7 * ", float32")
def lion_elements(master, gradient, first_moment, learning_rate, kept, beta1, rest1, beta2, rest2, inverse_scale):
    for i in range(cuda.grid(1), master.size, cuda.gridsize(1)):
        g = mul_rn(gradient[i], inverse_scale)
        c = add_rn(mul_rn(beta1, first_moment[i]), mul_rn(rest1, g))
        sign = ONE if c > ZERO else -ONE if c < ZERO else c
        master[i] = sub_rn(mul_rn(kept, master[i]), mul_rn(learning_rate, sign))
        first_moment[i] = add_rn(mul_rn(beta2, first_moment[i]), mul_rn(rest2, g))
