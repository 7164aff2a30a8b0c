"""Float32 contractions in Numba: panels of columns packed from the tables of offsets, tiles of registers over k.

A tile holds ROWS x WIDTH sums in vector registers while k runs over one chunk. Numba's loops do not keep an array in
registers, so the loop of a tile is written with llvmlite's builder (``_tile``): per k two vectors of the right panel,
one broadcast per row, one ``llvm.fma`` per vector. Machines without such an instruction call the C library's fmaf
and get the same bits, slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from mpsim.kernels.numba_cpu.jit import njit

_FEATURES = binding.get_host_cpu_features()
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx2") else 4
ROWS = 12 if LANES == 16 else 6  # as many as leave registers for the two vectors and a broadcast
LOW_ROWS = 4  # of the tiles for the rows that are left; the last one is filled with zeros
WIDTH = 2 * LANES
ROW_WIDTH = 512  # columns of a task that needs no panel
FEW = 16  # columns of one row that are summed side by side without vectors

FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
INDEX = ir.IntType(64)


def _tile(rows: int, fused: bool) -> Callable[..., None]:
    """tile(a, a_start, b, base, other, offsets, from, k, total, start, first): sums of rows x WIDTH over k >= 1 steps.

    a[a_start + i*rows + row] times b[base + offsets[from + i] + lane] (the first LANES columns) and
    b[other + offsets[from + i] + lane] (the rest) for i < k in rising order from +0; the sums are stored at
    total[start + row*WIDTH + column], or added to what is there if not ``first``.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def data(position: int, offset: int) -> Any:
            array = context.make_array(signature.args[position])(context, builder, arguments[position])
            return builder.gep(array.data, [arguments[offset]])

        def vector_at(pointer: Any, offset: int) -> Any:
            return builder.bitcast(builder.gep(pointer, [ir.Constant(INDEX, offset)]), VECTOR.as_pointer())

        left, rights, offsets, total = data(0, 1), (data(2, 3), data(2, 4)), data(5, 6), data(8, 9)
        count = arguments[7]
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

        before = builder.block
        body, after = builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        step = builder.phi(INDEX)
        sums = [[builder.phi(VECTOR) for _ in range(2)] for _ in range(rows)]
        a = builder.gep(left, [builder.mul(step, ir.Constant(INDEX, rows))])
        offset = builder.load(builder.gep(offsets, [step]))
        columns = [builder.load(vector_at(builder.gep(right, [offset]), 0), align=4) for right in rights]
        for row in range(rows):
            value = builder.load(builder.gep(a, [ir.Constant(INDEX, row)]), align=4)
            lane = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(INDEX, 0))
            value = builder.shuffle_vector(lane, ir.Constant(VECTOR, ir.Undefined), everywhere)
            for half in range(2):
                old = sums[row][half]
                if fused:
                    new = builder.call(fma, [value, columns[half], old])
                else:
                    new = builder.fadd(old, builder.fmul(value, columns[half]))
                old.add_incoming(ir.Constant(VECTOR, [0.0] * LANES), before)
                old.add_incoming(new, body)
                sums[row][half] = new
        following = builder.add(step, ir.Constant(INDEX, 1))
        step.add_incoming(ir.Constant(INDEX, 0), before)
        step.add_incoming(following, body)
        builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        builder.position_at_end(after)
        with builder.if_else(arguments[10]) as (then, otherwise):
            for branch, adds in ((then, False), (otherwise, True)):
                with branch:
                    for row in range(rows):
                        for half in range(2):
                            place = vector_at(total, row * WIDTH + half * LANES)
                            value = sums[row][half]
                            if adds:
                                value = builder.fadd(builder.load(place, align=4), value)
                            builder.store(value, place, align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typing, a, a_start, b, base, other, offsets, start, k, total, total_start, first
    ):
        integer = types.int64
        return (
            types.void(a, integer, b, integer, integer, offsets, integer, integer, total, integer, types.boolean),
            emit,
        )

    return tile


