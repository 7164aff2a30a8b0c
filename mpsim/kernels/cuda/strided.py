"""A convolution's gradient by the input with a stride, on a device: the elements that the zeros of dilation may change.

mpsim/kernels/phases.py tells which these are: every -0, and everything where a weight is infinite or NaN. One thread
looks at each element, and sums it again if it must.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from mpsim.accumulators import Accumulator
from mpsim.kernels.cuda.arrays import cleared, empty, flattened
from mpsim.kernels.cuda.intrinsics import add_rn, float_as_int, fma_rn, mul_rn
from mpsim.kernels.cuda.launch import kernel
from mpsim.kernels.lowering import Pair

Array = Any
NEGATIVE_ZERO = -(1 << 31)
INFINITE = 0x7F800000


def takes(gy: Array, w: Array, stride: Pair, accumulator: Accumulator) -> bool:
    """Whether phases serve: float32 sums with a stride."""
    plain = accumulator.kind == "sequential" and accumulator.format == "float32"
    single = gy.dtype == w.dtype == np.float32
    return plain and single and tuple(stride) != (1, 1) and gy.size > 0 and w.size > 0


def settle(gy: Array, w: Array, gx: Array, stride: Pair, padding: Pair, groups: int, chunk: int, fused: bool) -> None:
    """Sums again, with all its zeros, each element of gx that they may change."""
    if gx.size == 0:
        return
    infinite = cleared(empty(1, np.int32))
    find_infinite.over(w.size)(flattened(w), infinite)
    sizes = (w.shape[0] // groups, *w.shape[1:], *gx.shape[1:], *gy.shape[2:])
    around = (w.shape[2] - 1 - padding[0], w.shape[3] - 1 - padding[1])
    sum_again.over(gx.size)(
        flattened(gy), flattened(w), flattened(gx), infinite, *sizes, *stride, *around, chunk, fused
    )


@kernel("float32[::1], int32[::1]")
def find_infinite(w, infinite):  # type: ignore[no-untyped-def]
    """infinite[0] = 1 if an element is infinite or NaN; whichever thread finds one writes the same."""
    for i in range(cuda.grid(1), w.size, cuda.gridsize(1)):
        if float_as_int(w[i]) & INFINITE == INFINITE:
            infinite[0] = 1


@kernel(f"float32[::1], float32[::1], float32[::1], int32[::1], {', '.join(['int64'] * 14)}, boolean")
def sum_again(  # type: ignore[no-untyped-def]
    gy, w, gx, infinite, members, group_channels, kernel_rows, kernel_columns, channels, height, width,
    out_height, out_width, row_stride, column_stride, top, left, chunk, fused
):  # fmt: skip
    """k runs over the group's outputs and the flipped kernel; gy has stride - 1 zeros between its elements."""
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
