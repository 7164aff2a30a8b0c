"""Kernels that give the bound of each result (``noise``) in place of the result, from the same arguments.

Each kernel takes bounds too, because an op may consist of several: the layer norm multiplies and adds after its sums.
The bound then has the errors of the arguments, and the roundings that another program may leave out by fusing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mpsim.kernels import Kernels
from mpsim.kernels.binding import in_one_order
from mpsim.kernels.contract import CONTRACT, Array, Pair, Shape
from mpsim.products.passes import PASSES, Accumulators
from mpsim.validate.step.noise import MORE, UNIT, Bound, bound_of, bounded, of_sums, quantum_of, value_of

#: Kernels whose order a layer's ``sums`` says, and kernels that multiply.
SUMS = ("channel_sum", "avg_pool2d", "nll_loss")
PRODUCTS = ("matmul", "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient")

#: Kernels whose bounds have the errors of their arguments. Others take these for exact.
CONTINUING = {
    "from_numpy", "add", "subtract", "multiply", "divide", "scale", "unary", "permute", "take", "take_gradient",
    "channel_sum", "batch_norm_gradient",
}  # fmt: skip

#: Functions of ``kernels.unary`` that have one correct result, which every library gives.
EXACT = {"sqrt", "shift", "clamp", "clamp_slope", "leaky_relu", "leaky_relu_slope"}
#: Other functions -> the magnitudes of the terms that a formula of theirs adds, of x and the result. Where a function
#: is not listed, the magnitude of its result.
TERMS: dict[str, Callable[[Array, Array], Array]] = {
    "softplus": lambda x, y: np.maximum(x, 0) + np.abs(y),
    "gelu": lambda x, y: np.abs(x),
    "gelu_tanh": lambda x, y: np.abs(x),
    "hard_sigmoid": lambda x, y: np.where((y > 0) & (y < 1), 1.0, 0.0),
    "hard_swish": lambda x, y: np.where(x > -3, np.abs(x), 0.0),
    "hard_swish_slope": lambda x, y: np.where((x > -3) & (x < 3), 1 + np.abs(x), 0.0),
    "erf_slope": lambda x, y: y * (1 + x * x),
    "tanh_slope_of_output": lambda x, y: 1 + x * x,
    "sigmoid_slope_of_output": lambda x, y: np.abs(x) * (1 + np.abs(x)),
    "silu_slope": lambda x, y: np.exp(-np.maximum(-x, 0)) * (1 + np.abs(x)),
    "gelu_slope": lambda x, y: np.full(x.shape, 1.5),
    "gelu_tanh_slope": lambda x, y: 1 + np.abs(x) * (0.4 + 0.0535 * x * x),
}


def bound_kernels(kernels: Kernels, described: Accumulators = Accumulators()) -> Any:
    """``kernels`` (of a CPU backend) whose sums give a Bound of the result in place of the result; ``described``: the
    products that are summed in a known order, and so have no bound."""
    sums = _Sums(kernels)
    names = [name for name in dir(sums) if not name.startswith("_")]
    others = {name: _of_values(getattr(kernels, name)) for name in CONTRACT}
    bounding = {name: getattr(sums, name) for name in names}
    bounding |= {name: _of_values(each) for name, each in bounding.items() if name not in CONTINUING}
    bounds = in_one_order({**vars(kernels), **others, **bounding})
    exact = in_one_order({**vars(bounds), **{name: getattr(kernels, name) for name in PRODUCTS}})

    def of_layer(name: str) -> tuple[Kernels, Kernels]:
        says = described.says(name)
        forward, by_input, by_weight = (exact if each in says else bounds for each in PASSES)
        derivative = in_one_order(vars(bounds))
        derivative.by_input, derivative.by_weight = by_input, by_weight
        if "sums" in says:
            forward = in_one_order(vars(forward))
            forward.sums = derivative.sums = in_one_order(vars(bounds) | {name: others[name] for name in SUMS})
        return forward, derivative

    bounds.of_layer = of_layer
    return bounds


def _of_values(kernel: Callable[..., object]) -> Callable[..., object]:
    """A kernel that takes its arguments for exact: their results, where bounds are given."""
    return lambda *arguments, **options: kernel(
        *(value_of(each) if isinstance(each, Bound) else each for each in arguments), **options
    )


class _Elementwise:
    """Kernels of each element, and those that move elements, by the names and arguments of the contract. One rounding
    is exact, unless its arguments are not."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels

    def from_numpy(self, array: Array) -> Array:
        return array if isinstance(array, Bound) else self._kernels.from_numpy(array)

    def add(self, a: Array, b: Array, **_: object) -> Bound:
        return self._of_two(self._kernels.add, a, b, _error(a), _error(b))

    def subtract(self, a: Array, b: Array, **_: object) -> Bound:
        return self._of_two(self._kernels.subtract, a, b, _error(a), _error(b))

    def multiply(self, a: Array, b: Array, **_: object) -> Bound:
        with np.errstate(over="ignore", invalid="ignore"):
            by_a, by_b = _error(a) * np.abs(value_of(b)), _error(b) * np.abs(value_of(a))
        return self._of_two(self._kernels.multiply, a, b, by_a, by_b)

    def divide(self, a: Array, b: Array, **_: object) -> Bound:
        divisor, quotient = np.abs(value_of(b)), self._kernels.divide(value_of(a), value_of(b))
        with np.errstate(all="ignore"):
            bound = np.nan_to_num(_error(a) / divisor + _error(b) * np.abs(quotient) / divisor)
        if divisor.size and (divisor == divisor.flat[0]).all() and np.frexp(divisor.flat[0])[0] != 0.5:
            bound = bound + 2 * UNIT * np.abs(quotient)  # some multiply by the reciprocal of a constant
        return _rounded(bound, quotient)

    def scale(self, x: Array, factor: float, **_: object) -> Bound:
        return _rounded(_error(x) * abs(np.float32(factor)), self._kernels.scale(value_of(x), factor))

    def unary(self, x: Array, function: str, a: float = 0.0, b: float = 0.0, **_: object) -> Bound:
        plain = value_of(x)
        y, bound = self._kernels.unary(plain, function, a, b), np.zeros(plain.shape)
        with np.errstate(all="ignore"):
            if isinstance(x, Bound):
                ends = [self._kernels.unary(_beyond(plain, side * _error(x)), function, a, b) for side in (-1, 1)]
                bound = np.nan_to_num(np.max([np.abs(end.astype(np.float64) - y) for end in ends], axis=0))
            if function not in EXACT:
                wide = plain.astype(np.float64)
                terms = TERMS[function](wide, y) if function in TERMS else np.abs(y)
                bound = bound + np.nan_to_num(MORE * UNIT * terms)
        return _rounded(bound, y)

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        return self._moved(x, lambda each: np.ascontiguousarray(np.transpose(each, axes)))

    def take(self, x: Array, index: Array) -> Array:
        return self._moved(x, lambda each: np.asarray(self._kernels.take(each, index)))

    def _moved(self, x: Array, move: Callable[[Array], Array]) -> Array:
        return bounded(move(bound_of(x)), lambda: move(value_of(x))) if isinstance(x, Bound) else move(x)

    def _of_two(self, kernel: Callable[[Array, Array], Array], a: Array, b: Array, by_a: Array, by_b: Array) -> Bound:
        return _rounded(by_a + by_b, kernel(value_of(a), value_of(b)))


