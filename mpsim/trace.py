"""Traces a training step over shapes alone and lists its ops, tensors and groups."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import prod

from mpsim import checks
from mpsim.engine.tape import Op, Tape
from mpsim.engine.tensor import Parameter, TensorId
from mpsim.errors import UsageError
from mpsim.kernels import bind
from mpsim.losses import CrossEntropy, Custom, Loss, loss_of
from mpsim.nn import Module
from mpsim.nn.inputs import blank, shape_of_input
from mpsim.ops import PRIMITIVES, may_multiply, sums_of
from mpsim.process import in_default_environment
from mpsim.products.passes import Accumulators

#: For each semantics, whether the scalar loss counts one element for each image of the batch (the artifact's quirk).
LOSS_COUNTS_BATCH = {"standard": False, "lee2023": True}


@dataclass(frozen=True)
class TracedOp:
    """One op. ``producers`` has the producing op of each input, -1 for none. ``consumers`` are the ops that read it."""

    index: int
    name: str
    kind: str
    group: int
    producers: tuple[int, ...]
    consumers: tuple[int, ...]
    input_sizes: tuple[int, ...]
    parameters: tuple[str, ...]
    parameter_sizes: tuple[int, ...]
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class TracedTensor:
    """One stored tensor. For the roles parameter and parameter_gradient, ``parameter`` is the parameter's name."""

    id: TensorId
    elements: int
    parameter: str | None
    group: int


