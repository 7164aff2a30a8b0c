"""Copies images into zeros, around them and between their elements, as right factors of contractions need them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import cuda

from mpsim.kernels.contractions.lowering import Pair
from mpsim.kernels.cuda.device.arrays import Array, empty, flattened
from mpsim.kernels.cuda.device.launch import VECTOR, kernel


@dataclass(frozen=True)
class Canvas:
    """Where the images of a right factor lie among zeros: the arguments of lowering.place."""

    top: int
    left: int
    height: int
    width: int
    dilation: Pair = (1, 1)


def placed(x: Array, canvas: Canvas | None) -> Array:
    """Copies images (N, C, H, W) onto a canvas of +0 and crops what lies outside. See lowering.place."""
    if canvas is None or (canvas.top, canvas.left, canvas.height, canvas.width) == (0, 0, *x.shape[2:]):
        return x
    result = empty((*x.shape[:2], canvas.height, canvas.width))
    sizes = (x.shape[2], x.shape[3], canvas.height, canvas.width, canvas.top, canvas.left)
    if result.size == 0:
        return result
    if canvas.dilation == (1, 1) and result.size < 1 << 31:
        pad_images.over(result.size)(flattened(x), flattened(result), *sizes)
    else:
        place_images.over(result.size)(flattened(x), flattened(result), *sizes, *canvas.dilation)
    return result


@kernel(f"{VECTOR}, {VECTOR}, int64, int64, int64, int64, int64, int64")
def pad_images(x, result, height, width, canvas_height, canvas_width, top, left):
    """Copies element (h, w) of x to (top + h, left + w). Devices divide 32 bits much faster than 64 bits."""
    for i in range(cuda.grid(1), result.size, cuda.gridsize(1)):
        line = np.int64(np.uint32(i) // np.uint32(canvas_width))
        plane = np.int64(np.uint32(line) // np.uint32(canvas_height))
        row, column = line - plane * canvas_height - top, i - line * canvas_width - left
        inside = 0 <= row < height and 0 <= column < width
        result[i] = x[np.uint64((plane * height + row) * width + column)] if inside else np.float32(0)


@kernel(f"{VECTOR}, {VECTOR}, int64, int64, int64, int64, int64, int64, int64, int64")
def place_images(x, result, height, width, canvas_height, canvas_width, top, left, row_dilation, column_dilation):
    """Copies element (h, w) of x to (top + h*row_dilation, left + w*column_dilation)."""
    for i in range(cuda.grid(1), result.size, cuda.gridsize(1)):
        line = i // canvas_width
        row, column = line % canvas_height - top, i % canvas_width - left
        h, w = row // row_dilation, column // column_dilation
        inside = 0 <= h < height and 0 <= w < width and h * row_dilation == row and w * column_dilation == column
        result[i] = x[(line // canvas_height * height + h) * width + w] if inside else np.float32(0)
