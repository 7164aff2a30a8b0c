"""Elementwise ops."""

from __future__ import annotations

from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels


def relu(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns x where it is positive or NaN, else +0. The derivative at 0 is 0. Its mask is of the stored input."""
    return x.tape.bind(RELU, (x,), name=name)


def _relu_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    return kernels.relu(inputs[0]), (kernels.positive(inputs[0]),)


def _relu_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (kernels.relu_gradient(gradient, saved[0], out=gradient) if needs[0] else None,), ()


def _relu_shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    return inputs[0]


RELU = Primitive(
    "ReLU",
    _relu_forward,
    _relu_backward,
    _relu_shape,
    chooses=True,
    kept_bits=1,
    samples=(Sample(((3, 4, 2),)),),
)


def add(a: Tensor, b: Tensor, *, name: str | None = None) -> Tensor:
    """Adds two tensors of the same shape, without broadcasting. Raises ValueError for different shapes."""
    return a.tape.bind(ADD, (a, b), name=name)


def _add_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    return kernels.add(*inputs), ()


def _add_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    if all(needs):  # one of the two is a copy, since a store may overwrite its argument
        return (gradient, kernels.scale(gradient, 1.0)), ()
    return tuple(gradient if needed else None for needed in needs), ()


def _add_shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    first, second = inputs
    if first != second:
        raise UsageError(f"both inputs must have one shape, got {first} and {second}")
    return first


ADD = Primitive(
    "Add",
    _add_forward,
    _add_backward,
    _add_shape,
    samples=(Sample(((2, 3, 4), (2, 3, 4))),),
)
