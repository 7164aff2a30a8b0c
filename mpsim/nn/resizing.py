"""Defines layers without parameters that pool, pad or enlarge images."""

from __future__ import annotations

from typing import ClassVar

from mpsim import checks, ops
from mpsim.engine.tensor import Tensor
from mpsim.errors import UsageError
from mpsim.nn.module import Module
from mpsim.ops.windows import Pair, pair


class MaxPool2d(Module):
    """Applies ops.max_pool2d. The default stride is the kernel's size.

    >>> import numpy as np
    >>> from mpsim import nn
    >>> nn.apply(nn.MaxPool2d(2), np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False
    ) -> None:
        self.kernel_size, self.padding = pair(kernel_size, "kernel_size", 1), pair(padding, "padding")
        self.stride = None if stride is None else pair(stride, "stride", 1)
        self.ceil_mode = ceil_mode

    def __call__(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(
            x, self.kernel_size, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode, name=self.path
        )


class AvgPool2d(Module):
    """Applies ops.avg_pool2d. The default kernel is the entire image, the default stride the kernel's size.

    >>> import numpy as np
    >>> from mpsim import nn
    >>> nn.apply(nn.AvgPool2d(2), np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """

    def __init__(
        self,
        kernel_size: Pair | None = None,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = None if kernel_size is None else pair(kernel_size, "kernel_size", 1)
        self.stride = None if stride is None else pair(stride, "stride", 1)
        self.padding = pair(padding, "padding")
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def __call__(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(
            x, self.kernel_size, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad, name=self.path,
        )  # fmt: skip


class AdaptiveAvgPool2d(Module):
    """Applies ops.adaptive_avg_pool2d, whose results have ``size`` rows and columns, or (rows, columns).

    >>> import numpy as np
    >>> from mpsim import nn
    >>> nn.apply(nn.AdaptiveAvgPool2d((1, 2)), np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[6.5, 8.5]], dtype=float32)
    """

    def __init__(self, size: Pair) -> None:
        self.size = pair(size, "size", 1)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.size, name=self.path)


class AdaptiveMaxPool2d(Module):
    """Applies ops.adaptive_max_pool2d, whose results have ``size`` rows and columns, or (rows, columns).

    >>> import numpy as np
    >>> from mpsim import nn
    >>> nn.apply(nn.AdaptiveMaxPool2d((1, 2)), np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[13., 15.]], dtype=float32)
    """

    def __init__(self, size: Pair) -> None:
        self.size = pair(size, "size", 1)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool2d(x, self.size, name=self.path)


class ZeroPad2d(Module):
    """Applies ops.pad. ``padding`` is one number of elements, or (left, right, top, bottom), as in PyTorch.

    >>> from mpsim import nn
    >>> nn.apply(nn.ZeroPad2d((2, 0, 0, 0)), [[[[1.0, 2.0, 3.0]]]])[0, 0]
    array([[0., 0., 1., 2., 3.]], dtype=float32)
    """

    mode: ClassVar[str] = "zeros"

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        sides = tuple(padding) if isinstance(padding, tuple | list) else (padding,) * 4
        if len(sides) != 4:
            raise UsageError(f"padding must be one number or (left, right, top, bottom), got {checks.shown(padding)}")
        most = 1 << 16
        left, right, top, bottom = (checks.whole("padding", side, least=-most, most=most) for side in sides)
        self.widths = ((top, bottom), (left, right))

    def __call__(self, x: Tensor) -> Tensor:
        return ops.pad(x, self.widths, self.mode, name=self.path)


class ReflectionPad2d(ZeroPad2d):
    """Applies ops.pad with mode "reflect".

    >>> from mpsim import nn
    >>> nn.apply(nn.ReflectionPad2d((2, 0, 0, 0)), [[[[1.0, 2.0, 3.0]]]])[0, 0]
    array([[3., 2., 1., 2., 3.]], dtype=float32)
    """

    mode = "reflect"


class ReplicationPad2d(ZeroPad2d):
    """Applies ops.pad with mode "replicate".

    >>> from mpsim import nn
    >>> nn.apply(nn.ReplicationPad2d((2, 0, 0, 0)), [[[[1.0, 2.0, 3.0]]]])[0, 0]
    array([[1., 1., 1., 2., 3.]], dtype=float32)
    """

    mode = "replicate"


class CircularPad2d(ZeroPad2d):
    """Applies ops.pad with mode "circular".

    >>> from mpsim import nn
    >>> nn.apply(nn.CircularPad2d((2, 0, 0, 0)), [[[[1.0, 2.0, 3.0]]]])[0, 0]
    array([[2., 3., 1., 2., 3.]], dtype=float32)
    """

    mode = "circular"


class Upsample(Module):
    """Applies ops.upsample_nearest, or with mode "bilinear" ops.upsample_bilinear.

    >>> from mpsim import nn
    >>> nn.apply(nn.Upsample(2), [[[[1.0, 2.0]]]])[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]], dtype=float32)
    """

    def __init__(self, factor: Pair, mode: str = "nearest", align_corners: bool = False) -> None:
        self.factor = pair(factor, "factor", 1)
        self.mode, self.align_corners = checks.named("mode", mode, ("nearest", "bilinear")), align_corners

    def __call__(self, x: Tensor) -> Tensor:
        if self.mode == "nearest":
            return ops.upsample_nearest(x, self.factor, name=self.path)
        return ops.upsample_bilinear(x, self.factor, self.align_corners, name=self.path)


class PixelShuffle(Module):
    """Applies ops.pixel_shuffle, which returns a view.

    >>> import numpy as np
    >>> from mpsim import nn
    >>> nn.apply(nn.PixelShuffle(2), np.arange(4.0).reshape(1, 4, 1, 1))[0, 0]
    array([[0., 1.],
           [2., 3.]], dtype=float32)
    """

    def __init__(self, factor: int) -> None:
        self.factor = checks.whole("factor", factor, least=1)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.pixel_shuffle(x, self.factor)
