"""Elementwise functions, in one pass over flat arrays."""

from __future__ import annotations

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.device.arrays import Array, empty, flattened, like
from mpsim.kernels.cuda.device.intrinsics import add_rn, mul_rn
from mpsim.kernels.cuda.device.launch import VECTOR, kernel

__all__ = ["add", "positive", "relu", "relu_gradient", "scale", "update_running"]

ZERO = np.float32(0)


def add(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Computes a + b. ``out`` may be a or b."""
    y = like(a, out)
    add_elements.over(y.size)(flattened(a), flattened(b), flattened(y))
    return y


@kernel(f"{VECTOR}, {VECTOR}, {VECTOR}")
def add_elements(a, b, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = add_rn(a[i], b[i])


def scale(x: Array, factor: float, *, out: Array | None = None, threads: int = 1) -> Array:
    """Computes x times the factor. ``out`` may be x."""
    y = like(x, out)
    scale_elements.over(y.size)(flattened(x), np.float32(factor), flattened(y))
    return y


@kernel(f"{VECTOR}, float32, {VECTOR}")
def scale_elements(x, factor, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = mul_rn(x[i], factor)


def relu(x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Computes x where not (x <= 0), so that NaN stays, else +0. ``out`` may be x."""
    y = like(x, out)
    relu_elements.over(y.size)(flattened(x), flattened(y))
    return y


@kernel(f"{VECTOR}, {VECTOR}")
def relu_elements(x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = ZERO if x[i] <= ZERO else x[i]


def positive(x: Array, *, threads: int = 1) -> Array:
    """Computes x > 0 as a bool array."""
    mask = empty(x.shape, np.bool_)
    positive_elements.over(mask.size)(flattened(x), flattened(mask))
    return mask


@kernel(f"{VECTOR}, boolean[::1]")
def positive_elements(x, mask):
    for i in range(cuda.grid(1), mask.size, cuda.gridsize(1)):
        mask[i] = x[i] > ZERO


def relu_gradient(gy: Array, x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Computes gy where x > 0, else +0. ``out`` may be gy, and x may be positive(x)."""
    gx = like(gy, out)
    select_elements.over(gx.size)(flattened(gy), flattened(x), flattened(gx))
    return gx


@kernel(f"{VECTOR}, boolean[::1], {VECTOR}", f"{VECTOR}, {VECTOR}, {VECTOR}")
def select_elements(gy, x, gx):
    for i in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        gx[i] = gy[i] if x[i] > 0 else ZERO


def update_running(running: Array, batch: Array, momentum: float, correction: float, *, threads: int = 1) -> None:
    """Computes running = (1 - momentum) * running + momentum * (batch * correction) in place."""
    kept = np.float32(1) - np.float32(momentum)
    mix_elements.over(running.size)(running, batch, kept, np.float32(momentum), np.float32(correction))


@kernel(f"{VECTOR}, {VECTOR}, float32, float32, float32")
def mix_elements(running, batch, kept, momentum, correction):
    for i in range(cuda.grid(1), running.size, cuda.gridsize(1)):
        running[i] = add_rn(mul_rn(kept, running[i]), mul_rn(momentum, mul_rn(batch[i], correction)))
