"""Convolution (cross-correlation) of one and two dimensions, and its transpose."""

from __future__ import annotations

from typing import Any

from mpsim import checks
from mpsim.engine.primitive import Primitive, Sample, Shape, needs_parameter
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.ops.broadcasting import expanded
from mpsim.ops.windows import Pair, Window, dilated, pair, window_shape


def conv2d(
    x: Tensor,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    name: str | None = None,
) -> Tensor:
    """Computes y[n, o, i, j] = bias[o] + sum over c, r, s of weight[o, c, r, s] * x[n, c, i*stride + r - padding, ...].

    x (N, C, H, W), weight (O, C/groups, R, S), bias (O,) -> (N, O, OH, OW) with OH = (H + 2*padding - R) // stride + 1.
    groups=C is a depthwise convolution. With a dilation r and R are r*dilation and dilation*(R - 1) + 1 in these
    formulas. Raises ValueError for shapes that do not match.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.conv2d(x, nn.Parameter(np.float32([[[[1, -1]]]]))), [[[[1.0, 4.0, 9.0]]]])
    array([[[[-3., -5.]]]], dtype=float32)
    """
    return x.tape.bind(CONV2D, (x,), (weight, bias), name, **_attributes(stride, padding, groups, dilation))


def conv1d(
    x: Tensor,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
    name: str | None = None,
) -> Tensor:
    """Computes conv2d of images of one row: x (N, C, L), weight (O, C/groups, S), bias (O,) -> (N, O, OL).

    Raises ValueError for shapes that do not match.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.conv1d(x, nn.Parameter(np.float32([[[1, -1]]]))), [[[1.0, 4.0, 9.0]]])
    array([[[-3., -5.]]], dtype=float32)
    """
    geometry = _attributes((1, stride), (0, padding), groups, (1, dilation))
    return x.tape.bind(CONV1D, (x,), (weight, bias), name, **geometry)


def conv_transpose2d(
    x: Tensor,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
    name: str | None = None,
) -> Tensor:
    """Computes the input gradient of the convolution that has ``weight`` and this geometry, and adds the bias.

    x (N, C, H, W), weight (C, O/groups, R, S), bias (O,) -> (N, O, OH, OW) with
    OH = (H - 1)*stride - 2*padding + dilation*(R - 1) + 1 + output_padding. The order is that of
    conv2d_input_gradient. The bias is added to its rounded result. Raises ValueError for shapes that do not match, or
    an output padding that is not below the stride.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.conv_transpose2d(x, nn.Parameter(np.float32([[[[1, 2]]]]))), [[[[3.0, 4.0]]]])
    array([[[[ 3., 10.,  8.]]]], dtype=float32)
    """
    attributes = _attributes(stride, padding, groups, dilation)
    more = pair(output_padding, "output_padding")
    if more[0] >= attributes["stride"][0] or more[1] >= attributes["stride"][1]:
        raise UsageError(f"output_padding must be below the stride {attributes['stride']}, got {more}")
    return x.tape.bind(CONV_TRANSPOSE2D, (x,), (weight, bias), name, **attributes, output_padding=more)


def _attributes(stride: Pair, padding: Pair, groups: int, dilation: Pair) -> dict:
    return {
        "stride": pair(stride, "stride", 1),
        "padding": pair(padding, "padding"),
        "groups": checks.whole("groups", groups, least=1),
        "dilation": pair(dilation, "dilation", 1),
    }


def _forward(
    kernels: Kernels,
    inputs: tuple,
    parameters: tuple,
    *,
    stride: Window,
    padding: Window,
    groups: int,
    dilation: Window = (1, 1),
) -> tuple[Array, tuple]:
    (x,), (weight, *bias) = inputs, parameters
    geometry = stride, padding, groups, dilation
    y = kernels.conv2d(x, weight, bias[0] if bias else None, *geometry)
    return y, (x, weight, bool(bias), geometry)


