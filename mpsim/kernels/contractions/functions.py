"""Implements the contract's four contractions once for all backends, by lowering (lowering.py).

A backend provides the sum over a lowering, the addition of a bias, rounding, and optionally faster kernels. Orders of
summation without a kernel run step by step (steps.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.kernels.contract import Array, Pair, Shape
from mpsim.kernels.contractions.beside import NOTHING, Beside, check_given, of_columns
from mpsim.kernels.contractions.lowering import (
    Contraction,
    Lowering,
    of_conv2d,
    of_conv2d_input_gradient,
    of_conv2d_weight_gradient,
    of_matmul,
)
from mpsim.kernels.contractions.operands import converted_c, in_parts, pieces, reading_of
from mpsim.kernels.contractions.rules import steps_after, steps_of
from mpsim.kernels.contractions.steps import Steps
from mpsim.kernels.contractions.tables import Reads, given_of, over, reads_of
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.accumulators import Accumulator, Summation
from mpsim.products.stages import FLOAT32, ByColumn, Product

#: Stride, padding, groups.
Geometry = tuple[Pair, Pair, int]
DEFAULT = Accumulator()
TO_NEAREST = Policy(Mode.NEAREST_EVEN, Overflow.INFINITY)


class How(NamedTuple):
    """The order of summation and the number of threads. accumulator: the product's short form without its output. Its
    left operand is the contraction's left factor."""

    accumulator: Accumulator
    threads: int


#: sum(lowering, how) computes every output in the accumulator's order.
Sum = Callable[[Lowering, How], Array]
#: run(contraction, steps, reads, threads) computes every output of the contraction by the steps.
Run = Callable[[Contraction, Steps, Reads, int], Array]


def over_lowering(contract: Callable[[Contraction, Accumulator, int], Array]) -> Sum:
    """Returns the sum of a backend that lowers the arrays themselves, not only their shapes."""
    return lambda lowering, how: contract(lowering.contraction(), how.accumulator, how.threads)


class Functions(NamedTuple):
    """The kernels of a backend's module."""

    matmul: Callable[..., Array]
    conv2d: Callable[..., Array]
    conv2d_input_gradient: Callable[..., Array]
    conv2d_weight_gradient: Callable[..., Array]


#: A backend's faster kernel for given shapes.
Faster = Callable[[Array, Array, Array | None, How], Array | None]


def _options(geometry: Geometry, dilation: Pair) -> tuple[object, ...]:
    """Returns the options of a lowering: the dilation is one if it is not (1, 1)."""
    return geometry if dilation == (1, 1) else (*geometry, dilation)


def _undilated(dilation: Pair, faster: Faster) -> Faster:
    """Returns a faster kernel, which there is for kernels without dilation only."""
    return faster if dilation == (1, 1) else lambda *_: None


