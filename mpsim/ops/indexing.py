"""Ops that copy elements by their position along axes: slices, padding, repetition, and rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mpsim import checks
from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.ops.broadcasting import expanded
from mpsim.ops.reductions import rising_axes
from mpsim.ops.windows import PADDING_MODES, Pair, padded, pair

#: (axis, the position of each element along it, -1 for +0), in rising axes.
Steps = tuple[tuple[int, np.ndarray], ...]


def slice(
    x: Tensor, axis: int, start: int | None = None, stop: int | None = None, step: int | None = None, *,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Returns the elements start:stop:step along one axis, as in NumPy. A negative step reverses them.

    Raises ValueError for an axis that x does not have, or a step of 0.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.slice(x, 0, step=-1), [1.0, 2.0, 3.0])
    array([3., 2., 1.], dtype=float32)
    """
    (axis,) = rising_axes(axis, len(x.shape))
    if step == 0:
        raise UsageError("step must not be 0")
    return _bind(SLICE, x, ((axis, np.arange(x.shape[axis])[start:stop:step]),), name)


def select(x: Tensor, axis: int, index: int, *, name: str | None = None) -> Tensor:
    """Returns the elements at one position along an axis, which is removed. Negative positions count from the end.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.select(x, 0, -1), [[1.0, 2.0], [3.0, 4.0]])
    array([3., 4.], dtype=float32)
    """
    (axis,) = rising_axes(axis, len(x.shape))
    size = x.shape[axis]
    index = checks.whole("index", index, least=-size, most=size - 1) % size if size else 0
    y = slice(x, axis, index, index + 1, name=name)
    shape = (*y.shape[:axis], *y.shape[axis + 1 :])
    return y.tape.view(y, shape, lambda value: value.reshape(*shape), lambda gradient: gradient.reshape(*y.shape))


def take(x: Tensor, axis: int, index: Sequence[int] | np.ndarray, *, name: str | None = None) -> Tensor:
    """Returns the elements at the positions ``index`` along one axis. A position may occur more than once.

    The gradient of an element is the sum of the gradients of its copies, added in the order of ``index``. Raises
    ValueError for positions that x does not have. Negative ones count from the end.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.take(x, 0, [1, 1, 0]), [1.0, 2.0])
    array([2., 2., 1.], dtype=float32)
    """
    (axis,) = rising_axes(axis, len(x.shape))
    size = x.shape[axis]
    given = np.asarray(index)
    if given.ndim != 1 or given.dtype.kind not in "iu" or ((given < -size) | (given >= size)).any():
        raise UsageError(f"index must be a list of integers in {-size} to {size - 1}, got {checks.shown(index)}")
    return _bind(SLICE, x, ((axis, given % size),), name)


def pad(x: Tensor, widths: Sequence[tuple[int, int]], mode: str = "zeros", *, name: str | None = None) -> Tensor:
    """Adds elements before and after each of the last axes.

    Args:
        x: The tensor.
        widths: (before, after) for each of the last axes, the last one last. Negative widths remove elements.
        mode: "zeros" adds +0. "reflect" mirrors without repeating the edge, "replicate" repeats the edge, and
            "circular" continues at the other end.

    Raises:
        ValueError: There are more widths than axes, the mode is unknown, "reflect" needs more elements than there are
            beside the edge, or "circular" more than there are.

    The gradient of an element is the sum of the gradients of its copies, in the order of the padded axis.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.pad(x, [(1, 2)], "reflect"), [1.0, 2.0, 3.0])
    array([2., 1., 2., 3., 2., 1.], dtype=float32)
    """
    checks.named("mode of padding", mode, PADDING_MODES)
    first = len(x.shape) - len(widths)
    if first < 0:
        raise UsageError(f"pad: {len(widths)} widths for the {len(x.shape)} axes of {x.shape}")
    steps = [
        (axis, padded(x.shape[axis], int(width[0]), int(width[1]), mode))
        for axis, width in enumerate(widths, first)
        if tuple(width) != (0, 0)
    ]
    return _bind(PAD, x, tuple(steps), name)