def _strip(lanes: int, fused: bool) -> Callable[..., None]:
    """strip(a, b, base, offsets, total, start): total[start + lane] = sum over k of a[k] * b[base + offsets[k] + lane].

    For one row and neighbouring columns: nothing is packed. K is a.size, at least 1, and one chunk.
    """
    vector = ir.VectorType(FLOAT, lanes)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def data(position: int) -> Any:
            return context.make_array(signature.args[position])(context, builder, arguments[position]).data

        a, b, offsets, total = data(0), builder.gep(data(1), [arguments[2]]), data(3), data(4)
        count = context.make_array(signature.args[0])(context, builder, arguments[0]).nitems
        kind = ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{lanes}f32")
        undefined = ir.Constant(vector, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        sums = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * lanes))
        with cgutils.for_range(builder, count) as loop:
            k = loop.index
            value = builder.insert_element(undefined, builder.load(builder.gep(a, [k])), ir.Constant(INDEX, 0))
            value = builder.shuffle_vector(value, undefined, everywhere)
            place = builder.gep(b, [builder.load(builder.gep(offsets, [k]))])
            columns = builder.load(builder.bitcast(place, vector.as_pointer()), align=4)
            old = builder.load(sums)
            new = builder.call(fma, [value, columns, old]) if fused else builder.fadd(old, builder.fmul(value, columns))
            builder.store(new, sums)
        place = builder.bitcast(builder.gep(total, [arguments[5]]), vector.as_pointer())
        builder.store(builder.load(sums), place, align=4)
        return context.get_dummy_value()

    @intrinsic
    def strip(typing: Any, a: Any, b: Any, base: Any, offsets: Any, total: Any, start: Any) -> Any:
        return types.void(a, b, types.int64, offsets, total, types.int64), emit

    return strip


@intrinsic
def _fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a*b + c in float32, rounded once."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(FLOAT, [FLOAT] * 3), "llvm.fma.f32")
        return builder.call(function, arguments)

    return types.float32(types.float32, types.float32, types.float32), emit


multiply_add: Any = _fused
_tile_high, _tile_low = (_tile(rows, True) for rows in (ROWS, LOW_ROWS))
_separate_high, _separate_low = (_tile(rows, False) for rows in (ROWS, LOW_ROWS))
_strip_wide, _strip_four, _strip_one = (_strip(lanes, True) for lanes in (LANES, 4, 1))
_separate_strip_wide, _separate_strip_one = (_strip(lanes, False) for lanes in (LANES, 1))


@njit(cache=True)
def tile_height(rows_left: int) -> int:
    """Rows of the next tile; the last one may have more than are left."""
    return ROWS if rows_left > (ROWS - 1) // LOW_ROWS * LOW_ROWS else LOW_ROWS


@njit(cache=True)
def padded_rows(rows: int) -> int:
    """Rows of all the tiles together."""
    row = 0
    while row < rows:
        row += tile_height(rows - row)
    return row


@njit(cache=True)
def pack_left(a, a_group, a_row, a_k, packed):  # type: ignore[no-untyped-def]
    """packed[group, tile's first row * K + k*height + row of the tile] = left element."""
    rows, length = a_row.size, a_k.size
    for group in range(a_group.size):
        row = 0
        while row < rows:
            height = tile_height(rows - row)
            for i in range(min(height, rows - row)):
                origin = a_group[group] + a_row[row + i]
                for k in range(length):
                    packed[group, row * length + k * height + i] = a[origin + a_k[k]]
            row += height


@njit(cache=True)
def pack_right(b, base, b_k, panel):  # type: ignore[no-untyped-def]
    """panel[k*WIDTH + column] = right element; long runs of neighbouring columns are copied at once."""
    columns = base.size
    first = 0
    while first < columns:
        last = first + 1
        while last < columns and base[last] == base[last - 1] + 1:
            last += 1
        if last - first >= 8:
            for k in range(b_k.size):
                source = base[first] + b_k[k]
                for column in range(last - first):
                    panel[k * WIDTH + first + column] = b[source + column]
        else:
            last = min(columns, max(last, first + 8))
            for k in range(b_k.size):
                for column in range(first, last):
                    panel[k * WIDTH + column] = b[base[column] + b_k[k]]
        first = last


@njit(cache=True)
def sum_few(values, b, base, b_k, ends, fused, totals):  # type: ignore[no-untyped-def]
    """totals[column] of one row and few columns: the weight gradient of a depthwise convolution."""
    sums = np.empty(base.size, np.float32)
    for start, stop in zip(ends[:-1], ends[1:]):  # noqa: B905 - strict is not known to Numba
        if start == stop:
            continue
        sums[:] = 0
        for k in range(start, stop):
            value, place = values[k], b_k[k]
            for column in range(base.size):
                right = b[base[column] + place]
                sums[column] = multiply_add(value, right, sums[column]) if fused else sums[column] + value * right
        for column in range(base.size):
            totals[column] = sums[column] if start == 0 else totals[column] + sums[column]


@njit(cache=True)
def is_run(base):  # type: ignore[no-untyped-def]
    """Whether columns are neighbours."""
    return np.all(base == np.arange(base[0], base[0] + base.size))


