"""Defines the layers. Each has named parameters and calls one op."""

from __future__ import annotations

from math import prod

import numpy as np

from mpsim import checks, ops
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.nn.module import Module
from mpsim.ops.normalization import check_epsilon, check_momentum
from mpsim.ops.windows import Pair, pair


class Conv2d(Module):
    """Applies ops.conv2d.

    ``weight`` (out_channels, in_channels/groups, R, S) and ``bias`` (out_channels,) start as zeros.

    Args:
        in_channels, out_channels: The numbers of channels.
        kernel_size, stride, padding: One number, or one for each of (height, width).
        groups: The number of groups of channels that are convolved separately.
        bias: Whether there is a bias.

    Raises:
        ValueError: A number is out of range, or the channels cannot be divided into ``groups``.

    >>> Conv2d(1, 4, 3).weight.shape
    (4, 1, 3, 3)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        in_channels, out_channels = count("in_channels", in_channels), count("out_channels", out_channels)
        if in_channels % count("groups", groups) or out_channels % groups:
            raise UsageError(
                f"{in_channels} input and {out_channels} output channels cannot be divided into {groups} groups"
            )
        self.stride, self.padding, self.groups = pair(stride, "stride", 1), pair(padding, "padding"), groups
        self.weight = filled(0, out_channels, in_channels // groups, *pair(kernel_size, "kernel_size", 1))
        self.bias = filled(0, out_channels) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        geometry = {"stride": self.stride, "padding": self.padding}
        return ops.conv2d(x, self.weight, self.bias, **geometry, groups=self.groups, name=self.path)


class Linear(Module):
    """Applies ops.linear.

    ``weight`` (out_features, in_features) and ``bias`` (out_features,) start as zeros.

    >>> Linear(64, 10, bias=False).weight.shape
    (10, 64)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        in_features, out_features = count("in_features", in_features), count("out_features", out_features)
        self.weight = filled(0, out_features, in_features)
        self.bias = filled(0, out_features) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias, name=self.path)


class BatchNorm2d(Module):
    """Applies ops.batch_norm.

    ``weight`` (the scale) starts as ones, ``bias`` (the shift) as zeros.

    Args:
        channels: The number of channels.
        epsilon: Added to the variance.
        momentum: The weight of a batch in the running statistics. With None they are averages over all batches, in
            which each batch has the weight 1 / (number of batches), as in PyTorch.

    >>> list(BatchNorm2d(4).buffers())
    ['running_mean', 'running_var', 'num_batches_tracked']
    """

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(self, channels: int, epsilon: float = 1e-5, momentum: float | None = 0.1) -> None:
        channels = count("channels", channels)
        self.epsilon, self.momentum = check_epsilon(epsilon), None if momentum is None else check_momentum(momentum)
        self.weight, self.bias = filled(1, channels), filled(0, channels)
        self.running_mean: Array = np.zeros(channels, np.float32)
        self.running_var: Array = np.ones(channels, np.float32)
        self.num_batches_tracked: Array = np.zeros((), np.int64)

    def __call__(self, x: Tensor) -> Tensor:
        tracked = int(self.num_batches_tracked) + 1
        momentum = 1 / tracked if self.momentum is None else self.momentum
        statistics = (self.running_mean, self.running_var)
        constants = {"epsilon": self.epsilon, "momentum": momentum}
        y = ops.batch_norm(x, self.weight, self.bias, *statistics, **constants, name=self.path)
        if x.tape.training and not x.tape.shape_only:
            self.num_batches_tracked = np.asarray(tracked, np.int64)
        return y


class MaxPool2d(Module):
    """Applies ops.max_pool2d. The default stride is the kernel's size."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.kernel_size, self.padding = pair(kernel_size, "kernel_size", 1), pair(padding, "padding")
        self.stride = None if stride is None else pair(stride, "stride", 1)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding, name=self.path)


class AvgPool2d(Module):
    """Applies ops.avg_pool2d. The default kernel is the entire image, the default stride the kernel's size."""

    def __init__(self, kernel_size: Pair | None = None, stride: Pair | None = None, padding: Pair = 0) -> None:
        self.kernel_size = None if kernel_size is None else pair(kernel_size, "kernel_size", 1)
        self.stride = None if stride is None else pair(stride, "stride", 1)
        self.padding = pair(padding, "padding")

    def __call__(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding, name=self.path)


class Add(Module):
    """Applies ops.add to two tensors."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return ops.add(a, b, name=self.path)


class Cat(Module):
    """Applies ops.cat to any number of tensors."""

    def __call__(self, *tensors: Tensor) -> Tensor:
        return ops.cat(tensors, name=self.path)


class SplitHalf(Module):
    """Applies ops.split_half, i.e. two ops named "<path>.first" and "<path>.second"."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return ops.split_half(x, name=self.path)


class ChannelShuffle(Module):
    """Applies ops.channel_shuffle, which returns a view."""

    def __init__(self, groups: int = 2) -> None:
        self.groups = count("groups", groups)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.channel_shuffle(x, self.groups)


class Flatten(Module):
    """Applies ops.flatten, which returns a view."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.flatten(x)


class Identity(Module):
    """Returns its input unchanged and adds no op."""

    def __call__(self, x: Tensor) -> Tensor:
        return x


def filled(value: float, *shape: int) -> Parameter:
    """Returns a parameter with one value everywhere."""
    checks.fits_memory(
        f"a parameter of shape {shape} needs", 4 * prod(shape), "make it smaller, e.g. by reducing the network's width"
    )
    return Parameter(np.full(shape, value, np.float32) if value else np.zeros(shape, np.float32))


def count(name: str, value: int) -> int:
    """Returns a number of channels or elements if it is at least 1."""
    return checks.whole(name, value, least=1)