def _beyond(value: Array, error: Array) -> Array:
    """Returns value + error in float32, rounded away from the value where there is an error."""
    end = (value + error).astype(np.float32)
    return np.where(error == 0, value, np.nextafter(end, np.copysign(np.float32(np.inf), error.astype(np.float32))))


class _Sums(_Elementwise):
    """The kernels that sum; options for speed are taken and not used."""

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
        result = lambda: self._kernels.matmul(a, b, transpose_a, transpose_b, bias)  # noqa: E731
        return self._products(magnitudes, a.shape[0 if transpose_a else 1], a, b, result, bias)

    def conv2d(self, x: Array, w: Array, bias: Array | None, *geometry: Any, **_: object) -> Bound:
        magnitudes = self._kernels.conv2d(np.abs(x), np.abs(w), _absolute(bias), *geometry)
        return self._products(magnitudes, w[0].size, x, w, lambda: self._kernels.conv2d(x, w, bias, *geometry), bias)

    def conv2d_input_gradient(self, gradient: Array, w: Array, *geometry: Any, **_: object) -> Bound:
        groups = geometry[3]  # after x_shape, stride and padding
        magnitudes = self._kernels.conv2d_input_gradient(np.abs(gradient), np.abs(w), *geometry)
        result = lambda: self._kernels.conv2d_input_gradient(gradient, w, *geometry)  # noqa: E731
        return self._products(magnitudes, w.shape[0] // groups * w[0, 0].size, gradient, w, result)

    def conv2d_weight_gradient(self, x: Array, gradient: Array, *geometry: Any, **_: object) -> Bound:
        magnitudes = self._kernels.conv2d_weight_gradient(np.abs(x), np.abs(gradient), *geometry)
        result = lambda: self._kernels.conv2d_weight_gradient(x, gradient, *geometry)  # noqa: E731
        return self._products(magnitudes, gradient.size // gradient.shape[1], x, gradient, result)

    def _products(
        self, magnitudes: Array, terms: int, a: Array, b: Array, result: Callable[[], Array], bias: Array | None = None
    ) -> Bound:
        quantum = quantum_of(a) * quantum_of(b)
        if bias is not None:
            terms, quantum = terms + 1, min(quantum, quantum_of(bias))
        return bounded(of_sums(magnitudes, terms, quantum), result)

    # -- plain sums -----------------------------------------------------------------------------------------
    def channel_sum(self, x: Array) -> Bound:
        plain, count = value_of(x), x.size // x.shape[1] if x.size else 0
        bound = of_sums(self._kernels.channel_sum(np.abs(plain)), count, quantum_of(plain))
        if isinstance(x, Bound):
            bound = bound + self._kernels.channel_sum(_error(x).astype(np.float32))
        return bounded(bound, lambda: self._kernels.channel_sum(plain))

    def take_gradient(self, gradient: Array, index: Array, size: int) -> Bound:
        plain, used = value_of(gradient), index[index >= 0]
        most = int(np.bincount(used).max(initial=0)) if used.size else 0
        magnitudes = self._kernels.take_gradient(np.abs(plain), index, size)
        bound = of_sums(magnitudes, most if most > 2 else 1, quantum_of(plain))
        if isinstance(gradient, Bound):
            bound = bound + self._kernels.take_gradient(_error(gradient).astype(np.float32), index, size)
        return bounded(bound, lambda: self._kernels.take_gradient(plain, index, size))

    def max_pool2d_gradient(self, gradient: Array, index: Array, shape: Shape, **_: object) -> Bound:
        return self._overlapping(lambda g: self._kernels.max_pool2d_gradient(g, index, shape), gradient, 1)

    def avg_pool2d(self, x: Array, kernel: Pair, *geometry: Any, **_: object) -> Bound:
        magnitudes, count = self._kernels.avg_pool2d(np.abs(x), kernel, *geometry), kernel[0] * kernel[1]
        exact = count & (count - 1) == 0
        bound = of_sums(magnitudes, count, quantum_of(x) / count if exact else None, 0.0 if exact else 2.0)
        return bounded(bound, lambda: self._kernels.avg_pool2d(x, kernel, *geometry))

    def avg_pool2d_gradient(self, gradient: Array, shape: Shape, kernel: Pair, *geometry: Any, **_: object) -> Bound:
        def sums(g: Array) -> Array:
            return np.asarray(self._kernels.avg_pool2d_gradient(g, shape, kernel, *geometry))

        return self._overlapping(sums, gradient, kernel[0] * kernel[1])

    def _overlapping(self, sums: Callable[[Array], Array], gradient: Array, count: int) -> Bound:
        """Windows' contributions over ``count`` to the elements below them: two are added the same in any order."""
        windows = int(np.rint(sums(np.ones_like(gradient)).max(initial=0) * count))
        more = 0.0 if count & (count - 1) == 0 else 2.0
        bound = of_sums(sums(np.abs(gradient)), windows if windows > 2 else 1, None, more)
        return bounded(bound, lambda: sums(gradient))

    # -- normalization, softmax and loss --------------------------------------------------------------------
    def batch_norm(
        self, x: Array, scale: Array, shift: Array, epsilon: float, **_: object
    ) -> tuple[Bound, Array, Array, Array]:
        y, mean, variance, inverse = self._kernels.batch_norm(x, scale, shift, epsilon)
        magnitudes = _centred(np.abs(x)) * _per_channel(np.abs(inverse * scale)) + _per_channel(np.abs(shift))
        return bounded(of_sums(magnitudes, _per_sum(x), None, MORE), lambda: y), mean, variance, inverse

    def batch_norm_inference(
        self, x: Array, mean: Array, variance: Array, scale: Array, shift: Array, epsilon: float, **_: object
    ) -> Bound:
        y = self._kernels.batch_norm_inference(x, mean, variance, scale, shift, epsilon)
        inverse = scale / np.sqrt(variance + np.float32(epsilon))
        magnitudes = _centred(np.abs(x)) * _per_channel(np.abs(inverse)) + _per_channel(np.abs(shift))
        return bounded(of_sums(magnitudes, _per_sum(x), None, MORE), lambda: y)

    def batch_norm_gradient(
        self, gradient: Array, x: Array, mean: Array, inverse: Array, scale: Array, **_: object
    ) -> tuple[Bound, Bound, Bound]:
        plain = value_of(gradient)
        results = self._kernels.batch_norm_gradient(plain, x, mean, inverse, scale)
        g, terms = np.abs(plain) + _error(gradient) / UNIT / MORE, _per_sum(x)
        normal = _centred(np.abs(x)) * _per_channel(np.abs(inverse))
        shift_sum, scale_sum = g.sum((0, 2, 3)), (g * normal).sum((0, 2, 3))
        inner = g + _per_channel(shift_sum / terms) + normal * _per_channel(scale_sum / terms)
        bounds = (
            of_sums(_per_channel(np.abs(inverse * scale)) * inner, terms, None, MORE),
            of_sums(scale_sum, terms, None, MORE),
            of_sums(shift_sum, terms, quantum_of(plain)),
        )
        gx, by_scale, by_shift = (
            bounded(bound, lambda found=found: found)  # type: ignore[misc]
            for bound, found in zip(bounds, results, strict=True)
        )
        return gx, by_scale, by_shift

    def softmax(self, x: Array) -> Bound:
        y = self._kernels.softmax(x)
        with np.errstate(invalid="ignore"):
            below = np.nan_to_num(np.abs(x - x.max(1, keepdims=True, initial=-np.inf)), posinf=0.0)
        bound = of_sums(y, x.shape[1], None, MORE) + 4 * UNIT * below * y
        return bounded(np.maximum(bound, np.where(below > 80, 2.0**-126, 0)), lambda: y)  # some flush small numbers

    def softmax_gradient(self, gradient: Array, y: Array) -> Bound:
        g, terms = np.abs(gradient), np.abs(gradient * y).sum(1, keepdims=True)
        bound = of_sums((g + terms) * np.abs(y), y.shape[1], None, MORE)
        return bounded(bound, lambda: self._kernels.softmax_gradient(gradient, y))

    def log_softmax(self, x: Array, **_: object) -> Bound:
        y = self._kernels.log_softmax(x)
        return bounded(of_sums(np.abs(x) + np.abs(y), x.shape[1], None, MORE), lambda: y)

    def log_softmax_gradient(self, gradient: Array, y: Array, **_: object) -> Bound:
        g = np.abs(gradient)
        bound = of_sums(g + np.exp(y) * g.sum(1, keepdims=True), y.shape[1], None, MORE)
        return bounded(bound, lambda: self._kernels.log_softmax_gradient(gradient, y))

    def nll_loss(self, y: Array, labels: Array) -> Bound:
        bound = of_sums(np.abs(self._kernels.nll_loss(np.abs(y), labels)), len(y), None, 2.0)
        return bounded(bound, lambda: self._kernels.nll_loss(y, labels))


def _error(x: Array) -> Array:
    """How far a kernel's argument may be off: its bound, and one rounding that another program may not have."""
    if not isinstance(x, Bound):
        return np.zeros(x.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(bound_of(x) + UNIT * np.nan_to_num(np.abs(value_of(x).astype(np.float64))))


def _rounded(error: Array, result: Array) -> Bound:
    """The bound of a result of one rounding whose arguments move it by ``error`` before: 0 if they do not."""
    with np.errstate(over="ignore", invalid="ignore"):
        both = np.where(error > 0, error + 2 * UNIT * np.nan_to_num(np.abs(result.astype(np.float64))), 0.0)
    return bounded(both, lambda: result)


def _absolute(x: Array | None) -> Array | None:
    return None if x is None else np.abs(x)


def _per_sum(x: Array) -> int:
    """How many elements of x (N, C, ...) a channel has."""
    return x.size // x.shape[1]


def _centred(magnitudes: Array) -> Array:
    """|x| + mean |x|: the magnitudes of x - mean."""
    return np.asarray(magnitudes + magnitudes.mean((0, 2, 3), keepdims=True, dtype=np.float32))


def _per_channel(values: Array) -> Array:
    return values.reshape(1, -1, 1, 1)
