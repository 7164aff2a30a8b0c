"""What a thread of tile.py does: brings its share of the factors to shared memory, sums, and writes its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32

from mpsim.kernels.cuda.contraction.plan import Form, Tile
from mpsim.kernels.cuda.device.intrinsics import add_rn, fma_rn, mul_rn
from mpsim.kernels.cuda.device.launch import device_function

#: Functions for the device.
Functions = tuple[Callable[..., Any], ...]
#: Numbers between the lines of a piece, so that the threads of a warp write to different banks.
GAP = 4
#: What a total begins as, and the left factor where a step has no k: x + (-0) and x + (-0)*0 are x, -0 too.
NOTHING = np.float32(-0.0)


def piece(size: int, tile: Tile, along_k: bool, wide: bool, fill: np.float32) -> Functions:
    """How the threads bring a piece of a factor, (depth, size), to shared memory: place, locate, fetch, put.

    ``fill`` stands for the k that a step lacks.

    Neighbouring threads take neighbouring k or neighbouring rows (or columns), whichever lie together in memory.
    Element i of a thread is ``k_step(i)`` and ``row_step(i)`` from its first one, constants when loops are written out.
    """
    depth, threads, pitch = tile.depth, tile.threads, size + GAP
    count = size * depth // threads
    line = min(size, threads)  # threads that share a k
    lines = size // line
    index = np.uint64 if wide else np.uint32  # Numba asks of a signed index whether it counts from the end

    @device_function
    def row_step(i):
        return i * (threads // depth) if along_k else i % lines * line

    @device_function
    def k_step(i):
        return 0 if along_k else i // lines * (threads // line)

    @device_function
    def place(thread):
        """The k and the row of this thread's first element."""
        if along_k:
            return thread % depth, thread // depth
        return thread // line, thread % line

    @device_function
    def locate(row, table, base, offsets):
        """Where in the factor the rows of this thread's elements begin. A row beyond the last is as the last."""
        for i in range(count):
            offsets[i] = base + table[np.uint64(min(row + row_step(i), table.size - 1))]

    @device_function
    def fetch(source, offsets, table, k, end, values):
        """This thread's elements of a step; the first is of k."""
        room = np.int32(end - k)
        for i in range(count):
            values[i] = fill
            if k_step(i) < room:
                values[i] = source[index(offsets[i] + table[np.uint64(k + k_step(i))])]

    @device_function
    def put(values, shared, start):
        """The elements to shared memory, the first of them to ``start``."""
        for i in range(count):
            shared[np.uint64(start + k_step(i) * pitch + row_step(i))] = values[i]

    return place, locate, fetch, put


@device_function
def place_of(i, first, run, step):
    """Where row (or column) i of a thread is, whose first one is ``first``."""
    return first + i // run * step + i % run


def outputs(tile: Tile, form: Form) -> Functions:
    """What becomes of a thread's outputs, ``sums`` of a chunk and ``totals``: clear, multiply, settle, write."""
    thread_rows, thread_columns, row_run, column_run = tile[3:]
    row_step, column_step = tile.rows // thread_rows * row_run, tile.across * column_run
    fused, index = form.fused, np.uint64 if form.wide else np.uint32

    @device_function
    def clear(sums, totals, row, rows):
        """Begins sums and totals; returns how many of the thread's rows, from ``row`` on, there are."""
        count = 0
        for i in range(thread_rows):
            count += place_of(i, row, row_run, row_step) < rows
            for j in range(thread_columns):
                sums[i, j], totals[i, j] = float32(0), NOTHING
        return count

    @device_function
    def multiply(left, right, row, column, x, y, sums):
        """One k of every sum of this thread; its row and column are places in shared memory."""
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
    def settle(sums, settled, totals, count):
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
    def write(totals, count, out, base, out_row, out_column, row, column, places):
        """The totals of this thread to their places."""
        for j in range(thread_columns):
            places[j] = out_column[np.uint32(min(place_of(j, column, column_run, column_step), out_column.size - 1))]
        for i in range(count):
            line = base + out_row[np.uint32(place_of(i, row, row_run, row_step))]
            for j in range(thread_columns):
                if place_of(j, column, column_run, column_step) < out_column.size:
                    out[index(line + places[j])] = totals[i, j]

    return clear, multiply, settle, write
