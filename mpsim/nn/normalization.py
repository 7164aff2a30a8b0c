"""Defines layers that normalize rows or groups of channels."""

from __future__ import annotations

from collections.abc import Sequence

from mpsim import ops
from mpsim.engine.tensor import Tensor
from mpsim.errors import UsageError
from mpsim.nn.module import Module
from mpsim.nn.parameters import at_least_one, filled
from mpsim.ops.normalization import check_epsilon


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
    """Applies ops.rms_norm over the last axis. ``weight`` (size,) starts as ones."""

    def __init__(self, size: int, epsilon: float = 2.0**-23, affine: bool = True) -> None:
        self.epsilon = check_epsilon(epsilon)
        self.weight = filled(1, at_least_one("size", size)) if affine else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, epsilon=self.epsilon, name=self.path)


class GroupNorm(Module):
    """Applies ops.group_norm. ``weight`` (channels,) starts as ones, ``bias`` (channels,) as zeros."""

    def __init__(self, groups: int, channels: int, epsilon: float = 1e-5, affine: bool = True) -> None:
        self.groups, self.epsilon = at_least_one("groups", groups), check_epsilon(epsilon)
        if at_least_one("channels", channels) % groups:
            raise UsageError(f"{channels} channels cannot be divided into {groups} groups")
        self.weight, self.bias = (filled(value, channels) if affine else None for value in (1, 0))

    def __call__(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.groups, self.weight, self.bias, epsilon=self.epsilon, name=self.path)
