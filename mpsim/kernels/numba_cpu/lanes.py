"""Contractions in Numba with rows as the lanes of vectors: nothing of the right factor is packed.

For gradients by the weights: k is long there, so packing the patches of the image would cost more than the sums where
the outputs are few. The rows of a stretch of k are transposed once, and each element of the image meets all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from mpsim.kernels.numba_cpu.jit import njit
from mpsim.kernels.numba_cpu.panels import INDEX, LANES, VECTOR

TAPS = 9  # columns whose sums stay in registers
STRETCH = 256  # of k
TASKS = 4  # at least, if each has the columns that repay its transposing
SETS = 4  # of TAPS columns that do


def _taps(fused: bool, same: bool) -> Callable[..., None]:
    """taps(left, start, right, steps, first, count, offsets, at): goes on with TAPS sums, each of LANES lanes.

    sums[(at + t)*LANES + lane] takes left[start + i*LANES + lane] times
    right[steps[first + i] + offsets[at + t] + lane] for i < count in rising order, count >= 1.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def data(position: int, offset: Any) -> Any:
            array = context.make_array(signature.args[position])(context, builder, arguments[position])
            return builder.gep(array.data, [offset])

        def vector_at(pointer: Any, offset: Any) -> Any:
            return builder.bitcast(builder.gep(pointer, [offset]), VECTOR.as_pointer())

        undefined = ir.Constant(VECTOR, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        zero, one, lanes = (ir.Constant(INDEX, value) for value in (0, 1, LANES))
        left, right, steps, offsets = (
            data(0, arguments[1]),
            data(2, zero),
            data(3, arguments[4]),
            data(6, arguments[7]),
        )
        sums = data(8, builder.mul(arguments[7], lanes))
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )
        places = [vector_at(sums, ir.Constant(INDEX, t * LANES)) for t in range(TAPS)]
        moved = [builder.gep(right, [builder.load(builder.gep(offsets, [ir.Constant(INDEX, t)]))]) for t in range(TAPS)]
        begin = [builder.load(place, align=4) for place in places]

        before = builder.block
        body, after = builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        step = builder.phi(INDEX)
        old = [builder.phi(VECTOR) for _ in range(TAPS)]
        value = builder.load(vector_at(left, builder.mul(step, lanes)), align=4)
        base = builder.load(builder.gep(steps, [step]))
        new = []
        for t in range(TAPS):
            if same:
                other = builder.load(builder.gep(moved[t], [base]), align=4)
                other = builder.insert_element(undefined, other, ir.Constant(INDEX, 0))
                other = builder.shuffle_vector(other, undefined, everywhere)
            else:
                other = builder.load(vector_at(moved[t], base), align=4)
            if fused:
                new.append(builder.call(fma, [value, other, old[t]]))
            else:
                new.append(builder.fadd(old[t], builder.fmul(value, other)))
        following = builder.add(step, one)
        for phi, first, last in zip((step, *old), (zero, *begin), (following, *new), strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, body)
        builder.cbranch(builder.icmp_signed("<", following, arguments[5]), body, after)
        builder.position_at_end(after)
        for t in range(TAPS):
            builder.store(new[t], places[t], align=4)
        return context.get_dummy_value()

    @intrinsic
    def taps(  # type: ignore[no-untyped-def]
        typing, left, start, right, steps, first, count, offsets, at, sums
    ):
        integer = types.int64
        return types.void(left, integer, right, steps, integer, integer, offsets, integer, sums), emit

    return taps


taps_fused, taps_separate = _taps(True, False), _taps(False, False)
_same_fused, _same_separate = _taps(True, True), _taps(False, True)


@njit(cache=True)
def transpose(a, origin, a_row, a_k, left):  # type: ignore[no-untyped-def]
    """left[k*LANES + row] = left element."""
    for row in range(a_row.size):
        start, target = origin + a_row[row], left[row:]
        for k in range(a_k.size):
            target[k * LANES] = a[start + a_k[k]]


@njit(cache=True)
def sum_columns(a, origin, a_row, a_k, b, offsets, b_k, chunk, fused, totals):  # type: ignore[no-untyped-def]
    """totals[column*LANES + row] for at most LANES rows; ``offsets``: of a multiple of TAPS columns."""
    left, sums = np.zeros(STRETCH * LANES, np.float32), np.zeros(totals.size, np.float32)
    done = 0
    while done < b_k.size:
        count = min(STRETCH, b_k.size - done, chunk - done % chunk)
        transpose(a, origin, a_row, a_k[done : done + count], left)
        for at in range(0, offsets.size, TAPS):
            if fused:
                _same_fused(left, 0, b, b_k, done, count, offsets, at, sums)
            else:
                _same_separate(left, 0, b, b_k, done, count, offsets, at, sums)
        done += count
        if done % chunk == 0 or done == b_k.size:
            for i in range(sums.size):
                totals[i] = sums[i] if done <= chunk else totals[i] + sums[i]
                sums[i] = 0


@njit(cache=True, parallel=True)
def contract(  # type: ignore[no-untyped-def]
    a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column, chunk, fused
):
    """Every output. See mpsim.kernels.lowering for the tables; K >= 1."""
    blocks, sets = (a_row.size + LANES - 1) // LANES, (b_column.size + TAPS - 1) // TAPS
    parts = max(1, min(sets // SETS, TASKS // (a_group.size * blocks)))
    width = (sets + parts - 1) // parts * TAPS
    for task in prange(a_group.size * blocks * parts):
        group, block, start = task // parts // blocks, task // parts % blocks, task % parts * width
        columns, rows = b_column[start : start + width], a_row[block * LANES : (block + 1) * LANES]
        if columns.size == 0:
            continue
        offsets = np.full((columns.size + TAPS - 1) // TAPS * TAPS, b_group[group] + columns[0])
        offsets[: columns.size] = columns + b_group[group]
        totals = np.empty(offsets.size * LANES, np.float32)
        sum_columns(a, a_group[group], rows, a_k, b, offsets, b_k, chunk, fused, totals)
        for row in range(rows.size):
            origin = out_group[group] + out_row[block * LANES + row]
            for column in range(columns.size):
                out[origin + out_column[start + column]] = totals[column * LANES + row]
