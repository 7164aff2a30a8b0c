"""Defines layers without parameters that apply a function to each element, or along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from mpsim import checks, ops
from mpsim.engine.tensor import Tensor
from mpsim.nn.module import Module
from mpsim.ops.functions import number


class _Function(Module):
    """Applies an op of one tensor, named by the layer's path."""

    op: ClassVar[Callable[..., Tensor]]

    def __call__(self, x: Tensor) -> Tensor:
        return type(self).op(x, name=self.path)


class ReLU(_Function):
    """Applies ops.relu."""

    op = staticmethod(ops.relu)


class ReLU6(_Function):
    """Applies ops.relu6."""

    op = staticmethod(ops.relu6)


class Sigmoid(_Function):
    """Applies ops.sigmoid."""

    op = staticmethod(ops.sigmoid)


class Tanh(_Function):
    """Applies ops.tanh."""

    op = staticmethod(ops.tanh)


class Softplus(_Function):
    """Applies ops.softplus."""

    op = staticmethod(ops.softplus)


class SiLU(_Function):
    """Applies ops.silu."""

    op = staticmethod(ops.silu)


class Hardsigmoid(_Function):
    """Applies ops.hard_sigmoid."""

    op = staticmethod(ops.hard_sigmoid)


class Hardswish(_Function):
    """Applies ops.hard_swish."""

    op = staticmethod(ops.hard_swish)


class GELU(Module):
    """Applies ops.gelu. ``approximate`` is "none" or "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = checks.named("approximate", approximate, ("none", "tanh"))

    def __call__(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate, name=self.path)


class LeakyReLU(Module):
    """Applies ops.leaky_relu."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number("negative_slope", negative_slope)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope, name=self.path)


class Dropout(Module):
    """Applies ops.dropout.

    Args:
        share: The probability that an element becomes 0 in training.
        leading: The number of leading axes with their own draws; 2 drops channels of images.
    """

    def __init__(self, share: float = 0.5, leading: int | None = None) -> None:
        self.share, self.leading = checks.real("share", share, least=0, below=1), leading

    def __call__(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.share, leading=self.leading, name=self.path)


class StochasticDepth(Dropout):
    """Applies ops.dropout to entire samples, e.g. of the branch of a residual block."""

    def __init__(self, share: float = 0.5) -> None:
        super().__init__(share, leading=1)


class Softmax(Module):
    """Applies ops.softmax along an axis."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def __call__(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.axis, name=self.path)
