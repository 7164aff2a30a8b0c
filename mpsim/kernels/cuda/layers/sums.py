"""Sums in the specified order (REDUCTION of the contract), with one warp for each block of 4096 elements.

Lane j adds elements j, j + 32, ... of its block, so that a warp reads whole cache lines. The lanes are combined by
halving. Afterwards one thread per sum adds the results of the blocks in rising order. The terms are elements or small
expressions of them, so that no array of terms is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.device.arrays import Array, empty, flattened, to_numpy
from mpsim.kernels.cuda.device.intrinsics import SIMULATED, add_rn, div_rn, lane_down, mul_rn, sub_rn
from mpsim.kernels.cuda.device.launch import VECTOR, Kernel, device_function, family, kernel
from mpsim.kernels.cuda.layers.division import DIVISOR, Divisor, check_size, quotient
from mpsim.kernels.cuda.layers.elementary import exp32

__all__ = ["channel_sum", "total_sum"]

BLOCK, LANES = 4096, 32
#: Warps of a block of threads.
WARPS = 1 if SIMULATED else 4
ZERO = np.float32(0)


@device_function
def element(x, y, i, u, v):
    """Returns x."""
    return x[i]


@device_function
def squared_deviation(x, y, i, u, v):
    """Computes (x - u) * (x - u)."""
    deviation = sub_rn(x[i], u)
    return mul_rn(deviation, deviation)


@device_function
def product_with_normalized(x, y, i, u, v):
    """Computes y * ((x - u) * v)."""
    return mul_rn(y[i], mul_rn(sub_rn(x[i], u), v))


@device_function
def exponential(x, y, i, u, v):
    """Computes exp32(x - u)."""
    return exp32(sub_rn(x[i], u))


@device_function
def product(x, y, i, u, v):
    """Computes x * y."""
    return mul_rn(x[i], y[i])


#: The terms that can be summed: functions of arrays x and y and of two numbers of the channel.
TERMS: dict[str, Callable[..., object]] = {
    "element": element,
    "squared_deviation": squared_deviation,
    "product_with_normalized": product_with_normalized,
    "exponential": exponential,
    "product": product,
}


@cache
def block_kernel(name: str) -> Kernel:
    """Returns a kernel that sums the terms of block b of channel c to parts[c, b]. Images are flat (N, C, area)."""
    term = TERMS[name]

    def sum_blocks(x, y, u, v, area, channels, count, blocks, parts):
        warp = np.uint32(cuda.blockIdx.x * (cuda.blockDim.x // LANES) + cuda.threadIdx.x // LANES)
        lane = cuda.threadIdx.x % LANES
        channel = quotient(warp, blocks)
        block = np.uint32(warp - channel * blocks.number)
        total = ZERO
        inside = warp < parts.size
        if inside:
            numbers = u[channel], v[channel]
            start = np.int64(block) * BLOCK
            stop = min(start + BLOCK, count)
            for e in range(start + lane, stop, LANES):
                image = quotient(e, area)
                place = (np.int64(image) * channels + channel) * area.number + (e - np.int64(image) * area.number)
                total = add_rn(total, term(x, y, place, numbers[0], numbers[1]))
        offset = LANES // 2
        while offset > 0:
            total = add_rn(total, lane_down(total, offset))
            offset //= 2
        if inside and lane == 0:
            parts[warp] = total

    signature = (f"{VECTOR}, {VECTOR}, {VECTOR}, {VECTOR}", DIVISOR, "int64, int64", DIVISOR, VECTOR)
    return Kernel(sum_blocks, [signature], f"layers.sums.sum_blocks[{name}]")


@family
def block_kernels() -> Iterator[Kernel]:
    """Yields the kernel of each kind of term."""
    return map(block_kernel, TERMS)


@kernel(f"{VECTOR}, int64, {VECTOR}")
def add_blocks(parts, blocks, sums):
    """Adds the results of channel c's blocks in rising order to sums[c]."""
    for c in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        total = ZERO
        for block in range(blocks):
            part = parts[c * blocks + block]
            total = part if block == 0 else add_rn(total, part)
        sums[c] = total


def channel_sums(name: str, x: Array, y: Array | None = None, u: Array | None = None, v: Array | None = None) -> Array:
    """Sums the terms of each channel: (N, C, ...) -> (C,). u and v are (C,)."""
    check_size(x.size)
    channels = x.shape[1]
    sums = empty(channels)
    count = x.size // channels if channels else 0
    blocks = -(-count // BLOCK)
    parts = empty(channels * blocks)
    if parts.size:
        flat, area = flattened(x), count // x.shape[0]
        other = flat if y is None else flattened(y)
        u, v = (flat if numbers is None else numbers for numbers in (u, v))
        shape = (-(-parts.size // WARPS), WARPS * LANES)
        block_kernel(name)[shape](flat, other, u, v, Divisor.of(area), channels, count, Divisor.of(blocks), parts)
    add_blocks.over(channels)(parts, blocks, sums)
    return sums


def channel_sum(x: Array, *, threads: int = 1) -> Array:
    """Sums over n, then the trailing axes: (N, C, ...) -> (C,)."""
    return channel_sums("element", x)


def total_sum(x: Array, *, threads: int = 1) -> float:
    """Sums all elements and returns a Python float."""
    return float(to_numpy(channel_sums("element", x.reshape(1, 1, -1) if x.size else x.reshape(0, 1)))[0])


def over(sums: Array, count: int) -> Array:
    """Computes sums / float32(count) in a new array."""
    means = empty(sums.shape)
    divide_elements.over(sums.size)(sums, np.float32(count), means)
    return means


@kernel(f"{VECTOR}, float32, {VECTOR}")
def divide_elements(x, divisor, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = div_rn(x[i], divisor)
