"""Maximum and average pooling."""

from __future__ import annotations

from typing import Any

from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.ops.windows import Pair, Window, pair, window_shape


def max_pool2d(
    x: Tensor, kernel: Pair, *, stride: Pair | None = None, padding: Pair = 0, name: str | None = None
) -> Tensor:
    """Returns the largest element of each window: (N, C, H, W) -> (N, C, OH, OW). stride=None: the kernel's size.

    Padding is ignored, and is at most half the kernel. The gradient goes to the first largest element of the stored
    input in (row, column) order.
    """
    return x.tape.bind(MAX_POOL2D, (x,), name=name, **_geometry(kernel, stride, padding))


def avg_pool2d(
    x: Tensor, kernel: Pair | None = None, *, stride: Pair | None = None, padding: Pair = 0, name: str | None = None
) -> Tensor:
    """Returns the mean of each window, including zeros of the padding: (N, C, H, W) -> (N, C, OH, OW).

    kernel=None: one window of the whole image. stride=None: the kernel's size.
    """
    size = kernel if kernel is not None else x.shape[2:] if len(x.shape) == 4 else 1
    return x.tape.bind(AVG_POOL2D, (x,), name=name, **_geometry(size, stride, padding))


def _geometry(kernel: Any, stride: Pair | None, padding: Pair) -> dict[str, tuple[int, int]]:
    window = pair(kernel, "kernel", 1)
    step = window if stride is None else pair(stride, "stride", 1)
    return {"kernel": window, "stride": step, "padding": pair(padding, "padding")}


def _shape(inputs: list[Shape], parameters: list[Shape], *, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    (x,) = inputs
    if len(x) != 4:
        raise UsageError(f"input must be (N, C, H, W), got {x}")
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise UsageError(f"padding {padding} must be at most half of the kernel {kernel}")
    return (*x[:2], *window_shape(x, kernel, stride, padding))


def _max_forward(
    kernels: Kernels, inputs: tuple, parameters: tuple, *, kernel: Window, stride: Window, padding: Window
) -> tuple[Array, tuple]:
    y, index = kernels.max_pool2d(inputs[0], kernel, stride, padding)
    return y, (index, inputs[0].shape)


def _max_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (kernels.max_pool2d_gradient(gradient, *saved) if needs[0] else None,), ()


MAX_POOL2D = Primitive(
    "MaxPool2d",
    _max_forward,
    _max_backward,
    _shape,
    chooses=True,
    kept_bits=8,
    samples=(
        Sample(((2, 3, 6, 4),), attributes=_geometry(2, None, 0)),
        Sample(((2, 2, 7, 6),), attributes=_geometry(3, 2, 1)),
    ),
)


def _average_forward(
    kernels: Kernels, inputs: tuple, parameters: tuple, *, kernel: Window, stride: Window, padding: Window
) -> tuple[Array, tuple]:
    y = kernels.avg_pool2d(inputs[0], kernel, stride, padding)
    return y, (inputs[0].shape, kernel, stride, padding)


def _average_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (kernels.avg_pool2d_gradient(gradient, *saved) if needs[0] else None,), ()


AVG_POOL2D = Primitive(
    "AvgPool2d",
    _average_forward,
    _average_backward,
    _shape,
    samples=(
        Sample(((2, 3, 4, 4),), attributes=_geometry(4, None, 0)),
        Sample(((2, 2, 7, 6),), attributes=_geometry((3, 2), 2, 1)),
    ),
)
