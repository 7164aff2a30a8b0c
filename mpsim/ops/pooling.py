"""Maximum and average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpsim import checks
from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.ops.broadcasting import expanded
from mpsim.ops.indexing import Steps, gathered, gathered_shape, scattered
from mpsim.ops.windows import Pair, Window, pair, window_shape


def max_pool2d(
    x: Tensor,
    kernel: Pair,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Tensor:
    """Returns the largest element of each window: (N, C, H, W) -> (N, C, OH, OW). stride=None: the kernel's size.

    Padding is ignored, and is at most half the kernel. With ``ceil_mode`` a last window that begins inside the image or
    the padding before it may end beyond. The gradient goes to the first largest element of the stored input in (row,
    column) order.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.max_pool2d(x, 2), np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    geometry = _geometry(kernel, stride, padding)
    if ceil_mode:
        geometry["steps"] = _beyond(x.shape, geometry, last=True)
    return x.tape.bind(MAX_POOL2D, (x,), name=name, **geometry)


def avg_pool2d(
    x: Tensor,
    kernel: Pair | None = None,
    *,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    name: str | None = None,
) -> Tensor:
    """Returns the mean of each window, including zeros of the padding: (N, C, H, W) -> (N, C, OH, OW).

    kernel=None: one window of the whole image. stride=None: the kernel's size. With ``ceil_mode`` a last window that
    begins inside the image or the padding before it may end beyond. Elements beyond do not count, and without
    ``count_include_pad`` neither does the padding: the mean over the whole window, rounded, is divided by the share of
    elements that count, as a float32 number.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.avg_pool2d(x, 2), np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    size = kernel if kernel is not None else x.shape[2:] if len(x.shape) == 4 else 1
    geometry = _geometry(size, stride, padding)
    if ceil_mode:
        geometry["steps"] = _beyond(x.shape, geometry, last=False)
    if (ceil_mode or not count_include_pad) and len(x.shape) == 4:
        geometry["shares"] = _shares(x.shape, geometry, count_include_pad)
    return x.tape.bind(AVG_POOL2D, (x,), name=name, **geometry)


def adaptive_avg_pool2d(x: Tensor, size: Pair, *, name: str | None = None) -> Tensor:
    """Returns the means of windows of about equal size: (N, C, H, W) -> (N, C, OH, OW), ``size`` = (OH, OW).

    Window i of an axis has the elements floor(i*H / OH) to ceil((i + 1)*H / OH) - 1. If windows differ in size, smaller
    ones are filled with zeros, and the means are divided by the share of elements that count, as in ``avg_pool2d``.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.adaptive_avg_pool2d(x, (1, 2)), np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[6.5, 8.5]], dtype=float32)
    """
    steps, kernel, sizes = _windows(x.shape, size, last=False)
    counts = np.outer(*sizes) / (kernel[0] * kernel[1])
    shares = None if (counts == 1).all() else counts.astype(np.float32)
    return x.tape.bind(AVG_POOL2D, (x,), name=name, **_geometry(kernel, None, 0), steps=steps, shares=shares)


def adaptive_max_pool2d(x: Tensor, size: Pair, *, name: str | None = None) -> Tensor:
    """Returns the largest elements of the windows of ``adaptive_avg_pool2d``.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.adaptive_max_pool2d(x, (1, 2)), np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[13., 15.]], dtype=float32)
    """
    steps, kernel, _ = _windows(x.shape, size, last=True)
    return x.tape.bind(MAX_POOL2D, (x,), name=name, **_geometry(kernel, None, 0), steps=steps)


def _geometry(kernel: Any, stride: Pair | None, padding: Pair) -> dict[str, object]:
    window = pair(kernel, "kernel", 1)
    step = window if stride is None else pair(stride, "stride", 1)
    return {"kernel": window, "stride": step, "padding": pair(padding, "padding")}


def _beyond(x: Shape, geometry: dict[str, Any], last: bool) -> Steps:
    """Returns the steps that add elements at the end of both axes for windows that end beyond: with ``last`` copies of
    the last element, which change no maximum, because such a window has it too; else zeros."""
    steps = []
    for i, size in enumerate(x[2:]):
        kernel, stride, padding = (geometry[name][i] for name in ("kernel", "stride", "padding"))
        count = -(-(size + 2 * padding - kernel) // stride) + 1
        if (count - 1) * stride >= size + padding:
            count -= 1
        missing = (count - 1) * stride + kernel - size - 2 * padding
        if missing > 0:
            steps.append((2 + i, np.concatenate([np.arange(size), np.full(missing, size - 1 if last else -1)])))
    return tuple(steps)


def _shares(x: Shape, geometry: dict[str, Any], padded: bool) -> np.ndarray | None:
    """Returns the share of elements that count in each window, or None if all do."""
    kernel, stride, padding = (geometry[name] for name in ("kernel", "stride", "padding"))
    counts = []
    for i, (size, outputs) in enumerate(zip(x[2:], _shape([x], [], **geometry)[2:], strict=True)):
        first = np.arange(outputs) * stride[i] - padding[i]
        edge = padding[i] if padded else 0
        counts.append(np.minimum(first + kernel[i], size + edge) - np.maximum(first, -edge))
    shares = np.outer(*counts) / (kernel[0] * kernel[1])
    return None if (shares == 1).all() else shares.astype(np.float32)


def _windows(x: Shape, size: Pair, last: bool) -> tuple[Steps, Window, list[np.ndarray]]:
    """Returns the steps that put the elements of each window side by side, the largest window, and all sizes."""
    if len(x) != 4:
        raise UsageError(f"input must be (N, C, H, W), got {x}")
    steps, most, sizes = [], [], []
    for axis, outputs in zip((2, 3), pair(size, "size", 1), strict=True):
        whole, place = checks.whole(f"x.shape[{axis}]", x[axis], least=1), np.arange(outputs)
        first, end = place * whole // outputs, -(-(place + 1) * whole // outputs)
        width = int((end - first).max())
        index = first[:, None] + np.arange(width)
        index = np.where(index < end[:, None], index, end[:, None] - 1 if last else -1).reshape(-1)
        if not np.array_equal(index, np.arange(whole)):
            steps.append((axis, index))
        most.append(width)
        sizes.append(end - first)
    return tuple(steps), (most[0], most[1]), sizes


def _shape(
    inputs: list[Shape],
    parameters: list[Shape],
    *,
    kernel: Window,
    stride: Window,
    padding: Window,
    steps: Steps = (),
    shares: np.ndarray | None = None,
) -> Shape:
    (x,) = inputs
    if len(x) != 4:
        raise UsageError(f"input must be (N, C, H, W), got {x}")
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise UsageError(f"padding {padding} must be at most half of the kernel {kernel}")
    return (*x[:2], *window_shape(gathered_shape(x, steps), kernel, stride, padding))


def _max_forward(
    kernels: Kernels,
    inputs: tuple,
    parameters: tuple,
    *,
    kernel: Window,
    stride: Window,
    padding: Window,
    steps: Steps = (),
) -> tuple[Array, tuple]:
    x, made = gathered(kernels, inputs[0], steps) if steps else (inputs[0], [])
    y, index = kernels.max_pool2d(x, kernel, stride, padding)
    return y, (index, x.shape, made)


def _max_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    index, shape, made = saved
    if not needs[0]:
        return (None,), ()
    return (scattered(kernels, kernels.max_pool2d_gradient(gradient, index, shape), made),), ()


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
        Sample(((2, 2, 4, 3),), attributes=_geometry(2, None, 0) | {"steps": ((2, np.array([0, 1, 1, 2, 3, 3])),)}),
    ),
)


def _average_forward(
    kernels: Kernels,
    inputs: tuple,
    parameters: tuple,
    *,
    kernel: Window,
    stride: Window,
    padding: Window,
    steps: Steps = (),
    shares: np.ndarray | None = None,
) -> tuple[Array, tuple]:
    x, made = gathered(kernels, inputs[0], steps) if steps else (inputs[0], [])
    y = kernels.sums.avg_pool2d(x, kernel, stride, padding)
    return _over_shares(kernels, y, shares), (x.shape, kernel, stride, padding, made, shares)


def _over_shares(kernels: Kernels, y: Array, shares: np.ndarray | None) -> Array:
    """Divides the windows of (N, C, OH, OW) by their shares, in the memory of y."""
    if shares is None:
        return y
    return kernels.divide(y, expanded(kernels, kernels.from_numpy(shares), tuple(y.shape)), out=y)


def _average_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    *geometry, made, shares = saved
    if not needs[0]:
        return (None,), ()
    gradient = kernels.avg_pool2d_gradient(_over_shares(kernels, gradient, shares), *geometry)
    return (scattered(kernels, gradient, made),), ()


AVG_POOL2D = Primitive(
    "AvgPool2d",
    _average_forward,
    _average_backward,
    _shape,
    sums="output",
    samples=(
        Sample(((2, 3, 4, 4),), attributes=_geometry(4, None, 0)),
        Sample(((2, 2, 7, 6),), attributes=_geometry((3, 2), 2, 1)),
        Sample(
            ((2, 2, 4, 3),),
            attributes=_geometry(2, None, 0)
            | {
                "steps": ((2, np.array([0, 1, 1, 2, 3, -1])), (3, np.array([0, 1, 2, -1]))),
                "shares": np.array([[1, 0.5], [1, 0.5], [0.5, 0.25]], np.float32),
            },
        ),
    ),
)
