"""Launches the kernels of a contraction, and adds the sums of its chunks."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np

from mpsim.errors import UsageTypeError
from mpsim.kernels.cuda.chunks.accumulators import Summation
from mpsim.kernels.cuda.contraction.each import adding_kernel, each_kernel, pair_parts
from mpsim.kernels.cuda.contraction.placing import placed
from mpsim.kernels.cuda.contraction.plan import Form, plan
from mpsim.kernels.cuda.contraction.tables import Tables, ends_of
from mpsim.kernels.cuda.contraction.tile import tile_kernel
from mpsim.kernels.cuda.device.arrays import Array, empty, flattened, part, zeros
from mpsim.kernels.cuda.device.devices import device
from mpsim.kernels.cuda.device.launch import BLOCKS_PER_MULTIPROCESSOR, THREADS

#: launch(out, first, count, together) computes ``count`` sums of ``together`` chunks each.
Launch = Callable[[Array, int, int, int], None]

#: The most bytes of chunks' results waiting to be added. They are the results of many waves of blocks.
WORKSPACE = 128 << 20
#: The most blocks of a launch in its second and third dimension.
GRID = 65535


def contract(tables: Tables, a: Array, b: Array, how: Summation) -> Array:
    """Computes every output of the contraction in the specified order. b does not contain its padding zeros yet."""
    if np.float64 in (a.dtype, b.dtype):
        raise UsageTypeError(
            f"the 'cuda' backend multiplies float32 arrays, got {a.dtype} and {b.dtype}. For gradient checks in "
            'float64 pass backend="reference"'
        )
    length = tables.shape[2]
    if length == 0 or prod(tables.out_shape) == 0:
        return zeros(tables.out_shape)
    out = empty(tables.out_shape)
    flat, chunk = flattened(out), min(how.chunk or length, length)
    chunks = -(-length // chunk)
    launch, split = launcher(tables, a, placed(b, tables.canvas), ends_of(length, chunk), chunks, how)
    if how.in_pairs and chunks > 2:
        sum_in_pairs(launch, flat, chunks)
    elif split:
        sum_in_order(launch, flat, chunks, how)
    else:
        launch(flat, 0, 1, chunks)
    return out


def launcher(tables: Tables, a: Array, b: Array, ends: Array, chunks: int, how: Summation) -> tuple[Launch, bool]:
    """Returns the launch function of a contraction, and whether each of ``chunks`` needs its own block."""
    groups, rows, _, columns = tables.shape
    multiprocessors = device().multiprocessors
    chosen = plan(groups, rows, columns, chunks, multiprocessors, how.is_float32 and groups <= GRID)
    further: tuple[int | NamedTuple, ...] = (prod(tables.out_shape),)
    if chosen.tile:
        if chosen.exchanged:
            tables, a, b = tables.exchanged(), b, a
            rows, columns = columns, rows
        kernel = tile_kernel(chosen.tile, Form(how.fused, *tables.form))
        grid, threads = (-(-rows // chosen.tile.rows) * -(-columns // chosen.tile.columns), groups), chosen.tile.threads
    else:
        kernel, threads = each_kernel(how.kind), THREADS
        further += (how.numbers,)
        blocks = -(-groups * rows * columns // THREADS)
        grid = (min(blocks, multiprocessors * BLOCKS_PER_MULTIPROCESSOR), 1)
    factors = (flattened(a), *tables.left, flattened(b), *tables.right)

    def launch(out: Array, first: int, count: int, together: int) -> None:
        kernel[(*grid, count), threads](*factors, out, *tables.out, ends, first, together, *further)

    return launch, chosen.split


def sum_in_order(launch: Launch, out: Array, chunks: int, how: Summation) -> None:
    """Computes the results of all chunks, some at a time, and adds them in rising order."""
    together = min(chunks, GRID, max(1, WORKSPACE // out.nbytes))
    parts = empty(together * out.size)
    for first in range(0, chunks, together):
        count = min(together, chunks - first)
        launch(parts, first, count, 1)
        adding_kernel(how.kind).each(out.size)(parts, count, out, first == 0, how.numbers)


def sum_in_pairs(launch: Launch, out: Array, chunks: int) -> None:
    """Adds the results of all chunks in pairs: first a power of two of them at a time, then those sums."""
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
