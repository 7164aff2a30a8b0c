"""Lowers matrix products and convolutions to sums over one k, described by tables of offsets.

Element (g, m, k) of the left factor is ``a[a_group[g] + a_row[m] + a_k[k]]`` of the flat array ``a``. Element (g, k, p)
of the right one is ``b[b_group[g] + b_column[p] + b_k[k]]``, and output (g, m, p) is
``out[out_group[g] + out_row[m] + out_column[p]]``. mpsim.kernels.contract specifies the order of k. No matrix of
patches is needed, only a zero-padded (zero-dilated) copy of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.products.accumulators import Accumulator

Pair = tuple[int, int]
#: Tables of at most so many offsets are stored and used again.
SMALL = 1 << 12


@dataclass(frozen=True)
class Contraction:
    """The flat factors, the offsets (int64 arrays) of group, row or column, and k, and the shape of the output."""

    a: np.ndarray
    a_group: np.ndarray
    a_row: np.ndarray
    a_k: np.ndarray
    b: np.ndarray
    b_group: np.ndarray
    b_column: np.ndarray
    b_k: np.ndarray
    out_shape: tuple[int, ...]
    out_group: np.ndarray
    out_row: np.ndarray
    out_column: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(groups, rows, k, columns)."""
        return self.a_group.size, self.a_row.size, self.a_k.size, self.b_column.size

    @property
    def is_double(self) -> bool:
        """Whether a factor is float64: in gradient checks, which have no specified order."""
        return np.float64 in (self.a.dtype, self.b.dtype)

    def columns(self, start: int, stop: int) -> Contraction:
        """Returns the contraction of some of the columns."""
        return replace(self, b_column=self.b_column[start:stop], out_column=self.out_column[start:stop])

    def left(self, k: np.ndarray | int) -> np.ndarray:
        """Returns elements of the left factor: k.shape + (groups, rows)."""
        return self.a[np.add.outer(self.a_k[k], np.add.outer(self.a_group, self.a_row))]

    def right(self, k: np.ndarray | int) -> np.ndarray:
        """Returns elements of the right factor: k.shape + (groups, columns)."""
        return self.b[np.add.outer(self.b_k[k], np.add.outer(self.b_group, self.b_column))]

    def put(self, out: np.ndarray, totals: np.ndarray) -> None:
        """Writes totals (groups, rows, columns) to their places in the flat output."""
        places = np.add.outer(np.add.outer(self.out_group, self.out_row), self.out_column)
        out[places] = totals


def offsets(*axes: Pair) -> np.ndarray:
    """Returns the offsets of the elements of nested axes, each (count, stride). The last one varies fastest.

    >>> offsets((2, 10), (3, 1))
    array([ 0,  1,  2, 10, 11, 12])
    """
    return _small_offsets(axes) if prod(count for count, _ in axes) <= SMALL else _offsets(axes)


def _offsets(axes: tuple[Pair, ...]) -> np.ndarray:
    table = np.zeros(1, np.int64)
    for count, stride in axes:
        table = np.add.outer(table, np.arange(count, dtype=np.int64) * stride).ravel()
    return table


@lru_cache(maxsize=1024)
def _small_offsets(axes: tuple[Pair, ...]) -> np.ndarray:
    return _offsets(axes)  # writable, because Numba would compile its kernels again for arrays that are not


def place(x: np.ndarray, top: int, left: int, height: int, width: int, dilation: Pair = (1, 1)) -> np.ndarray:
    """Copies row i of images (N, C, H, W) to row top + i*dilation of a +0 canvas (N, C, height, width), and crops."""
    if (top, left) == (0, 0) and x.shape[2:] == (height, width):
        return x
    canvas = np.zeros((*x.shape[:2], height, width), x.dtype)
    rows, target_rows = _inside(x.shape[2], top, dilation[0], height)
    columns, target_columns = _inside(x.shape[3], left, dilation[1], width)
    canvas[:, :, target_rows, target_columns] = x[:, :, rows, columns]
    return canvas


