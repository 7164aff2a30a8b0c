"""Defines layers that normalize channels, groups of channels, or rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpsim import ops
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError
from mpsim.nn.module import Module
from mpsim.nn.parameters import at_least_one, filled
from mpsim.ops.normalization import check_epsilon, check_momentum


class BatchNorm2d(Module):
    """Applies ops.batch_norm.

    ``weight`` (the scale) starts as ones, ``bias`` (the shift) as zeros.

    Args:
        channels: The number of channels.
        epsilon: Added to the variance.
        momentum: The weight of a batch in the running statistics. With None they are averages over all batches, in
            which each batch has the weight 1 / (number of batches), as in PyTorch.
        affine: Whether there are ``weight`` and ``bias``.
        track_running_stats: Whether there are running statistics. Without them evaluation uses those of the batch.

    >>> list(BatchNorm2d(4).buffers())
    ['running_mean', 'running_var', 'num_batches_tracked']
    """

    def __init__(
        self,
        channels: int,
        epsilon: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        channels = at_least_one("channels", channels)
        self.epsilon, self.momentum = check_epsilon(epsilon), None if momentum is None else check_momentum(momentum)
        self.weight, self.bias = (filled(value, channels) if affine else None for value in (1, 0))
        self.tracks = track_running_stats
        if not self.tracks:
            return
        self.buffer_names = ("running_mean", "running_var", "num_batches_tracked")
        self.running_mean: Array = np.zeros(channels, np.float32)
        self.running_var: Array = np.ones(channels, np.float32)
        self.num_batches_tracked: Array = np.zeros((), np.int64)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.tracks:
            return ops.batch_norm(x, self.weight, self.bias, epsilon=self.epsilon, of_batch=True, name=self.path)
        tracked = int(self.num_batches_tracked) + 1
        momentum = 1 / tracked if self.momentum is None else self.momentum
        statistics = (self.running_mean, self.running_var)
        y = ops.batch_norm(
            x, self.weight, self.bias, *statistics, epsilon=self.epsilon, momentum=momentum, name=self.path
        )
        if x.tape.training and not x.tape.shape_only:
            self.num_batches_tracked = np.asarray(tracked, np.int64)
        return y


class BatchNorm1d(BatchNorm2d):
    """Applies ops.batch_norm to (N, C) or (N, C, L).

    >>> from mpsim import nn
    >>> nn.apply(nn.BatchNorm1d(1, epsilon=2.0**-40), [[1.0], [3.0]], training=True)
    array([[-1.],
           [ 1.]], dtype=float32)
    """


class LayerNorm(Module):
    """Applies ops.layer_norm over the last axes.

    Args:
        shape: The sizes of the last axes, or the size of the last one.
        epsilon: Added to the variance.
        affine: Whether there is a ``weight``, which starts as ones, and with ``bias`` a ``bias`` of zeros.

    >>> LayerNorm(64).weight.shape
    (64,)
    """

    def __init__(
        self, shape: int | Sequence[int], epsilon: float = 1e-5, affine: bool = True, bias: bool = True
    ) -> None:
        given = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
        sizes = tuple(at_least_one(f"shape[{i}]", size) for i, size in enumerate(given))
        self.axes, self.epsilon = len(sizes), check_epsilon(epsilon)
        self.weight = filled(1, *sizes) if affine else None
        self.bias = filled(0, *sizes) if affine and bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, axes=self.axes, epsilon=self.epsilon, name=self.path)


class RMSNorm(Module):
    """Applies ops.rms_norm over the last axis. ``weight`` (size,) starts as ones.

    >>> from mpsim import nn
    >>> nn.apply(nn.RMSNorm(2), [[3.0, -3.0]]).round(3)
    array([[ 1., -1.]], dtype=float32)
    """

    def __init__(self, size: int, epsilon: float = 2.0**-23, affine: bool = True) -> None:
        self.epsilon = check_epsilon(epsilon)
        self.weight = filled(1, at_least_one("size", size)) if affine else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, epsilon=self.epsilon, name=self.path)


class GroupNorm(Module):
    """Applies ops.group_norm. ``weight`` (channels,) starts as ones, ``bias`` (channels,) as zeros.

    >>> from mpsim import nn
    >>> nn.apply(nn.GroupNorm(1, 2, epsilon=2.0**-40), [[1.0, 3.0]])
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, groups: int, channels: int, epsilon: float = 1e-5, affine: bool = True) -> None:
        self.groups, self.epsilon = at_least_one("groups", groups), check_epsilon(epsilon)
        if at_least_one("channels", channels) % groups:
            raise UsageError(f"{channels} channels cannot be divided into {groups} groups")
        self.weight, self.bias = (filled(value, channels) if affine else None for value in (1, 0))

    def __call__(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.groups, self.weight, self.bias, epsilon=self.epsilon, name=self.path)
