"""Converts a product's operands before they are multiplied, and finds the accumulator whose kernel can sum them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.kernels.contract import Array
from mpsim.kernels.contractions.lowering import Contraction, Lowering
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.accumulators import Accumulator
from mpsim.products.stages import FLOAT32, AddC, Aligned, Operand, Parts, Product, Sums, within

#: A backend's round_array(x, format, policy, threads=...).
RoundArray = Callable[..., tuple[Array, Array]]
AS_IT_IS = Operand()
BARE = Product()


class Reading(NamedTuple):
    """left, right: the conversions before the sums. short: the accumulator whose kernel sums the converted operands,
    without epilogue and output, or None. simple: whether every backend supports the product's epilogue and output.
    scaled: whether it multiplies by scales."""

    left: Operand
    right: Operand
    short: Accumulator | None
    simple: bool
    scaled: bool


@cache
def reading_of(product: Product, has_c: bool = False) -> Reading:
    """Returns the conversions of a product's operands. has_c: whether C is passed.

    >>> reading_of(Product(Operand("tf32", "nearest_even"), Operand("tf32", "nearest_even"))).short == Accumulator()
    True
    >>> both = Operand("tf32", "truncate")  # the kernels of aligned sums do this themselves
    >>> reading_of(Product(both, both, order=Aligned())).left == AS_IT_IS
    True
    """
    scaled = bool(product.scales_of_totals or product.scales_of_blocks)
    simple = product.epilogue == BARE.epilogue and product.output == Sums(product.output.format)
    if has_c and product.start == "c":
        return Reading(product.left, product.right, None, simple, scaled)
    bare = replace(product, output=FLOAT32, epilogue=BARE.epilogue, start=BARE.start)
    if product.parts is not None:
        left, right = (replace(each, parts=1) for each in (product.left, product.right))
        return reading_of(replace(bare, left=left, right=right, parts=None))._replace(
            left=product.left, right=product.right, simple=simple, scaled=scaled
        )
    by_itself = Accumulator.of(bare)
    if by_itself is not None:
        return Reading(AS_IT_IS, AS_IT_IS, by_itself, simple, scaled)
    if product.format_of_scales is not None:  # no accumulator has scales
        return Reading(product.left, product.right, None, simple, scaled)
    simple &= not (product.left.flush or product.right.flush)
    aligned = any(isinstance(order, Aligned) for order in within(product.order))
    left, right = (_after(each) if aligned else AS_IT_IS for each in (product.left, product.right))
    short = Accumulator.of(replace(bare, left=left, right=right))
    return Reading(product.left, product.right, short, simple, scaled)


def _after(operand: Operand) -> Operand:
    """Returns an operand that truncates if that changes nothing after the conversion, else one that does not. Short
    dot products may read the number as it is."""
    exact = operand.conversion != "none" and not operand.above or as_format(operand.format).mantissa_bits >= 23
    return Operand(operand.format, "truncate" if exact else "none")


def converted(x: Array, operand: Operand, round_array: RoundArray, threads: int) -> Array:
    """Converts float32 numbers as an operand specifies (mpsim.kernels.spec_sums.read)."""
    format = as_format(operand.format)
    if operand.rounds:
        x = _rounded(x, operand.format, Mode(operand.conversion), round_array, threads)
    elif operand.conversion == "truncate" and format.mantissa_bits < 23:
        x = _rounded(x, f"fp_8_{format.mantissa_bits}_0", Mode.TOWARD_ZERO, round_array, threads)
    if operand.flush:
        x = np.where(np.abs(x) < np.float32(format.smallest_normal), np.copysign(np.float32(0), x), x)
    return x


def pieces(x: Array, operand: Operand, round_array: RoundArray, threads: int) -> list[Array]:
    """Splits an operand into its parts (mpsim.kernels.spec_sums.split)."""
    if operand is AS_IT_IS:
        return [x]
    found = [converted(x, operand, round_array, threads)]
    with np.errstate(over="ignore", invalid="ignore"):
        while len(found) < operand.parts:
            x = x - found[-1]
            found.append(converted(x, operand, round_array, threads))
    return found


def in_parts(
    lowering: Lowering, firsts: Sequence[Array], seconds: Sequence[Array], parts: Parts, swapped: bool
) -> Contraction:
    """Returns the contraction of all terms, over the concatenated parts of both operands. swapped: its left factor is
    the second operand."""
    left, right = parts.count
    lowered = [
        lowering._replace(first=firsts[min(i, left - 1)], second=seconds[min(i, right - 1)]).contraction()
        for i in range(max(left, right))
    ]
    c, (many_a, many_b) = lowered[0], (right, left) if swapped else (left, right)
    terms = np.array(parts.terms(c.shape[2]), np.int64).reshape(-1, 3)
    k, of_a, of_b = terms[:, 0], terms[:, 1 + swapped], terms[:, 2 - swapped]
    return replace(
        c,
        a=np.concatenate([each.a for each in lowered[:many_a]]),
        a_k=c.a_k[k] + of_a * c.a.size,
        b=np.concatenate([each.b for each in lowered[:many_b]]),
        b_k=c.b_k[k] + of_b * c.b.size,
    )


def converted_c(c: Array, product: Product, round_array: RoundArray, threads: int) -> Array:
    """Rounds C to the format in which the epilogue adds it."""
    for stage in product.epilogue:
        if isinstance(stage, AddC) and stage.format != "float32":
            return _rounded(c, stage.format, Mode.NEAREST_EVEN, round_array, threads)
    return c


def _rounded(x: Array, format: str, mode: Mode, round_array: RoundArray, threads: int) -> Any:
    return round_array(x, as_format(format), Policy(mode, Overflow.INFINITY), threads=threads)[0]
