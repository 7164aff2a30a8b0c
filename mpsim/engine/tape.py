"""Defines the tape, which runs ops, records them, and differentiates them in reverse order.

Precision enters only in ``store(id, value) -> stored value``. The tape calls it with each op's output, with each
activation gradient after its contributions are added (or with each contribution), and with each parameter gradient. The
gradient of the loss is never stored, and the gradient of the network's input is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple, TypeVar

import numpy as np

from mpsim.engine.primitive import Needs, Primitive, Shape
from mpsim.engine.tensor import Array, Parameter, Tensor, TensorId, retrace
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.kernels.philox import Stream

Store = Callable[[TensorId, Array], Array]
#: An op's index, or a parameter.
Key = TypeVar("Key", int, Parameter)


class Contribution(NamedTuple):
    """The origin of a part of an activation gradient: input number ``index`` of op ``op``, which reads the output of op
    ``producer`` through the views ``to_producer``."""

    op: int
    index: int  # type: ignore[assignment]
    producer: int
    to_producer: tuple[Callable[[Array], Array], ...]


def identity_store(id: TensorId, value: Array) -> Array:
    """Rounds nothing."""
    return value


def _copy(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    return kernels.scale(kernels.from_numpy(inputs[0]), 1.0), ()


def _no_gradient(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (None,), ()


#: The identity on the image batch (op 0). It copies, so that a store may round in place. It has no derivative.
INPUT = Primitive("Input", _copy, _no_gradient, lambda inputs, parameters: inputs[0], opens_group=True)


@dataclass(frozen=True)
class Op:
    """A tape's record of an op, with shapes but no data.

    ``producers``: for each input the index of the op whose output it is, or -1 for an array (images, labels).
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


class _Node(NamedTuple):
    """The data of an op that the backward pass needs. They are deleted after their use."""

    primitive: Primitive
    kernels: Kernels
    saved: tuple
    parameters: tuple[Parameter, ...]
    routes: tuple[tuple[int, tuple], ...]  # per input: producer, and the views to invert


@dataclass
class _Walk:
    """The state of a backward pass: sums of the contributions to the gradients of op outputs and of parameters."""

    pending: dict[int, Array]
    result: dict[Parameter, Array] = field(default_factory=dict)


class Tape:
    """Records one forward pass and differentiates it.

    kernels: the result of ``mpsim.kernels.bind``. store: see the module's docstring. training: whether batch statistics
    are used and ``backward`` is possible. store_each_contribution: store every contribution to an activation gradient,
    but not their sum, instead of storing the finished sum. shape_only: call no kernel, and use placeholders that
    allocate no memory as values. on_contribution: receives each contribution to an activation gradient (after storing,
    if contributions are stored) in the shape of that gradient, and returns its replacement in the sum. It serves to
    record and check steps. seed, step: of the random numbers of ops that draw some, such as dropout. frozen: parameters
    without a gradient; nothing is computed that only their gradients would need.

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
        seed: int = 0,
        step: int = 0,
        frozen: Collection[Parameter] = (),
    ) -> None:
        self.kernels = kernels
        self.store = store
        self.training = training
        self.store_each_contribution = store_each_contribution
        self.shape_only = shape_only
        self.on_contribution = on_contribution
        self.seed, self.step, self.frozen = seed, step, frozen
        self.ops: list[Op] = []
        #: parameter -> its id, by its first use if several ops share it
        self.parameter_ids: dict[Parameter, TensorId] = {}
        self._nodes: list[_Node] = []
        self._needs_gradient: list[bool] = []

    def input(self, array: np.ndarray, name: str = "input") -> Tensor:
        """Adds a host array (N, ...) to the tape as an op of kind "Input". Integers (tokens) are not an op: they are
        not stored, and have no gradient."""
        if array.dtype.kind in "iu":
            return Tensor(array, self, -1)
        return self.bind(INPUT, (array,), name=name)

    def bind(
        self,
        primitive: Primitive,
        inputs: Sequence[Tensor | Array],
        parameters: Iterable[Parameter | None] = (),
        name: str | None = None,
        **attributes: object,
    ) -> Tensor:
        """Runs and records one op. Parameters that are None are omitted. An input may be a plain array."""
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
            trained = any(parameter not in self.frozen for parameter in used) if self.frozen else bool(used)
            self._needs_gradient.append(trained or any(map(self._needs, producers)))
        return Tensor(stored, self, index)

    def stream(self, purpose: str) -> Stream:
        """Returns the random numbers of the next op: those of the tape's seed and step, and of the op's index."""
        return Stream(self.seed, purpose, len(self.ops), self.step)

    def view(
        self, x: Tensor, shape: Shape, forward: Callable[[Array], Array], backward: Callable[[Array], Array]
    ) -> Tensor:
        """Returns the same elements in another shape or order, which is not an op. ``backward`` maps gradients back."""
        value = placeholder(shape) if self.shape_only else forward(x.value)
        return Tensor(value, self, x.producer, (*x.to_producer, backward))

    def backward(self, loss: Tensor, scale: float = 1.0) -> dict[Parameter, Array]:
        """Computes the stored gradients of ``scale * loss`` by every parameter that the loss depends on.

        The loss has one element, and its gradient is float32(scale). This is possible once per tape, in training.
        """
        if prod(loss.shape) != 1:
            raise UsageError(f"backward starts from a loss of one element; got shape {loss.shape}")
        return self.pull_back(loss, self.kernels.from_numpy(np.full(loss.shape, scale, np.float32)))

    def pull_back(self, output: Tensor, gradient: Array) -> dict[Parameter, Array]:
        """Computes the stored gradients of sum(gradient * output) by every parameter that it depends on.

        It visits ops in falling order, and adds contributions to a gradient in that order. It may overwrite
        ``gradient``.
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
                if self.parameter_ids[parameter].op == index and parameter not in self.frozen:
                    id = self.parameter_ids[parameter]._replace(role="parameter_gradient")
                    walk.result[parameter] = self.store(id, walk.result[parameter])
        return walk.result

    def _pull_back_op(self, op: int, node: _Node, gradient: Array, walk: _Walk) -> None:
        """Adds an op's contributions to the gradients of its inputs, by rising position, and of its parameters."""
        needs = tuple(self._needs(producer) for producer, _ in node.routes)
        if self.frozen:
            needs = Needs.of(needs, tuple(parameter not in self.frozen for parameter in node.parameters))
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
            if parameter not in self.frozen:
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
            raise UsageError(f"{name!r}: its input {x!r} belongs to another tape; use one tape per step")
        return x.producer, x.to_producer


def placeholder(shape: Shape) -> np.ndarray:
    """Returns a zero array of any shape that allocates no memory."""
    return np.broadcast_to(np.float32(0), shape)