@njit(cache=True)
def sum_panel(packed, rows, b, base, b_k, ends, fused, totals):  # type: ignore[no-untyped-def]
    """totals[row*WIDTH + column] of one panel of columns.

    Where each vector's columns are neighbours the tiles read them in place; else each chunk is packed once.
    """
    length = b_k.size
    if base.size == WIDTH and is_run(base[:LANES]) and is_run(base[LANES:]):
        for start, stop in zip(ends[:-1], ends[1:]):  # noqa: B905 - strict is not known to Numba
            count = stop - start
            sum_tiles(packed, b, base[0], base[LANES], b_k, start, count, rows, length, fused, start, totals)
    else:
        panel = np.zeros(np.max(np.diff(ends)) * WIDTH, np.float32)
        places = np.arange(0, panel.size, WIDTH)
        for start, stop in zip(ends[:-1], ends[1:]):  # noqa: B905 - strict is not known to Numba
            count = stop - start
            pack_right(b, base, b_k[start : start + count], panel)
            sum_tiles(packed, panel, 0, LANES, places, 0, count, rows, length, fused, start, totals)


@njit(cache=True)
def sum_tiles(packed, b, base, other, offsets, at, count, rows, length, fused, start, totals):  # type: ignore[no-untyped-def]
    """One chunk, ``count`` elements from k = ``start``, of every tile."""
    row, first = 0, start == 0
    while count > 0 and row < rows:
        height = tile_height(rows - row)
        high = height == ROWS
        place, to = row * length + start * height, row * WIDTH
        if fused and high:
            _tile_high(packed, place, b, base, other, offsets, at, count, totals, to, first)
        elif fused:
            _tile_low(packed, place, b, base, other, offsets, at, count, totals, to, first)
        elif high:
            _separate_high(packed, place, b, base, other, offsets, at, count, totals, to, first)
        else:
            _separate_low(packed, place, b, base, other, offsets, at, count, totals, to, first)
        row += height


@njit(cache=True)
def sum_row(values, b, base, b_k, fused, totals):  # type: ignore[no-untyped-def]
    """totals[column] of one row in one chunk. A run's last strip may overlap the one before: it gives the same sums."""
    columns = base.size
    first = 0
    while first < columns:
        last = first + 1
        while last < columns and base[last] == base[last - 1] + 1:
            last += 1
        lanes = LANES if last - first >= LANES else 4 if fused and last - first >= 4 else 1
        while first < last:
            at = min(first, last - lanes)
            if fused:
                if lanes == LANES:
                    _strip_wide(values, b, base[at], b_k, totals, at)
                elif lanes == 4:
                    _strip_four(values, b, base[at], b_k, totals, at)
                else:
                    _strip_one(values, b, base[at], b_k, totals, at)
            elif lanes == LANES:
                _separate_strip_wide(values, b, base[at], b_k, totals, at)
            else:
                _separate_strip_one(values, b, base[at], b_k, totals, at)
            first += lanes
        first = last


@njit(cache=True, parallel=True)
def contract(  # type: ignore[no-untyped-def]
    a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column, ends, fused
):
    """Every output; panels of columns in parallel. See mpsim.kernels.lowering for the tables; K >= 1.

    ``ends``: 0 and where each chunk ends in k; a chunk may be empty.
    """
    groups, rows, columns = a_group.size, a_row.size, b_column.size
    few = rows == 1 and columns <= FEW
    one_row = few or (rows == 1 and np.max(np.diff(ends)) == a_k.size)
    height = 1 if one_row else padded_rows(rows)
    packed = np.zeros((groups, height * a_k.size), np.float32)
    if one_row:
        for group in range(groups):
            for k in range(a_k.size):
                packed[group, k] = a[a_group[group] + a_row[0] + a_k[k]]
    else:
        pack_left(a, a_group, a_row, a_k, packed)
    width = ROW_WIDTH if one_row else WIDTH
    panels = (columns + width - 1) // width
    for task in prange(groups * panels):
        group, start = task // panels, task % panels * width
        stop = min(columns, start + width)
        base = b_column[start:stop] + b_group[group]
        totals = np.empty(height * width, np.float32)
        if few:
            sum_few(packed[group], b, base, b_k, ends, fused, totals)
        elif one_row:
            sum_row(packed[group], b, base, b_k, fused, totals)
        else:
            sum_panel(packed[group], rows, b, base, b_k, ends, fused, totals)
        for row in range(rows):
            origin = out_group[group] + out_row[row]
            if out_column[stop - 1] - out_column[start] == stop - 1 - start:  # neighbours, as the table rises
                target, source = out[origin + out_column[start] :], totals[row * width : row * width + stop - start]
                for column in range(source.size):
                    target[column] = source[column]
            else:
                for column in range(start, stop):
                    out[origin + out_column[column]] = totals[row * width + column - start]
