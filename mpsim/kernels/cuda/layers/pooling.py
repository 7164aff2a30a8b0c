"""Maximum and average pooling on a device, and their gradients. One thread computes one element of most results.

The gradients are gathered: the terms of an element of gx are added in the specified order, independent of the order of
threads.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, float32, int32

from mpsim.kernels.contractions.lowering import Pair
from mpsim.kernels.cuda.device.arrays import Array, empty, flattened, zeros
from mpsim.kernels.cuda.device.devices import device
from mpsim.kernels.cuda.device.intrinsics import SIMULATED, add_rn, div_rn
from mpsim.kernels.cuda.device.launch import VECTOR, device_function, kernel
from mpsim.kernels.cuda.layers.sums import BLOCK, LANES
from mpsim.kernels.reference.pooling import indexed_shape, pooled_shape

__all__ = ["avg_pool2d", "avg_pool2d_gradient", "max_pool2d", "max_pool2d_gradient"]

#: Threads of a block that adds the gradients of one plane, and the number of gradients that it processes at a time.
TOGETHER = 4 if SIMULATED else 32

SIZES = (
    "int64, int64, int64, int64, int64, int64, int64, int64, int64, int64"  # of a plane, its result, and the windows
)


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> tuple[Array, Array]:
    """See mpsim.kernels.contract."""
    shape = indexed_shape(x.shape, kernel, stride, padding)
    y, index = empty(shape), empty(shape, np.int32)
    if y.size:
        sizes = (*x.shape[2:], *shape[2:], *kernel, *stride, *padding)
        max_windows.over(y.size)(flattened(x), flattened(y), flattened(index), *sizes)
    return y, index


def max_pool2d_gradient(gy: Array, index: Array, x_shape: tuple[int, ...], *, threads: int = 1) -> Array:
    """See mpsim.kernels.contract."""
    if gy.size == 0:
        return zeros(x_shape)
    gx = empty(x_shape)
    planes = x_shape[0] * x_shape[1]
    blocks = min(planes, device().multiprocessors * 64)
    sizes = (planes, x_shape[2] * x_shape[3], gy.shape[2] * gy.shape[3])
    add_at_indices[blocks, TOGETHER](flattened(gy), flattened(index), flattened(gx), *sizes)
    return gx


def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1) -> Array:
    """See mpsim.kernels.contract."""
    y = empty(pooled_shape(x.shape, kernel, stride, padding))
    if y.size:
        sizes = (*x.shape[2:], *y.shape[2:], *kernel, *stride, *padding)
        average_windows.over(y.size)(flattened(x), flattened(y), *sizes)
    return y


def avg_pool2d_gradient(
    gy: Array, x_shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, *, threads: int = 1
) -> Array:
    """See mpsim.kernels.contract."""
    gx = empty(x_shape)
    if gx.size:
        sizes = (*x_shape[2:], *gy.shape[2:], *kernel, *stride, *padding)
        spread_windows.over(gx.size)(flattened(gy), flattened(gx), *sizes)
    return gx


@kernel(f"{VECTOR}, {VECTOR}, int32[::1], {SIZES}")
def max_windows(
    x, y, index, height, width, out_height, out_width, kernel_rows, kernel_columns,
    row_stride, column_stride, row_padding, column_padding
):  # fmt: skip
    """Finds the maximum of each window. A later element replaces it if it is greater, or the first NaN."""
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        line = i // out_width
        plane = line // out_height * height * width
        top, left = line % out_height * row_stride - row_padding, i % out_width * column_stride - column_padding
        first = max(left, 0)
        where = max(top, 0) * width + first
        best = x[plane + where]
        for h in range(max(top, 0), min(top + kernel_rows, height)):
            for w in range(first, min(left + kernel_columns, width)):
                element = x[plane + h * width + w]
                if not element <= best and best == best:
                    best, where = element, h * width + w
        y[i], index[i] = best, where


@kernel(f"{VECTOR}, int32[::1], {VECTOR}, int64, int64, int64")
def add_at_indices(gy, index, gx, planes, area, count):
    """Adds the gradients of a plane in one block, TOGETHER at a time.

    Of the gradients with the same index, the first one's thread adds all in order.
    """
    indices = cuda.shared.array(TOGETHER, int32)  # on its own line: the simulator identifies shared arrays by line
    values = cuda.shared.array(TOGETHER, float32)
    thread = cuda.threadIdx.x
    for plane in range(cuda.blockIdx.x, planes, cuda.gridDim.x):
        for place in range(thread, area, TOGETHER):
            gx[plane * area + place] = float32(0)
        for start in range(0, count, TOGETHER):
            some = min(TOGETHER, count - start)
            cuda.syncthreads()
            if thread < some:
                indices[thread] = index[plane * count + start + thread]
                values[thread] = gy[plane * count + start + thread]
            cuda.syncthreads()
            if thread < some:
                place, first = indices[thread], True
                for other in range(thread):
                    first = first and indices[other] != place
                if first:
                    total = gx[plane * area + place]
                    for other in range(thread, some):
                        if indices[other] == place:
                            total = add_rn(total, values[other])
                    gx[plane * area + place] = total
        cuda.syncthreads()


@device_function
def halved(lanes):
    """Sums the lanes by halving."""
    half = LANES // 2
    while half > 0:
        for j in range(half):
            lanes[j] = add_rn(lanes[j], lanes[j + half])
        half //= 2
    return lanes[0]


@kernel(f"{VECTOR}, {VECTOR}, {SIZES}")
def average_windows(
    x, y, height, width, out_height, out_width, kernel_rows, kernel_columns,
    row_stride, column_stride, row_padding, column_padding
):  # fmt: skip
    """Sums the elements of each window in blocks of 32 lanes, as every sum, and divides by the size of the window."""
    lanes = cuda.local.array(LANES, float32)
    size = kernel_rows * kernel_columns
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        line = i // out_width
        plane = line // out_height * height * width
        top, left = line % out_height * row_stride - row_padding, i % out_width * column_stride - column_padding
        total = float32(0)
        for block in range(0, size, BLOCK):
            for j in range(LANES):
                lanes[j] = float32(0)
            for element in range(block, min(block + BLOCK, size)):
                h, w = top + element // kernel_columns, left + element % kernel_columns
                value = x[plane + h * width + w] if 0 <= h < height and 0 <= w < width else float32(0)
                lanes[element % LANES] = add_rn(lanes[element % LANES], value)
            part = halved(lanes)
            total = part if block == 0 else add_rn(total, part)
        y[i] = div_rn(total, float32(size))


@kernel(f"{VECTOR}, {VECTOR}, {SIZES}")
def spread_windows(
    gy, gx, height, width, out_height, out_width, kernel_rows, kernel_columns,
    row_stride, column_stride, row_padding, column_padding
):  # fmt: skip
    """Adds to each element the shares of the windows that contain it, in rising order of windows."""
    size = float32(kernel_rows * kernel_columns)
    for i in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        line = i // width
        plane = line // height * out_height * out_width
        row, column = line % height + row_padding, i % width + column_padding
        first_row = max(0, (row - kernel_rows + row_stride) // row_stride)  # the first window that ends below ``row``
        first_column = max(0, (column - kernel_columns + column_stride) // column_stride)
        total = float32(0)
        for r in range(first_row, min(row // row_stride + 1, out_height)):
            for s in range(first_column, min(column // column_stride + 1, out_width)):
                total = add_rn(total, div_rn(gy[plane + r * out_width + s], size))
        gx[i] = total