def upsample_nearest(
    x: Tensor, factor: Pair | None = None, *, size: Pair | None = None, name: str | None = None
) -> Tensor:
    """Repeats each element of (N, C, H, W) ``factor`` times in both directions, or (vertical, horizontal) times.

    With ``size`` in place of the factor the result has this size, and element i of an axis is element
    floor(i * old / new). Raises ValueError unless one of both is given.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.upsample_nearest(x, (1, 2)), [[[[1.0, 2.0]]]]).ravel()
    array([1., 1., 2., 2.], dtype=float32)
    """
    sizes = _sizes(x, factor, size)
    steps = tuple((axis, np.arange(new) * x.shape[axis] // new) for axis, new in zip((2, 3), sizes, strict=True))
    return _bind(UPSAMPLE, x, steps, name)


def upsample_bilinear(
    x: Tensor, factor: Pair | None = None, align_corners: bool = False, *, size: Pair | None = None,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Interpolates (N, C, H, W) between neighbours to ``factor`` times the size, or (vertical, horizontal) times.

    Element i of an axis lies at s = (i + 0.5) / factor - 0.5, at least 0, of the input, or with ``align_corners`` at
    s = i * (old - 1) / (new - 1). It is x[k] * float32(1 - t) + x[k + 1] * float32(t), k = floor(s), t = s - k, first
    along H, then along W. Each operation is rounded. Beyond the last element k + 1 is k. With ``size`` in place of the
    factor the result has this size, and s = (i + 0.5) * old / new - 0.5. Raises ValueError unless one of both is given.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.upsample_bilinear(x, (1, 2)), [[[[1.0, 2.0]]]]).ravel()
    array([1.  , 1.25, 1.75, 2.  ], dtype=float32)
    """
    steps = []
    for axis, new in zip((2, 3), _sizes(x, factor, size), strict=True):
        old, places = x.shape[axis], np.arange(new, dtype=np.float64)
        inside = (places + 0.5) / (new // old) if new % old == 0 else (places + 0.5) * old / new
        at = places * (old - 1) / max(1, new - 1) if align_corners else np.maximum(inside - 0.5, 0)
        first = np.minimum(np.floor(at).astype(np.int64), old - 1)
        share = (at - first).astype(np.float32)
        steps.append((axis, first, np.minimum(first + 1, old - 1), (1 - (at - first)).astype(np.float32), share))
    return x.tape.bind(INTERPOLATE, (x,), name=name, steps=tuple(steps))


def _sizes(x: Tensor, factor: Pair | None, size: Pair | None) -> tuple[int, int]:
    """Returns the size of an interpolated image."""
    if len(x.shape) != 4:
        raise UsageError(f"input must be (N, C, H, W), got {x.shape}")
    if (factor is None) == (size is None):
        raise UsageError(f"one of factor and size must be given, got factor={factor} and size={size}")
    if size is not None:
        return pair(size, "size", 1)
    times = pair(factor if factor is not None else 1, "factor", 1)
    return x.shape[2] * times[0], x.shape[3] * times[1]


def embedding(tokens: Tensor, weight: Parameter, *, padding: int | None = None, name: str | None = None) -> Tensor:
    """Returns the rows of ``weight`` (V, D) at the positions of an integer tensor: (...) -> (..., D).

    A row's gradient is the sum of its copies' in their order, and +0 for the row ``padding``. Raises TypeError or
    ValueError for tokens beyond 0..V-1.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.embedding(x, nn.Parameter(np.float32([[1, 2], [3, 4]]))), [1])
    array([[3., 4.]], dtype=float32)
    """
    return tokens.tape.bind(EMBEDDING, (tokens,), (weight,), name, **({} if padding is None else {"padding": padding}))


def _bind(primitive: Primitive, x: Tensor, steps: Steps, name: str | None) -> Tensor:
    return x.tape.bind(primitive, (x,), name=name, steps=steps)


def gathered(kernels: Kernels, x: Array, steps: Steps) -> tuple[Array, list]:
    """Returns the elements of x at the positions of ``steps``, and what ``scattered`` needs."""
    shape, made = tuple(x.shape), []
    for axis, places in steps:
        index = kernels.from_numpy(np.ascontiguousarray(places, np.int64))
        x = kernels.take(x.reshape(*_around(shape, axis)), index)
        made.append((axis, index, shape))
        shape = (*shape[:axis], len(places), *shape[axis + 1 :])
    return x.reshape(*shape), made


def scattered(kernels: Kernels, gradient: Array, made: list) -> Array:
    """Returns the gradient of x, given that of the result of ``gathered``."""
    for axis, index, shape in reversed(made):
        outer, size, run = _around(shape, axis)
        gradient = kernels.take_gradient(gradient.reshape(outer, index.size, run), index, size).reshape(*shape)
    return gradient


def _forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, steps: Steps) -> tuple[Array, tuple]:
    if not steps:
        return kernels.scale(inputs[0], 1.0), ([],)
    y, made = gathered(kernels, inputs[0], steps)
    return y, (made,)


def _backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (scattered(kernels, gradient, saved[0]) if needs[0] else None,), ()


def _around(shape: Shape, axis: int) -> tuple[int, int, int]:
    """Returns the number of elements before the axis, along it, and after it."""
    return prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])


def _shape(inputs: list[Shape], parameters: list[Shape], *, steps: Steps) -> Shape:
    return gathered_shape(inputs[0], steps)


def gathered_shape(shape: Shape, steps: Steps) -> Shape:
    """Returns the shape of the result of ``gathered``."""
    sizes = {axis: len(places) for axis, places in steps}
    return tuple(sizes.get(axis, size) for axis, size in enumerate(shape))


def _along(*steps: tuple[int, Sequence[int]]) -> Sample:
    return Sample(((2, 3, 4, 3),), attributes={"steps": tuple((axis, np.array(places)) for axis, places in steps)})


SLICE = Primitive(
    "Slice", _forward, _backward, _shape, chooses=True, samples=(_along((2, [1, 3])), _along((3, [2, 0, 2])))
)
PAD = Primitive(
    "Pad", _forward, _backward, _shape, chooses=True,
    samples=(_along((2, [-1, 0, 1, 2, 3, -1, -1]), (3, [1, 0, 1, 2])), _along((1, [2, 0, 1, 2, 0]))),
)  # fmt: skip
UPSAMPLE = Primitive(
    "Upsample", _forward, _backward, _shape, chooses=True,
    samples=(_along((2, [0, 0, 1, 1, 2, 2, 3, 3]), (3, [0, 0, 0, 1, 1, 1, 2, 2, 2])),),
)  # fmt: skip


def _rows_forward(
    kernels: Kernels, inputs: tuple, parameters: tuple, *, padding: int | None = None
) -> tuple[Array, tuple]:
    (tokens,), (weight,) = inputs, parameters
    rows = np.ascontiguousarray(tokens, np.int64).reshape(-1)
    index = kernels.from_numpy(rows)
    y = kernels.take(weight.reshape(1, *weight.shape), index)
    if padding is not None:
        index = kernels.from_numpy(np.where(rows == padding, -1, rows))  # which adds to no gradient
    return y.reshape(*tokens.shape, weight.shape[1]), (index, tuple(weight.shape))


def _rows_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    index, (size, width) = saved
    found = kernels.take_gradient(gradient.reshape(1, index.size, width), index, size)
    return (None,), (found.reshape(size, width),)


def _rows_shape(inputs: list[Shape], parameters: list[Shape], **rest: object) -> Shape:
    if len(parameters[0]) != 2:
        raise UsageError(f"weight must be (V, D), got {parameters[0]}")
    return (*inputs[0], parameters[0][1])


EMBEDDING = Primitive(
    "Embedding",
    _rows_forward,
    _rows_backward,
    _rows_shape,
    opens_group=True,
    chooses=False,
    samples=(Sample((np.array([[2, 0, 2], [1, 2, 4]]),), ((5, 3),)),),
)


def _mixed(kernels: Kernels, x: Array, factors: np.ndarray) -> Array:
    """Multiplies x (P, m, Q) by a factor for each of m, in the memory of x."""
    given = kernels.from_numpy(factors.astype(x.dtype).reshape(1, -1, 1))
    return kernels.multiply(x, expanded(kernels, given, tuple(x.shape)), out=x)


def _interpolate_forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, steps: tuple) -> tuple[Array, tuple]:
    (x,), made = inputs, []
    for axis, first, second, before, after in steps:
        shape = tuple(x.shape)
        flat, index = x.reshape(*_around(shape, axis)), (kernels.from_numpy(first), kernels.from_numpy(second))
        y = _mixed(kernels, kernels.take(flat, index[0]), before)
        y = kernels.add(y, _mixed(kernels, kernels.take(flat, index[1]), after), out=y)
        made.append((shape, axis, index, before, after))
        x = y.reshape(*shape[:axis], len(first), *shape[axis + 1 :])
    return x, (made,)


def _interpolate_backward(
    kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]
) -> tuple[tuple, tuple]:
    if not needs[0]:
        return (None,), ()
    for shape, axis, index, before, after in reversed(saved[0]):
        outer, size, run = _around(shape, axis)
        gradient = gradient.reshape(outer, len(before), run)
        rest = _mixed(kernels, kernels.scale(gradient, 1.0), after)
        first = kernels.take_gradient(_mixed(kernels, gradient, before), index[0], size)
        gradient = kernels.add(first, kernels.take_gradient(rest, index[1], size), out=first).reshape(*shape)
    return (gradient,), ()


def _interpolate_shape(inputs: list[Shape], parameters: list[Shape], *, steps: tuple) -> Shape:
    return gathered_shape(inputs[0], tuple((axis, first) for axis, first, *_ in steps))


def _between(axis: int, first: list[int], second: list[int], share: list[float]) -> tuple:
    after = np.array(share, np.float32)
    return axis, np.array(first), np.array(second), 1 - after, after


INTERPOLATE = Primitive(
    "Interpolate",
    _interpolate_forward,
    _interpolate_backward,
    _interpolate_shape,
    samples=(
        Sample(
            ((2, 3, 2, 3),),
            attributes={
                "steps": (_between(2, [0, 0, 1], [1, 1, 1], [0, 0.5, 0]), _between(3, [0, 1], [1, 2], [0.25, 0.75]))
            },
        ),
    ),
)
