"""Float32 contractions on a device: sums tiles of the output in registers, from pieces of both factors.

A block of threads sums one tile of the output, and each thread some of its rows and columns. A step covers ``depth``
consecutive k. While a step reads its pieces from shared memory, those of the next are loaded from global memory to
registers. Steps never cross the end of a chunk. Missing k there are filled with products of -0 and +0, which change no
sum, not even -0. At the end of a chunk its sums are added to totals. Totals start as -0, so the first chunk's sums
become the totals unchanged.

mpsim/kernels/contractions/lowering.py explains the offset tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numba import cuda, float32, int32, int64

from mpsim.kernels.cuda.contraction.plan import TILES, Form, Tile
from mpsim.kernels.cuda.contraction.tile_parts import GAP, NOTHING, outputs, piece
from mpsim.kernels.cuda.device.intrinsics import SIMULATED
from mpsim.kernels.cuda.device.launch import Kernel, family

#: In bytes, so that one load reads four neighbouring numbers of shared memory. The simulator has no alignment.
ALIGNMENT = None if SIMULATED else 16
#: The most registers per thread with which plan.RESIDENT threads are resident on a multiprocessor.
REGISTERS = 128


@cache
def tile_kernel(tile: Tile, form: Form) -> Kernel:
    """Returns the kernel with these numbers as compile-time constants."""
    assert tile.depth % 4 == 0 and tile.threads % tile.depth == 0, tile  # multiply and locate rely on this
    table = "int64[::1]" if form.wide else "int32[::1]"
    arrays = ", ".join(f"float32[::1], {table}, {table}, {table}" for _ in range(3))
    name = f"contraction.tile.{'x'.join(map(str, tile))}_{'_'.join(k for k, v in form._asdict().items() if v)}"
    return Kernel(contracting(tile, form), [f"{arrays}, int32[::1], int64, int64, int64"], name, REGISTERS)


def contracting(tile: Tile, form: Form) -> Callable[..., None]:
    """Returns the function of the kernel. The package's docstring explains its arguments."""
    rows, columns, depth, thread_rows, thread_columns, row_run, column_run = tile
    across, left_pitch, right_pitch = tile.across, rows + GAP, columns + GAP
    left_size, right_size = 2 * depth * left_pitch, 2 * depth * right_pitch
    left_count, right_count = rows * depth // tile.threads, columns * depth // tile.threads
    sums_shape, offset = (thread_rows, thread_columns), int64 if form.wide else int32
    place_left, locate_left, fetch_left, put_left = piece(rows, tile, form.a_along_k, form.wide, NOTHING)
    place_right, locate_right, fetch_right, put_right = piece(columns, tile, form.b_along_k, form.wide, np.float32(0))
    clear, multiply, add_chunk, write = outputs(tile, form)

    def contract_tiles(
        a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column,
        ends, first, together, size
    ):  # fmt: skip
        left = cuda.shared.array(left_size, float32, ALIGNMENT)
        right = cuda.shared.array(right_size, float32, ALIGNMENT)
        sums = cuda.local.array(sums_shape, float32)
        finished, totals = cuda.local.array(sums_shape, float32), cuda.local.array(sums_shape, float32)
        x, y = cuda.local.array(thread_rows, float32), cuda.local.array(thread_columns, float32)
        left_next, right_next = cuda.local.array(left_count, float32), cuda.local.array(right_count, float32)
        left_from, right_from = cuda.local.array(left_count, offset), cuda.local.array(right_count, offset)
        places = cuda.local.array(thread_columns, offset)
        tiles, group, thread = (out_row.size + rows - 1) // rows, cuda.blockIdx.y, cuda.threadIdx.x
        first_row, first_column = cuda.blockIdx.x % tiles * rows, cuda.blockIdx.x // tiles * columns
        row, column = thread // across * row_run, thread % across * column_run
        left_k, left_row = place_left(thread)
        right_k, right_column = place_right(thread)
        left_place, right_place = left_k * left_pitch + left_row, right_k * right_pitch + right_column
        locate_left(first_row + left_row, a_row, a_group[group], left_from)
        locate_right(first_column + right_column, b_column, b_group[group], right_from)
        count = clear(sums, totals, first_row + row, a_row.size)
        chunk = first + cuda.blockIdx.z * together
        last = min(chunk + together, ends.size - 1)
        start, end, stop, buffer = ends[chunk], ends[chunk + 1], ends[last], 0
        fetch_left(a, left_from, a_k, start + left_k, end, left_next)
        fetch_right(b, right_from, b_k, start + right_k, end, right_next)
        while start < stop:
            put_left(left_next, left, buffer * depth * left_pitch + left_place)
            put_right(right_next, right, buffer * depth * right_pitch + right_place)
            cuda.syncthreads()
            next_start, next_end = start + depth, end
            if next_start >= end:
                chunk += 1
                next_start, next_end = end, ends[min(chunk + 1, last)]
            if next_start < stop:
                fetch_left(a, left_from, a_k, next_start + left_k, next_end, left_next)
                fetch_right(b, right_from, b_k, next_start + right_k, next_end, right_next)
            for k in range(buffer * depth, (buffer + 1) * depth, 4):  # unrolled, or loads would wait for products
                multiply(left, right, k * left_pitch + row, k * right_pitch + column, x, y, sums)
                multiply(left, right, (k + 1) * left_pitch + row, (k + 1) * right_pitch + column, x, y, sums)
                multiply(left, right, (k + 2) * left_pitch + row, (k + 2) * right_pitch + column, x, y, sums)
                multiply(left, right, (k + 3) * left_pitch + row, (k + 3) * right_pitch + column, x, y, sums)
            if next_start == end:
                add_chunk(sums, finished, totals, count)
            start, end, buffer = next_start, next_end, 1 - buffer
        base = cuda.blockIdx.z * size + out_group[group]
        write(totals, count, out, base, out_row, out_column, first_row + row, first_column + column, places)

    return contract_tiles


@family
def tile_kernels() -> Iterator[Kernel]:
    """Yields each tile's kernel once, and the first one's in the other forms."""
    for number, (tile, _) in enumerate(TILES):
        yield tile_kernel(tile, Form(True, number % 2 == 0, number % 4 > 1, False))
    yield tile_kernel(TILES[0][0], Form(False, False, True, False))
    yield tile_kernel(TILES[0][0], Form(True, True, False, True))
