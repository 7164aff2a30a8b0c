"""Depthwise convolutions on a device: one input and one output channel per group, one thread per output.

The kernel's size, stride and dilation are compile-time constants, so the loop over taps is unrolled. Comparisons supply
the zeros, so no padded copy is needed. The general kernels compute the gradient by the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import cuda

from mpsim.kernels.contract import Shape
from mpsim.kernels.contractions.lowering import Pair
from mpsim.kernels.cuda.chunks.accumulators import Summation
from mpsim.kernels.cuda.device.arrays import Array, empty, flattened
from mpsim.kernels.cuda.device.intrinsics import add_rn, fma_rn, mul_rn
from mpsim.kernels.cuda.device.launch import VECTOR, Kernel, family


class Form(NamedTuple):
    """The compile-time constants of a kernel."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    flipped: bool
    fused: bool


def takes(x: Array, w: Array, groups: int, how: Summation) -> bool:
    """Returns whether this is a depthwise convolution summed in float32 in one chunk."""
    single = x.dtype == w.dtype == np.float32 and how.is_float32
    size = w.shape[2] * w.shape[3]
    return single and groups > 1 and tuple(w.shape[:2]) == (groups, 1) and 0 < size <= (how.chunk or size)


def forward(x: Array, w: Array, stride: Pair, padding: Pair, fused: bool) -> Array:
    """Convolves images x (N, C, H, W) with w (C, 1, R, S), without a bias."""
    kernel = (w.shape[2], w.shape[3])
    rows, columns = ((x.shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return _correlate(Form(kernel, stride, (1, 1), False, fused), x, w, (*x.shape[:2], rows, columns), padding)


def input_gradient(gy: Array, w: Array, x_shape: Shape, stride: Pair, padding: Pair, fused: bool) -> Array:
    """Computes the gradient by the input: correlates the flipped w with gy, padded and dilated with zeros."""
    kernel = (w.shape[2], w.shape[3])
    around = (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1])
    return _correlate(Form(kernel, (1, 1), stride, True, fused), gy, w, tuple(x_shape), around)


def _correlate(form: Form, x: Array, w: Array, shape: Shape, padding: Pair) -> Array:
    out = empty(shape)
    if out.size:
        sizes = (shape[1], x.shape[2], x.shape[3], shape[2], shape[3])
        depthwise_kernel(form).over(out.size)(flattened(x), flattened(w), flattened(out), *sizes, *padding)
    return out


@cache
def depthwise_kernel(form: Form) -> Kernel:
    """Returns the kernel of one form."""
    (rows, columns), (row_stride, column_stride), (row_dilation, column_dilation), flipped, fused = form
    last = rows * columns - 1

    def correlate(x, w, out, channels, height, width, out_height, out_width, top, left):
        """Multiplies tap (r, s) with row i*stride + r - top, if that is a multiple of the dilation."""
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            line = i // out_width
            plane = line // out_height
            row, column = line % out_height * row_stride - top, i % out_width * column_stride - left
            taps, total = plane % channels * (last + 1), np.float32(0)
            for r in range(rows):
                h = (row + r) // row_dilation
                in_rows = 0 <= h < height and h * row_dilation == row + r
                for s in range(columns):
                    v = (column + s) // column_dilation
                    inside = in_rows and 0 <= v < width and v * column_dilation == column + s
                    value = x[np.uint64((plane * height + h) * width + v)] if inside else np.float32(0)
                    tap = r * columns + s
                    weight = w[np.uint64(taps + (last - tap if flipped else tap))]
                    total = fma_rn(weight, value, total) if fused else add_rn(total, mul_rn(weight, value))
            out[i] = total

    signature = f"{VECTOR}, {VECTOR}, {VECTOR}, {', '.join(['int64'] * 7)}"
    return Kernel(correlate, [signature], f"contraction.depthwise.{rows}x{columns}_{form[1:]}")


@family
def usual_kernels() -> Iterator[Kernel]:
    """Yields the kernels of 3 x 3 convolutions with strides 1 and 2, and of their gradients by the input."""
    for fused in (True, False):
        yield depthwise_kernel(Form((3, 3), (1, 1), (1, 1), False, fused))
        yield depthwise_kernel(Form((3, 3), (2, 2), (1, 1), False, fused))
        yield depthwise_kernel(Form((3, 3), (1, 1), (2, 2), True, fused))
