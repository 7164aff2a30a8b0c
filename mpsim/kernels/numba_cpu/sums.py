"""Adds one product, and one chunk, in the arithmetic of each order of summation.

Numba compiles the loops of panels.py once for each type of ``numbers``, with the functions for that type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic, overload

from mpsim.kernels.contract import Array
from mpsim.kernels.contractions.narrow import NEAREST_AWAY, NEAREST_EVEN, TOWARD_ZERO, Narrow
from mpsim.kernels.numba_cpu.jit import njit

UNROLLED = 8  # products added to a sum while it stays in a register
EXPONENT_BITS = np.int64(0x7FF0000000000000)
MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)


class Single(NamedTuple):
    """Sums in float32. If ``fused``, products are exact when they are added, else rounded to float32 first."""

    fused: bool


class Aligned(NamedTuple):
    """Sums as in tensor cores (mpsim/kernels/reference/aligned.py). Numba needs the numbers in one flat tuple."""

    terms: int
    quantum: float  # 2**-fraction_bits
    least_left: float
    least_right: float
    least_sum: float
    least_scale: float  # the least power of two that terms are aligned to
    least_exponent: int  # this and the next five are as in Narrow
    shift: int
    low: int
    largest: float
    beyond: float
    negative_zero: bool
    mode: int  # the index in ROUNDINGS


Numbers = Single | Narrow | Aligned


def add_products(values: Array, panel: Array, sums: Array, numbers: Numbers) -> None:
    """Adds values[k] * panel[k, j] to sums[j], for each k in rising order."""
    raise NotImplementedError("compiled for each type of numbers")


def add_chunk(sums: Array, totals: Array, numbers: Numbers) -> None:
    """Adds sums[j] to totals[j]."""
    raise NotImplementedError("compiled for each type of numbers")


# -- float32 ------------------------------------------------------------------------------------------------


@intrinsic
def fused(typing: object, a: types.Type, b: types.Type, c: types.Type) -> tuple[Signature, Callable[..., ir.Value]]:
    """Computes a*b + c in float32 with one rounding.

    Numba has no such function. LLVM's becomes one instruction, also in vector code, or a call of C's fmaf.
    """

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: list[ir.Value]) -> ir.Value:
        single = ir.FloatType()
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(single, [single] * 3), "llvm.fma.f32")
        return builder.call(function, arguments)

    return types.float32(types.float32, types.float32, types.float32), emit


multiply_add = cast("Callable[[np.float32, np.float32, np.float32], np.float32]", fused)


def _add_single_products(values: Array, panel: Array, sums: Array, numbers: Single) -> None:
    whole = values.size - values.size % UNROLLED
    for first in range(0, whole, UNROLLED):
        few, rows = values[first : first + UNROLLED], panel[first : first + UNROLLED]
        if numbers.fused:
            for j in range(sums.size):
                sum = sums[j]
                for k in range(UNROLLED):
                    sum = multiply_add(few[k], rows[k, j], sum)
                sums[j] = sum
        else:
            for j in range(sums.size):
                sum = sums[j]
                for k in range(UNROLLED):
                    sum = sum + few[k] * rows[k, j]
                sums[j] = sum
    for k in range(whole, values.size):
        value, row = values[k], panel[k]
        if numbers.fused:
            for j in range(sums.size):
                sums[j] = multiply_add(value, row[j], sums[j])
        else:
            for j in range(sums.size):
                sums[j] = sums[j] + value * row[j]


def _add_single_chunk(sums: Array, totals: Array, numbers: Single) -> None:
    for j in range(sums.size):
        totals[j] = totals[j] + sums[j]


# -- a format narrower than float32 -------------------------------------------------------------------------


@njit(cache=True)
def narrow_sum(x: float, y: float, numbers: Narrow) -> float:
    """Adds float64 numbers and rounds once to the format (mpsim/kernels/contractions/narrow.py)."""
    return rounded(to_odd(x, y), numbers, NEAREST_EVEN)


@njit(cache=True)
def two_sum(x: float, y: float) -> tuple[float, float]:
    """Returns the rounded sum of float64 numbers, and its error, which is NaN where the sum is not finite (Knuth)."""
    s = x + y
    carried = s - x
    return s, (x - (s - carried)) + (y - carried)


@njit(cache=True)
def to_odd(x: float, y: float) -> float:
    """Rounds x + y to odd: an inexact sum becomes the neighbour whose last bit is 1. It has no branches."""
    s, error = two_sum(x, y)
    bits = np.float64(s).view(np.int64)
    outward = 1 if (error > 0) == (s > 0) else -1
    bits += outward if (bits & 1 == 0) & ((error > 0) | (error < 0)) else 0
    return np.int64(bits).view(np.float64)


@njit(cache=True)
def rounded(s: float, numbers: Narrow | Aligned, mode: int) -> float:
    """Rounds a float64 number, exact or rounded to odd, to the format of ``numbers``."""
    magnitude = np.int64(np.float64(s).view(np.int64) & MAGNITUDE).view(np.float64)
    exponent = np.float64(magnitude).view(np.int64) >> 52
    # For an infinity c is a tiny negative number, so that the infinity stays.
    c = power_of(numbers.low if exponent < numbers.least_exponent else exponent + numbers.shift)
    value = (magnitude + c) - c
    if mode == TOWARD_ZERO:
        value -= c * 2.0**-52 if value > magnitude else 0.0
    elif mode == NEAREST_AWAY:
        value += c * 2.0**-52 if magnitude - value == c * 2.0**-53 else 0.0
    value = with_sign(numbers.beyond if value > numbers.largest else value, s)
    return value if numbers.negative_zero else value + 0.0


@njit(cache=True)
def power_of(biased: int) -> float:
    """Returns the power of two with this biased exponent in float64."""
    return np.int64(biased << 52).view(np.float64)


@njit(cache=True)
def with_sign(magnitude: float, x: float) -> float:
    """Returns the magnitude with the sign of x."""
    bits = np.float64(magnitude).view(np.int64) & MAGNITUDE
    return np.int64(bits | (np.float64(x).view(np.int64) & ~MAGNITUDE)).view(np.float64)


def _add_narrow_products(values: Array, panel: Array, sums: Array, numbers: Narrow) -> None:
    for k in range(values.size):
        value, row = values[k], panel[k]
        for j in range(sums.size):
            sums[j] = narrow_sum(value * row[j], sums[j], numbers)


def _add_narrow_chunk(sums: Array, totals: Array, numbers: Narrow) -> None:
    for j in range(sums.size):
        totals[j] = narrow_sum(totals[j], sums[j], numbers)


# -- as in tensor cores -------------------------------------------------------------------------------------


def _add_aligned_products(values: Array, panel: Array, sums: Array, numbers: Aligned) -> None:
    quanta, plain, exact = np.empty(sums.size), np.empty(sums.size), np.empty(sums.size)
    for first in range(0, values.size, numbers.terms):
        last = min(first + numbers.terms, values.size)
        instruction(values[first:last], panel[first:last], sums, numbers, quanta, plain, exact)


@njit(cache=True)
def instruction(
    values: Array, panel: Array, sums: Array, numbers: Aligned, quanta: Array, plain: Array, exact: Array
) -> None:
    """Sets sums[j] to the next c. The last three arguments are buffers."""
    find_quanta(values, panel, sums, numbers, quanta)
    plain[:], exact[:] = sums, 0.0
    add_truncated(1.0, sums, quanta, exact)
    for k in range(values.size):
        value, row = values[k], panel[k]
        add_truncated(value, row, quanta, exact)
        for j in range(sums.size):
            plain[j] += value * row[j]
    for j in range(sums.size):
        # The plain sum is too short to overflow, so it is finite unless a term is infinite or NaN.
        special = with_sign(numbers.beyond, plain[j]) if plain[j] == plain[j] else plain[j]
        next_c = rounded(exact[j], numbers, numbers.mode) + 0.0
        sums[j] = next_c if abs(plain[j]) < np.inf else special


@njit(cache=True)
def find_quanta(values: Array, panel: Array, sums: Array, numbers: Aligned, quanta: Array) -> None:
    """Computes the largest power of two among an instruction's terms, times 2**-fraction_bits."""
    for j in range(sums.size):
        quanta[j] = max(scale(sums[j], numbers.least_sum), numbers.least_scale)
    for k in range(values.size):
        power, row = scale(values[k], numbers.least_left), panel[k]
        for j in range(sums.size):
            quanta[j] = max(quanta[j], power * scale(row[j], numbers.least_right))
    for j in range(sums.size):
        quanta[j] *= numbers.quantum


