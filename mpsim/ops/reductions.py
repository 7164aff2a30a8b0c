"""Sums and means over axes, and the softmax along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.ops.broadcasting import expanded, sums_over
from mpsim.ops.shape import permute, reshape

#: One axis or several, negative ones from the end. None: all axes.
Axes = int | Sequence[int] | None


def sum(x: Tensor, axes: Axes = None, *, keep: bool = False, name: str | None = None) -> Tensor:
    """Returns the sums over axes, which get size 1 with ``keep`` and else are removed. Over all axes the shape is (1,).

    The elements of a sum are added in the order of x, by the REDUCTION of the kernels' contract. Raises ValueError for
    an axis that x does not have, or the same axis twice.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.sum(x, 1), [[1.0, 2.0], [3.0, 4.0]])
    array([3., 7.], dtype=float32)
    """
    return _reduced(SUM, x, axes, keep, name)


def mean(x: Tensor, axes: Axes = None, *, keep: bool = False, name: str | None = None) -> Tensor:
    """Returns ``sum`` divided by the number of elements of a sum, as a float32 number.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.mean(x, 1), [[1.0, 2.0], [3.0, 4.0]])
    array([1.5, 3.5], dtype=float32)
    """
    return _reduced(MEAN, x, axes, keep, name)


def softmax(x: Tensor, axis: int = -1, *, name: str | None = None) -> Tensor:
    """Returns exp(x) divided by its sum along the axis.

    The largest element is subtracted first. The derivative is (g - sum(g * y)) * y with the *stored* y. Raises
    ValueError for an axis that x does not have.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.softmax, [[0.0, 0.0], [0.0, 200.0]])
    array([[0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """
    (axis,) = rising_axes(axis, len(x.shape))
    if axis == len(x.shape) - 1:
        return x.tape.bind(SOFTMAX, (x,), name=name)
    order = [*(each for each in range(len(x.shape)) if each != axis), axis]
    inverse = [order.index(each) for each in range(len(order))]
    return permute(x.tape.bind(SOFTMAX, (permute(x, order),), name=name), inverse)


def rising_axes(axes: Axes, count: int) -> tuple[int, ...]:
    """Returns the axes from 0 on in rising order. Raises UsageError for one outside of ``count`` axes, or one twice.

    >>> rising_axes((-1, 0), 3)
    (0, 2)
    """
    given = range(count) if axes is None else (axes,) if isinstance(axes, int | np.integer) else tuple(axes)
    if not all(isinstance(axis, int | np.integer) and -count <= axis < count for axis in given):
        raise UsageError(f"axes must be integers in {-count} to {count - 1}, got {axes}")
    found = tuple(int(axis) % count for axis in given)
    if len(set(found)) < len(found):
        raise UsageError(f"axes must differ, got {axes}")
    return tuple(sorted(found))


def _reduced(primitive: Primitive, x: Tensor, axes: Axes, keep: bool, name: str | None) -> Tensor:
    rising = rising_axes(axes, len(x.shape))
    y = x.tape.bind(primitive, (x,), name=name, axes=rising)
    if keep:
        return y
    left = tuple(size for axis, size in enumerate(x.shape) if axis not in rising)
    return reshape(y, left or (1,))


def _forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, axes: tuple[int, ...]) -> tuple[Array, tuple]:
    (x,) = inputs
    return sums_over(kernels, x, axes).reshape(*_shape([tuple(x.shape)], [], axes=axes)), (tuple(x.shape),)


def _backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (expanded(kernels, gradient, saved[0]) if needs[0] else None,), ()


def _mean_forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, axes: tuple[int, ...]) -> tuple[Array, tuple]:
    y, (shape,) = _forward(kernels, inputs, parameters, axes=axes)
    count = prod(shape[axis] for axis in axes)
    return divided(kernels, y, count), (shape, count)


def _mean_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    shape, count = saved
    return (expanded(kernels, divided(kernels, gradient, count), shape) if needs[0] else None,), ()


def divided(kernels: Kernels, x: Array, count: float) -> Array:
    """Returns x / float32(count) in the memory of x."""
    return kernels.divide(x, kernels.from_numpy(np.full(tuple(x.shape), count, x.dtype)), out=x)


def _shape(inputs: list[Shape], parameters: list[Shape], *, axes: tuple[int, ...]) -> Shape:
    return tuple(1 if axis in axes else size for axis, size in enumerate(inputs[0]))


_SAMPLES = tuple(Sample(((2, 3, 4, 3),), attributes={"axes": axes}) for axes in ((0, 1), (1, 3), (2, 3), (0, 1, 2, 3)))
SUM = Primitive("Sum", _forward, _backward, _shape, samples=_SAMPLES)
MEAN = Primitive("Mean", _mean_forward, _mean_backward, _shape, samples=_SAMPLES)


def _softmax_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    (x,) = inputs
    return kernels.softmax(x.reshape(-1, x.shape[-1])).reshape(*x.shape), ()


def _softmax_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    if not needs[0]:
        return (None,), ()
    shape, (rows, y) = tuple(gradient.shape), (each.reshape(-1, each.shape[-1]) for each in (gradient, saved[0]))
    return (kernels.softmax_gradient(rows, y).reshape(*shape),), ()


def _softmax_shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    if not inputs[0] or not inputs[0][-1]:
        raise UsageError(f"input needs elements along the axis, got shape {inputs[0]}")
    return inputs[0]


SOFTMAX = Primitive(
    "Softmax",
    _softmax_forward,
    _softmax_backward,
    _softmax_shape,
    saves_output=True,
    samples=(Sample(((2, 3, 5),)), Sample(((4, 3),))),
)
