"""The four contractions of the contract, stated once over their lowering (mpsim/kernels/lowering.py).

A backend gives what sums a contraction and adds a bias, and what faster ways it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mpsim.accumulators import Accumulator
from mpsim.kernels.contract import Array, Pair, Shape
from mpsim.kernels.lowering import (
    Contraction,
    of_conv2d,
    of_conv2d_input_gradient,
    of_conv2d_weight_gradient,
    of_matmul,
)

#: Stride, padding, groups.
Geometry = tuple[Pair, Pair, int]
DEFAULT = Accumulator()


class How(NamedTuple):
    """In what order to sum, and on how many threads."""

    accumulator: Accumulator
    threads: int


#: sum(lower, first, second, options, how): every output of ``lower(first, second, *options)``, in the written order of
#: the accumulator. ``first`` is the left factor of of_matmul, ``second`` that of the convolutions.
Sum = Callable[[Callable[..., Any], Array, Array, tuple[Any, ...], How], Array]


def over_lowering(contract: Callable[[Contraction, Accumulator, int], Array]) -> Sum:
    """The sum of a backend that lowers arrays themselves."""
    return lambda lower, first, second, options, how: contract(
        lower(first, second, *options), how.accumulator, how.threads
    )


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
    """The four functions over what a backend gives."""

    def __init__(
        self,
        sum: Sum,
        add_bias: Callable[[Array, Array | None], Array],
        faster: FasterWays,
    ) -> None:
        self._sum, self._add_bias, self._faster = sum, add_bias, faster

    def matmul(
        self,
        a: Array,
        b: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        bias: Array | None = None,
        *,
        threads: int = 1,
        accumulator: Accumulator = DEFAULT,
    ) -> Array:
        done = self._faster.matmul(a, b, transpose_a, transpose_b, bias, How(accumulator, threads))
        if done is not None:
            return done
        return self._add_bias(self._sum(of_matmul, a, b, (transpose_a, transpose_b), How(accumulator, threads)), bias)

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
        accumulator: Accumulator = DEFAULT,
    ) -> Array:
        geometry, how = (stride, padding, groups), How(accumulator, threads)
        done = self._faster.conv2d(x, w, bias, geometry, how)
        if done is not None:
            return done
        return self._add_bias(self._sum(of_conv2d, x, w, geometry, how), bias)

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
        accumulator: Accumulator = DEFAULT,
    ) -> Array:
        x_shape, geometry, how = tuple(x_shape), (stride, padding, groups), How(accumulator, threads)
        done = self._faster.conv2d_input_gradient(gy, w, x_shape, geometry, how)
        if done is not None:
            return done
        return self._sum(of_conv2d_input_gradient, gy, w, (x_shape, *geometry), how)

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
        accumulator: Accumulator = DEFAULT,
    ) -> Array:
        w_shape, geometry, how = tuple(w_shape), (stride, padding, groups), How(accumulator, threads)
        done = self._faster.conv2d_weight_gradient(x, gy, w_shape, geometry, how)
        if done is not None:
            return done
        return self._sum(of_conv2d_weight_gradient, x, gy, (w_shape, *geometry), how)


def contractions(
    sum: Sum,
    add_bias: Callable[[Array, Array | None], Array],
    round_array: Callable[..., tuple[Array, Array]],
    faster: FasterWays = FasterWays(),
) -> Functions:
    """A backend's four functions."""
    backend = _Backend(sum, add_bias, faster)
    return Functions(backend.matmul, backend.conv2d, backend.conv2d_input_gradient, backend.conv2d_weight_gradient)
