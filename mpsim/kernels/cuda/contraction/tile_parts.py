"""Device functions of a thread of tile.py: copy its share of the factors to shared memory, sum, and write outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32

from mpsim.kernels.cuda.contraction.plan import Form, Tile
from mpsim.kernels.cuda.device.intrinsics import add_rn, fma_rn, mul_rn
from mpsim.kernels.cuda.device.launch import device_function

#: Device functions.
Functions = tuple[Callable[..., Any], ...]
#: Padding between the lines of a piece, so that the threads of a warp write to different banks.
GAP = 4
#: The initial total, and the left factor where a step has no k: x + (-0) and x + (-0)*0 equal x, even for x = -0.
NOTHING = np.float32(-0.0)


def piece(size: int, tile: Tile, along_k: bool, wide: bool, fill: np.float32) -> Functions:
    """Returns place, locate, fetch and put, which copy a piece of a factor, (depth, size), to shared memory.

    ``fill`` replaces the k that a step lacks.

    Neighbouring threads take neighbouring k or neighbouring rows (or columns), whichever are adjacent in memory.
    Element i of a thread is ``k_step(i)`` and ``row_step(i)`` from its first one, constants in unrolled loops.
    """
    depth, threads, pitch = tile.depth, tile.threads, size + GAP
    count = size * depth // threads
    line = min(size, threads)  # threads that share a k
    lines = size // line
    index = np.uint64 if wide else np.uint32  # Numba checks signed indices for negative values

    @device_function
    def row_step(i):
        return i * (threads // depth) if along_k else i % lines * line

    @device_function
    def k_step(i):
        return 0 if along_k else i // lines * (threads // line)

    @device_function
    def place(thread):
        """Returns the k and the row of this thread's first element."""
        if along_k:
            return thread % depth, thread // depth
        return thread // line, thread % line

    @device_function
    def locate(row, table, base, offsets):
        """Computes where the rows of this thread's elements start in the factor. Further rows repeat the last one."""
        for i in range(count):
            offsets[i] = base + table[np.uint64(min(row + row_step(i), table.size - 1))]

    @device_function
    def fetch(source, offsets, table, k, end, values):
        """Loads this thread's elements of a step, the first of them at k."""
        remaining = np.int32(end - k)
        for i in range(count):
            values[i] = fill
            if k_step(i) < remaining:
                values[i] = source[index(offsets[i] + table[np.uint64(k + k_step(i))])]

    @device_function
    def put(values, shared, start):
        """Writes the elements to shared memory, the first of them at ``start``."""
        for i in range(count):
            shared[np.uint64(start + k_step(i) * pitch + row_step(i))] = values[i]

    return place, locate, fetch, put


@device_function
def place_of(i, first, run, step):
    """Returns the position of a thread's row (or column) i, given its first one."""
    return first + i // run * step + i % run


def outputs(tile: Tile, form: Form) -> Functions:
    """Returns clear, multiply, add_chunk and write, which work on a thread's ``sums`` of a chunk and its ``totals``."""
    thread_rows, thread_columns, row_run, column_run = tile[3:]
    row_step, column_step = tile.rows // thread_rows * row_run, tile.across * column_run
    fused, index = form.fused, np.uint64 if form.wide else np.uint32

    @device_function
    def clear(sums, totals, row, rows):
        """Initializes sums and totals. Returns how many of the thread's rows, from ``row`` on, exist."""
        count = 0
        for i in range(thread_rows):
            count += place_of(i, row, row_run, row_step) < rows
            for j in range(thread_columns):
                sums[i, j], totals[i, j] = float32(0), NOTHING
        return count

    @device_function
    def multiply(left, right, row, column, x, y, sums):
        """Adds the products of one k to this thread's sums. ``row`` and ``column`` are positions in shared memory."""
        for i in range(thread_rows):
            x[i] = left[np.uint64(place_of(i, row, row_run, row_step))]
        for j in range(thread_columns):
            y[j] = right[np.uint64(place_of(j, column, column_run, column_step))]
        for i in range(thread_rows):
            for j in range(thread_columns):
                if fused:
                    sums[i, j] = fma_rn(x[i], y[j], sums[i, j])
                else:
                    sums[i, j] = add_rn(sums[i, j], mul_rn(x[i], y[j]))

    @device_function
    def add_chunk(sums, finished, totals, count):
        """Adds the sums of a chunk to the totals, and resets the sums to +0.

        ``count`` is unknown to the compiler, so it leaves the totals in memory and uses the registers for the sums.
        """
        for i in range(thread_rows):
            for j in range(thread_columns):
                finished[i, j], sums[i, j] = sums[i, j], float32(0)
        for i in range(count):
            for j in range(thread_columns):
                totals[i, j] = add_rn(totals[i, j], finished[i, j])

    @device_function
    def write(totals, count, out, base, out_row, out_column, row, column, places):
        """Writes the totals of this thread to the output."""
        for j in range(thread_columns):
            places[j] = out_column[np.uint32(min(place_of(j, column, column_run, column_step), out_column.size - 1))]
        for i in range(count):
            line = base + out_row[np.uint32(place_of(i, row, row_run, row_step))]
            for j in range(thread_columns):
                if place_of(j, column, column_run, column_step) < out_column.size:
                    out[index(line + places[j])] = totals[i, j]

    return clear, multiply, add_chunk, write
