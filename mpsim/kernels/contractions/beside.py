"""The arguments of a product besides its operands: C, factors of its sums, and random bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mpsim.errors import UsageError
from mpsim.kernels.philox import Stream
from mpsim.products.stages import Product, Scale


class Beside(NamedTuple):
    """Further arguments of a matrix product (M, N) over K, as its description requires (mpsim/products/sums.py).

    c: (M, N). alpha, beta: float32 numbers. left_scale: (M or 1, blocks of k or 1). right_scale: (blocks of k or 1, N
    or 1). stream: the random bits of stochastic sums. Arrays are float32 and contiguous. None means not passed. For one
    element (``mpsim.kernels.spec_dot.dot``) c is a number, and a scale is a sequence over the blocks of k.
    """

    c: Any = None
    beta: float = 1.0
    alpha: float = 1.0
    left_scale: Any = None
    right_scale: Any = None
    stream: Stream = Stream(0, "sums")


#: Only the operands.
NOTHING = Beside()


def of_columns(beside: Beside, start: int, stop: int, product: Product) -> Beside:
    """Returns the arguments of some of the columns, without the scales that their product does not take."""
    taken = {*product.scales_of_totals, *product.scales_of_blocks}
    found: dict[str, Any] = {f"{side}_scale": None for side in ("left", "right") if side not in taken}
    for name in ("c", "right_scale"):
        if name in found:
            continue
        array = getattr(beside, name)
        if array is not None and np.ndim(array) == 2 and array.shape[1] > 1:
            found[name] = np.ascontiguousarray(array[:, start:stop])
    return beside._replace(**found)


def check_given(product: Product, beside: Beside) -> None:
    """Raises UsageError if a product does not use an argument that was passed, or if its scales are missing.

    >>> check_given(Product(), Beside(beta=0.5))
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: beta is given, but C is not; beta multiplies C
    """
    scales = {"left": beside.left_scale, "right": beside.right_scale}
    taken = {*product.scales_of_totals, *product.scales_of_blocks}
    for side, scale in scales.items():
        if scale is None and side in taken:
            raise UsageError(f"the product multiplies by the scales of the {side} operand; give {side}_scale")
        if scale is not None and side not in taken:
            raise UsageError(
                f"the product takes no scales of the {side} operand; add Scale or Scaled, or leave them out"
            )
    if beside.c is not None and not product.takes_c:
        raise UsageError("the product takes no C; add AddC to its epilogue, or start='c', or leave C out")
    if beside.beta != 1 and beside.c is None:
        raise UsageError("beta is given, but C is not; beta multiplies C")
    if beside.beta != 1 and product.start == "c":
        raise UsageError("sums begin with C itself, without beta; add beta × C by AddC, or leave beta out")
    if beside.alpha != 1 and not any(isinstance(stage, Scale) and stage.of == "alpha" for stage in product.epilogue):
        raise UsageError("the product is not multiplied by alpha; add Scale('alpha') to its epilogue, or leave it out")
