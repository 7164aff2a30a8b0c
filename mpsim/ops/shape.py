"""Ops that join and split channels, and views with another shape or order of the same elements, which are not ops."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mpsim import checks
from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels


def cat(tensors: Sequence[Tensor], *, name: str | None = None) -> Tensor:
    """Joins tensors along the channels, axis 1. Raises ValueError unless all other sizes are equal.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda a, b: ops.cat([a, b]), [[1.0]], [[2.0, 3.0]])
    array([[1., 2., 3.]], dtype=float32)
    """
    if not tensors:
        raise UsageError("cat needs at least one tensor, got none")
    return tensors[0].tape.bind(CAT, tuple(tensors), name=name)


def _cat_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    return kernels.concatenate(inputs), tuple(x.shape[1] for x in inputs)


def _cat_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    starts = [sum(saved[:position]) for position in range(len(saved))]
    return tuple(
        kernels.slice_channels(gradient, start, start + channels) if needed else None
        for start, channels, needed in zip(starts, saved, needs, strict=True)
    ), ()


def _cat_shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    first = inputs[0]
    for x in inputs:
        if len(x) < 2 or x[:1] + x[2:] != first[:1] + first[2:]:
            raise UsageError(f"inputs may differ in axis 1 (channels) only, got {' and '.join(map(str, inputs))}")
    return (first[0], sum(x[1] for x in inputs), *first[2:])


CAT = Primitive(
    "Cat",
    _cat_forward,
    _cat_backward,
    _cat_shape,
    chooses=True,
    samples=(Sample(((2, 3, 4, 2), (2, 1, 4, 2), (2, 2, 4, 2))),),
)


def split_half(x: Tensor, *, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Returns the first and the second half of the channels, each by a separate op ("<name>.first", "<name>.second").

    (N, C, ...) -> twice (N, C/2, ...). Raises ValueError for an odd C.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.split_half, [[1.0, 2.0]])
    (array([[1.]], dtype=float32), array([[2.]], dtype=float32))
    """
    name = name or f"splithalf{len(x.tape.ops)}"
    first = x.tape.bind(SPLIT_HALF, (x,), name=f"{name}.first", half=0)
    return first, x.tape.bind(SPLIT_HALF, (x,), name=f"{name}.second", half=1)


def _split_forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, half: int) -> tuple[Array, tuple]:
    channels = inputs[0].shape[1]
    start = half * (channels // 2)
    return kernels.slice_channels(inputs[0], start, start + channels // 2), (start, channels)


def _split_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (kernels.place_channels(gradient, *saved) if needs[0] else None,), ()


def _split_shape(inputs: list[Shape], parameters: list[Shape], *, half: int) -> Shape:
    (x,) = inputs
    if len(x) < 2 or x[1] % 2:
        raise UsageError(f"input needs an even number of channels on axis 1, got shape {x}")
    return (x[0], x[1] // 2, *x[2:])


SPLIT_HALF = Primitive(
    "SplitHalf",
    _split_forward,
    _split_backward,
    _split_shape,
    chooses=True,
    samples=tuple(Sample(((2, 4, 3, 2),), attributes={"half": half}) for half in (0, 1)),
)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns a view with another shape and the same order of elements. One size may be -1, which is then inferred.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.reshape(x, (3, -1)), np.ones((2, 6))).shape
    (3, 4)
    """
    old, new = x.shape, tuple(int(size) for size in shape)
    known = prod(size for size in new if size != -1)
    if new.count(-1) == 1 and known:
        new = tuple(prod(old) // known if size == -1 else size for size in new)
    if min(new, default=0) < 0 or prod(new) != prod(old):
        raise UsageError(f"reshape: {prod(old)} elements of shape {old} do not fill shape {tuple(shape)}")
    return x.tape.view(x, new, lambda value: value.reshape(new), lambda gradient: gradient.reshape(old))


def flatten(x: Tensor) -> Tensor:
    """Returns a view: (N, ...) -> (N, rest).

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(ops.flatten, np.ones((2, 3, 4, 4))).shape
    (2, 48)
    """
    return reshape(x, (x.shape[0], prod(x.shape[1:])))


def permute(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Returns a view with permuted axes: axis i of the result is axis ``axes[i]`` of x.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.permute(x, (0, 2, 1)), np.ones((2, 3, 4))).shape
    (2, 4, 3)
    """
    order, shape, kernels = tuple(axes), x.shape, x.tape.kernels
    if sorted(order) != list(range(len(shape))):
        raise UsageError(f"permute: axes must be an order of 0..{len(shape) - 1}, got {order}")
    inverse = tuple(order.index(axis) for axis in range(len(order)))
    return x.tape.view(
        x,
        tuple(shape[axis] for axis in order),
        lambda value: kernels.permute(value, order),
        lambda gradient: kernels.permute(gradient, inverse),
    )


def channel_shuffle(x: Tensor, groups: int = 2) -> Tensor:
    """Returns a view of (N, C, H, W) that interleaves the channels of ``groups`` equal groups (ShuffleNet).

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(ops.channel_shuffle, np.arange(4.0).reshape(1, 4, 1, 1)).ravel()
    array([0., 2., 1., 3.], dtype=float32)
    """
    samples, channels, height, width = x.shape
    if channels % checks.whole("groups", groups, least=1):
        raise UsageError(f"channel_shuffle: {channels} channels cannot be split into {groups} groups")
    x = reshape(x, (samples, groups, channels // groups, height, width))
    x = permute(x, (0, 2, 1, 3, 4))  # (N, groups, C/groups, H, W) -> (N, C/groups, groups, H, W)
    return reshape(x, (samples, channels, height, width))


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """Returns a view: (N, C*factor*factor, H, W) -> (N, C, H*factor, W*factor).

    Element (n, c, h*factor + i, w*factor + j) is channel c*factor*factor + i*factor + j of (h, w) (Shi et al. 2016).

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.pixel_shuffle(x, 2), np.arange(4.0).reshape(1, 4, 1, 1))[0, 0]
    array([[0., 1.],
           [2., 3.]], dtype=float32)
    """
    factor = checks.whole("factor", factor, least=1)
    if len(x.shape) != 4 or x.shape[1] % (factor * factor):
        raise UsageError(f"pixel_shuffle: input must be (N, C*{factor * factor}, H, W), got {x.shape}")
    samples, channels, height, width = x.shape
    y = reshape(x, (samples * channels // factor**2, factor, factor, height, width))
    y = permute(y, (0, 3, 1, 4, 2))  # (N*C, i, j, H, W) -> (N*C, H, i, W, j)
    return reshape(y, (samples, channels // factor**2, height * factor, width * factor))
