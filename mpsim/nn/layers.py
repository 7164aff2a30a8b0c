"""Defines the layers. Each has named parameters and calls one op."""

from __future__ import annotations

import numpy as np

from mpsim import ops
from mpsim.engine.tensor import Array, Tensor
from mpsim.nn.module import Module
from mpsim.nn.parameters import at_least_one, filled
from mpsim.ops.normalization import check_epsilon, check_momentum
from mpsim.ops.windows import Pair, pair


class Linear(Module):
    """Applies ops.linear.

    ``weight`` (out_features, in_features) and ``bias`` (out_features,) start as zeros.

    >>> Linear(64, 10, bias=False).weight.shape
    (10, 64)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        in_features, out_features = at_least_one("in_features", in_features), at_least_one("out_features", out_features)
        self.weight = filled(0, out_features, in_features)
        self.bias = filled(0, out_features) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias, name=self.path)


class Embedding(Module):
    """Applies ops.embedding. ``weight`` (count, width) starts as zeros.

    >>> Embedding(27, 16).weight.shape
    (27, 16)
    """

    def __init__(self, count: int, width: int) -> None:
        self.weight = filled(0, at_least_one("count", count), at_least_one("width", width))

    def __call__(self, tokens: Tensor) -> Tensor:
        return ops.embedding(tokens, self.weight, name=self.path)


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
        channels = at_least_one("channels", channels)
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
        self.groups = at_least_one("groups", groups)

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
