"""Contractions of the 'cuda' backend: the doors, and how the work is shared out.

Float32 sums go to the tiles of contraction_tile.py, or to depthwise.py where a group has one channel and one output;
every other accumulator to contraction_each.py. The kernels of both sum, in block z of the grid, as many chunks as are
taken ``together``, from first + z*together on, and write the result at z*size of ``out``; chunk c is of the k from
ends[c] to ends[c + 1]. So where outputs are few and k is long, each block sums one chunk, and the results are added
afterwards, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from mpsim.accumulators import Accumulator
from mpsim.errors import UsageTypeError
from mpsim.kernels.contract import Shape
from mpsim.kernels.contraction import FasterWays, Geometry, How, contractions
from mpsim.kernels.cuda import depthwise, strided
from mpsim.kernels.cuda.accumulators import numbers_of
from mpsim.kernels.cuda.arrays import device, empty, flattened, part, zeros
from mpsim.kernels.cuda.contraction_each import add_bias, adding_kernel, each_kernel, pair_parts
from mpsim.kernels.cuda.contraction_tables import Tables, ends_of, phases_of, placed, tables_of
from mpsim.kernels.cuda.contraction_tile import RESIDENT, TILES, Form, Tile, tile_kernel
from mpsim.kernels.cuda.launch import BLOCKS_PER_MULTIPROCESSOR, THREADS
from mpsim.kernels.cuda.rounding import round_array
from mpsim.kernels.lowering import Contraction, Pair, of_matmul

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "matmul"]

Array = Any
#: launch(out, first, count, together): the sums of ``count`` times ``together`` chunks.
Launch = Callable[[Array, int, int, int], None]

DEFAULT = Accumulator()
#: Bytes of chunks' results that wait to be added: enough blocks for many turns of the device.
WORKSPACE = 128 << 20
#: Outputs that keep a multiprocessor busy where each is one thread's, and the share of its products they reach.
BUSY, RATE_OF_EACH = 1024, 0.05
#: Blocks of a launch in its second and third dimension, at most.
GRID = 65535


class _OnDevice(FasterWays):
    """Depthwise convolutions, and gradients by the input in phases."""

    def conv2d(self, x: Array, w: Array, bias: Array | None, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        if not depthwise.takes(w.shape, groups, how.accumulator):
            return None
        return biased(depthwise.forward(x, w, stride, padding, how.accumulator.fma), bias)

    def conv2d_input_gradient(self, gy: Array, w: Array, x_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        stride, padding, groups = geometry
        if depthwise.takes(w.shape, groups, how.accumulator):
            return depthwise.input_gradient(gy, w, x_shape, stride, padding, how.accumulator.fma)
        if strided.takes(gy, w, stride, how.accumulator):
            return input_gradient_in_phases(gy, w, x_shape, stride, padding, groups, how.accumulator)
        return None


def sum_of(lower: Callable[..., Contraction], first: Array, second: Array, options: tuple[Any, ...], how: How) -> Array:
    """See mpsim.kernels.contraction.Sum; the lowering is one of shapes."""
    tables = tables_of(lower, tuple(first.shape), tuple(second.shape), *options)
    left, right = (first, second) if lower is of_matmul else (second, first)
    return contract(tables, left, right, how.accumulator)


def input_gradient_in_phases(
    gy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    accumulator: Accumulator,
) -> Array:
    """Without the zeros of dilation (mpsim/kernels/phases.py), but where they may matter."""
    chunk = accumulator.chunk or w.shape[0] // groups * w.shape[2] * w.shape[3]
    missing = w.shape[2] < stride[0] or w.shape[3] < stride[1]  # then some elements get nothing, and stay +0
    gx = (zeros if missing else empty)(x_shape)
    kind, numbers = numbers_of(accumulator)
    shapes = (tuple(gy.shape), tuple(w.shape), x_shape)
    placed_gy = None
    for tables, ends in phases_of(*shapes, stride, padding, groups, chunk):
        placed_gy = placed(gy, tables.canvas) if placed_gy is None else placed_gy
        launch, _ = launcher(tables, flattened(w), flattened(placed_gy), ends, 1, kind, numbers)
        launch(flattened(gx), 0, 1, ends.size - 1)
    strided.settle(gy, w, gx, stride, padding, groups, chunk, accumulator.fma)
    return gx


def biased(out: Array, bias: Array | None) -> Array:
    """The output with one number added per column of a matrix, or per channel of images."""
    if bias is not None and out.size:
        area = prod(out.shape[2:])
        add_bias.over(out.size)(flattened(out), bias, area)
    return out


def contract(tables: Tables, a: Array, b: Array, accumulator: Accumulator) -> Array:
    """Every output of the contraction, in the written order of the accumulator; b as it is before its zeros."""
    if np.float64 in (a.dtype, b.dtype):
        raise UsageTypeError(
            "the 'cuda' backend multiplies float32 arrays; float64 ones are for gradient checks: "
            'pass backend="reference"'
        )
    groups, rows, length, columns = tables.shape
    if length == 0 or prod(tables.out_shape) == 0:
        return zeros(tables.out_shape)
    if accumulator.kind == "blas":  # which promises nothing
        accumulator = DEFAULT
    out = empty(tables.out_shape)
    flat, chunk = flattened(out), min(accumulator.chunk or length, length)
    kind, numbers = numbers_of(accumulator)
    if kind == "exact":
        chunk = length
    chunks = -(-length // chunk)
    ends, placed_b = ends_of(length, chunk), placed(b, tables.canvas)
    launch, split = launcher(tables, flattened(a), flattened(placed_b), ends, chunks, kind, numbers)
    if accumulator.kind == "pairwise" and chunks > 2:
        sum_in_pairs(launch, flat, chunks)
    elif split:
        sum_in_order(launch, flat, chunks, kind, numbers)
    else:
        launch(flat, 0, 1, chunks)
    return out


def launcher(
    tables: Tables, a: Array, b: Array, ends: Array, chunks: int, kind: str, numbers: Any
) -> tuple[Launch, bool]:
    """What sums a contraction, and whether it had better sum each of ``chunks`` in a block of its own."""
    groups, rows, _, columns = tables.shape
    arguments: tuple[Any, ...] = ()
    tiled = kind in ("fused", "separate") and groups <= GRID
    chosen = plan(groups, rows, columns, chunks, device().multiprocessors, tiled)
    if chosen.tile:
        if chosen.exchanged:
            tables, a, b = tables.exchanged(), b, a
            rows, columns = columns, rows
        kernel = tile_kernel(chosen.tile, Form(kind == "fused", *tables.form))
        grid, threads = (-(-rows // chosen.tile.rows) * -(-columns // chosen.tile.columns), groups), chosen.tile.threads
    else:
        kernel, arguments, threads = each_kernel(kind), (numbers,), THREADS
        blocks = -(-groups * rows * columns // THREADS)
        grid = (min(blocks, device().multiprocessors * BLOCKS_PER_MULTIPROCESSOR), 1)

    def launch(out: Array, first: int, count: int, together: int) -> None:
        chosen_chunks = (ends, first, together, prod(tables.out_shape))
        kernel[(*grid, count), threads](a, *tables.left, b, *tables.right, out, *tables.out, *chosen_chunks, *arguments)

    return launch, chosen.split


class Plan(NamedTuple):
    """How a contraction is shared out. None of it changes a bit."""

    tile: Tile | None  # None: an output each
    exchanged: bool  # rows and columns
    split: bool  # blocks sum one chunk each


@lru_cache(maxsize=4096)
def plan(groups: int, rows: int, columns: int, chunks: int, multiprocessors: int, tiled: bool) -> Plan:
    """The way of the least estimated time, counted in products of one thread for one of k."""
    ways = []
    for split in (False, True)[: 1 + (chunks > 1)]:
        parallel, serial = (chunks, 1.1) if split else (1, chunks)
        waves = -(-groups * rows * columns * parallel // (multiprocessors * BUSY))
        ways.append((waves * serial * BUSY / RATE_OF_EACH, Plan(None, False, split)))
        for tile, rate in TILES if tiled else ():
            resident = max(1, RESIDENT // tile.threads)
            for exchanged in (False, True):
                high, wide = (columns, rows) if exchanged else (rows, columns)
                blocks = groups * -(-high // tile.rows) * -(-wide // tile.columns) * parallel
                waves = -(-blocks // (multiprocessors * resident))
                time = waves * serial * resident * tile.rows * tile.columns / rate
                ways.append((time, Plan(tile, exchanged, split)))
    return min(ways, key=lambda way: way[0])[1]


def sum_in_order(launch: Launch, out: Array, chunks: int, kind: str, numbers: Any) -> None:
    """The results of all chunks, some at a time, added in rising order."""
    together = min(chunks, GRID, max(1, WORKSPACE // out.nbytes))
    parts = empty(together * out.size)
    for first in range(0, chunks, together):
        count = min(together, chunks - first)
        launch(parts, first, count, 1)
        adding_kernel(kind).each(out.size)(parts, count, out, first == 0, numbers)


def sum_in_pairs(launch: Launch, out: Array, chunks: int) -> None:
    """The results of all chunks added in pairs: first a power of two of them at a time, then the sums of those."""
    together = 1
    while 2 * together <= min(chunks, GRID, WORKSPACE // out.nbytes):
        together *= 2
    runs = -(-chunks // together)
    parts, sums = empty(together * out.size), empty(runs * out.size)
    for run in range(runs):
        count = min(together, chunks - run * together)
        launch(parts, run * together, count, 1)
        pair_parts.each(out.size)(parts, count, part(sums, run * out.size, out.size))
    pair_parts.each(out.size)(sums, runs, out)


matmul, conv2d, conv2d_input_gradient, conv2d_weight_gradient = contractions(sum_of, biased, round_array, _OnDevice())
