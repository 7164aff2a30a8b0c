"""Matrix products as people run them, in NumPy alone: float32 (or narrower) arrays in, arrays out.

``STAND_INS``: function -> (the format of its operands, what it computes as a product in stages).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
float32, float16, bfloat16 = np.float32, np.float16, ml_dtypes.bfloat16


def terms(a: Array, b: Array) -> list[Array]:
    """Products rounded to float32, in rising k."""
    x, y = np.asarray(a, float32), np.asarray(b, float32)
    return [np.outer(x[:, k], y[k]).astype(float32) for k in range(x.shape[1])]


def chain(values: Sequence[Array], zero: bool = True) -> Array:
    """One after the other, from +0 or from the first."""
    total = np.zeros_like(values[0]) if zero else values[0]
    for value in values if zero else values[1:]:
        total = (total + value).astype(total.dtype)
    return total


def folded(values: Sequence[Array]) -> Array:
    """The second half is added to the first, again and again."""
    left = list(values)
    while len(left) > 1:
        half = (len(left) + 1) // 2
        left = [left[i] + left[i + half] if i + half < len(left) else left[i] for i in range(half)]
    return left[0]


def paired(values: Sequence[Array]) -> Array:
    """Neighbours are added, again and again."""
    left = list(values)
    while len(left) > 1:
        left = [left[i] + left[i + 1] if i + 1 < len(left) else left[i] for i in range(0, len(left), 2)]
    return left[0]


def lanes(values: Sequence[Array], number: int) -> list[Array]:
    return [chain(values[lane::number]) for lane in range(min(number, len(values)))]


def runs(values: Sequence[Array], size: int) -> list[Sequence[Array]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def split_k_float32(a: Array, b: Array) -> Array:
    values = terms(a, b)
    return chain([chain(run) for run in runs(values, -(-len(values) // 4))], zero=False)


def split_k_bfloat16(a: Array, b: Array) -> Array:
    values = terms(a, b)
    return chain([chain(run).astype(bfloat16) for run in runs(values, -(-len(values) // 4))], zero=False)


def bfloat16_result(a: Array, b: Array) -> Array:
    return chain(terms(a, b)).astype(bfloat16)


def eight_lanes(a: Array, b: Array) -> Array:
    values = terms(a, b)
    whole = len(values) // 8 * 8
    main = [folded(lanes(values[:whole], 8))] if whole else []
    return chain([*main, *values[whole:]], zero=False)


def eight_lanes_from_zero(a: Array, b: Array) -> Array:
    """The same with lanes of zeros where there are fewer than eight terms."""
    values = terms(a, b)
    whole = len(values) // 8 * 8
    main = folded(lanes(values[:whole], 8)) if whole else np.zeros_like(values[0])
    return chain([main, *values[whole:]], zero=False)


def tf32(x: Array, half: int) -> Array:
    """The significand's last 13 bits cut off after ``half`` is added to them."""
    words = np.asarray(x, float32).view(np.uint32)
    finite = words & 0x7F800000 != 0x7F800000
    return np.where(finite, (words + np.uint32(half)) & np.uint32(0xFFFFE000), words).view(float32)


def tf32_ties_away(a: Array, b: Array) -> Array:
    return chain(terms(tf32(a, 0x1000), tf32(b, 0x1000)))


def tf32_cut(a: Array, b: Array) -> Array:
    return chain(terms(tf32(a, 0), tf32(b, 0)))


def descending(a: Array, b: Array) -> Array:
    return chain(terms(a, b)[::-1])


