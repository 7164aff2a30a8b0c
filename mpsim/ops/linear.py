"""The linear op, which maps each row, and products of matrices."""

from __future__ import annotations

from math import prod

import numpy as np

from mpsim.engine.primitive import Primitive, Sample, Shape, needs_parameter
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.ops.arithmetic import add, scale
from mpsim.ops.convolution import bias_gradient
from mpsim.ops.functions import dropout as drop
from mpsim.ops.reductions import softmax
from mpsim.ops.shape import permute


def linear(x: Tensor, weight: Parameter, bias: Parameter | None = None, *, name: str | None = None) -> Tensor:
    """Computes y = x @ weight.T + bias: x (..., I), weight (O, I), bias (O,) -> (..., O).

    Raises ValueError for shapes that do not match.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.linear(x, nn.Parameter(np.float32([[1, 2]]))), [[3.0, 4.0]])
    array([[11.]], dtype=float32)
    """
    return x.tape.bind(LINEAR, (x,), (weight, bias), name)


def matmul(a: Tensor, b: Tensor, *, name: str | None = None) -> Tensor:
    """Computes the products of matrices: (..., M, K) @ (..., K, N) -> (..., M, N), with k in rising order.

    Raises ValueError for shapes that do not match. Leading axes do not broadcast.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.matmul, [[1.0, 2.0]], [[3.0], [4.0]])
    array([[11.]], dtype=float32)
    """
    return a.tape.bind(MATMUL, (a, b), name=name)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: np.ndarray | None = None,
    *,
    causal: bool = False,
    factor: float | None = None,
    dropout: float = 0.0,
    name: str | None = None,
) -> Tensor:
    """Computes softmax(factor * q @ k.T + mask) @ v: q (..., T, D), k (..., S, D), v (..., S, E) -> (..., T, E).

    It consists of the ops <name>.products (MatMul), .scaled (Scale), .masked (Add, if there is a mask), .weights
    (Softmax), .dropped (Dropout, if there is one) and .values (MatMul), whose results are stored.

    Args:
        q, k, v: Queries, keys and values.
        mask: A constant that is added, of a shape that broadcasts to (..., T, S). -infinity excludes a key.
        causal: Whether query t is compared with keys up to t only.
        factor: By default 1 / sqrt(D).
        dropout: The probability that a weight becomes 0 on a training tape, as in ops.dropout.
        name: The prefix of the ops' names.

    Raises:
        ValueError: Shapes do not match.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda q, k, v: ops.attention(q, k, v, causal=True), *[np.eye(2)[None]] * 3)[0, 0]
    array([1., 0.], dtype=float32)
    """
    name = name or f"attention{len(q.tape.ops)}"
    axes = [*range(len(k.shape) - 2), len(k.shape) - 1, len(k.shape) - 2]
    scores = matmul(q, permute(k, axes), name=f"{name}.products")
    scores = scale(scores, q.shape[-1] ** -0.5 if factor is None else factor, name=f"{name}.scaled")
    if causal:
        later = np.triu(np.full(scores.shape[-2:], -np.inf, np.float32), 1)
        mask = later if mask is None else later + np.asarray(mask, np.float32)
    if mask is not None:
        scores = add(scores, mask, name=f"{name}.masked")
    weights = softmax(scores, name=f"{name}.weights")
    if dropout:
        weights = drop(weights, dropout, name=f"{name}.dropped")
    return matmul(weights, v, name=f"{name}.values")


def _forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    (x,), (weight, *bias) = inputs, parameters
    y = kernels.matmul(_rows(x), weight, transpose_b=True, bias=bias[0] if bias else None)
    return y.reshape(*x.shape[:-1], weight.shape[0]), (x, weight, bool(bias))


def _backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, weight, has_bias = saved
    gradient = _rows(gradient)
    # (R, O) @ (O, I), then (O, R) @ (R, I)
    x_gradient = kernels.by_input.matmul(gradient, weight).reshape(*x.shape) if needs[0] else None
    weight_gradient = None
    if needs_parameter(needs, 0):
        weight_gradient = kernels.by_weight.swapped.matmul(gradient, _rows(x), transpose_a=True)
    return (x_gradient,), (weight_gradient, *bias_gradient(kernels, gradient, has_bias, needs))


def _rows(x: Array) -> Array:
    """(..., I) -> (R, I)."""
    return x if len(x.shape) == 2 else x.reshape(-1, x.shape[-1])


def _shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    (x,), (weight, *bias) = inputs, parameters
    if len(x) < 2 or len(weight) != 2:
        raise UsageError(f"input must be (..., I) and weight (O, I), got {x} and {weight}")
    if x[-1] != weight[1]:
        advice = "; flatten images first" if len(x) == 4 else ""
        raise UsageError(f"input has {x[-1]} features, weight expects {weight[1]}{advice}")
    if bias and bias[0] != weight[:1]:
        raise UsageError(f"bias must have shape ({weight[0]},), got {bias[0]}")
    return (*x[:-1], weight[0])


LINEAR = Primitive(
    "Linear",
    _forward,
    _backward,
    _shape,
    opens_group=True,
    is_product=True,
    sums="bias",
    reads_input_again=True,
    samples=(
        Sample(((3, 5),), ((4, 5), (4,))), Sample(((2, 300),), ((3, 300),)), Sample(((2, 3, 2, 4),), ((3, 4), (3,))),
    ),
)  # fmt: skip

#: The geometry of a convolution with a 1 x 1 kernel: stride, padding.
_ONE_BY_ONE = (1, 1), (0, 0)


def _products_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    """Each product is one group of a convolution: its weights are the rows of a, its images the columns of b."""
    a, b = inputs
    count, rows, length, columns = _sizes(a, b)
    images, weights = b.reshape(1, count * length, 1, columns), a.reshape(count * rows, length, 1, 1)
    y = kernels.swapped.conv2d(images, weights, None, *_ONE_BY_ONE, count)
    return y.reshape(*a.shape[:-1], columns), (a, b)


def _products_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    a, b = saved
    count, rows, length, columns = _sizes(a, b)
    gradient = gradient.reshape(1, count * rows, 1, columns)
    images, weights = b.reshape(1, count * length, 1, columns), a.reshape(count * rows, length, 1, 1)
    by_input, of_a, of_b = kernels.by_input, None, None
    if needs[0]:  # (M, N) @ (N, K)
        of_a = by_input.swapped.conv2d_weight_gradient(images, gradient, weights.shape, *_ONE_BY_ONE, count)
        of_a = of_a.reshape(*a.shape)
    if needs[1]:  # (K, M) @ (M, N)
        of_b = by_input.conv2d_input_gradient(gradient, weights, images.shape, *_ONE_BY_ONE, count).reshape(*b.shape)
    return (of_a, of_b), ()


def _sizes(a: Array, b: Array) -> tuple[int, int, int, int]:
    return prod(tuple(a.shape)[:-2]), a.shape[-2], a.shape[-1], b.shape[-1]


def _products_shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    a, b = inputs
    if len(a) < 2 or len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
        raise UsageError(f"inputs must be (..., M, K) and (..., K, N) with the same leading axes, got {a} and {b}")
    return (*a[:-1], b[-1])


MATMUL = Primitive(
    "MatMul",
    _products_forward,
    _products_backward,
    _products_shape,
    opens_group=True,
    is_product=True,
    reads_input_again=True,
    samples=(Sample(((2, 3, 4, 5), (2, 3, 5, 2))), Sample(((3, 4), (4, 2)))),
)
