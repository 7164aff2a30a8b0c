"""How far a float32 result may lie from mpsim's if its sums are formed in another order: kernels that give the bound.

With n terms, u = 2**-24 and m the sum of the terms' magnitudes, two orders of summation, fused or not, differ by at
most about 2 n u m, and typically by a few sqrt(n) u m (Higham and Mary 2019, "A New Approach to Probabilistic
Rounding Error Analysis": errors of random sign; a factor of 6 fails once in 10**7). ``factor`` takes the smaller one.
Terms that are multiples of one quantum and sum to less than 2**24 of it are added exactly in any order: the bound is
then 0, as it is for ops that sum nothing. Batch norm, softmax and the mean over windows have further roundings,
``MORE`` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpsim.kernels import Kernels
from mpsim.kernels.binding import in_one_order
from mpsim.kernels.contract import Array, Pair, Shape
from mpsim.products.passes import PASSES, Accumulators

UNIT = 2.0**-24
#: Roundings of an op beside its sums, in units: quotients, square roots, exponentials of other libraries.
MORE = 16


class Bound(Array):
    """A bound of a kernel's result, where the kernel's result would be; a plain array stands for an exact result.

    What an op computes further from it is no bound: of such an op nothing but its own bits is taken for equal.
    """

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        plain = [x.view(np.ndarray) if isinstance(x, Bound) else x for x in inputs]
        if out is not None:
            options["out"] = tuple(x.view(np.ndarray) if isinstance(x, Bound) else x for x in out)
        return getattr(ufunc, method)(*plain, **options)


def bound_of(value: Array) -> Array:
    """What a store is given on bound kernels, as a bound: 0 for an exact result."""
    return np.asarray(value) if isinstance(value, Bound) else np.zeros(value.shape, np.float32)


def factor(terms: int) -> float:
    """How many units of the terms' magnitudes two orders of a sum may differ by.

    >>> factor(1), factor(4), factor(900)
    (0.0, 8.0, 240.0)
    """
    return 0.0 if terms < 2 else min(2.0 * terms, 8.0 * float(np.sqrt(terms)))


def of_sums(magnitudes: Array, terms: int, quantum: float | None = None, more: float = 0.0) -> Bound:
    """The bound of sums of ``terms`` terms. quantum: a power of two that every term is a multiple of, if known."""
    with np.errstate(over="ignore", invalid="ignore"):
        bound = np.asarray(magnitudes, np.float64) * (UNIT * (factor(terms) + more))
        if quantum is not None:
            bound = np.where(np.asarray(magnitudes) <= 2.0**24 * quantum, 0.0, bound)
    return np.asarray(bound, np.float32).view(Bound)


def quantum_of(x: Array) -> float:
    """The largest power of two that every number of x is a multiple of; infinity for zeros alone.

    >>> quantum_of(np.float32([1.5, -4, 0]))
    0.5
    """
    finite = x[np.isfinite(x) & (x != 0)]
    if not finite.size:
        return float("inf")
    significand, exponent = np.frexp(finite)
    integer = np.ldexp(np.abs(significand), 24).astype(np.int64)
    return float(np.ldexp(1.0, int((exponent - 24 + np.log2((integer & -integer).astype(np.float64))).min())))


#: Kernels that multiply.
PRODUCTS = ("matmul", "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient")


def bound_kernels(kernels: Kernels, described: Accumulators = Accumulators()) -> Any:
    """``kernels`` (of a CPU backend) whose sums give a Bound of the result in place of the result; ``described``: the
    products that are summed in a known order, and so have no bound."""
    sums = _Sums(kernels)
    names = [name for name in vars(_Sums) if not name.startswith("_")]
    bounds = in_one_order({**vars(kernels), **{name: getattr(sums, name) for name in names}})
    exact = in_one_order({**vars(bounds), **{name: getattr(kernels, name) for name in PRODUCTS}})

    def of_layer(name: str) -> tuple[Kernels, Kernels]:
        says = described.says(name)
        forward, by_input, by_weight = (exact if each in says else bounds for each in PASSES)
        derivative = in_one_order(vars(bounds))
        derivative.by_input, derivative.by_weight = by_input, by_weight
        return forward, derivative

    bounds.of_layer = of_layer
    return bounds


class _Sums:
    """The kernels that sum, by the names and arguments of the contract; options for speed are taken and not used."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels

    # -- contractions ---------------------------------------------------------------------------------------
    def matmul(
        self,
        a: Array,
        b: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        bias: Array | None = None,
        **_: object,
    ) -> Bound:
        magnitudes = self._kernels.matmul(np.abs(a), np.abs(b), transpose_a, transpose_b, _absolute(bias))
        return self._products(magnitudes, a.shape[0 if transpose_a else 1], a, b, bias)

    def conv2d(self, x: Array, w: Array, bias: Array | None, *geometry: Any, **_: object) -> Bound:
        magnitudes = self._kernels.conv2d(np.abs(x), np.abs(w), _absolute(bias), *geometry)
        return self._products(magnitudes, w[0].size, x, w, bias)

    def conv2d_input_gradient(self, gradient: Array, w: Array, *geometry: Any, **_: object) -> Bound:
        groups = geometry[-1]
        magnitudes = self._kernels.conv2d_input_gradient(np.abs(gradient), np.abs(w), *geometry)
        return self._products(magnitudes, w.shape[0] // groups * w[0, 0].size, gradient, w)

    def conv2d_weight_gradient(self, x: Array, gradient: Array, *geometry: Any, **_: object) -> Bound:
        magnitudes = self._kernels.conv2d_weight_gradient(np.abs(x), np.abs(gradient), *geometry)
        return self._products(magnitudes, gradient.size // gradient.shape[1], x, gradient)

    def _products(self, magnitudes: Array, terms: int, a: Array, b: Array, bias: Array | None = None) -> Bound:
        quantum = quantum_of(a) * quantum_of(b)
        if bias is not None:
            terms, quantum = terms + 1, min(quantum, quantum_of(bias))
        return of_sums(magnitudes, terms, quantum)

    # -- plain sums -----------------------------------------------------------------------------------------
    def add(self, a: Array, b: Array, **_: object) -> Array:
        if isinstance(a, Bound) or isinstance(b, Bound):
            return (bound_of(a) + bound_of(b)).view(Bound)
        return np.asarray(self._kernels.add(a, b))

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        if isinstance(x, Bound):
            return np.ascontiguousarray(np.transpose(x, axes)).view(Bound)
        return np.asarray(self._kernels.permute(x, axes))

    def channel_sum(self, x: Array) -> Bound:
        return of_sums(self._kernels.channel_sum(np.abs(x)), x.size // x.shape[1], quantum_of(x))

    def max_pool2d_gradient(self, gradient: Array, index: Array, shape: Shape, **_: object) -> Bound:
        return self._overlapping(lambda g: self._kernels.max_pool2d_gradient(g, index, shape), gradient, 1)

    def avg_pool2d(self, x: Array, kernel: Pair, *geometry: Any, **_: object) -> Bound:
        magnitudes, count = self._kernels.avg_pool2d(np.abs(x), kernel, *geometry), kernel[0] * kernel[1]
        exact = count & (count - 1) == 0
        return of_sums(magnitudes, count, quantum_of(x) / count if exact else None, 0.0 if exact else 2.0)

    def avg_pool2d_gradient(self, gradient: Array, shape: Shape, kernel: Pair, *geometry: Any, **_: object) -> Bound:
        def sums(g: Array) -> Array:
            return np.asarray(self._kernels.avg_pool2d_gradient(g, shape, kernel, *geometry))

        return self._overlapping(sums, gradient, kernel[0] * kernel[1])

    def _overlapping(self, sums: Callable[[Array], Array], gradient: Array, count: int) -> Bound:
        """Windows' contributions over ``count`` to the elements below them: two are added the same in any order."""
        windows = int(np.rint(sums(np.ones_like(gradient)).max(initial=0) * count))
        more = 0.0 if count & (count - 1) == 0 else 2.0
        return of_sums(sums(np.abs(gradient)), windows if windows > 2 else 1, None, more)

    # -- normalization and loss -----------------------------------------------------------------------------
    def batch_norm(
        self, x: Array, scale: Array, shift: Array, epsilon: float, **_: object
    ) -> tuple[Bound, Array, Array, Array]:
        y, mean, variance, inverse = self._kernels.batch_norm(x, scale, shift, epsilon)
        magnitudes = _centred(np.abs(x)) * _per_channel(np.abs(inverse * scale)) + _per_channel(np.abs(shift))
        return of_sums(magnitudes, x.size // x.shape[1], None, MORE), mean, variance, inverse

    def batch_norm_gradient(
        self, gradient: Array, x: Array, mean: Array, inverse: Array, scale: Array, **_: object
    ) -> tuple[Bound, Bound, Bound]:
        g, terms = np.abs(gradient), x.size // x.shape[1]
        normal = _centred(np.abs(x)) * _per_channel(np.abs(inverse))
        shift_sum, scale_sum = g.sum((0, 2, 3)), (g * normal).sum((0, 2, 3))
        inner = g + _per_channel(shift_sum / terms) + normal * _per_channel(scale_sum / terms)
        gx = of_sums(_per_channel(np.abs(inverse * scale)) * inner, terms, None, MORE)
        return gx, of_sums(scale_sum, terms, None, MORE), of_sums(shift_sum, terms, quantum_of(gradient))

    def log_softmax(self, x: Array, **_: object) -> Bound:
        return of_sums(np.abs(x) + np.abs(self._kernels.log_softmax(x)), x.shape[1], None, MORE)

    def log_softmax_gradient(self, gradient: Array, y: Array, **_: object) -> Bound:
        g = np.abs(gradient)
        return of_sums(g + np.exp(y) * g.sum(1, keepdims=True), y.shape[1], None, MORE)

    def nll_loss(self, y: Array, labels: Array) -> Bound:
        return of_sums(np.abs(self._kernels.nll_loss(np.abs(y), labels)), len(y), None, 2.0)


def _absolute(x: Array | None) -> Array | None:
    return None if x is None else np.abs(x)


def _centred(magnitudes: Array) -> Array:
    """|x| + mean |x|: the magnitudes of x - mean."""
    return np.asarray(magnitudes + magnitudes.mean((0, 2, 3), keepdims=True, dtype=np.float32))


def _per_channel(values: Array) -> Array:
    return values.reshape(1, -1, 1, 1)
