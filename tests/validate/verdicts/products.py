"""Matrix products for the verdict matrix, (M, K) times (K, N), in plain NumPy: nothing here is made of mpsim."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
float32, bfloat16 = np.float32, ml_dtypes.bfloat16


def products(a: Array, b: Array) -> Array:
    """(M, K, N), each rounded to float32."""
    return a.astype(float32)[:, :, None] * b.astype(float32)[None]


def in_order(terms: Array) -> Array:
    """The sum over the second axis in rising k, from +0."""
    total = np.zeros((terms.shape[0], terms.shape[2]), terms.dtype)
    for k in range(terms.shape[1]):
        total = total + terms[:, k]
    return total


def to_odd(x: Array, y: Array) -> Array:
    """x + y in float64, to odd where that is not exact: any later rounding to float32 is then of the exact sum."""
    total = x + y
    back = total - x
    error = (x - (total - back)) + (y - back)
    odd = (total.view(np.uint64) & np.uint64(1)).astype(bool)
    inexact = np.isfinite(total) & (error != 0) & ~odd
    return np.where(inexact, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)


def toward_zero(x: Array) -> Array:
    """float64 numbers cut to float32."""
    finite = np.isfinite(x)
    _, exponent = np.frexp(np.where(finite, x, 0))
    quantum = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    cut = np.trunc(np.where(finite, x, 0) / quantum) * quantum
    return np.where(finite, np.clip(cut, -(2.0**128 - 2.0**104), 2.0**128 - 2.0**104), x).astype(float32)


# -- right ------------------------------------------------------------------------------------------------------


def sequential(a: Array, b: Array) -> Array:
    return in_order(products(a, b))


def fused(a: Array, b: Array) -> Array:
    """Rising k, products exact, every sum rounded once to float32."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    total = np.zeros((a.shape[0], b.shape[1]), float32)
    for k in range(a.shape[1]):
        total = to_odd(np.outer(x[:, k], y[k]), total.astype(np.float64)).astype(float32)
    return total


