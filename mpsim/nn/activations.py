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
    """Applies ops.relu.

    >>> from mpsim import nn
    >>> nn.apply(nn.ReLU(), [-1.0, 2.0])
    array([0., 2.], dtype=float32)
    """

    op = staticmethod(ops.relu)


class ReLU6(_Function):
    """Applies ops.relu6.

    >>> from mpsim import nn
    >>> nn.apply(nn.ReLU6(), [-1.0, 3.0, 9.0])
    array([0., 3., 6.], dtype=float32)
    """

    op = staticmethod(ops.relu6)


class Sigmoid(_Function):
    """Applies ops.sigmoid.

    >>> from mpsim import nn
    >>> nn.apply(nn.Sigmoid(), [-200.0, 0.0, 200.0])
    array([0. , 0.5, 1. ], dtype=float32)
    """

    op = staticmethod(ops.sigmoid)


class Tanh(_Function):
    """Applies ops.tanh.

    >>> from mpsim import nn
    >>> nn.apply(nn.Tanh(), [-20.0, 0.0, 20.0])
    array([-1.,  0.,  1.], dtype=float32)
    """

    op = staticmethod(ops.tanh)


class Softplus(_Function):
    """Applies ops.softplus.

    >>> from mpsim import nn
    >>> nn.apply(nn.Softplus(), [0.0, 50.0])
    array([ 0.6931472, 50.       ], dtype=float32)
    """

    op = staticmethod(ops.softplus)


class SiLU(_Function):
    """Applies ops.silu.

    >>> from mpsim import nn
    >>> nn.apply(nn.SiLU(), [0.0, 1.0])
    array([0.       , 0.7310586], dtype=float32)
    """

    op = staticmethod(ops.silu)


class Hardsigmoid(_Function):
    """Applies ops.hard_sigmoid.

    >>> from mpsim import nn
    >>> nn.apply(nn.Hardsigmoid(), [-3.0, 0.0, 3.0])
    array([0. , 0.5, 1. ], dtype=float32)
    """

    op = staticmethod(ops.hard_sigmoid)


class Hardswish(_Function):
    """Applies ops.hard_swish.

    >>> from mpsim import nn
    >>> nn.apply(nn.Hardswish(), [1.0, 3.0])
    array([0.6666667, 3.       ], dtype=float32)
    """

    op = staticmethod(ops.hard_swish)


class GELU(Module):
    """Applies ops.gelu. ``approximate`` is "none" or "tanh".

    >>> from mpsim import nn
    >>> nn.apply(nn.GELU(), [1.0]), nn.apply(nn.GELU("tanh"), [1.0])
    (array([0.8413448], dtype=float32), array([0.841192], dtype=float32))
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = checks.named("approximate", approximate, ("none", "tanh"))

    def __call__(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate, name=self.path)


class LeakyReLU(Module):
    """Applies ops.leaky_relu.

    >>> from mpsim import nn
    >>> nn.apply(nn.LeakyReLU(0.25), [-1.0, 2.0])
    array([-0.25,  2.  ], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number("negative_slope", negative_slope)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope, name=self.path)


class Dropout(Module):
    """Applies ops.dropout.

    Args:
        share: The probability that an element becomes 0 in training.
        leading: The number of leading axes with their own draws; 2 drops channels of images.

    >>> import numpy as np
    >>> from mpsim import nn
    >>> sorted(set(nn.apply(nn.Dropout(0.5), np.ones(100), training=True).tolist()))
    [0.0, 2.0]
    >>> nn.apply(nn.Dropout(0.5), [1.0, 1.0])
    array([1., 1.], dtype=float32)
    """

    def __init__(self, share: float = 0.5, leading: int | None = None) -> None:
        self.share, self.leading = checks.real("share", share, least=0, below=1), leading

    def __call__(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.share, leading=self.leading, name=self.path)


class StochasticDepth(Dropout):
    """Applies ops.dropout to entire samples, e.g. of the branch of a residual block.

    >>> import numpy as np
    >>> from mpsim import nn
    >>> kept = nn.apply(nn.StochasticDepth(0.5), np.ones((100, 2)), training=True)
    >>> sorted(set(map(tuple, kept.tolist())))
    [(0.0, 0.0), (2.0, 2.0)]
    """

    def __init__(self, share: float = 0.5) -> None:
        super().__init__(share, leading=1)


class Softmax(Module):
    """Applies ops.softmax along an axis.

    >>> from mpsim import nn
    >>> nn.apply(nn.Softmax(), [[0.0, 0.0], [0.0, 200.0]])
    array([[0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def __call__(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.axis, name=self.path)
