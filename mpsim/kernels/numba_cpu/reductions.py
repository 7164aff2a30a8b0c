"""Numba: sums in the written order (REDUCTION of the contract), and batch norm. Images are (N, C, area)."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[np.float32]
BLOCK = 4096
LANES = 32
ROWS = 8  # of lanes that are added at a time, while the lanes stay in registers
ZERO = np.float32(0)
ONE = np.float32(1)


def _halving(count: int) -> Any:
    """halve(lanes, start): the sum of lanes[start : start + count] by halving; the count is a power of two.

    Numba's loop over j < half would go through memory for each half.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        vector = builder.load(builder.bitcast(pointer, ir.VectorType(ir.FloatType(), count).as_pointer()), align=4)
        half = count
        while half > 1:
            half //= 2
            parts = (range(half), range(half, 2 * half))
            indices = (ir.Constant(ir.VectorType(ir.IntType(32), half), list(part)) for part in parts)
            low, high = (builder.shuffle_vector(vector, vector, index) for index in indices)
            vector = builder.fadd(low, high)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    @intrinsic
    def halve(typing: Any, lanes: Any, start: Any) -> Any:
        return types.float32(lanes, types.int64), emit

    return halve


halve_16, halve_32 = _halving(16), _halving(LANES)


@njit(cache=True)
def block_sum(v: Array, lanes: Array) -> np.float32:
    """The sum of at most one block; ``lanes`` is room for 32 numbers."""
    lanes[:] = ZERO
    whole = v.size - v.size % LANES
    many = whole - whole % (ROWS * LANES)
    for first in range(0, many, ROWS * LANES):
        for j in range(LANES):
            lane = lanes[j]
            for row in range(ROWS):
                lane += v[first + row * LANES + j]
            lanes[j] = lane
    for first in range(many, whole, LANES):
        for j in range(LANES):
            lanes[j] += v[first + j]
    rest = v[whole:]
    for j in range(rest.size):
        lanes[j] += rest[j]
    return halve_32(lanes, 0)


@njit(cache=True)
def sum_in_blocks(v: Array, lanes: Array) -> np.float32:
    """The sum of all elements; ``lanes`` is room for 32 numbers."""
    total = ZERO
    for start in range(0, v.size, BLOCK):
        block = block_sum(v[start : start + BLOCK], lanes)
        total = block if start == 0 else total + block
    return total


@njit(cache=True)
def vector_sum(v: Array) -> np.float32:
    return sum_in_blocks(v, np.empty(LANES, np.float32))


@njit(cache=True)
def copy_elements(x: Array, channel: int, start: int, block: Array) -> None:
    """block = the elements of the channel from ``start`` on, images one after another."""
    area, done = x.shape[2], 0
    image, i = start // area, start % area
    while done < block.size:
        take = min(area - i, block.size - done)
        source, target = x[image, channel, i : i + take], block[done : done + take]
        for j in range(take):
            target[j] = source[j]
        done, image, i = done + take, image + 1, 0


@njit(cache=True)
def sum_of_channel(x: Array, channel: int) -> np.float32:
    lanes, block, total = np.empty(LANES, np.float32), np.empty(BLOCK, np.float32), ZERO
    count = x.shape[0] * x.shape[2]
    for start in range(0, count, BLOCK):
        part = block[: min(BLOCK, count - start)]
        copy_elements(x, channel, start, part)
        result = block_sum(part, lanes)
        total = result if start == 0 else total + result
    return total


@njit(cache=True)
def sum_of_squared_deviations(x: Array, channel: int, mean: np.float32) -> np.float32:
    lanes, block, total = np.empty(LANES, np.float32), np.empty(BLOCK, np.float32), ZERO
    count = x.shape[0] * x.shape[2]
    for start in range(0, count, BLOCK):
        part = block[: min(BLOCK, count - start)]
        copy_elements(x, channel, start, part)
        for i in range(part.size):
            deviation = part[i] - mean
            part[i] = deviation * deviation
        result = block_sum(part, lanes)
        total = result if start == 0 else total + result
    return total


