"""Numba: sums in the written order (REDUCTION of the contract), and batch norm. Images are (N, C, area).

Some neighbouring channels are summed at a time: the elements that they have in an image lie together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from mpsim.kernels.numba_cpu.jit import njit

Array = NDArray[np.float32]
BLOCK = 4096
LANES = 32
ROWS = 8  # of lanes that are added at a time, while the lanes stay in registers
TOGETHER, MOST = 256, 16  # elements of an image that are read at a time; channels
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
def group_size(x: Array) -> int:
    """How many channels are summed at a time."""
    return max(1, min(MOST, TOGETHER // max(1, x.shape[2])))


@njit(cache=True)
def copy_elements(x: Array, first: int, start: int, size: int, blocks: Array) -> None:
    """blocks[c, :size] = the elements of channel first + c from ``start`` on, images one after another."""
    area, done = x.shape[2], 0
    image, i = start // area, start % area
    while done < size:
        take = min(area - i, size - done)
        for c in range(blocks.shape[0]):
            source, target = x[image, first + c, i : i + take], blocks[c, done : done + take]
            for j in range(take):
                target[j] = source[j]
        done, image, i = done + take, image + 1, 0


@njit(cache=True)
def add_blocks(blocks: Array, start: int, size: int, lanes: Array, sums: Array) -> None:
    """Adds the sum of each block, of the elements from ``start`` on, to its channel's."""
    for c in range(sums.size):
        result = block_sum(blocks[c, :size], lanes)
        sums[c] = result if start == 0 else sums[c] + result


@njit(cache=True)
def sum_channels(x: Array, first: int, sums: Array) -> None:
    """The sums of channels first, first + 1, ..."""
    count = x.shape[0] * x.shape[2]
    lanes, blocks = np.empty(LANES, np.float32), np.empty((sums.size, min(BLOCK, count)), np.float32)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        copy_elements(x, first, start, size, blocks)
        add_blocks(blocks, start, size, lanes, sums)


@njit(cache=True)
def sum_squared_deviations(x: Array, first: int, mean: Array, sums: Array) -> None:
    count = x.shape[0] * x.shape[2]
    lanes, blocks = np.empty(LANES, np.float32), np.empty((sums.size, min(BLOCK, count)), np.float32)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        copy_elements(x, first, start, size, blocks)
        for c in range(sums.size):
            part, center = blocks[c, :size], mean[c]
            for i in range(size):
                deviation = part[i] - center
                part[i] = deviation * deviation
        add_blocks(blocks, start, size, lanes, sums)


@njit(cache=True)
def sum_products(gy: Array, x: Array, first: int, mean: Array, inverse_deviation: Array, sums: Array) -> None:
    """The sums of gy * xhat."""
    count = x.shape[0] * x.shape[2]
    lanes, blocks = np.empty(LANES, np.float32), np.empty((sums.size, min(BLOCK, count)), np.float32)
    gradients = np.empty_like(blocks)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        copy_elements(x, first, start, size, blocks)
        copy_elements(gy, first, start, size, gradients)
        for c in range(sums.size):
            part, gradient, center, factor = blocks[c, :size], gradients[c, :size], mean[c], inverse_deviation[c]
            for i in range(size):
                part[i] = gradient[i] * ((part[i] - center) * factor)
        add_blocks(blocks, start, size, lanes, sums)


@njit(cache=True)
def normalize(x: Array, first: int, mean: Array, factors: Array, shifts: Array, y: Array) -> None:
    """y may be x. A loop that reads another array than it writes is vector code only if the two are apart."""
    in_place = x.ctypes.data == y.ctypes.data
    for image in range(x.shape[0]):
        for c in range(mean.size):
            source, target = x[image, first + c], y[image, first + c]
            center, factor, shift = mean[c], factors[c], shifts[c]
            if in_place:
                for i in range(target.size):
                    target[i] = (target[i] - center) * factor + shift
            else:
                for i in range(target.size):
                    target[i] = (source[i] - center) * factor + shift


@njit(cache=True, parallel=True)
def channel_sums(x: Array, sums: Array) -> None:
    step = group_size(x)
    for group in prange((sums.size + step - 1) // step):
        sum_channels(x, group * step, sums[group * step : (group + 1) * step])


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
    n, step = np.float32(x.shape[0] * x.shape[2]), group_size(x)
    for group in prange((mean.size + step - 1) // step):
        first, last = group * step, min((group + 1) * step, mean.size)
        means, variances, inverses = mean[first:last], variance[first:last], inverse_deviation[first:last]
        sum_channels(x, first, means)
        means[:] = means / n
        sum_squared_deviations(x, first, means, variances)
        variances[:] = variances / n
        inverses[:] = ONE / np.sqrt(variances + epsilon)
        normalize(x, first, means, inverses * scale[first:last], shift[first:last], y)


@njit(cache=True, parallel=True, error_model="numpy")
def batch_norm_inference(
    x: Array, mean: Array, variance: Array, scale: Array, shift: Array, epsilon: np.float32, y: Array
) -> None:
    step = group_size(x)
    for group in prange((mean.size + step - 1) // step):
        first, last = group * step, min((group + 1) * step, mean.size)
        factors = ONE / np.sqrt(variance[first:last] + epsilon) * scale[first:last]
        normalize(x, first, mean[first:last], factors, shift[first:last], y)


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
    n, step = np.float32(x.shape[0] * x.shape[2]), group_size(x)
    for group in prange((mean.size + step - 1) // step):
        first, last = group * step, min((group + 1) * step, mean.size)
        means, inverses = mean[first:last], inverse_deviation[first:last]
        shifts, scales = gshift[first:last], gscale[first:last]
        sum_channels(gy, first, shifts)
        sum_products(gy, x, first, means, inverses, scales)
        input_gradient(gy, x, first, means, inverses, scale[first:last], shifts / n, scales / n, gx)


@njit(cache=True)
def input_gradient(
    gy: Array,
    x: Array,
    first: int,
    mean: Array,
    inverse_deviation: Array,
    scale: Array,
    shift_share: Array,
    scale_share: Array,
    gx: Array,
) -> None:
    """gx may be gy or x: x is not read once a row of gx is written."""
    in_place, shares = gx.ctypes.data == gy.ctypes.data, np.empty(x.shape[2], np.float32)
    for image in range(x.shape[0]):
        for c in range(mean.size):
            source, gradient, target = x[image, first + c], gy[image, first + c], gx[image, first + c]
            center, inverse, factor = mean[c], inverse_deviation[c], inverse_deviation[c] * scale[c]
            by_shift, by_scale = shift_share[c], scale_share[c]
            for i in range(shares.size):
                shares[i] = ((source[i] - center) * inverse) * by_scale
            if in_place:
                for i in range(shares.size):
                    target[i] = factor * ((target[i] - by_shift) - shares[i])
            else:
                for i in range(shares.size):
                    target[i] = factor * ((gradient[i] - by_shift) - shares[i])
