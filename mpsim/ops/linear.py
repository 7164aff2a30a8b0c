"""The linear op, which maps each row."""

from __future__ import annotations

from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels


def linear(x: Tensor, weight: Parameter, bias: Parameter | None = None, *, name: str | None = None) -> Tensor:
    """Computes y = x @ weight.T + bias: x (N, I), weight (O, I), bias (O,) -> (N, O).

    Raises ValueError for shapes that do not match.
    """
    return x.tape.bind(LINEAR, (x,), (weight, bias), name)


def _forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    (x,), (weight, *bias) = inputs, parameters
    y = kernels.matmul(x, weight, transpose_b=True, bias=bias[0] if bias else None)
    return y, (x, weight, bool(bias))


def _backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, weight, has_bias = saved
    x_gradient = kernels.by_input.matmul(gradient, weight) if needs[0] else None  # (N, O) @ (O, I)
    weight_gradient = kernels.by_weight.swapped.matmul(gradient, x, transpose_a=True)  # (O, N) @ (N, I)
    bias_gradient = (kernels.channel_sum(gradient),) if has_bias else ()
    return (x_gradient,), (weight_gradient, *bias_gradient)


def _shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    (x,), (weight, *bias) = inputs, parameters
    if len(x) != 2 or len(weight) != 2:
        raise UsageError(f"input must be (N, I) and weight (O, I), got {x} and {weight}; flatten images first")
    if x[1] != weight[1]:
        raise UsageError(f"input has {x[1]} features, weight expects {weight[1]}")
    if bias and bias[0] != weight[:1]:
        raise UsageError(f"bias must have shape ({weight[0]},), got {bias[0]}")
    return x[0], weight[0]


LINEAR = Primitive(
    "Linear",
    _forward,
    _backward,
    _shape,
    opens_group=True,
    is_product=True,
    reads_input_again=True,
    samples=(Sample(((3, 5),), ((4, 5), (4,))), Sample(((2, 300),), ((3, 300),))),
)
