"""Computes depthwise convolutions, whose groups have one channel and one output each, with float32 sums.

Panels would cost more than the sums here, because each column is used by one row.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from mpsim.kernels.contract import Array, Pair
from mpsim.kernels.contractions.lowering import offsets
from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.numba_cpu.sums import multiply_add

PLACES = 2048  # of a strip, summed together


def correlate(
    x: Array, w: Array, origin: Pair, dilation: Pair, canvas: Pair, stride: Pair, ends: Array, fused: bool, y: Array
) -> None:
    """Stores in y the convolution of the dilated images, placed at ``origin`` of a canvas of zeros.

    The canvases of a channel lie one after another in a strip, so that an element of the kernel meets the strip
    moved by some places. Sums are computed for every place of the strip, and y takes those that it needs.
    """
    strips = np.zeros((x.shape[1], x.shape[0], *canvas), np.float32)
    spread(x, origin, dilation, strips)
    sums = np.empty_like(strips)
    moves = offsets((w.shape[2], canvas[1]), (w.shape[3], 1))
    flat = strips.reshape(x.shape[1], -1)
    sum_strips(flat, np.ascontiguousarray(w).reshape(x.shape[1], -1), moves, ends, fused, sums.reshape(flat.shape))
    pick(sums, stride, y)


@njit(cache=True, parallel=True)
def spread(x: Array, origin: Pair, dilation: Pair, strips: Array) -> None:
    """Copies image (n, c) to canvas (c, n). Elements outside are omitted."""
    rows = inside(x.shape[2], origin[0], dilation[0], strips.shape[2])
    columns = inside(x.shape[3], origin[1], dilation[1], strips.shape[3])
    for channel in prange(strips.shape[0]):
        for image in range(strips.shape[1]):
            for i in range(rows[0], rows[1]):
                row = origin[0] + i * dilation[0]
                for j in range(columns[0], columns[1]):
                    column = np.uint64(origin[1] + j * dilation[1])  # Numba checks signed indices
                    strips[channel, image, row, column] = x[image, channel, i, np.uint64(j)]


@njit(cache=True)
def inside(count: int, origin: int, dilation: int, size: int) -> Pair:
    """Returns the range of the i < count with 0 <= origin + i*dilation < size."""
    return max(0, -(origin // dilation)), min(count, -((origin - size) // dilation))


@njit(cache=True, parallel=True)
def pick(sums: Array, stride: Pair, y: Array) -> None:
    """Sets y[n, c, i, j] to element (i*stride, j*stride) of canvas (c, n)."""
    for channel in prange(y.shape[1]):
        for image in range(y.shape[0]):
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    y[image, channel, i, j] = sums[channel, image, i * stride[0], np.uint64(j * stride[1])]


@njit(cache=True, parallel=True)
def sum_strips(strips: Array, weights: Array, moves: Array, ends: Array, fused: bool, totals: Array) -> None:
    """Sets totals[c, p] to the sum over k of weights[c, k] * strips[c, p + moves[k]], except at the last places."""
    places = strips.shape[1] - moves[-1]
    blocks = (places + PLACES - 1) // PLACES
    for task in prange(strips.shape[0] * blocks):
        channel, first = task // blocks, task % blocks * PLACES
        total = totals[channel, first : min(first + PLACES, places)]
        sums = np.empty(total.size, np.float32)
        for chunk in range(ends.size - 1):
            k = slice(ends[chunk], ends[chunk + 1])
            sums[:] = 0
            add_moved(strips[channel, first:], weights[channel, k], moves[k], fused, sums)
            for i in range(total.size):
                total[i] = sums[i] if chunk == 0 else total[i] + sums[i]


@njit(cache=True)
def add_moved(strip: Array, weights: Array, moves: Array, fused: bool, sums: Array) -> None:
    """Adds weights[k] * strip[i + moves[k]] to sums[i], for each k in rising order."""
    whole = weights.size - weights.size % 3
    for k in range(0, whole, 3):
        w0, w1, w2 = weights[k], weights[k + 1], weights[k + 2]
        x0, x1, x2 = strip[moves[k] :], strip[moves[k + 1] :], strip[moves[k + 2] :]
        if fused:
            for i in range(sums.size):
                sums[i] = multiply_add(w2, x2[i], multiply_add(w1, x1[i], multiply_add(w0, x0[i], sums[i])))
        else:
            for i in range(sums.size):
                sums[i] = ((sums[i] + w0 * x0[i]) + w1 * x1[i]) + w2 * x2[i]
    for k in range(whole, weights.size):
        weight, moved = weights[k], strip[moves[k] :]
        for i in range(sums.size):
            sums[i] = multiply_add(weight, moved[i], sums[i]) if fused else sums[i] + weight * moved[i]


@njit(cache=True, parallel=True)
def weight_gradient(
    a: Array, a_group: Array, a_row: Array, a_k: Array, b: Array, b_group: Array, b_column: Array, b_k: Array,
    out: Array, out_group: Array, out_row: Array, out_column: Array, ends: Array, fused: bool,
) -> None:  # fmt: skip
    """Does what panels.contract does, for one row and few columns. ``b`` has a multiple of 5, the last one repeated."""
    for group in prange(a_group.size):
        columns = b_group[group] + b_column
        sums, totals = np.zeros(columns.size, np.float32), np.zeros(columns.size, np.float32)
        values = a[a_group[group] + a_row[0] :]
        for chunk in range(ends.size - 1):
            first, last = ends[chunk], ends[chunk + 1]
            for five in range(0, columns.size, 5):
                sum_five(values, a_k[first:last], b, columns[five:], b_k[first:last], fused, sums[five:])
            for column in range(columns.size):
                totals[column] = sums[column] if first == 0 else totals[column] + sums[column]
        for column in range(out_column.size):
            out[out_group[group] + out_row[0] + out_column[column]] = totals[column]


@njit(cache=True)
def sum_five(values: Array, a_k: Array, b: Array, columns: Array, b_k: Array, fused: bool, sums: Array) -> None:
    """Computes five sums together, because a single sum would wait for its last addition."""
    c0, c1, c2, c3, c4 = columns[0], columns[1], columns[2], columns[3], columns[4]
    s0 = s1 = s2 = s3 = s4 = np.float32(0)
    for k in range(b_k.size):
        value, place = values[a_k[k]], b_k[k]
        s0 = multiply_add(value, b[place + c0], s0) if fused else s0 + value * b[place + c0]
        s1 = multiply_add(value, b[place + c1], s1) if fused else s1 + value * b[place + c1]
        s2 = multiply_add(value, b[place + c2], s2) if fused else s2 + value * b[place + c2]
        s3 = multiply_add(value, b[place + c3], s3) if fused else s3 + value * b[place + c3]
        s4 = multiply_add(value, b[place + c4], s4) if fused else s4 + value * b[place + c4]
    sums[0], sums[1], sums[2], sums[3], sums[4] = s0, s1, s2, s3, s4