def chunks_of_8(a: Array, b: Array) -> Array:
    terms = products(a, b)
    parts = [in_order(terms[:, start : start + 8]) for start in range(0, a.shape[1], 8)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def in_pairs(a: Array, b: Array) -> Array:
    """Neighbours are added in pairs, again and again; an odd one at the end passes up."""
    terms = products(a, b) + float32(0)
    parts = [terms[:, k] for k in range(a.shape[1])]
    while len(parts) > 1:
        pairs = [x + y for x, y in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def exact(a: Array, b: Array) -> Array:
    """The exact sum of exact products, rounded once."""
    x, y = a.astype(np.float64), b.astype(np.float64).T
    return np.array([[_exact(row * column) for column in y] for row in x], float32)


def _exact(terms: Array) -> float:
    if not np.isfinite(terms).all():
        return float(terms.sum())
    total = math.fsum(terms)
    error = math.fsum([*terms, -total])
    if error and not np.float64(total).view(np.uint64) & 1:
        total = math.nextafter(total, math.copysign(math.inf, error))
    return total + 0.0


def as_float64(a: Array, b: Array) -> Array:
    """Sums in float32, answered in a wider type."""
    return sequential(a, b).astype(np.float64)


def column_major(a: Array, b: Array) -> Array:
    return np.asfortranarray(sequential(a, b))


def rounded_to_bfloat16(a: Array, b: Array) -> Array:
    return sequential(a, b).astype(bfloat16)


def rounded_to_float16(a: Array, b: Array) -> Array:
    return sequential(a, b).astype(np.float16)


def volta(a: Array, b: Array) -> Array:
    """float16 operands, 4 k at once: products and the sum so far are cut to 23 bits below the largest exponent."""
    return aligned(a, b, 4, 23, -131, -14, cut_to_float32)


def hopper(a: Array, b: Array) -> Array:
    """float8_e4m3fn operands, 32 k at once, cut to 13 bits below the largest exponent, sums of 13 fraction bits."""
    return aligned(a, b, 32, 13, -133, -6, lambda x: cut(x, 13))


def hopper_12_bits(a: Array, b: Array) -> Array:
    """The same with one bit less."""
    return aligned(a, b, 32, 12, -133, -6, lambda x: cut(x, 12))


def aligned(
    a: Array, b: Array, terms: int, bits: int, least: int, operand: int, output: Callable[[Array], Array]
) -> Array:
    """Sums as tensor cores form them: ``terms`` products and the sum so far are cut to ``bits`` below the largest
    exponent, which is at least ``least``, and added; ``operand`` is the smallest exponent of an operand."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    total = np.zeros((a.shape[0], b.shape[1]))
    for start in range(0, a.shape[1], terms):
        left, right = x[:, start : start + terms, None], y[None, start : start + terms]
        addends, exponents = left * right, _exponents(left, operand) + _exponents(right, operand)
        addends = np.concatenate([addends, total[:, None]], 1)
        exponents = np.concatenate([exponents, _exponents(total, -126)[:, None]], 1)
        largest = np.maximum(np.where(addends != 0, exponents, least).max(1), least)[:, None]
        finite = np.isfinite(addends).all(1)
        kept = np.trunc(np.where(finite[:, None], np.ldexp(addends, bits - largest), 0)).sum(1)
        summed = output(np.ldexp(kept, largest[:, 0] - bits)) + 0.0
        total = np.where(finite, summed, addends.sum(1))
    return total.astype(float32)


def cut(x: Array, bits: int) -> Array:
    """Numbers far from both ends of the range, cut to ``bits`` fraction bits."""
    quantum = np.ldexp(1.0, np.frexp(x)[1] - 1 - bits)
    return np.trunc(x / quantum) * quantum


def cut_to_float32(x: Array) -> Array:
    """Cut to float32's bits; what is too large for it is infinite."""
    return np.where(np.abs(x) >= 2.0**128, np.copysign(np.inf, x), toward_zero(x).astype(np.float64))


def _exponents(x: Array, least: int) -> Array:
    exponent = np.frexp(np.where(np.isfinite(x), x, 0))[1].astype(np.int64) - 1
    return np.where(x == 0, least, np.maximum(exponent, least))


def in_float16(a: Array, b: Array) -> Array:
    """Every sum is rounded once to float16: products of float16 numbers are exact, and so is their sum in float64."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    total = np.zeros((a.shape[0], b.shape[1]))
    for k in range(a.shape[1]):
        total = to_odd(np.outer(x[:, k], y[k]), total).astype(np.float16).astype(np.float64)
    return total.astype(float32)


# -- wrong, or in an order that no accumulator has --------------------------------------------------------------


def eight_lanes(a: Array, b: Array) -> Array:
    """Eight sums side by side, folded in halves; what is left is added one by one."""
    terms, whole = products(a, b), a.shape[1] // 8 * 8
    lanes = [in_order(terms[:, lane:whole:8]) for lane in range(8)]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [x + y for x, y in zip(lanes[:half], lanes[half:], strict=True)]
    total = lanes[0]
    for k in range(whole, a.shape[1]):
        total = total + terms[:, k]
    return total


def even_then_odd(a: Array, b: Array) -> Array:
    terms = products(a, b)
    return in_order(terms[:, ::2]) + in_order(terms[:, 1::2])


def falling(a: Array, b: Array) -> Array:
    return in_order(products(a, b)[:, ::-1])


def four_splits(a: Array, b: Array) -> Array:
    """A quarter of k each, added in rising order: for a given K that is chunks of K / 4."""
    terms, step = products(a, b), -(-a.shape[1] // 4)
    parts = [in_order(terms[:, start : start + step]) for start in range(0, a.shape[1], step)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def four_splits_in_bfloat16(a: Array, b: Array) -> Array:
    """The same with sums of the quarters in bfloat16."""
    terms, step = products(a, b), -(-a.shape[1] // 4)
    parts = [in_order(terms[:, start : start + step]).astype(bfloat16) for start in range(0, a.shape[1], step)]
    total = parts[0]
    for part in parts[1:]:
        total = (total.astype(float32) + part.astype(float32)).astype(bfloat16)
    return total


def sums_cut(a: Array, b: Array) -> Array:
    """Rising k; every sum is rounded toward zero."""
    terms = products(a, b).astype(np.float64)
    total = np.zeros((a.shape[0], b.shape[1]), float32)
    for k in range(a.shape[1]):
        total = toward_zero(to_odd(total.astype(np.float64), terms[:, k]))
    return total


def output_cut(a: Array, b: Array) -> Array:
    """bfloat16 by leaving out the lower half of a float32 sum."""
    upper = (sequential(a, b).view(np.uint32) >> 16).astype(np.uint16)
    return np.where(np.isnan(sequential(a, b)), 0x7FC0, upper).astype(np.uint16).view(bfloat16)


def compensated(a: Array, b: Array) -> Array:
    """Kahan's summation."""
    terms = products(a, b)
    total, lost = np.zeros((2, a.shape[0], b.shape[1]), float32)
    for k in range(a.shape[1]):
        corrected = terms[:, k] - lost
        summed = total + corrected
        lost, total = (summed - total) - corrected, summed
    return total


def in_float64(a: Array, b: Array) -> Array:
    """Rising k in float64, rounded once at the end."""
    return in_order(a.astype(np.float64)[:, :, None] * b.astype(np.float64)[None]).astype(float32)


def products_in_bfloat16(a: Array, b: Array) -> Array:
    return in_order(products(a, b).astype(bfloat16).astype(float32))


def operands_in_tf32(a: Array, b: Array) -> Array:
    """Operands are rounded to 10 fraction bits, ties away from zero, then summed as usual."""

    def rounded(x: Array) -> Array:
        pattern = x.view(np.uint32)
        near = (pattern + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
        return np.where(np.isfinite(x), near, pattern).astype(np.uint32).view(float32)

    return sequential(rounded(np.ascontiguousarray(a)), rounded(np.ascontiguousarray(b)))


def last_of_odd_left_out(a: Array, b: Array) -> Array:
    terms = products(a, b)
    return in_order(terms[:, : a.shape[1] // 2 * 2])


def last_left_out(a: Array, b: Array) -> Array:
    return in_order(products(a, b)[:, :-1])


def padded_with_ones(a: Array, b: Array) -> Array:
    """K is filled up to a multiple of 4 with operands that are 1, not 0."""
    missing = -a.shape[1] % 4
    return sequential(
        np.pad(a, ((0, 0), (0, missing)), constant_values=1), np.pad(b, ((0, missing), (0, 0)), constant_values=1)
    )


def biased(a: Array, b: Array) -> Array:
    return sequential(a, b) + float32(2.0**-10)


def nan_dropped(a: Array, b: Array) -> Array:
    return np.nan_to_num(sequential(a, b), nan=0.0, posinf=np.inf, neginf=-np.inf)


def infinity_clipped(a: Array, b: Array) -> Array:
    """Infinite sums become the largest number."""
    return np.nan_to_num(sequential(a, b), nan=np.nan)


def subnormals_flushed(a: Array, b: Array) -> Array:
    found = sequential(a, b)
    return np.where(np.abs(found) < 2.0**-126, np.copysign(float32(0), found), found)


def others_where_not_square(a: Array, b: Array) -> Array:
    """Falling k where there are more rows than columns, or fewer."""
    return sequential(a, b) if len(a) == b.shape[1] else sequential(a[:, ::-1], b[::-1])


def operands_flushed(a: Array, b: Array) -> Array:
    """Subnormal operands count as zero."""
    x, y = (np.where(np.abs(each) < 2.0**-126, each * float32(0), each) for each in (a, b))
    return sequential(x, y)


def first_copied(a: Array, b: Array) -> Array:
    """The first product is copied, not added to +0: sums of -0 alone stay -0."""
    terms = products(a, b)
    total = terms[:, 0]
    for k in range(1, a.shape[1]):
        total = total + terms[:, k]
    return total


def few_rows_in_halves(a: Array, b: Array) -> Array:
    """Another order for fewer than 8 rows."""
    if a.shape[0] >= 8:
        return sequential(a, b)
    terms, half = products(a, b), a.shape[1] // 2
    return in_order(terms[:, :half]) + in_order(terms[:, half:])


def one_row_without_last(a: Array, b: Array) -> Array:
    """The last k is left out where there is one row."""
    return sequential(a, b) if a.shape[0] > 1 or a.shape[1] == 1 else in_order(products(a, b)[:, :-1])


def one_row_fused(a: Array, b: Array) -> Array:
    """Products are exact where there is one row."""
    return fused(a, b) if a.shape[0] == 1 else sequential(a, b)


def square_transposed(a: Array, b: Array) -> Array:
    found = sequential(a, b)
    return found.T if found.shape[0] == found.shape[1] else found


def third_row_twice(a: Array, b: Array) -> Array:
    """The fourth row is that of the third."""
    found = sequential(a, b)
    found[3:4] = found[2:3] if len(found) > 3 else found[3:4]
    return found


def last_left_out_beyond_32(a: Array, b: Array) -> Array:
    """The rows of a second tile of 32 lack the last k."""
    found = sequential(a, b)
    if len(found) > 33 and a.shape[1] > 1:
        found[33:] = in_order(products(a, b)[33:, :-1])
    return found


def zeros(a: Array, b: Array) -> Array:
    return np.zeros((a.shape[0], b.shape[1]), float32)


# -- no answers -------------------------------------------------------------------------------------------------

GENERATOR = np.random.default_rng(5)


def random_order(a: Array, b: Array) -> Array:
    """As atomic additions do: another order at every call."""
    return in_order(products(a, b)[:, GENERATOR.permutation(a.shape[1])])


def whole_numbers(a: Array, b: Array) -> Array:
    return np.nan_to_num(sequential(a, b)).astype(np.int32)


def one_row_less(a: Array, b: Array) -> Array:
    return sequential(a, b)[1:]


def refuses_one_row(a: Array, b: Array) -> Array:
    if a.shape[0] == 1:
        raise ValueError("use a product of a vector")
    return sequential(a, b)
