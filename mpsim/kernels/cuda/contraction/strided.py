"""Computes a strided convolution's gradient by the input on a device: in phases, without the zeros of dilation.

mpsim/kernels/contractions/phases.py explains the phases and which elements the zeros may change: every -0, and all
elements if a weight is infinite or NaN. One thread checks each element and, if necessary, sums it again.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from mpsim.kernels.contract import Shape
from mpsim.kernels.contractions.functions import Geometry
from mpsim.kernels.contractions.lowering import Pair
from mpsim.kernels.cuda.chunks.accumulators import Summation
from mpsim.kernels.cuda.contraction.launches import launcher
from mpsim.kernels.cuda.contraction.placing import placed
from mpsim.kernels.cuda.contraction.tables import phases_of
from mpsim.kernels.cuda.device.arrays import Array, cleared, empty, flattened, zeros
from mpsim.kernels.cuda.device.intrinsics import add_rn, float_as_int, fma_rn, mul_rn
from mpsim.kernels.cuda.device.launch import VECTOR, kernel

NEGATIVE_ZERO = -(1 << 31)
INFINITE = 0x7F800000


def takes(gy: Array, w: Array, stride: Pair, how: Summation) -> bool:
    """Returns whether the phases apply: float32 sums in rising order, with a stride."""
    single = gy.dtype == w.dtype == np.float32 and how.is_float32
    return single and not how.in_pairs and tuple(stride) != (1, 1) and gy.size > 0 and w.size > 0


def input_gradient(gy: Array, w: Array, x_shape: Shape, geometry: Geometry, how: Summation) -> Array:
    """Computes the gradient without the zeros of dilation, and again with them where they may change it."""
    stride, padding, groups = geometry
    chunk = how.chunk or w.shape[0] // groups * w.shape[2] * w.shape[3]
    missing = w.shape[2] < stride[0] or w.shape[3] < stride[1]  # then some elements have no term and stay +0
    gx = (zeros if missing else empty)(x_shape)
    placed_gy = None
    for tables, ends in phases_of(tuple(gy.shape), tuple(w.shape), x_shape, geometry, chunk):
        placed_gy = placed(gy, tables.canvas) if placed_gy is None else placed_gy
        launch, _ = launcher(tables, w, placed_gy, ends, 1, how)
        launch(flattened(gx), 0, 1, ends.size - 1)
    resolve_zeros(gy, w, gx, geometry, chunk, how.fused)
    return gx


def resolve_zeros(gy: Array, w: Array, gx: Array, geometry: Geometry, chunk: int, fused: bool) -> None:
    """Sums each element of gx again, with all its zeros, if they may change it."""
    if gx.size == 0:
        return
    stride, padding, groups = geometry
    infinite = cleared(empty(1, np.int32))
    find_infinite.over(w.size)(flattened(w), infinite)
    sizes = (w.shape[0] // groups, *w.shape[1:], *gx.shape[1:], *gy.shape[2:])
    around = (w.shape[2] - 1 - padding[0], w.shape[3] - 1 - padding[1])
    arrays = flattened(gy), flattened(w), flattened(gx), infinite
    sum_again.over(gx.size)(*arrays, *sizes, *stride, *around, chunk, fused)


@kernel(f"{VECTOR}, int32[::1]")
def find_infinite(w, infinite):
    """Sets infinite[0] to 1 if an element is infinite or NaN. All threads that find one write the same value."""
    for i in range(cuda.grid(1), w.size, cuda.gridsize(1)):
        if float_as_int(w[i]) & INFINITE == INFINITE:
            infinite[0] = 1


@kernel(f"{VECTOR}, {VECTOR}, {VECTOR}, int32[::1], {', '.join(['int64'] * 14)}, boolean")
def sum_again(
    gy, w, gx, infinite, members, group_channels, kernel_rows, kernel_columns, channels, height, width,
    out_height, out_width, row_stride, column_stride, top, left, chunk, fused
):  # fmt: skip
    """Sums over k: the group's outputs and the flipped kernel. gy has stride - 1 zeros between its elements."""
    for i in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        if float_as_int(gx[i]) == NEGATIVE_ZERO or infinite[0] != 0:
            line = i // width
            plane = line // height
            image, channel = plane // channels, plane % channels
            group = channel // group_channels
            total, sum, k = np.float32(-0.0), np.float32(0), 0
            for o in range(group * members, (group + 1) * members):
                source = (image * (channels // group_channels * members) + o) * out_height
                taps = (o * group_channels + channel % group_channels) * kernel_rows
                for r in range(kernel_rows):
                    row = line % height + r - top
                    h = row // row_stride
                    in_rows = 0 <= h < out_height and h * row_stride == row
                    for s in range(kernel_columns):
                        column = i % width + s - left
                        v = column // column_stride
                        inside = in_rows and 0 <= v < out_width and v * column_stride == column
                        value = gy[(source + h) * out_width + v] if inside else np.float32(0)
                        weight = w[(taps + kernel_rows - 1 - r) * kernel_columns + kernel_columns - 1 - s]
                        sum = fma_rn(weight, value, sum) if fused else add_rn(sum, mul_rn(weight, value))
                        k += 1
                        if k % chunk == 0:
                            total, sum = add_rn(total, sum), np.float32(0)
            gx[i] = add_rn(total, sum) if k % chunk != 0 else total