@dataclass(frozen=True)
class Trace:
    """Lists the ops and tensors of one training step of a model with one batch size, in execution order.

    ``label_shape`` is that of the batch's labels: (N,) for logits (N, C), and (N, T) for logits (N, T, C).
    """

    model: str
    width: float
    classes: int
    batch: int
    semantics: str
    ops: tuple[TracedOp, ...]
    tensors: tuple[TracedTensor, ...]
    label_shape: tuple[int, ...]

    @property
    def groups(self) -> list[int]:
        """The number of elements of each group, by group id."""
        counts = [0] * (1 + max(op.group for op in self.ops))
        for tensor in self.tensors:
            counts[tensor.group] += tensor.elements
        return counts

    @property
    def total_elements(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def parameter_ids(self) -> dict[str, TensorId]:
        """Maps the name of each parameter to the id of its rounded copy, in order of execution."""
        return {
            tensor.parameter: tensor.id
            for tensor in self.tensors
            if tensor.parameter is not None and tensor.id.role == "parameter"
        }

    def __repr__(self) -> str:
        return (
            f"Trace({self.model}, width={self.width:g}, classes={self.classes}, batch={self.batch}: "
            f"{len(self.ops)} ops, {len(self.groups)} groups, {self.total_elements} elements)"
        )


@in_default_environment
def trace(
    model: Module,
    batch: int = 128,
    semantics: str = "standard",
    input_shape: tuple[int, ...] | None = None,
    loss: Loss | str = CrossEntropy(),
) -> Trace:
    """Runs ``model`` and the loss over shapes alone and lists what a training step stores.

    It computes nothing and allocates no arrays. It lists a gradient for every activation, including the gradients of
    the input and of the loss, which training does not store.

    Args:
        model: The network.
        batch: The batch size.
        semantics: A key of ``LOSS_COUNTS_BATCH``.
        input_shape: (C, H, W) of the images, (D,) of rows, or (T,) of tokens. The default is ``model.input_shape``.
        loss: The loss of training, or its text.

    Raises:
        ValueError: The batch is below 1, the semantics is unknown, or shapes do not match (the message names the
            layer). Also if an op reads a parameter that the model does not list, such as that of a layer in a Python
            list.

    Source: Lee et al. 2023, sections 3 and 4.

    >>> from mpsim import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.AvgPool2d(), nn.Flatten(), nn.Linear(4, 2))
    >>> trace(model, batch=8, input_shape=(1, 5, 5))
    Trace(Sequential, width=1, classes=2, batch=8: 6 ops, 3 groups, 1198 elements)
    """
    checks.instance("model", model, Module, "a network (mpsim.nn.Module)")
    checks.batch("batch", batch)
    checks.named("semantics", semantics, LOSS_COUNTS_BATCH)
    loss = loss_of(loss)
    shape = input_shape if input_shape is not None else getattr(model, "input_shape", None)
    shape = shape_of_input(shape, model.vocabulary)
    tape = Tape(bind("reference"), shape_only=True)
    logits = model(tape.input(blank(model, batch, shape)))
    if len(logits.shape) < 2 and not isinstance(loss, Custom):
        raise UsageError(
            f"the network returns {logits.shape} for a batch of {batch}; losses need an axis of outputs, i.e. "
            f"(N, classes) or (N, 1): leave out a squeeze or flatten at its end, or use a loss of your own"
        )
    result = loss(logits, loss.blank(logits.shape))
    _check_parameters(tape.ops, model)
    groups = _groups(tape.ops)
    return Trace(
        model=getattr(model, "name", type(model).__name__),
        width=float(getattr(model, "width", 1.0)),
        classes=logits.shape[-1],
        batch=int(batch),
        semantics=semantics,
        ops=tuple(_traced_op(op, groups, tape.ops) for op in tape.ops),
        tensors=tuple(_tensors(tape, groups, result.producer, batch if LOSS_COUNTS_BATCH[semantics] else 1)),
        label_shape=logits.shape[:-1],
    )


def check_layers(accumulators: Accumulators, traced: Trace) -> None:
    """Raises UsageError for a pattern that matches no layer with the products or other sums that it is for."""
    multiplying = [op.name for op in traced.ops if may_multiply(op.kind)]
    adding = [op.name for op in traced.ops if sums_of(op.kind) or op.kind not in PRIMITIVES]
    accumulators.check_layers(multiplying, adding)


def _check_parameters(recorded: list[Op], model: Module) -> None:
    """Raises UsageError if an op has a parameter that the model does not list, because it would not be trained."""
    known = set(model.parameters().values())
    for op in recorded:
        for parameter in op.parameters:
            if parameter not in known:
                raise UsageError(
                    f"op {op.name!r} ({op.kind}) reads a parameter of shape {parameter.shape} that is not in "
                    f"{type(model).__name__}.parameters(), so it would not be trained; make its layer an attribute of "
                    f"the network or put it in an nn.ModuleList"
                )


def _groups(recorded: list[Op]) -> list[int]:
    """Returns the group of each op. An op that does not open one joins the current group (Lee et al. 2023, §4.1)."""
    return [opened - 1 for opened in accumulate(int(op.primitive.opens_group) for op in recorded)]


def _traced_op(op: Op, groups: list[int], recorded: list[Op]) -> TracedOp:
    return TracedOp(
        index=op.index,
        name=op.name,
        kind=op.kind,
        group=groups[op.index],
        producers=op.producers,
        consumers=tuple(reader.index for reader in recorded if op.index in reader.producers),
        input_sizes=op.input_sizes,
        parameters=tuple(parameter.name for parameter in op.parameters),
        parameter_sizes=tuple(prod(parameter.shape) for parameter in op.parameters),
        output_shape=op.output_shape,
    )


def _tensors(tape: Tape, groups: list[int], loss: int, loss_elements: int) -> list[TracedTensor]:
    """Lists the tensors. ``loss`` is the op that computes it. A parameter of several ops is listed at its first use."""
    found = []
    for op in tape.ops:
        elements = loss_elements if op.primitive.is_loss or op.index == loss else op.output_size
        for role in ("activation", "activation_gradient"):
            found.append(TracedTensor(TensorId(op.index, role), elements, None, groups[op.index]))
        own = {id: parameter for parameter, id in tape.parameter_ids.items() if id.op == op.index}
        for role in ("parameter", "parameter_gradient"):
            producer = op.producers[0] if op.producers[0] >= 0 else op.index  # of an array: the op's own group
            found += [_parameter(id, role, own[id], groups[producer]) for id in sorted(own)]
    return found


def _parameter(id: TensorId, role: str, parameter: Parameter, group: int) -> TracedTensor:
    return TracedTensor(id._replace(role=role), prod(parameter.shape), parameter.name, group)
