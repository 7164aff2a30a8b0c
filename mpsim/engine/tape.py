"""The tape: runs ops, records them, and walks them backwards. It knows no formats and no layers.

Precision enters at one place, ``store(id, value) -> stored value``. The tape calls it with each op's output, with each
activation gradient once its contributions are added (or with each contribution), and with each parameter gradient.
The gradient of the loss and the gradient of the network's input are never stored; the latter is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mpsim.engine.primitive import Primitive, Shape
from mpsim.engine.tensor import Array, Parameter, Tensor, TensorId, retrace
from mpsim.errors import UsageError
from mpsim.kernels import Kernels

Store = Callable[[TensorId, Array], Array]
#: An op's index, or a parameter.
Key = TypeVar("Key", int, Parameter)


class Contribution(NamedTuple):
    """Where a part of an activation gradient comes from: input number ``index`` of op ``op``, which reads the output
    of op ``producer`` through the views ``to_producer``."""

    op: int
    index: int  # type: ignore[assignment]
    producer: int
    to_producer: tuple[Callable[[Array], Array], ...]


def identity_store(id: TensorId, value: Array) -> Array:
    """The store that rounds nothing."""
    return value


def _copy(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    return kernels.scale(kernels.from_numpy(inputs[0]), 1.0), ()


def _no_gradient(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (None,), ()


#: The identity on the image batch (op 0); a copy, so that a store may round it in place. It has no derivative.
INPUT = Primitive("Input", _copy, _no_gradient, lambda inputs, parameters: inputs[0], opens_group=True)


@dataclass(frozen=True)
class Op:
    """What a tape remembers of an op; shapes, no data.

    ``producers``: per input the index of the op whose output it is, -1 for an array from outside (images, labels).
    """

    index: int
    name: str
    primitive: Primitive
    producers: tuple[int, ...]
    input_sizes: tuple[int, ...]
    parameters: tuple[Parameter, ...]
    output_shape: Shape

    @property
    def kind(self) -> str:
        return self.primitive.kind

    @property
    def output_size(self) -> int:
        return prod(self.output_shape)


@dataclass(frozen=True)
class _Node:
    """What the walk backwards needs of an op; dropped as soon as it has been used."""

    primitive: Primitive
    kernels: Kernels
    saved: tuple
    parameters: tuple[Parameter, ...]
    routes: tuple[tuple[int, tuple], ...]  # per input: producer, and the way back to the producer's shape


@dataclass
class _Walk:
    """The state of a backward pass: sums of the contributions to each op's output gradient, and to each parameter's."""

    pending: dict[int, Array]
    result: dict[Parameter, Array] = field(default_factory=dict)


class Tape:
    """Records one forward pass and differentiates it.

    kernels: what ``mpsim.kernels.bind`` returns. store: see the module's text. training: whether batch
    statistics are used and ``backward`` is possible. store_each_contribution: store every contribution to an
    activation gradient and leave their sum as it is, instead of storing the finished sum.
    shape_only: call no kernel; values are placeholders that take no memory.
    on_contribution: is given each contribution to an activation gradient (stored, where contributions are stored)
    in the shape of that gradient, and returns what takes its place in the sum; for recording and checking a step.

    >>> from mpsim import kernels, ops
    >>> tape = Tape(kernels.bind("reference"), shape_only=True)
    >>> ops.max_pool2d(tape.input(np.zeros((2, 3, 4, 4), np.float32)), 2)
    Tensor(shape=(2, 3, 2, 2), producer=1: 'maxpool2d1')
    """

    def __init__(
        self,
        kernels: Kernels,
        store: Store = identity_store,
        *,
        training: bool = True,
        store_each_contribution: bool = False,
        shape_only: bool = False,
        on_contribution: Callable[[Contribution, Array], Array] | None = None,
    ) -> None:
        self.kernels = kernels
        self.store = store
        self.training = training
        self.store_each_contribution = store_each_contribution
        self.shape_only = shape_only
        self.on_contribution = on_contribution
        self.ops: list[Op] = []
        #: parameter -> its id; that of its first use where several ops share one
        self.parameter_ids: dict[Parameter, TensorId] = {}
        self._nodes: list[_Node] = []
        self._needs_gradient: list[bool] = []

    def input(self, array: np.ndarray, name: str = "input") -> Tensor:
        """Puts a host array (N, ...) on the tape: an op of kind "Input"."""
        return self.bind(INPUT, (array,), name=name)

    def bind(
        self,
        primitive: Primitive,
        inputs: Sequence[Tensor | Array],
        parameters: Iterable[Parameter | None] = (),
        name: str | None = None,
        **attributes: Any,
    ) -> Tensor:
        """Runs one op and records it; a parameter that is None is left out, an input may be a plain array."""
        index = len(self.ops)
        name = name or f"{primitive.kind.lower()}{index}"
        used = tuple(parameter for parameter in parameters if parameter is not None)
        routes = tuple(self._route(name, tensor) for tensor in inputs)
        shapes = [tuple(tensor.shape) for tensor in inputs]
        shape = primitive.shape(name, shapes, [parameter.shape for parameter in used], attributes)
        saved: tuple = ()
        derivative = self.kernels
        if self.shape_only:
            output = placeholder(shape)
        else:
            forward, derivative = self.kernels.of_layer(name)
            values = tuple(tensor.value if isinstance(tensor, Tensor) else tensor for tensor in inputs)
            output, saved = primitive.forward(forward, values, tuple(p.value for p in used), **attributes)
        stored = self.store(TensorId(index, "activation", 0), output)
        producers, sizes = tuple(producer for producer, _ in routes), tuple(map(prod, shapes))
        self.ops.append(Op(index, name, primitive, producers, sizes, used, shape))
        for position, parameter in enumerate(used):
            self.parameter_ids.setdefault(parameter, TensorId(index, "parameter", position))
        if self.training and not self.shape_only:
            saved = (*saved, stored) if primitive.saves_output else saved
            self._nodes.append(_Node(primitive, derivative, saved, used, routes))
            self._needs_gradient.append(bool(used) or any(map(self._needs, producers)))
        return Tensor(stored, self, index)

    def view(
        self, x: Tensor, shape: Shape, forward: Callable[[Array], Array], backward: Callable[[Array], Array]
    ) -> Tensor:
        """The same elements in another shape or order: not an op; the gradient goes back through ``backward``."""
        value = placeholder(shape) if self.shape_only else forward(x.value)
        return Tensor(value, self, x.producer, (*x.to_producer, backward))

    def backward(self, loss: Tensor, scale: float = 1.0) -> dict[Parameter, Array]:
        """Gradients of ``scale * loss`` by every parameter that the loss depends on, as stored.

        loss: one element. Its gradient is float32(scale). Possible once per tape, in training.
        """
        if prod(loss.shape) != 1:
            raise UsageError(f"backward starts from a loss of one element; got shape {loss.shape}")
        return self.pull_back(loss, self.kernels.from_numpy(np.full(loss.shape, scale, np.float32)))

    def pull_back(self, output: Tensor, gradient: Array) -> dict[Parameter, Array]:
        """Gradients of sum(gradient * output) by every parameter that it depends on, as stored.

        In order of falling op index; contributions to one gradient are added in that order. ``gradient`` is the
        tape's from then on, which may overwrite it.
        """
        if not self._nodes:
            raise RuntimeError("nothing to differentiate: backward was called before, or the tape is not in training")
        nodes, self._nodes = self._nodes[: output.producer + 1], []
        walk = _Walk({output.producer: retrace(output.to_producer, gradient)})
        for index in range(output.producer, -1, -1):
            node = nodes.pop()
            if index not in walk.pending or not self._needs_gradient[index]:
                continue
            gradient = walk.pending.pop(index)
            if index != output.producer and not self.store_each_contribution:
                gradient = self.store(TensorId(index, "activation_gradient", 0), gradient)
            self._pull_back_op(index, node, gradient, walk)
            for parameter in dict.fromkeys(node.parameters):
                if self.parameter_ids[parameter].op == index:
                    id = self.parameter_ids[parameter]._replace(role="parameter_gradient")
                    walk.result[parameter] = self.store(id, walk.result[parameter])
        return walk.result

    def _pull_back_op(self, op: int, node: _Node, gradient: Array, walk: _Walk) -> None:
        """Adds what one op contributes to the gradients of its inputs and parameters, inputs by rising position."""
        needs = tuple(self._needs(producer) for producer, _ in node.routes)
        input_gradients, parameter_gradients = node.primitive.backward(node.kernels, gradient, node.saved, needs)
        parts = zip(node.routes, needs, input_gradients, strict=True)
        for position, ((producer, to_producer), needed, part) in enumerate(parts):
            if needed:
                part = retrace(to_producer, part)
                if self.store_each_contribution:
                    part = self.store(TensorId(producer, "activation_gradient", 0), part)
                if self.on_contribution is not None:
                    part = self.on_contribution(Contribution(op, position, producer, to_producer), part)
                self._add(walk.pending, producer, part)
        for parameter, part in zip(node.parameters, parameter_gradients, strict=True):
            self._add(walk.result, parameter, part)

    def _add(self, sums: dict[Key, Array], key: Key, part: Array) -> None:
        """Adds a part of a gradient to the sum of the earlier ones, in place."""
        earlier = sums.get(key)
        sums[key] = part if earlier is None else self.kernels.add(earlier, part, out=earlier)

    def _needs(self, producer: int) -> bool:
        return producer >= 0 and self._needs_gradient[producer]

    def _route(self, name: str, x: Tensor | Array) -> tuple[int, tuple]:
        if not isinstance(x, Tensor):
            return -1, ()
        if x.tape is not self:
            raise UsageError(f"{name!r}: its input {x!r} is on another tape; one step uses one tape")
        return x.producer, x.to_producer


def placeholder(shape: Shape) -> np.ndarray:
    """A zero array of any shape that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)
