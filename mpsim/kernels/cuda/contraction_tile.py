"""Float32 contractions on a device: tiles of the output, summed in registers from pieces of both factors.

A block of threads sums one tile of the output, and each thread some of its rows and columns. A step takes ``depth``
consecutive k: while the sums take the pieces of one step from shared memory, those of the next are on their way from
global memory to registers. Steps never cross the end of a chunk. What a step lacks there is filled with products of
-0 and +0, which change no sum, not even -0. At the end of a chunk its sums are added to totals that begin as -0: so
the first chunk is the total.

mpsim/kernels/lowering.py tells what the tables of offsets are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, int32, int64

from mpsim.kernels.cuda.intrinsics import SIMULATED, add_rn, fma_rn, mul_rn
from mpsim.kernels.cuda.launch import FAMILIES, Kernel, device_function

#: Bytes: then four neighbouring numbers of shared memory come in one load. The simulator knows no alignment.
ALIGNMENT = None if SIMULATED else 16
#: Numbers between the lines of a piece, so that the threads of a warp write to different banks.
GAP = 4
#: Threads of a multiprocessor at a time, and as many of its registers as each may take for that.
RESIDENT, REGISTERS = 512, 128
#: What a total begins as, and the left factor where a step has no k: x + (-0) and x + (-0)*0 are x, -0 too.
NOTHING = np.float32(-0.0)


class Tile(NamedTuple):
    """The output of a block, what a thread has of it, and how many of its rows and columns are neighbours."""

    rows: int
    columns: int
    depth: int  # a multiple of 4
    thread_rows: int
    thread_columns: int
    row_run: int  # as many rows come in one load of shared memory
    column_run: int  # fewer, as neighbouring threads should write neighbouring columns

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows * self.columns // (self.thread_rows * self.thread_columns)


class Form(NamedTuple):
    """What of a contraction is built into its kernel."""

    fused: bool  # one rounding for each product and sum
    a_along_k: bool  # elements of neighbouring k lie together in the left factor, not those of neighbouring rows
    b_along_k: bool
    wide: bool  # offsets need 64 bits


def _piece(size: int, tile: Tile, along_k: bool, wide: bool, fill: np.float32) -> tuple[Callable[..., Any], ...]:
    """How the threads bring a piece of a factor, (depth, size), to shared memory: place, locate, fetch, put.

    Neighbouring threads take neighbouring k or neighbouring rows (or columns), whichever lie together in memory.
    Element i of a thread is ``k_step(i)`` and ``row_step(i)`` from its first one, constants when loops are written out.
    """
    depth, threads, pitch = tile.depth, tile.threads, size + GAP
    count = size * depth // threads
    line = min(size, threads)  # threads that share a k
    lines = size // line
    index = np.uint64 if wide else np.uint32  # Numba asks of a signed index whether it counts from the end

    @device_function
    def row_step(i):  # type: ignore[no-untyped-def]
        return i * (threads // depth) if along_k else i % lines * line

    @device_function
    def k_step(i):  # type: ignore[no-untyped-def]
        return 0 if along_k else i // lines * (threads // line)

    @device_function
    def place():  # type: ignore[no-untyped-def]
        """The k and the row of this thread's first element."""
        thread = cuda.threadIdx.x
        if along_k:
            return thread % depth, thread // depth
        return thread // line, thread % line

    @device_function
    def locate(row, table, base, offsets):  # type: ignore[no-untyped-def]
        """Where in the factor the rows of this thread's elements begin; a row that is not there is as the last."""
        for i in range(count):
            offsets[i] = base + table[np.uint64(min(row + row_step(i), table.size - 1))]

    @device_function
    def fetch(source, offsets, table, k, end, values):  # type: ignore[no-untyped-def]
        """This thread's elements of a step; the first is of k."""
        room = np.int32(end - k)
        for i in range(count):
            values[i] = fill
            if k_step(i) < room:
                values[i] = source[index(offsets[i] + table[np.uint64(k + k_step(i))])]

    @device_function
    def put(values, shared, start):  # type: ignore[no-untyped-def]
        """The elements to shared memory, the first of them to ``start``."""
        for i in range(count):
            shared[np.uint64(start + k_step(i) * pitch + row_step(i))] = values[i]

    return place, locate, fetch, put