def _inside(count: int, origin: int, dilation: int, size: int) -> tuple[slice, slice]:
    """Returns the slice of the i with 0 <= origin + i*dilation < size, and the slice of their positions."""
    first = max(0, -(origin // dilation))
    last = min(count, -((origin - size) // dilation))
    if last <= first:
        return slice(0, 0), slice(0, 0)
    target = origin + first * dilation
    return slice(first, last), slice(target, origin + (last - 1) * dilation + 1, dilation)


#: ``place``, or a function with its arguments for arrays of a device.
Place = Callable[..., Any]


class Lowering(NamedTuple):
    """Two arrays and how they are lowered. ``first`` is the left factor of of_matmul, ``second`` that of the others."""

    lower: Callable[..., Contraction]
    first: np.ndarray
    second: np.ndarray
    options: tuple[object, ...]

    def contraction(self) -> Contraction:
        """Lowers the arrays."""
        return self.lower(self.first, self.second, *self.options)


def of_matmul(a: np.ndarray, b: np.ndarray, transpose_a: bool, transpose_b: bool) -> Contraction:
    """Lowers op(a) (M, K) times op(b) (K, N)."""
    k, rows = a.shape if transpose_a else a.shape[::-1]
    columns = b.shape[0] if transpose_b else b.shape[1]
    one = offsets((1, 0))
    return Contraction(
        a.reshape(-1), one, offsets((rows, 1 if transpose_a else k)), offsets((k, rows if transpose_a else 1)),
        b.reshape(-1), one, offsets((columns, k if transpose_b else 1)), offsets((k, 1 if transpose_b else columns)),
        (rows, columns), one, offsets((rows, columns)), offsets((columns, 1)),
    )  # fmt: skip


def of_conv2d(
    x: np.ndarray,
    w: np.ndarray,
    stride: Pair,
    padding: Pair,
    groups: int,
    dilation: Pair = (1, 1),
    place: Place = place,
) -> Contraction:
    """k runs over (c, r, s) of the group. Rows are its output channels, columns the output positions (n, i, j)."""
    batch, channels, height, width = x.shape
    outputs, group_channels, kernel_rows, kernel_columns = w.shape
    height, width = height + 2 * padding[0], width + 2 * padding[1]
    padded = place(x, *padding, height, width)
    beyond = dilation[0] * (kernel_rows - 1) + 1, dilation[1] * (kernel_columns - 1) + 1
    rows, columns = (height - beyond[0]) // stride[0] + 1, (width - beyond[1]) // stride[1] + 1
    image, area = height * width, rows * columns
    k = group_channels * kernel_rows * kernel_columns
    members = outputs // groups
    return Contraction(
        w.reshape(-1), offsets((groups, members * k)), offsets((members, k)), offsets((k, 1)),
        padded.reshape(-1), offsets((groups, group_channels * image)),
        offsets((batch, channels * image), (rows, stride[0] * width), (columns, stride[1])),
        offsets((group_channels, image), (kernel_rows, dilation[0] * width), (kernel_columns, dilation[1])),
        (batch, outputs, rows, columns), offsets((groups, members * area)), offsets((members, area)),
        offsets((batch, outputs * area), (area, 1)),
    )  # fmt: skip


def of_conv2d_input_gradient(
    gy: np.ndarray,
    w: np.ndarray,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    dilation: Pair = (1, 1),
    place: Place = place,
) -> Contraction:
    """k runs over (o, r, s) of the group and the flipped kernel. Rows are its input channels, columns (n, h, w)."""
    batch, channels, rows, columns = x_shape
    outputs, group_channels, kernel_rows, kernel_columns = w.shape
    around = dilation[0] * (kernel_rows - 1), dilation[1] * (kernel_columns - 1)
    height, width = rows + around[0], columns + around[1]
    padded = place(gy, around[0] - padding[0], around[1] - padding[1], height, width, stride)
    image, area, kernel = height * width, rows * columns, kernel_rows * kernel_columns
    members = outputs // groups
    flipped = offsets((members, group_channels * kernel), (kernel_rows, -kernel_columns), (kernel_columns, -1))
    return Contraction(
        w.reshape(-1), offsets((groups, members * group_channels * kernel)), offsets((group_channels, kernel)),
        flipped + (kernel - 1),
        padded.reshape(-1), offsets((groups, members * image)),
        offsets((batch, outputs * image), (rows, width), (columns, 1)),
        offsets((members, image), (kernel_rows, dilation[0] * width), (kernel_columns, dilation[1])),
        (batch, channels, rows, columns), offsets((groups, group_channels * area)), offsets((group_channels, area)),
        offsets((batch, channels * area), (area, 1)),
    )  # fmt: skip


def of_conv2d_weight_gradient(
    x: np.ndarray,
    gy: np.ndarray,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    dilation: Pair = (1, 1),
    place: Place = place,
) -> Contraction:
    """k runs over the output positions (n, i, j). Rows are the group's output channels, columns (c, r, s)."""
    batch, channels, height, width = x.shape
    outputs, group_channels, kernel_rows, kernel_columns = w_shape
    rows, columns = gy.shape[2:]
    height, width = height + 2 * padding[0], width + 2 * padding[1]
    padded = place(x, *padding, height, width)
    image, area = height * width, rows * columns
    patch = group_channels * kernel_rows * kernel_columns
    members = outputs // groups
    return Contraction(
        gy.reshape(-1), offsets((groups, members * area)), offsets((members, area)),
        offsets((batch, outputs * area), (area, 1)),
        padded.reshape(-1), offsets((groups, group_channels * image)),
        offsets((group_channels, image), (kernel_rows, dilation[0] * width), (kernel_columns, dilation[1])),
        offsets((batch, channels * image), (rows, stride[0] * width), (columns, stride[1])),
        tuple(w_shape), offsets((groups, members * patch)), offsets((members, patch)), offsets((patch, 1)),
    )  # fmt: skip


def add_bias(out: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Adds a bias to each total: bias (N,) to (M, N), or bias (O,) to (N, O, H, W)."""
    if bias is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            out += bias if out.ndim == 2 else bias[:, None, None]
    return out


def significand_mask(format: str) -> np.uint32:
    """Returns the mask of the bits that stay if a float32 significand is truncated to a format's mantissa bits."""
    return np.uint32(0xFFFFFFFF << (23 - min(as_format(format).mantissa_bits, 23)) & 0xFFFFFFFF)


def significand_masks(accumulator: Accumulator) -> tuple[int, int]:
    """Returns the masks of both operands of an accumulator, sign-extended."""
    left, right = (-1 << (23 - min(as_format(name).mantissa_bits, 23)) for name in accumulator.operands)
    return left, right


def truncated(x: np.ndarray, mask: np.uint32) -> np.ndarray:
    """Truncates the significands of float32 numbers. NaN stays."""
    return np.where(np.isnan(x), x, (x.view(np.uint32) & mask).view(np.float32))


def product(c: Contraction) -> np.ndarray:
    """Computes the contraction by NumPy's matmul, without specified bits. It is float64 if a factor is float64."""
    out = np.zeros(c.out_shape, np.float64 if c.is_double else np.float32)
    groups, _, length, columns = c.shape
    k = np.arange(length)
    width = max(1, (1 << 22) // max(1, groups * length))  # columns at a time: 16 MiB of gathered elements
    for start in range(0, columns, width):
        block = c.columns(start, start + width)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            totals = np.matmul(block.left(k).transpose(1, 2, 0), block.right(k).transpose(1, 0, 2))
        block.put(out.reshape(-1), totals)
    return out