def _backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, weight, has_bias, geometry = saved
    x_gradient = kernels.by_input.conv2d_input_gradient(gradient, weight, x.shape, *geometry) if needs[0] else None
    weight_gradient = None
    if needs_parameter(needs, 0):
        weight_gradient = kernels.by_weight.conv2d_weight_gradient(x, gradient, weight.shape, *geometry)
    return (x_gradient,), (weight_gradient, *bias_gradient(kernels, gradient, has_bias, needs))


def bias_gradient(
    kernels: Kernels, gradient: Array, has_bias: bool, needs: tuple[bool, ...]
) -> tuple[Array | None, ...]:
    """Returns the gradient of a bias by channel, if there is one: parameter number 1."""
    return (kernels.sums.channel_sum(gradient) if needs_parameter(needs, 1) else None,) if has_bias else ()


def _shape(
    inputs: list[Shape],
    parameters: list[Shape],
    *,
    stride: Window,
    padding: Window,
    groups: int,
    dilation: Window = (1, 1),
) -> Shape:
    (x,), (weight, *bias) = inputs, parameters
    if len(x) != 4 or len(weight) != 4:
        raise UsageError(f"input must be (N, C, H, W) and weight (O, C/groups, R, S), got {x} and {weight}")
    channels, outputs = x[1], weight[0]
    if outputs % groups:
        raise UsageError(f"{outputs} output channels cannot be split into {groups} groups")
    if channels != weight[1] * groups:
        raise UsageError(f"input has {channels} channels, weight expects {weight[1] * groups}")
    if bias and bias[0] != (outputs,):
        raise UsageError(f"bias must have shape ({outputs},), got {bias[0]}")
    return (x[0], outputs, *window_shape(x, dilated(weight[2:], dilation), stride, padding))


def _sample(
    x: Shape, *parameters: Shape, stride: Pair = 1, padding: Pair = 0, groups: int = 1, dilation: Pair = 1
) -> Sample:
    return Sample((x,), parameters, _attributes(stride, padding, groups, dilation))


CONV2D = Primitive(
    "Conv2d",
    _forward,
    _backward,
    _shape,
    opens_group=True,
    is_product=True,
    sums="bias",
    reads_input_again=True,
    samples=(
        _sample((2, 3, 5, 6), (4, 3, 3, 2), (4,)),
        _sample((2, 3, 7, 6), (2, 3, 3, 3), stride=(2, 3), padding=(1, 2)),
        _sample((1, 4, 5, 5), (6, 2, 3, 3), (6,), padding=1, groups=2),
        _sample((2, 3, 5, 5), (3, 1, 3, 3), stride=2, padding=1, groups=3),
        _sample((2, 3, 6, 6), (2, 3, 1, 1), stride=2, padding=1),
        _sample((2, 2, 7, 8), (3, 2, 3, 2), (3,), padding=(2, 1), dilation=(2, 3)),
    ),
)


def _row(shape: Shape) -> Shape:
    """(N, C, L) -> (N, C, 1, L)."""
    return (*shape[:2], 1, *shape[2:])


def _row_forward(kernels: Kernels, inputs: tuple, parameters: tuple, **geometry: Any) -> tuple[Array, tuple]:
    (x,), (weight, *bias) = inputs, parameters
    y, saved = _forward(kernels, (x.reshape(*_row(x.shape)),), (weight.reshape(*_row(weight.shape)), *bias), **geometry)
    return y.reshape(*y.shape[:2], y.shape[3]), (x, weight, *saved[2:])


def _row_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, weight, *rest = saved
    images = x.reshape(*_row(x.shape)), weight.reshape(*_row(weight.shape)), *rest
    (of_x,), (of_weight, *of_bias) = _backward(kernels, gradient.reshape(*_row(gradient.shape)), images, needs)
    of_weight = None if of_weight is None else of_weight.reshape(*weight.shape)
    return (None if of_x is None else of_x.reshape(*x.shape),), (of_weight, *of_bias)


