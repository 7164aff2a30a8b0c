"""Defines layers without parameters that pool, pad or enlarge images."""

from __future__ import annotations

from typing import ClassVar

from mpsim import checks, ops
from mpsim.engine.tensor import Tensor
from mpsim.errors import UsageError
from mpsim.nn.module import Module
from mpsim.ops.windows import Pair, pair


class MaxPool2d(Module):
    """Applies ops.max_pool2d. The default stride is the kernel's size."""

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
    """Applies ops.avg_pool2d. The default kernel is the entire image, the default stride the kernel's size."""

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
    """Applies ops.adaptive_avg_pool2d, whose results have ``size`` rows and columns, or (rows, columns)."""

    def __init__(self, size: Pair) -> None:
        self.size = pair(size, "size", 1)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.size, name=self.path)


class AdaptiveMaxPool2d(Module):
    """Applies ops.adaptive_max_pool2d, whose results have ``size`` rows and columns, or (rows, columns)."""

    def __init__(self, size: Pair) -> None:
        self.size = pair(size, "size", 1)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool2d(x, self.size, name=self.path)


class ZeroPad2d(Module):
    """Applies ops.pad. ``padding`` is one number of elements, or (left, right, top, bottom), as in PyTorch."""

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
    """Applies ops.pad with mode "reflect"."""

    mode = "reflect"


class ReplicationPad2d(ZeroPad2d):
    """Applies ops.pad with mode "replicate"."""

    mode = "replicate"


class CircularPad2d(ZeroPad2d):
    """Applies ops.pad with mode "circular"."""

    mode = "circular"


class Upsample(Module):
    """Applies ops.upsample_nearest, or with mode "bilinear" ops.upsample_bilinear."""

    def __init__(self, factor: Pair, mode: str = "nearest", align_corners: bool = False) -> None:
        self.factor = pair(factor, "factor", 1)
        self.mode, self.align_corners = checks.named("mode", mode, ("nearest", "bilinear")), align_corners

    def __call__(self, x: Tensor) -> Tensor:
        if self.mode == "nearest":
            return ops.upsample_nearest(x, self.factor, name=self.path)
        return ops.upsample_bilinear(x, self.factor, self.align_corners, name=self.path)


class PixelShuffle(Module):
    """Applies ops.pixel_shuffle, which returns a view."""

    def __init__(self, factor: int) -> None:
        self.factor = checks.whole("factor", factor, least=1)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.pixel_shuffle(x, self.factor)