def lanes_in_splits(a: Array, b: Array) -> Array:
    values = terms(a, b)
    return chain([folded(lanes(run, 4)) for run in runs(values, -(-len(values) // 2))], zero=False)


def pairs_with_tail(a: Array, b: Array) -> Array:
    values = terms(a, b)
    whole = len(values) // 4 * 4
    main = [paired(lanes(values[:whole], 4))] if whole else []
    return chain([*main, *values[whole:]], zero=False)


def halved(values: Sequence[Array]) -> Array:
    if len(values) <= 16:
        return chain(values)
    half = len(values) // 2 // 8 * 8
    return halved(values[:half]) + halved(values[half:])


def halves(a: Array, b: Array) -> Array:
    return halved(terms(a, b))


def folded_float16(a: Array, b: Array) -> Array:
    return folded([lane.astype(float16) for lane in lanes(terms(a, b), 8)])


def two_levels_of_chunks(a: Array, b: Array) -> Array:
    def part(values: Sequence[Array]) -> Array:
        return chain([chain(run) for run in runs(values, 8)], zero=False)

    return chain([part(run) for run in runs(terms(a, b), 32)], zero=False)


def strided_splits(a: Array, b: Array) -> Array:
    return chain([lane.astype(bfloat16) for lane in lanes(terms(a, b), 3)], zero=False)


def pairs_in_bfloat16(a: Array, b: Array) -> Array:
    return paired([value.astype(bfloat16) for value in terms(a, b)])


def odd_splits(a: Array, b: Array) -> Array:
    values = terms(a, b)
    return chain([chain(run) for run in runs(values, -(-len(values) // 6) * 2)], zero=False)


def threes(a: Array, b: Array) -> Array:
    """Three neighbours are added, again and again."""
    left = terms(a, b)
    while len(left) > 1:
        left = [chain(run, zero=False) for run in runs(left, 3)]
    return left[0]


def compensated(a: Array, b: Array) -> Array:
    """Kahan 1965: what a sum loses is taken off the next term."""
    values = terms(a, b)
    total, lost = np.zeros_like(values[0]), np.zeros_like(values[0])
    for value in values:
        y = value - lost
        following = total + y
        lost, total = (following - total) - y, following
    return total


def products_in_bfloat16(a: Array, b: Array) -> Array:
    """Products are rounded to float32, and then to bfloat16."""
    return folded([value.astype(bfloat16).astype(float32) for value in terms(a, b)])


def cut_products(a: Array, b: Array) -> Array:
    """Products are rounded to float32, and their last 16 bits are cut off; float32 sums."""
    return chain([(value.view(np.uint32) & np.uint32(0xFFFF0000)).view(float32) for value in terms(a, b)])


def lanes_of_blocks(a: Array, b: Array) -> Array:
    """Blocks of 8 k in two lanes in turn, each stored in float16; their sum in float32."""
    blocks = runs(terms(a, b), 8)
    lanes = [[value for block in blocks[lane::2] for value in block] for lane in range(2)]
    return chain([chain(lane).astype(float16).astype(float32) for lane in lanes if lane], zero=False)


def two_lanes_in_three_splits(a: Array, b: Array) -> Array:
    values = terms(a, b)
    parts = [chain(lanes(run, 2), zero=False) for run in runs(values, -(-len(values) // 3))]
    return folded(parts).astype(float16)


def another_order_for_few_rows(a: Array, b: Array) -> Array:
    return chain(terms(a, b)) if len(a) >= 8 else split_k_float32(a, b)


STAND_INS: dict[Callable[[Array, Array], Array], tuple[str, str]] = {
    split_k_float32: ("float32", "product(products=float32, order=groups(splits(4), rising(), rising(start=first)))"),
    split_k_bfloat16: (
        "bfloat16",
        "product(products=float32, order=groups(splits(4), groups(whole(), rising(), rising(bfloat16, first)), "
        "rising(bfloat16, first)), output=bfloat16)",
    ),
    bfloat16_result: ("bfloat16", "product(products=float32, order=rising(), output=bfloat16)"),
    eight_lanes: (
        "float32",
        "product(products=float32, order=tail(8, groups(lanes(8), rising(), folding()), rising(start=first)))",
    ),
    eight_lanes_from_zero: (
        "float32",
        "product(products=float32, order=groups(whole(), tail(8, groups(lanes(8), rising(), folding()), "
        "rising(start=first)), rising()))",
    ),
    tf32_ties_away: (
        "float32",
        "product(left=operand(tf32, nearest_away), right=operand(tf32, nearest_away), products=float32, "
        "order=rising())",
    ),
    tf32_cut: (
        "float32",
        "product(left=operand(tf32, truncate), right=operand(tf32, truncate), products=float32, order=rising())",
    ),
    descending: ("float32", "product(products=float32, order=reordered(descending(), rising()))"),
    lanes_in_splits: (
        "float32",
        "product(products=float32, order=groups(splits(2), groups(lanes(4), rising(), folding()), "
        "rising(start=first)))",
    ),
    pairs_with_tail: (
        "float32",
        "product(products=float32, order=tail(4, groups(lanes(4), rising(), pairwise()), rising(start=first)))",
    ),
    halves: ("float32", "product(products=float32, order=halving(16, 8, rising()))"),
    folded_float16: (
        "float16",
        "product(order=groups(lanes(8), groups(whole(), rising(), rising(float16, first)), folding(float16)), "
        "output=float16)",
    ),
    two_levels_of_chunks: (
        "float32",
        "product(products=float32, order=groups(blocks(32), groups(blocks(8), rising(), rising(start=first)), "
        "rising(start=first)))",
    ),
    strided_splits: (
        "bfloat16",
        "product(products=float32, order=groups(lanes(3), groups(whole(), rising(), rising(bfloat16, first)), "
        "rising(bfloat16, first)), output=bfloat16)",
    ),
    pairs_in_bfloat16: ("bfloat16", "product(products=bfloat16, order=pairwise(bfloat16), output=bfloat16)"),
    threes: (  # of at most 81 terms
        "float32",
        "product(products=float32, order=groups(blocks(3), rising(start=first), groups(blocks(3), rising(start=first), "
        "groups(blocks(3), rising(start=first), rising(start=first)))))",
    ),
    compensated: ("float32", "product(products=float32, order=kahan())"),
    products_in_bfloat16: ("float32", "product(products=sums(bfloat16, via=float32), order=folding())"),
    cut_products: ("float32", "product(products=sums(bfloat16, toward_zero, via=float32), order=rising())"),
    lanes_of_blocks: (
        "float32",
        "product(products=float32, order=groups(lanes(2, 8), groups(whole(), rising(), rising(float16, first)), "
        "rising(start=first)))",
    ),
    two_lanes_in_three_splits: (
        "float32",
        "product(products=float32, order=groups(splits(3), groups(lanes(2), rising(), rising(start=first)), "
        "folding()), output=float16)",
    ),
    odd_splits: ("float32", "product(products=float32, order=groups(splits(3, 2), rising(), rising(start=first)))"),
}