@njit(cache=True)
def scale(x: float, least: float) -> float:
    """Returns 2**exponent(x), at least ``least``, or 0 for a zero."""
    bits = np.float64(x).view(np.int64)
    power = np.int64(bits & EXPONENT_BITS).view(np.float64)
    return 0.0 if x == 0.0 else max(power, least)


@njit(cache=True)
def add_truncated(value: float, row: Array, quanta: Array, exact: Array) -> None:
    """Adds value * row[j], truncated toward zero to a multiple of the quantum, to exact[j].

    Adding and subtracting 2**52 quanta rounds to nearest. If that rounded up, one quantum is subtracted.
    """
    for j in range(exact.size):
        product = value * row[j]
        magnitude, shifter = abs(product), quanta[j] * 2.0**52
        part = (magnitude + shifter) - shifter
        exact[j] += with_sign(part - quanta[j] if part > magnitude else part, product)


def _add_aligned_chunk(sums: Array, totals: Array, numbers: Aligned) -> None:
    for j in range(sums.size):
        totals[j] = np.float32(totals[j]) + np.float32(sums[j])


# -- as in CDNA3: products first, c afterwards (mpsim/kernels/spec_sums.py) --------------------------------


@njit(cache=True)
def late_instruction(
    places: Array, a: Array, left: Array, b: Array, right: int, b_k: Array, numbers: Array, sums: Array, c: float
) -> float:
    """Returns the next c of one output. places: the number of groups, their sizes, and their terms."""
    fraction, sum_fraction, reach, least_left, least_right, least_sum = numbers[:6]
    groups = places[0]
    terms = places[1 + groups :]
    largest, plain = 0.0, c
    for k in terms:
        x, y = np.float64(a[left[k]]), np.float64(b[right + b_k[k]])
        product = x * y
        plain += with_sign(np.inf, product) if abs(product) >= 2.0**128 else product
        largest = max(largest, scale(x, least_left) * scale(y, least_right))
    row = sums[np.int64(numbers[6])]
    format = Narrow(int(row[0]), int(row[1]), int(row[2]), row[3], row[4], row[5] != 0.0)
    if not abs(plain) < np.inf:
        return plain if plain != plain else with_sign(format.beyond, plain)
    total, first = 0.0, 0
    for group in range(groups):
        total += down(
            truncated_sum(terms[first : first + places[1 + group]], a, left, b, right, b_k, numbers), largest * fraction
        )
        first += places[1 + group]
    of_c = max(scale(c, least_sum), least_sum)
    top = max(largest, of_c)
    total = down(total, top * (sum_fraction / 2.0))
    if of_c >= top * reach:
        total += down(c, top * fraction)
    total = down(total, scale(total, least_sum) * sum_fraction) + 0.0
    return rounded(total, format, int(row[6]))