def _row_shape(inputs: list[Shape], parameters: list[Shape], **geometry: Any) -> Shape:
    (x,), (weight, *bias) = inputs, parameters
    if len(x) != 3 or len(weight) != 3:
        raise UsageError(f"input must be (N, C, L) and weight (O, C/groups, S), got {x} and {weight}")
    samples, channels, _, length = _shape([_row(x)], [_row(weight), *bias], **geometry)
    return samples, channels, length


CONV1D = Primitive(
    "Conv1d",
    _row_forward,
    _row_backward,
    _row_shape,
    opens_group=True,
    is_product=True,
    sums="bias",
    reads_input_again=True,
    samples=(_sample((2, 4, 9), (6, 2, 3), (6,), stride=(1, 2), padding=(0, 1), groups=2, dilation=(1, 2)),),
)


def _transposed_forward(
    kernels: Kernels,
    inputs: tuple,
    parameters: tuple,
    *,
    stride: Window,
    padding: Window,
    groups: int,
    dilation: Window,
    output_padding: Window,
) -> tuple[Array, tuple]:
    (x,), (weight, *bias) = inputs, parameters
    geometry: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups, "dilation": dilation}
    shape = _transposed_shape([x.shape], [weight.shape], **geometry, output_padding=output_padding)
    y = kernels.conv2d_input_gradient(x, weight, shape, *geometry.values())
    if bias:
        y = kernels.add(y, expanded(kernels, bias[0].reshape(-1, 1, 1), tuple(y.shape)), out=y)
    return y, (x, weight, bool(bias), tuple(geometry.values()))


def _transposed_backward(
    kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]
) -> tuple[tuple, tuple]:
    x, weight, has_bias, geometry = saved
    x_gradient = kernels.by_input.conv2d(gradient, weight, None, *geometry) if needs[0] else None
    weight_gradient = None
    if needs_parameter(needs, 0):
        weight_gradient = kernels.by_weight.swapped.conv2d_weight_gradient(gradient, x, weight.shape, *geometry)
    return (x_gradient,), (weight_gradient, *bias_gradient(kernels, gradient, has_bias, needs))


def _transposed_shape(
    inputs: list[Shape],
    parameters: list[Shape],
    *,
    stride: Window,
    padding: Window,
    groups: int,
    dilation: Window,
    output_padding: Window,
) -> Shape:
    (x,), (weight, *bias) = inputs, parameters
    if len(x) != 4 or len(weight) != 4 or x[1] != weight[0] or x[1] % groups:
        raise UsageError(f"input must be (N, C, H, W) and weight (C, O/groups, R, S), got {tuple(x)} and {weight}")
    outputs, kernel = weight[1] * groups, dilated(weight[2:], dilation)
    if bias and bias[0] != (outputs,):
        raise UsageError(f"bias must have shape ({outputs},), got {bias[0]}")
    height, width = ((x[2 + i] - 1) * stride[i] - 2 * padding[i] + kernel[i] + output_padding[i] for i in (0, 1))
    if height < 1 or width < 1:
        raise UsageError(f"padding {padding} leaves no output of an input of shape {tuple(x)}")
    return x[0], outputs, height, width


CONV_TRANSPOSE2D = Primitive(
    "ConvTranspose2d",
    _transposed_forward,
    _transposed_backward,
    _transposed_shape,
    opens_group=True,
    is_product=True,
    sums="bias",
    reads_input_again=True,
    samples=tuple(
        Sample((x,), parameters, _attributes(stride, padding, groups, dilation) | {"output_padding": more})
        for x, parameters, stride, padding, groups, dilation, more in (
            ((2, 3, 4, 5), ((3, 2, 3, 2), (2,)), (2, 1), (1, 0), 1, 1, (1, 0)),
            ((1, 4, 3, 3), ((4, 1, 2, 3),), 2, 1, 2, (2, 1), (0, 1)),
        )
    ),
)