class FastPaths:
    """A backend's faster kernels, without dilation. They return None for arguments that they do not support."""

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
    """The four functions, over the parts that a backend provides."""

    def __init__(
        self,
        sum: Sum,
        add_bias: Callable[[Array, Array | None], Array],
        round_array: Callable[..., tuple[Array, Array]],
        faster: FastPaths,
        run: Run | None,
    ) -> None:
        self._sum, self._add_bias, self._round_array, self._faster, self._run = sum, add_bias, round_array, faster, run

    def _total(
        self,
        product: Summation,
        threads: int,
        lowering: Lowering,
        faster: Faster,
        bias: Array | None = None,
        beside: Beside = NOTHING,
    ) -> Array:
        """Computes the result by the fastest of the three methods that supports the product."""
        swapped = lowering.lower is not of_matmul  # the contraction's left factor is the right one of the product
        if isinstance(product, Accumulator):
            if beside is not NOTHING:
                check_given(product.product, beside)
            return self._short(product.swapped if swapped else product, threads, lowering, faster, bias)
        if beside.c is not None and beside.beta == 0 and product.skips_c_at_zero:
            beside = beside._replace(c=None, beta=1.0)
        reading = reading_of(product, beside.c is not None)
        if beside is not NOTHING or reading.scaled:
            check_given(product, beside)
        if self._run is None and not (reading.short and reading.simple and product.parts is None):
            raise UsageError("this backend sums in the orders of an Accumulator; use reference, numba or compiled")
        operands = [reading.left, reading.right]
        if any(each.above for each in operands):
            length = lowering.contraction().shape[2]
            operands = [each.of_length(length) for each in operands]
        firsts, seconds = (
            pieces(x, operand, self._round_array, threads)
            for x, operand in zip((lowering.first, lowering.second), operands, strict=True)
        )
        lowering = lowering._replace(first=firsts[0], second=seconds[0])
        if product.parts is not None:
            together = in_parts(lowering, firsts, seconds, product.parts, swapped)
            lowering, faster = lowering._replace(lower=lambda *_: together), (lambda *_: None)
        if beside.c is not None:
            beside = beside._replace(c=converted_c(beside.c, product, self._round_array, threads))
        if reading.short is not None:
            short = reading.short.swapped if swapped else reading.short
            total = self._short(short, threads, lowering, faster, bias if reading.simple else None)
            return self._after(total, product, reading.simple, threads, bias, beside)
        assert self._run is not None
        c = lowering.contraction()
        steps = steps_of(product.swapped if swapped else product, c.shape[2], given_of(beside, bias))
        return self._run(c, steps, reads_of(steps.reads, c, beside, bias), threads)

    def _short(
        self,
        accumulator: Accumulator,
        threads: int,
        lowering: Lowering,
        faster: Faster,
        bias: Array | None,
    ) -> Array:
        """Computes the total of an accumulator by a kernel of the backend, and adds a bias."""
        how = How(accumulator, threads)
        total = faster(lowering.first, lowering.second, bias, how)
        return self._add_bias(self._sum(lowering, how), bias) if total is None else total

    def _after(
        self, total: Array, product: Product, simple: bool, threads: int, bias: Array | None, beside: Beside
    ) -> Array:
        """Applies epilogue and output. simple: they are only a bias, already added, and a rounding to nearest."""
        if not simple:
            assert self._run is not None
            steps, c = steps_after(product, given_of(beside, bias)), over(total.shape)
            return self._run(c, steps, reads_of(steps.reads, c, beside, bias, total), threads)
        if product.output != FLOAT32:
            format = as_format(product.output.format)
            total = self._round_array(total, format, TO_NEAREST, out=total, threads=threads)[0]
        return total

    def matmul(
        self,
        a: Array,
        b: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        bias: Array | None = None,
        beside: Beside = NOTHING,
        *,
        threads: int = 1,
        accumulator: Summation = DEFAULT,
    ) -> Array:
        if isinstance(accumulator, Product) and isinstance(accumulator.order, ByColumn):
            check_given(accumulator, beside)
            parts = []
            for start, stop, product in accumulator.columns(len(b) if transpose_b else b.shape[1]):
                some = np.ascontiguousarray(b[start:stop] if transpose_b else b[:, start:stop])
                given = None if bias is None else bias[start:stop], of_columns(beside, start, stop, product)
                found = self.matmul(a, some, transpose_a, transpose_b, *given, threads=threads, accumulator=product)
                parts.append(found)
            return np.concatenate(parts, axis=1)
        return self._total(
            accumulator,
            threads,
            Lowering(of_matmul, a, b, (transpose_a, transpose_b)),
            lambda a, b, bias, how: self._faster.matmul(a, b, transpose_a, transpose_b, bias, how),
            bias,
            beside,
        )

    def conv2d(
        self,
        x: Array,
        w: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pair,
        groups: int,
        dilation: Pair = (1, 1),
        *,
        threads: int = 1,
        accumulator: Summation = DEFAULT,
    ) -> Array:
        geometry = stride, padding, groups
        return self._total(
            accumulator,
            threads,
            Lowering(of_conv2d, x, w, _options(geometry, dilation)),
            _undilated(dilation, lambda x, w, bias, how: self._faster.conv2d(x, w, bias, geometry, how)),
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
        dilation: Pair = (1, 1),
        *,
        threads: int = 1,
        accumulator: Summation = DEFAULT,
    ) -> Array:
        x_shape, geometry = tuple(x_shape), (stride, padding, groups)
        return self._total(
            accumulator,
            threads,
            Lowering(of_conv2d_input_gradient, gy, w, (x_shape, *_options(geometry, dilation))),
            _undilated(
                dilation, lambda gy, w, _, how: self._faster.conv2d_input_gradient(gy, w, x_shape, geometry, how)
            ),
        )

    def conv2d_weight_gradient(
        self,
        x: Array,
        gy: Array,
        w_shape: Shape,
        stride: Pair,
        padding: Pair,
        groups: int,
        dilation: Pair = (1, 1),
        *,
        threads: int = 1,
        accumulator: Summation = DEFAULT,
    ) -> Array:
        w_shape, geometry = tuple(w_shape), (stride, padding, groups)
        return self._total(
            accumulator,
            threads,
            Lowering(of_conv2d_weight_gradient, x, gy, (w_shape, *_options(geometry, dilation))),
            _undilated(
                dilation, lambda x, gy, _, how: self._faster.conv2d_weight_gradient(x, gy, w_shape, geometry, how)
            ),
        )


def contractions(
    sum: Sum,
    add_bias: Callable[[Array, Array | None], Array],
    round_array: Callable[..., tuple[Array, Array]],
    faster: FastPaths = FastPaths(),
    run: Run | None = None,
) -> Functions:
    """Returns a backend's four functions. run is None for a backend that does not run steps."""
    backend = _Backend(sum, add_bias, round_array, faster, run)
    return Functions(backend.matmul, backend.conv2d, backend.conv2d_input_gradient, backend.conv2d_weight_gradient)