@cache
def tile_kernel(tile: Tile, form: Form) -> Kernel:
    """The kernel with these numbers built in; contraction.py tells what its arguments are."""
    rows, columns, depth, thread_rows, thread_columns, row_run, column_run = tile
    assert depth % 4 == 0 and tile.threads % depth == 0, tile  # what multiply and locate are written for
    across = columns // thread_columns  # threads beside each other
    row_step, column_step = rows // thread_rows * row_run, across * column_run
    left_pitch, right_pitch = rows + GAP, columns + GAP
    left_size, right_size = 2 * depth * left_pitch, 2 * depth * right_pitch
    left_count, right_count = rows * depth // tile.threads, columns * depth // tile.threads
    sums_shape, fused = (thread_rows, thread_columns), form.fused
    offset, index = (int64, np.uint64) if form.wide else (int32, np.uint32)
    place_left, locate_left, fetch_left, put_left = _piece(rows, tile, form.a_along_k, form.wide, NOTHING)
    place_right, locate_right, fetch_right, put_right = _piece(columns, tile, form.b_along_k, form.wide, np.float32(0))

    @device_function
    def multiply(left, right, left_place, right_place, x, y, sums):  # type: ignore[no-untyped-def]
        """One k of every sum of this thread."""
        for i in range(thread_rows):
            x[i] = left[np.uint64(left_place + i // row_run * row_step + i % row_run)]
        for j in range(thread_columns):
            y[j] = right[np.uint64(right_place + j // column_run * column_step + j % column_run)]
        for i in range(thread_rows):
            for j in range(thread_columns):
                if fused:
                    sums[i, j] = fma_rn(x[i], y[j], sums[i, j])
                else:
                    sums[i, j] = add_rn(sums[i, j], mul_rn(x[i], y[j]))

    @device_function
    def settle(sums, settled, totals, count):  # type: ignore[no-untyped-def]
        """Adds the sums of a chunk to the totals, and makes them +0.

        The compiler does not know ``count``, so it leaves the totals in memory, and the registers to the sums.
        """
        for i in range(thread_rows):
            for j in range(thread_columns):
                settled[i, j], sums[i, j] = sums[i, j], float32(0)
        for i in range(count):
            for j in range(thread_columns):
                totals[i, j] = add_rn(totals[i, j], settled[i, j])

    @device_function
    def write(totals, count, out, base, out_row, out_column, row, column, places):  # type: ignore[no-untyped-def]
        """The totals of this thread to their places."""
        for j in range(thread_columns):
            at = column + j // column_run * column_step + j % column_run
            places[j] = out_column[np.uint32(min(at, out_column.size - 1))]
        for i in range(count):
            line = base + out_row[np.uint32(row + i // row_run * row_step + i % row_run)]
            for j in range(thread_columns):
                if column + j // column_run * column_step + j % column_run < out_column.size:
                    out[index(line + places[j])] = totals[i, j]

    def contract_tiles(  # type: ignore[no-untyped-def]
        a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column,
        ends, first, together, size
    ):  # fmt: skip
        left = cuda.shared.array(left_size, float32, ALIGNMENT)
        right = cuda.shared.array(right_size, float32, ALIGNMENT)
        sums = cuda.local.array(sums_shape, float32)
        settled, totals = cuda.local.array(sums_shape, float32), cuda.local.array(sums_shape, float32)
        x, y = cuda.local.array(thread_rows, float32), cuda.local.array(thread_columns, float32)
        left_next, right_next = cuda.local.array(left_count, float32), cuda.local.array(right_count, float32)
        left_from, right_from = cuda.local.array(left_count, offset), cuda.local.array(right_count, offset)
        places = cuda.local.array(thread_columns, offset)
        tiles, group = (out_row.size + rows - 1) // rows, cuda.blockIdx.y
        first_row, first_column = cuda.blockIdx.x % tiles * rows, cuda.blockIdx.x // tiles * columns
        row, column = cuda.threadIdx.x // across * row_run, cuda.threadIdx.x % across * column_run
        left_k, left_row = place_left()
        right_k, right_column = place_right()
        left_place, right_place = left_k * left_pitch + left_row, right_k * right_pitch + right_column
        locate_left(first_row + left_row, a_row, a_group[group], left_from)
        locate_right(first_column + right_column, b_column, b_group[group], right_from)
        count = 0
        for i in range(thread_rows):
            count += first_row + row + i // row_run * row_step + i % row_run < a_row.size
            for j in range(thread_columns):
                sums[i, j], totals[i, j] = float32(0), NOTHING
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
            for k in range(buffer * depth, (buffer + 1) * depth, 4):  # written out, or loads would wait for products
                multiply(left, right, k * left_pitch + row, k * right_pitch + column, x, y, sums)
                multiply(left, right, (k + 1) * left_pitch + row, (k + 1) * right_pitch + column, x, y, sums)
                multiply(left, right, (k + 2) * left_pitch + row, (k + 2) * right_pitch + column, x, y, sums)
                multiply(left, right, (k + 3) * left_pitch + row, (k + 3) * right_pitch + column, x, y, sums)
            if next_start == end:
                settle(sums, settled, totals, count)
            start, end, buffer = next_start, next_end, 1 - buffer
        base = cuda.blockIdx.z * size + out_group[group]
        write(totals, count, out, base, out_row, out_column, first_row + row, first_column + column, places)

    table = "int64[::1]" if form.wide else "int32[::1]"
    arrays = ", ".join(f"float32[::1], {table}, {table}, {table}" for _ in range(3))
    name = f"contraction_tile.{'x'.join(map(str, tile))}_{'_'.join(k for k, v in form._asdict().items() if v)}"
    return Kernel(contract_tiles, (f"{arrays}, int32[::1], int64, int64, int64",), name, REGISTERS)


#: Tiles, and how much of a device's products each is thought to reach, as a share of what the first one does.
TILES: tuple[tuple[Tile, float], ...] = (
    ((Tile(8, 8, 4, 4, 4, 2, 2), 1.0),)
    if SIMULATED
    else (
        (Tile(128, 128, 8, 8, 8, 4, 2), 1.0),
        (Tile(64, 128, 8, 8, 8, 4, 2), 0.95),
        (Tile(32, 128, 8, 4, 8, 4, 2), 0.75),
        (Tile(16, 128, 8, 2, 8, 2, 2), 0.5),
        (Tile(32, 32, 16, 4, 4, 4, 2), 0.4),
    )
)


def kernels() -> Iterator[Kernel]:
    """Each tile once, and the first one in the other forms."""
    for number, (tile, _) in enumerate(TILES):
        yield tile_kernel(tile, Form(True, number % 2 == 0, number % 4 > 1, False))
    yield tile_kernel(TILES[0][0], Form(False, False, True, False))
    yield tile_kernel(TILES[0][0], Form(True, True, False, True))


FAMILIES.append(kernels)
