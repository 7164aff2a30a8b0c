"""How a product's operands are read before they are multiplied, and the accumulator whose kernel then sums them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import as_format
from mpsim.kernels.contract import Array
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.accumulators import Accumulator
from mpsim.products.stages import FLOAT32, AddC, Aligned, Operand, Product, Sums, within

#: round_array(x, format, policy, threads=...) of a backend.
RoundArray = Callable[..., tuple[Array, Array]]
AS_IT_IS = Operand()
BARE = Product()


class Reading(NamedTuple):
    """left, right: the conversions that come before the sums. short: the accumulator whose kernel sums what was
    converted, epilogue and output aside; None where there is none. simple: whether any backend does all that the
    product has beside its sums."""

    left: Operand
    right: Operand
    short: Accumulator | None
    simple: bool


@cache
def reading_of(product: Product, has_c: bool = False) -> Reading:
    """How a product's operands are read. has_c: whether a C is given.

    >>> reading_of(Product(Operand("tf32", "nearest_even"), Operand("tf32", "nearest_even"))).short == Accumulator()
    True
    >>> both = Operand("tf32", "truncate")  # which the kernels of aligned sums do themselves
    >>> reading_of(Product(both, both, order=Aligned())).left == AS_IT_IS
    True
    """
    simple = product.epilogue == BARE.epilogue and product.output == Sums(product.output.format)
    if has_c and product.start == "c":
        return Reading(product.left, product.right, None, simple)
    bare = replace(product, output=FLOAT32, epilogue=BARE.epilogue, start=BARE.start)
    by_itself = Accumulator.of(bare)
    if by_itself is not None:
        return Reading(AS_IT_IS, AS_IT_IS, by_itself, simple)
    simple &= not (product.left.flush or product.right.flush)
    aligned = any(isinstance(order, Aligned) for order in within(product.order))
    left, right = (_after(each) if aligned else AS_IT_IS for each in (product.left, product.right))
    return Reading(product.left, product.right, Accumulator.of(replace(bare, left=left, right=right)), simple)


def _after(operand: Operand) -> Operand:
    """An operand that truncates, where that changes nothing after the conversion; else one that does not."""
    exact = operand.conversion != "none" or as_format(operand.format).mantissa_bits >= 23
    return Operand(operand.format, "truncate" if exact else "none")


def converted(x: Array, operand: Operand, round_array: RoundArray, threads: int) -> Array:
    """float32 numbers as an operand is read (mpsim.kernels.spec_dot.read)."""
    format = as_format(operand.format)
    if operand.rounds:
        x = _rounded(x, operand.format, Mode(operand.conversion), round_array, threads)
    elif operand.conversion == "truncate" and format.mantissa_bits < 23:
        x = _rounded(x, f"fp_8_{format.mantissa_bits}_0", Mode.TOWARD_ZERO, round_array, threads)
    if operand.flush:
        x = np.where(np.abs(x) < np.float32(format.smallest_normal), np.copysign(np.float32(0), x), x)
    return x


def converted_c(c: Array | None, product: Product, round_array: RoundArray, threads: int) -> Array | None:
    """C in the format in which an epilogue adds it."""
    for stage in product.epilogue:
        if isinstance(stage, AddC) and c is not None and stage.format != "float32":
            return _rounded(c, stage.format, Mode.NEAREST_EVEN, round_array, threads)
    return c


def _rounded(x: Array, format: str, mode: Mode, round_array: RoundArray, threads: int) -> Any:
    return round_array(x, as_format(format), Policy(mode, Overflow.INFINITY), threads=threads)[0]
