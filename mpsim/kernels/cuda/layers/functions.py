"""Functions of one or two arguments, softmax, and copies by index.

The functions follow mpsim/kernels/elementary/ operation by operation.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.device.arrays import Array, cleared, empty, flattened, like
from mpsim.kernels.cuda.device.intrinsics import add_rn, div_rn, mul_rn, sub_rn, to_float32
from mpsim.kernels.cuda.device.launch import VECTOR, kernel
from mpsim.kernels.cuda.layers.division import DIVISOR, Divisor, check_size, quotient
from mpsim.kernels.cuda.layers.elementary import exp32
from mpsim.kernels.cuda.layers.loss import find_largest
from mpsim.kernels.cuda.layers.sums import channel_sums
from mpsim.kernels.cuda.layers.unary import PIECES, SLOPES, in_pieces, slope, smooth
from mpsim.kernels.elementary.functions import NUMBER

__all__ = ["divide", "multiply", "softmax", "softmax_gradient", "subtract", "take", "take_gradient", "unary"]

SUBTRACT, MULTIPLY, DIVIDE = range(3)


def _combined(k: int, a: Array, b: Array, out: Array | None) -> Array:
    y = like(a, out)
    combine.over(y.size)(np.uint32(k), flattened(a), flattened(b), flattened(y))
    return y


@kernel(f"uint32, {VECTOR}, {VECTOR}, {VECTOR}")
def combine(k, a, b, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        if k == SUBTRACT:
            y[i] = sub_rn(a[i], b[i])
        elif k == MULTIPLY:
            y[i] = mul_rn(a[i], b[i])
        else:
            y[i] = div_rn(a[i], b[i])


def subtract(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Computes a - b. ``out`` may be a or b."""
    return _combined(SUBTRACT, a, b, out)


def multiply(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Computes a * b. ``out`` may be a or b."""
    return _combined(MULTIPLY, a, b, out)


def divide(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Computes a / b. ``out`` may be a or b."""
    return _combined(DIVIDE, a, b, out)


def unary(
    x: Array, function: str, a: float = 0.0, b: float = 0.0, *, out: Array | None = None, threads: int = 1
) -> Array:
    """Computes the function of each element. ``out`` may be x."""
    k, y = NUMBER[function], like(x, out)
    loop = apply_slope if k in SLOPES else apply_pieces if k in PIECES else apply_smooth
    loop.over(y.size)(np.uint32(k), flattened(x), np.float32(a), np.float32(b), flattened(y))
    return y


@kernel(f"uint32, {VECTOR}, float32, float32, {VECTOR}")
def apply_smooth(k, x, a, b, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = to_float32(smooth(k, np.float64(x[i]), np.float64(a)))


@kernel(f"uint32, {VECTOR}, float32, float32, {VECTOR}")
def apply_slope(k, x, a, b, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = to_float32(slope(k, np.float64(x[i])))


@kernel(f"uint32, {VECTOR}, float32, float32, {VECTOR}")
def apply_pieces(k, x, a, b, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = to_float32(in_pieces(k, np.float64(x[i]), np.float64(a), np.float64(b)))


def softmax(x: Array, *, threads: int = 1) -> Array:
    """Computes the softmax of each row: (N, C) -> (N, C)."""
    check_size(x.size)
    y, largest, rows = empty(x.shape), empty(x.shape[0]), x.reshape(1, *tuple(x.shape))
    find_largest.over(x.shape[0])(flattened(x), x.shape[1], largest)
    sums = channel_sums("exponential", rows, u=largest)
    divide_exponentials.over(x.size)(flattened(x), largest, sums, Divisor.of(x.shape[1]), flattened(y))
    return y


@kernel((f"{VECTOR}, {VECTOR}, {VECTOR}", DIVISOR, VECTOR))
def divide_exponentials(x, largest, sums, columns, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        row = quotient(i, columns)
        y[i] = div_rn(exp32(sub_rn(x[i], largest[row])), sums[row])


def softmax_gradient(gy: Array, y: Array, *, threads: int = 1) -> Array:
    """Computes (gy - (the sum of gy * y in the row)) * y."""
    check_size(y.size)
    rows = (1, *tuple(y.shape))
    gx, sums = empty(y.shape), channel_sums("product", gy.reshape(*rows), y.reshape(*rows))
    multiply_deviations.over(y.size)(flattened(gy), flattened(y), sums, Divisor.of(y.shape[1]), flattened(gx))
    return gx


@kernel((f"{VECTOR}, {VECTOR}, {VECTOR}", DIVISOR, VECTOR))
def multiply_deviations(gy, y, sums, columns, gx):
    for i in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        gx[i] = mul_rn(sub_rn(gy[i], sums[quotient(i, columns)]), y[i])


def take(x: Array, index: Array, *, threads: int = 1) -> Array:
    """Returns x[:, index], with +0 where the index is -1: (P, n, Q) -> (P, m, Q)."""
    outer, size, run = x.shape
    y = empty((outer, index.size, run))
    check_size(max(x.size, y.size))
    if y.size:
        copy_by_index.over(y.size)(flattened(x), index, size, Divisor.of(index.size), Divisor.of(run), flattened(y))
    return y


@kernel((f"{VECTOR}, int64[::1], int64", DIVISOR, DIVISOR, VECTOR))
def copy_by_index(x, index, size, count, run, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        row = quotient(i, run)
        p = quotient(row, count)
        source = index[np.int64(row) - np.int64(p) * count.number]
        inside = np.int64(i) - np.int64(row) * run.number
        y[i] = x[(np.int64(p) * size + source) * run.number + inside] if source >= 0 else np.float32(0)


def take_gradient(gy: Array, index: Array, size: int, *, threads: int = 1) -> Array:
    """Adds gy[:, j] at index[j] in rising j, but not where the index is -1: (P, m, Q) -> (P, size, Q)."""
    outer, _, run = gy.shape
    gx = cleared(empty((outer, size, run)))
    check_size(max(gx.size, gy.size))
    if outer * run:
        add_by_index.each(outer * run)(flattened(gy), index, size, Divisor.of(run), outer * run, flattened(gx))
    return gx


@kernel((f"{VECTOR}, int64[::1], int64", DIVISOR, "int64", VECTOR))
def add_by_index(gy, index, size, run, columns, gx):
    for column in range(cuda.grid(1), columns, cuda.gridsize(1)):
        p = np.int64(quotient(column, run))
        q = np.int64(column) - p * run.number
        for j in range(index.size):
            if index[j] >= 0:
                place = (p * size + index[j]) * run.number + q
                gx[place] = add_rn(gx[place], gy[(p * index.size + j) * run.number + q])
