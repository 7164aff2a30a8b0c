"""The four contractions of the contract, stated once over their lowering (mpsim/kernels/contractions/lowering.py).

A backend provides the sum over a lowering, the addition of a bias, rounding, and faster kernels where it has them.
Orders of summation that have no kernel of their own run step by step (mpsim/kernels/contractions/steps.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.kernels.contract import Array, Pair, Shape
from mpsim.kernels.contractions.lowering import (
    Contraction,
    of_conv2d,
    of_conv2d_input_gradient,
    of_conv2d_weight_gradient,
    of_matmul,
)
from mpsim.kernels.contractions.operands import converted, reading_of
from mpsim.kernels.contractions.steps import Steps, steps_of
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.accumulators import Accumulator, Summation
from mpsim.products.stages import FLOAT32, Operand, Product

#: Stride, padding, groups.
Geometry = tuple[Pair, Pair, int]
DEFAULT = Accumulator()


class How(NamedTuple):
    """In what order to sum, on how many threads. accumulator: the product's short form but for its output, None where
    it has none; only those reach a backend's own kernels. Its left operand is the contraction's left factor."""

    accumulator: Accumulator
    threads: int


#: sum(lower, first, second, options, how): every output of ``lower(first, second, *options)``, in the written order of
#: the accumulator. ``first`` is the left factor of of_matmul, ``second`` that of the convolutions.
Sum = Callable[[Callable[..., Any], Array, Array, tuple[Any, ...], How], Array]
#: run(contraction, steps, threads): every output of the contraction, by the steps.
Run = Callable[[Contraction, Steps, int], Array]


def over_lowering(contract: Callable[[Contraction, Accumulator, int], Array]) -> Sum:
    """The sum of a backend that lowers arrays themselves."""
    return lambda lower, first, second, options, how: contract(
        lower(first, second, *options), how.accumulator, how.threads
    )


def in_steps(run: Run, c: Contraction, product: Product, swapped: bool, threads: int) -> Array:
    """Every output of a lowered contraction, by the steps of the product's order. swapped: the contraction's left
    factor is the right one of the product."""
    left, right = (product.right, product.left) if swapped else (product.left, product.right)
    return run(c, steps_of(replace(product, left=left, right=right, output=FLOAT32), c.shape[2]), threads)


class Functions(NamedTuple):
    """The kernels of a backend's module."""

    matmul: Callable[..., Array]
    conv2d: Callable[..., Array]
    conv2d_input_gradient: Callable[..., Array]
    conv2d_weight_gradient: Callable[..., Array]