@njit(cache=True)
def truncated_sum(terms: Array, a: Array, left: Array, b: Array, right: int, b_k: Array, numbers: Array) -> float:
    """Adds products, each truncated to the quantum of the largest one."""
    top, total = 0.0, 0.0
    for k in terms:
        power = scale(np.float64(a[left[k]]), numbers[3]) * scale(np.float64(b[right + b_k[k]]), numbers[4])
        top = max(top, power)
    quantum = top * numbers[0]
    for k in terms:
        product = np.float64(a[left[k]]) * np.float64(b[right + b_k[k]])
        total += np.trunc(product / quantum) * quantum if product != 0.0 else 0.0
    return total


@njit(cache=True)
def down(x: float, quantum: float) -> float:
    """Rounds x down to a multiple of the quantum, which is 0 only for zeros."""
    return np.floor(x / quantum) * quantum if x != 0.0 else x


Adder = Callable[..., None]
_PRODUCTS: dict[type, Adder] = {
    Single: _add_single_products,
    Narrow: _add_narrow_products,
    Aligned: _add_aligned_products,
}
_CHUNKS: dict[type, Adder] = {Single: _add_single_chunk, Narrow: _add_narrow_chunk, Aligned: _add_aligned_chunk}


# The functions that these return name their own type of numbers, so Numba does not compare the annotations (strict).


NumbersType = types.NamedTuple | types.NamedUniTuple


@overload(add_products, strict=False)
def _products_of(values: types.Type, panel: types.Type, sums: types.Type, numbers: NumbersType) -> Adder:
    return _PRODUCTS[numbers.instance_class]


@overload(add_chunk, strict=False)
def _chunk_of(sums: types.Type, totals: types.Type, numbers: NumbersType) -> Adder:
    return _CHUNKS[numbers.instance_class]
