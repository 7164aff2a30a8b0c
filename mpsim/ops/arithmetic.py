"""Ops with two operands, which are repeated along axes of size 1 where their shapes differ, and with a number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpsim.engine.primitive import Primitive, Sample, Shape, needs_parameter
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageTypeError
from mpsim.kernels import Kernels
from mpsim.ops.broadcasting import broadcast_shape, expanded, reduced
from mpsim.ops.functions import number, same_shape

#: What the second operand may be. An array is a constant, such as a mask, without a gradient. The first operand may be
#: one too if the second is a tensor.
Operand = Tensor | Parameter | np.ndarray


def add(a: Tensor | np.ndarray, b: Operand, *, name: str | None = None) -> Tensor:
    """Returns a + b. Shapes broadcast as in NumPy. Raises ValueError for shapes that do not.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.add, [1.0, 2.0], [0.5])
    array([1.5, 2.5], dtype=float32)
    """
    return _bind(ADD, a, b, name)


def subtract(a: Tensor | np.ndarray, b: Operand, *, name: str | None = None) -> Tensor:
    """Returns a - b. Shapes broadcast as in NumPy. Raises ValueError for shapes that do not.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.subtract, [1.0, 2.0], [0.5])
    array([0.5, 1.5], dtype=float32)
    """
    return _bind(SUBTRACT, a, b, name)


def multiply(a: Tensor | np.ndarray, b: Operand, *, name: str | None = None) -> Tensor:
    """Returns a * b. Shapes broadcast as in NumPy. Raises ValueError for shapes that do not.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.multiply, [1.0, 2.0], [0.5])
    array([0.5, 1. ], dtype=float32)
    """
    return _bind(MULTIPLY, a, b, name)


def divide(a: Tensor | np.ndarray, b: Operand, *, name: str | None = None) -> Tensor:
    """Returns a / b. Shapes broadcast as in NumPy. Raises ValueError for shapes that do not.

    The derivative by b is -(g / b) * (a / b).

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.divide, [1.0, 2.0], [4.0])
    array([0.25, 0.5 ], dtype=float32)
    """
    return _bind(DIVIDE, a, b, name)


def scale(x: Tensor, factor: float, *, name: str | None = None) -> Tensor:
    """Returns x * factor, with the factor rounded to float32.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.scale(x, 3), [1.0, 2.0])
    array([3., 6.], dtype=float32)
    """
    return x.tape.bind(SCALE, (x,), name=name, factor=number("factor", factor))


def shift(x: Tensor, by: float, *, name: str | None = None) -> Tensor:
    """Returns x + by, with the number rounded to float32.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.shift(x, 3), [1.0, 2.0])
    array([4., 5.], dtype=float32)
    """
    return x.tape.bind(SHIFT, (x,), name=name, by=number("by", by))


def _bind(primitive: Primitive, a: Tensor | np.ndarray, b: Operand, name: str | None) -> Tensor:
    if not isinstance(a, Tensor):
        if not isinstance(b, Tensor):
            raise UsageTypeError(f"one of the operands must be a tensor, got {type(a).__name__} and {type(b).__name__}")
        return b.tape.bind(primitive, (np.ascontiguousarray(a, np.float32), b), name=name)
    if isinstance(b, Parameter):
        return a.tape.bind(primitive, (a,), (b,), name)
    operand = b if isinstance(b, Tensor) else np.ascontiguousarray(b, np.float32)
    return a.tape.bind(primitive, (a, operand), name=name)


def _pair(kernels: Kernels, a: Array, b: Array) -> tuple[Array, Array]:
    """Returns both operands in their common shape. Each may be an operand itself."""
    shape = broadcast_shape(tuple(a.shape), tuple(b.shape))
    return expanded(kernels, a, shape), expanded(kernels, b, shape)


#: Computes the gradient of the first or the second operand, in the shape of the result, without changing arguments. The
#: first may be the gradient itself.
Derivative = Callable[[Kernels, Array, Array, Array], Array]


def _two_operands(kind: str, kernel: str, by_a: Derivative, by_b: Derivative, reads: bool = True) -> Primitive:
    """Returns the op of a kernel of two arrays. ``reads``: the derivatives read the operands."""

    def forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
        a, b = (kernels.from_numpy(operand) for operand in (*inputs, *parameters))
        y = getattr(kernels, kernel)(*_pair(kernels, a, b))
        return y, (a, b, None) if reads else (None, None, (tuple(a.shape), tuple(b.shape)))

    def backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
        a, b, shapes = saved
        shapes = (tuple(a.shape), tuple(b.shape)) if reads else shapes
        operands = _pair(kernels, a, b) if reads else (gradient, gradient)
        wanted = needs if len(needs) == 2 else (*needs, needs_parameter(needs, 0))
        found = [
            reduced(kernels, derivative(kernels, gradient, *operands), shape) if each else None
            for derivative, shape, each in zip((by_a, by_b), shapes, wanted, strict=True)
        ]
        return tuple(found[: len(needs)]), tuple(found[len(needs) :])

    samples = (
        Sample(((2, 3, 4), (2, 3, 4)), positive=kernel == "divide"),
        Sample(((2, 3, 1, 4), (5, 1)), positive=kernel == "divide"),
        Sample(((2, 3, 4),), ((3, 4),), positive=kernel == "divide"),
    )
    return Primitive(kind, forward, backward, _common_shape, reads_input_again=reads, samples=samples)


def _common_shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    return broadcast_shape(*inputs, *parameters)


def _itself(kernels: Kernels, gradient: Array, a: Array, b: Array) -> Array:
    return gradient


def _copy(kernels: Kernels, gradient: Array, a: Array, b: Array) -> Array:
    return kernels.scale(gradient, 1.0)


def _negated(kernels: Kernels, gradient: Array, a: Array, b: Array) -> Array:
    return kernels.scale(gradient, -1.0)


def _times_a(kernels: Kernels, gradient: Array, a: Array, b: Array) -> Array:
    return kernels.multiply(gradient, a)


def _times_b(kernels: Kernels, gradient: Array, a: Array, b: Array) -> Array:
    return kernels.multiply(gradient, b)


def _over_b(kernels: Kernels, gradient: Array, a: Array, b: Array) -> Array:
    return kernels.divide(gradient, b)


def _by_divisor(kernels: Kernels, gradient: Array, a: Array, b: Array) -> Array:
    share = kernels.divide(gradient, b)
    return kernels.scale(kernels.multiply(share, kernels.divide(a, b), out=share), -1.0, out=share)


ADD = _two_operands("Add", "add", _itself, _copy, reads=False)
SUBTRACT = _two_operands("Subtract", "subtract", _itself, _negated, reads=False)
MULTIPLY = _two_operands("Multiply", "multiply", _times_b, _times_a)
DIVIDE = _two_operands("Divide", "divide", _over_b, _by_divisor)


def _scale_forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, factor: float) -> tuple[Array, tuple]:
    return kernels.scale(inputs[0], factor), (factor,)


def _scale_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (kernels.scale(gradient, saved[0], out=gradient) if needs[0] else None,), ()


def _shift_forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, by: float) -> tuple[Array, tuple]:
    return kernels.unary(inputs[0], "shift", by), ()


def _shift_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (gradient if needs[0] else None,), ()


SCALE = Primitive(
    "Scale",
    _scale_forward,
    _scale_backward,
    same_shape,
    samples=(Sample(((3, 4, 2),), attributes={"factor": -0.75}),),
)
SHIFT = Primitive(
    "Shift", _shift_forward, _shift_backward, same_shape, samples=(Sample(((3, 4, 2),), attributes={"by": 1.5}),)
)
