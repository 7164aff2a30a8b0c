"""Defines the layers. Each has named parameters and calls one op."""

from __future__ import annotations

from mpsim import ops
from mpsim.engine.tensor import Tensor
from mpsim.nn.module import Module
from mpsim.nn.parameters import at_least_one, filled


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


class Add(Module):
    """Applies ops.add to two tensors.

    >>> from mpsim import nn
    >>> nn.apply(nn.Add(), [1.0, 2.0], [0.5, 0.5])
    array([1.5, 2.5], dtype=float32)
    """

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return ops.add(a, b, name=self.path)


class Cat(Module):
    """Applies ops.cat to any number of tensors.

    >>> from mpsim import nn
    >>> nn.apply(nn.Cat(), [[1.0]], [[2.0, 3.0]])
    array([[1., 2., 3.]], dtype=float32)
    """

    def __call__(self, *tensors: Tensor) -> Tensor:
        return ops.cat(tensors, name=self.path)


class SplitHalf(Module):
    """Applies ops.split_half, i.e. two ops named "<path>.first" and "<path>.second".

    >>> from mpsim import nn
    >>> nn.apply(nn.SplitHalf(), [[1.0, 2.0]])
    (array([[1.]], dtype=float32), array([[2.]], dtype=float32))
    """

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return ops.split_half(x, name=self.path)


class ChannelShuffle(Module):
    """Applies ops.channel_shuffle, which returns a view.

    >>> import numpy as np
    >>> from mpsim import nn
    >>> nn.apply(nn.ChannelShuffle(2), np.arange(4.0).reshape(1, 4, 1, 1)).ravel()
    array([0., 2., 1., 3.], dtype=float32)
    """

    def __init__(self, groups: int = 2) -> None:
        self.groups = at_least_one("groups", groups)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.channel_shuffle(x, self.groups)


class Flatten(Module):
    """Applies ops.flatten, which returns a view.

    >>> import numpy as np
    >>> from mpsim import nn
    >>> nn.apply(nn.Flatten(), np.ones((2, 3, 4, 4))).shape
    (2, 48)
    """

    def __call__(self, x: Tensor) -> Tensor:
        return ops.flatten(x)


class Identity(Module):
    """Returns its input unchanged and adds no op.

    >>> from mpsim import nn
    >>> nn.apply(nn.Identity(), [0.1])
    array([0.1], dtype=float32)
    """

    def __call__(self, x: Tensor) -> Tensor:
        return x