@njit(cache=True)
def sum_of_products(gy: Array, x: Array, channel: int, mean: np.float32, inverse_deviation: np.float32) -> np.float32:
    """The sum of gy * xhat."""
    lanes, block, total = np.empty(LANES, np.float32), np.empty(BLOCK, np.float32), ZERO
    gradients = np.empty(BLOCK, np.float32)
    count = x.shape[0] * x.shape[2]
    for start in range(0, count, BLOCK):
        part = block[: min(BLOCK, count - start)]
        copy_elements(x, channel, start, part)
        copy_elements(gy, channel, start, gradients[: part.size])
        for i in range(part.size):
            part[i] = gradients[i] * ((part[i] - mean) * inverse_deviation)
        result = block_sum(part, lanes)
        total = result if start == 0 else total + result
    return total


@njit(cache=True)
def normalize(x: Array, channel: int, mean: np.float32, factor: np.float32, shift: np.float32, y: Array) -> None:
    """y may be x. A loop that reads another array than it writes is vector code only if the two are apart."""
    in_place = x.ctypes.data == y.ctypes.data
    for image in range(x.shape[0]):
        source, target = x[image, channel], y[image, channel]
        if in_place:
            for i in range(target.size):
                target[i] = (target[i] - mean) * factor + shift
        else:
            for i in range(target.size):
                target[i] = (source[i] - mean) * factor + shift


@njit(cache=True, parallel=True)
def channel_sums(x: Array, sums: Array) -> None:
    for c in prange(x.shape[1]):
        sums[c] = sum_of_channel(x, c)


@njit(cache=True, parallel=True, error_model="numpy")
def batch_norm(
    x: Array,
    scale: Array,
    shift: Array,
    epsilon: np.float32,
    y: Array,
    mean: Array,
    variance: Array,
    inverse_deviation: Array,
) -> None:
    n = np.float32(x.shape[0] * x.shape[2])
    for c in prange(x.shape[1]):
        mean[c] = sum_of_channel(x, c) / n
        variance[c] = sum_of_squared_deviations(x, c, mean[c]) / n
        inverse_deviation[c] = ONE / np.sqrt(variance[c] + epsilon)
        normalize(x, c, mean[c], inverse_deviation[c] * scale[c], shift[c], y)


@njit(cache=True, parallel=True, error_model="numpy")
def batch_norm_inference(
    x: Array, mean: Array, variance: Array, scale: Array, shift: Array, epsilon: np.float32, y: Array
) -> None:
    for c in prange(x.shape[1]):
        inverse_deviation = ONE / np.sqrt(variance[c] + epsilon)
        normalize(x, c, mean[c], inverse_deviation * scale[c], shift[c], y)


@njit(cache=True, parallel=True, error_model="numpy")
def batch_norm_gradient(
    gy: Array,
    x: Array,
    mean: Array,
    inverse_deviation: Array,
    scale: Array,
    gx: Array,
    gscale: Array,
    gshift: Array,
) -> None:
    n = np.float32(x.shape[0] * x.shape[2])
    for c in prange(x.shape[1]):
        gshift[c] = sum_of_channel(gy, c)
        gscale[c] = sum_of_products(gy, x, c, mean[c], inverse_deviation[c])
        input_gradient(gy, x, c, mean[c], inverse_deviation[c], scale[c], gshift[c] / n, gscale[c] / n, gx)


@njit(cache=True)
def input_gradient(
    gy: Array,
    x: Array,
    channel: int,
    mean: np.float32,
    inverse_deviation: np.float32,
    scale: np.float32,
    shift_share: np.float32,
    scale_share: np.float32,
    gx: Array,
) -> None:
    """gx may be gy or x: x is not read once a row of gx is written."""
    factor, in_place = inverse_deviation * scale, gx.ctypes.data == gy.ctypes.data
    shares = np.empty(x.shape[2], np.float32)
    for image in range(x.shape[0]):
        source, gradient, target = x[image, channel], gy[image, channel], gx[image, channel]
        for i in range(shares.size):
            shares[i] = ((source[i] - mean) * inverse_deviation) * scale_share
        if in_place:
            for i in range(shares.size):
                target[i] = factor * ((target[i] - shift_share) - shares[i])
        else:
            for i in range(shares.size):
                target[i] = factor * ((gradient[i] - shift_share) - shares[i])