class FasterWays:
    """What a backend has beside the sum over a lowering: the same functions, None where they do not take these
    arguments."""

    def matmul(
        self, a: Array, b: Array, transpose_a: bool, transpose_b: bool, bias: Array | None, how: How
    ) -> Array | None:
        return None

    def conv2d(self, x: Array, w: Array, bias: Array | None, geometry: Geometry, how: How) -> Array | None:
        return None

    def conv2d_input_gradient(self, gy: Array, w: Array, x_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        return None

    def conv2d_weight_gradient(self, x: Array, gy: Array, w_shape: Shape, geometry: Geometry, how: How) -> Array | None:
        return None


class _Backend:
    """The four functions over what a backend provides."""

    def __init__(
        self,
        sum: Sum,
        add_bias: Callable[[Array, Array | None], Array],
        round_array: Callable[..., tuple[Array, Array]],
        faster: FasterWays,
        run: Run | None,
    ) -> None:
        self._sum, self._add_bias, self._round_array, self._faster, self._run = sum, add_bias, round_array, faster, run

    def _total(
        self,
        product: Summation,
        threads: int,
        lowered: tuple[Callable[..., Contraction], Array, Array, tuple[Any, ...]],
        faster: Callable[[Array, Array, How], Array | None],
        bias: Array | None = None,
    ) -> Array:
        """The result by the fastest of the three ways that takes the product, then bias and output."""
        lower, first, second, options = lowered
        swapped = lower is not of_matmul
        short: Accumulator | None
        if isinstance(product, Accumulator):
            short = product
        else:
            left, right, short = reading_of(product)
            if short is None and self._run is None:
                raise UsageError("this backend sums in the orders of an Accumulator; use reference, numba or compiled")
            first, second = self._read(first, left, threads), self._read(second, right, threads)
        if short is not None:
            how = How(short.swapped if swapped else short, threads)
            total = faster(first, second, how)
            if total is None:
                total = self._add_bias(self._sum(lower, first, second, options, how), bias)
        else:
            assert isinstance(product, Product) and self._run is not None
            c = lower(first, second, *options)
            total = self._add_bias(in_steps(self._run, c, product, swapped, threads), bias)
        if isinstance(product, Product) and product.output != FLOAT32:
            policy = Policy(Mode(product.output.rounding), Overflow.INFINITY)
            total = self._round_array(total, as_format(product.output.format), policy, out=total, threads=threads)[0]
        return total

    def _read(self, x: Array, operand: Operand, threads: int) -> Array:
        if operand.flush and self._run is None:
            raise UsageError("this backend flushes no operands; use reference, numba or compiled")
        return converted(x, operand, self._round_array, threads)

    def matmul(
        self,
        a: Array,
        b: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        bias: Array | None = None,
        *,
        threads: int = 1,
        accumulator: Summation = DEFAULT,
    ) -> Array:
        return self._total(
            accumulator,
            threads,
            (of_matmul, a, b, (transpose_a, transpose_b)),
            lambda a, b, how: self._faster.matmul(a, b, transpose_a, transpose_b, bias, how),
            bias,
        )

    def conv2d(
        self,
        x: Array,
        w: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pair,
        groups: int,
        *,
        threads: int = 1,
        accumulator: Summation = DEFAULT,
    ) -> Array:
        geometry = stride, padding, groups
        return self._total(
            accumulator,
            threads,
            (of_conv2d, x, w, geometry),
            lambda x, w, how: self._faster.conv2d(x, w, bias, geometry, how),
            bias,
        )

    def conv2d_input_gradient(
        self,
        gy: Array,
        w: Array,
        x_shape: Shape,
        stride: Pair,
        padding: Pair,
        groups: int,
        *,
        threads: int = 1,
        accumulator: Summation = DEFAULT,
    ) -> Array:
        x_shape, geometry = tuple(x_shape), (stride, padding, groups)
        return self._total(
            accumulator,
            threads,
            (of_conv2d_input_gradient, gy, w, (x_shape, *geometry)),
            lambda gy, w, how: self._faster.conv2d_input_gradient(gy, w, x_shape, geometry, how),
        )

    def conv2d_weight_gradient(
        self,
        x: Array,
        gy: Array,
        w_shape: Shape,
        stride: Pair,
        padding: Pair,
        groups: int,
        *,
        threads: int = 1,
        accumulator: Summation = DEFAULT,
    ) -> Array:
        w_shape, geometry = tuple(w_shape), (stride, padding, groups)
        return self._total(
            accumulator,
            threads,
            (of_conv2d_weight_gradient, x, gy, (w_shape, *geometry)),
            lambda x, gy, how: self._faster.conv2d_weight_gradient(x, gy, w_shape, geometry, how),
        )


def contractions(
    sum: Sum,
    add_bias: Callable[[Array, Array | None], Array],
    round_array: Callable[..., tuple[Array, Array]],
    faster: FasterWays = FasterWays(),
    run: Run | None = None,
) -> Functions:
    """A backend's four functions. run: None for a backend that runs no steps."""
    backend = _Backend(sum, add_bias, round_array, faster, run)
    return Functions(backend.matmul, backend.conv2d, backend.conv2d_input_gradient, backend.conv2d_weight_gradient)
