"""Contractions on a device with any accumulator, one thread per output, and sums over the results of chunks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from numba import cuda, int64, typeof

from mpsim.kernels.cuda.chunks.exact import LIMBS
from mpsim.kernels.cuda.chunks.kinds import KINDS
from mpsim.kernels.cuda.device.intrinsics import add_rn
from mpsim.kernels.cuda.device.launch import VECTOR, Kernel, family, kernel

UNROLLED = 16


@cache
def each_kernel(kind: str) -> Kernel:
    """Returns the kernel for a kind of sum of chunks.kinds. The package's docstring explains its arguments."""
    sum_chunk, add, numbers = KINDS[kind]

    def contract_each(
        a, a_group, a_row, a_k, b, b_group, b_column, b_k, out, out_group, out_row, out_column,
        ends, first, together, size, numbers
    ):  # fmt: skip
        digits = cuda.local.array(LIMBS, int64)
        rows, columns = a_row.size, b_column.size
        chunk = first + cuda.blockIdx.z * together
        last = min(chunk + together, ends.size - 1)
        for i in range(cuda.grid(1), a_group.size * rows * columns, cuda.gridsize(1)):
            column, row, group = i % columns, i // columns % rows, i // columns // rows
            left, right = a_group[group] + a_row[row], b_group[group] + b_column[column]
            total = sum_chunk(a, left, a_k, b, right, b_k, ends[chunk], ends[chunk + 1], digits, numbers)
            for next in range(chunk + 1, last):
                part = sum_chunk(a, left, a_k, b, right, b_k, ends[next], ends[next + 1], digits, numbers)
                total = add(total, part, numbers)
            out[cuda.blockIdx.z * size + out_group[group] + out_row[row] + out_column[column]] = total

    signatures = []
    for table in ("int32[::1]", "int64[::1]"):
        arrays = ", ".join(f"{VECTOR}, {table}, {table}, {table}" for _ in range(3))
        signatures.append((f"{arrays}, int32[::1], int64, int64, int64", typeof(numbers)))
    return Kernel(contract_each, signatures, f"contraction.each.{kind}")


@cache
def adding_kernel(kind: str) -> Kernel:
    """Returns the kernel that adds the results of ``count`` chunks in order, to the first (``begins``) or to ``out``.

    A thread loads UNROLLED results at a time, and has few outputs.
    """
    _, add, numbers = KINDS[kind]

    def add_parts(parts, count, out, begins, numbers):
        for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
            total = parts[i] if begins else add(out[i], parts[i], numbers)
            part = 1
            while part + UNROLLED <= count:
                for j in range(UNROLLED):
                    total = add(total, parts[(part + j) * out.size + i], numbers)
                part += UNROLLED
            for last in range(part, count):
                total = add(total, parts[last * out.size + i], numbers)
            out[i] = total

    signature = (f"{VECTOR}, int64, {VECTOR}, boolean", typeof(numbers))
    return Kernel(add_parts, [signature], f"contraction.each.add_parts_{kind}")


@kernel(f"{VECTOR}, int64, {VECTOR}")
def pair_parts(parts, count, out):
    """Adds the results of ``count`` chunks in pairs of neighbours until one is left, in ``out``. Overwrites parts."""
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        left = count
        while left > 1:
            for j in range(left // 2):
                parts[j * out.size + i] = add_rn(parts[2 * j * out.size + i], parts[(2 * j + 1) * out.size + i])
            if left % 2 == 1:
                parts[left // 2 * out.size + i] = parts[(left - 1) * out.size + i]
            left = (left + 1) // 2
        out[i] = parts[i]


@kernel(f"{VECTOR}, {VECTOR}, int64")
def add_bias(out, bias, area):
    """Adds a bias to each total. Element i belongs to channel (i // area) % bias.size."""
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = add_rn(out[i], bias[i // area % bias.size])


@family
def every_kind() -> Iterator[Kernel]:
    """Yields the kernels of every kind of sum."""
    for kind in KINDS:
        yield each_kernel(kind)
    yield adding_kernel("fused")
    yield adding_kernel("narrow")
