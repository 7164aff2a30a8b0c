"""Two-dimensional convolution (cross-correlation), NCHW."""

from __future__ import annotations

from mpsim import checks
from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.ops.windows import Pair, Window, pair, window_shape


def conv2d(
    x: Tensor,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    groups: int = 1,
    name: str | None = None,
) -> Tensor:
    """Computes y[n, o, i, j] = bias[o] + sum over c, r, s of weight[o, c, r, s] * x[n, c, i*stride + r - padding, ...].

    x (N, C, H, W), weight (O, C/groups, R, S), bias (O,) -> (N, O, OH, OW) with OH = (H + 2*padding - R) // stride + 1.
    groups=C is a depthwise convolution. Raises ValueError for shapes that do not match.
    """
    groups = checks.whole("groups", groups, least=1)
    attributes = {"stride": pair(stride, "stride", 1), "padding": pair(padding, "padding"), "groups": groups}
    return x.tape.bind(CONV2D, (x,), (weight, bias), name, **attributes)


def _forward(
    kernels: Kernels, inputs: tuple, parameters: tuple, *, stride: Window, padding: Window, groups: int
) -> tuple[Array, tuple]:
    (x,), (weight, *bias) = inputs, parameters
    y = kernels.conv2d(x, weight, bias[0] if bias else None, stride, padding, groups)
    return y, (x, weight, bool(bias), (stride, padding, groups))


def _backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, weight, has_bias, geometry = saved
    x_gradient = kernels.by_input.conv2d_input_gradient(gradient, weight, x.shape, *geometry) if needs[0] else None
    weight_gradient = kernels.by_weight.conv2d_weight_gradient(x, gradient, weight.shape, *geometry)
    bias_gradient = (kernels.channel_sum(gradient),) if has_bias else ()
    return (x_gradient,), (weight_gradient, *bias_gradient)


def _shape(inputs: list[Shape], parameters: list[Shape], *, stride: Window, padding: Window, groups: int) -> Shape:
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
    return (x[0], outputs, *window_shape(x, weight[2:], stride, padding))


def _sample(x: Shape, *parameters: Shape, stride: Pair = 1, padding: Pair = 0, groups: int = 1) -> Sample:
    return Sample((x,), parameters, {"stride": pair(stride), "padding": pair(padding), "groups": groups})


CONV2D = Primitive(
    "Conv2d",
    _forward,
    _backward,
    _shape,
    opens_group=True,
    is_product=True,
    reads_input_again=True,
    samples=(
        _sample((2, 3, 5, 6), (4, 3, 3, 2), (4,)),
        _sample((2, 3, 7, 6), (2, 3, 3, 3), stride=(2, 3), padding=(1, 2)),
        _sample((1, 4, 5, 5), (6, 2, 3, 3), (6,), padding=1, groups=2),
        _sample((2, 3, 5, 5), (3, 1, 3, 3), stride=2, padding=1, groups=3),
        _sample((2, 3, 6, 6), (2, 3, 1, 1), stride=2, padding=1),
    ),
)
