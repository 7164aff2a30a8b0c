"""Runs the graph of a module of PyTorch function by function, so that each result that is an op of mpsim is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mpsim import ops
from mpsim.engine.tape import Op, Tape
from mpsim.engine.tensor import Tensor, retrace
from mpsim.errors import UsageError
from mpsim.interchange.pytorch import Node, TorchModule, TorchTensor, is_node
from mpsim.kernels import bind
from mpsim.kernels.contract import Array
from mpsim.nn import ImportedNetwork
from mpsim.nn.inputs import blank
from mpsim.nn.pytorch.graph import exported

#: Called with an op's index, its result in PyTorch, and what brings arrays of its shape to that of the op's output.
Seen = Callable[[int, TorchTensor, Callable[[Array], Array]], None]

_ATTENTION, _VIEW = "aten.scaled_dot_product_attention.default", "aten.view.default"
#: Functions that draw random numbers -> the place of the share that is dropped.
_DROPOUT = {"aten.dropout.default": "p", "aten.feature_dropout.default": "p"}


class Made(NamedTuple):
    """What an instruction makes on a tape: the indexes of its ops, and its result, tensors of the tape or others."""

    ops: range
    result: Any


class Plans(NamedTuple):
    """The tape of a step over shapes: its ops, what each node of the graph makes, and the logits."""

    ops: list[Op]
    made: dict[str, Made]
    logits: Tensor


def planned(network: ImportedNetwork, batch: int) -> Plans:
    """Runs an imported network and the cross-entropy over shapes.

    Raises:
        UsageError: It draws random numbers, which are PyTorch's there and mpsim's here.
    """
    tape = Tape(bind("reference"), shape_only=True)
    x = tape.input(blank(network, batch, network.input_shape))
    values, made = network.start(x), {}
    for instruction in network._program:
        before = len(tape.ops)
        share = instruction.arguments.get(_DROPOUT.get(instruction.op, ""), 0)
        if share or instruction.copies is not None:
            raise UsageError(
                f"record: {instruction.line}: {instruction.op} draws random numbers, which are PyTorch's there and "
                f"mpsim's here; record the step without it, e.g. with p=0"
            )
        values[instruction.node] = result = network.apply(instruction, values, x)
        if instruction.changed is not None:
            values[instruction.changed] = result
        made[instruction.node] = Made(range(before, len(tape.ops)), result)
    logits = values[network._output]
    ops.cross_entropy(logits, np.zeros(logits.shape[:-1], np.int64))
    return Plans(tape.ops, made, logits)


@contextmanager
def without_hooks(module: TorchModule) -> Iterator[None]:
    """Takes the forward hooks off a module and its parts, because they are not part of the network, and back on."""
    names = ("_forward_hooks", "_forward_pre_hooks")
    kept = [(part, name, dict(getattr(part, name))) for part in module.modules() for name in names]
    try:
        for part, name, _ in kept:
            getattr(part, name).clear()
        yield
    finally:
        for part, name, hooks in kept:
            getattr(part, name).update(hooks)


class Graph:
    """The exported graph of a module in training, with the module's own parameters, buffers and parts."""

    def __init__(self, torch: ModuleType, module: TorchModule, network: ImportedNetwork, plans: Plans) -> None:
        self._torch, self._module, self._network, self._plans = torch, module, network, plans
        example = torch.zeros(
            (2, *network.input_shape), dtype=torch.float32 if network.vocabulary is None else torch.int64
        )
        with without_hooks(module):
            self._program = exported(torch, module, example, training=True)
        self._lines = {instruction.node: instruction for instruction in network._program}
        #: Parameters that functions read as a tensor, such as an expanded class token -> the op that makes one of each.
        self._lifts = {
            id(module.get_parameter(op.parameters[0].name)): index
            for index, op in enumerate(plans.ops)
            if op.kind == "Multiply" and op.producers == (-1,) and op.parameters
        }
        self._lifted: dict[int, TorchTensor] = {}
        self._parts = dict(self._called())

    def logits(self, images: TorchTensor, seen: Seen) -> TorchTensor:
        """Runs the forward pass on a batch. ``seen`` is called with the result of every op."""
        values = self._placeholders(images)
        for node in self._program.graph.nodes:
            if node.op == "output":
                return values[node.args[0][0].name]
            if node.op != "call_function" or node.name in values:
                continue
            if node.name in self._parts:
                part, source, last = self._parts[node.name]
                values[last.name] = part(values[source.name])
                self._show(last.name, values[last.name], seen)
                for each in self._skipped[node.name]:
                    values.setdefault(each.name, None)
                continue
            arguments, options = _resolved((node.args, node.kwargs), {**values, **self._as_tensors(node, values, seen)})
            if str(node.target) == _ATTENTION and self._plans.made[node.name].ops:
                values[node.name] = self._attention(node.name, arguments, options, seen)
            elif str(node.target) in _AXIS_BY_AXIS and len(made := self._own_ops(node.name)) > 1:
                for op, value in zip(made, _AXIS_BY_AXIS[str(node.target)](*arguments, **options), strict=True):
                    self._see(seen, op, value)
                    values[node.name] = value
            else:
                # The separate functions of attention have results of another layout in memory, which may not be viewed.
                views = str(node.target) == _VIEW
                function = self._torch.ops.aten.reshape.default if views else node.target
                values[node.name] = function(*arguments, **options)
                self._show(node.name, values[node.name], seen)
        raise AssertionError("a graph has an output")

    def _placeholders(self, images: TorchTensor) -> dict[str, Any]:
        signature, held = self._program.graph_signature, {**self._program.constants, **self._program.state_dict}
        held |= dict(self._module.named_buffers(remove_duplicate=False))
        held |= dict(self._module.named_parameters(remove_duplicate=False))
        names = {
            **signature.inputs_to_parameters, **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }  # fmt: skip
        return {**{node: held[name] for node, name in names.items()}, signature.user_inputs[0]: images}

    def _as_tensors(self, node: Node, values: dict[str, Any], seen: Seen) -> dict[str, TorchTensor]:
        """Copies of the parameters that a node reads as tensors: one for all its readers, as in mpsim. New ones are
        ``seen``."""
        found: dict[str, TorchTensor] = {}
        made = self._plans.made.get(node.name)
        if made is None:
            return found
        for source in node.all_input_nodes:
            op = self._lifts.get(id(values[source.name]))
            if op is not None and self._reads(made, op):
                if op not in self._lifted:
                    self._lifted[op] = values[source.name] * 1
                    self._see(seen, op, self._lifted[op])
                found[source.name] = self._lifted[op]
        return found

    def _reads(self, made: Made, op: int) -> bool:
        """Whether what a node makes is computed from an op's result, or a view of it."""
        results = (each.producer for each in _flat(made.result) if isinstance(each, Tensor))
        return op in results or any(op in self._plans.ops[each].producers for each in made.ops)

    def _show(self, node: str, value: object, seen: Seen) -> None:
        """Calls ``seen`` for the ops of one node, whose results are the node's."""
        made = self._plans.made.get(node)
        if made is None:
            return
        start = min((made.ops.start, *(self._first_of(node))))
        wanted = set(range(start, made.ops.stop)) - self._lifted.keys()
        results = [each for each in _flat(made.result) if isinstance(each, Tensor)]
        tensors = [each for each in _flat(value) if hasattr(each, "detach")]
        for result, tensor in zip(results, tensors, strict=False):
            if result.producer in wanted:
                wanted.remove(result.producer)
                seen(result.producer, tensor, _to_op(result, self._plans.ops[result.producer]))
        if wanted:
            instruction = self._lines[node]
            raise UsageError(
                f"record: {instruction.line}: {instruction.op} is {len(made.ops)} ops of mpsim, of which PyTorch shows "
                f"{len(made.ops) - len(wanted)}; write it as separate functions"
            )

    def _own_ops(self, node: str) -> list[int]:
        """The ops that a node makes, without the copies of parameters."""
        made = self._plans.made.get(node)
        return [] if made is None else [op for op in made.ops if op not in self._lifted]

    def _first_of(self, node: str) -> list[int]:
        """The first op of each node of the part that the node ends."""
        for first, (_, _, last) in self._parts.items():
            if last.name == node:
                inside = [first, *(each.name for each in self._skipped[first])]
                return [self._plans.made[each].ops.start for each in inside if each in self._plans.made]
        return []

    def _attention(self, node: str, arguments: tuple[Any, ...], options: dict[str, Any], seen: Seen) -> TorchTensor:
        """Attention by its separate functions, as PyTorch defines it, because a fused kernel shows none of them."""
        names = [each.name for each in self._torch.ops.aten.scaled_dot_product_attention.default._schema.arguments]
        given = {**dict(zip(names, arguments, strict=False)), **options}
        q, k, v = given["query"], given["key"], given["value"]
        scale = given.get("scale")
        indexes = iter(self._plans.made[node].ops)
        if given.get("enable_gqa") and k.shape[-3] != q.shape[-3]:
            k, v = (each.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for each in (k, v))
            for each in (k, v):
                self._see(seen, next(indexes), each)
        steps = [q @ k.transpose(-2, -1)]
        self._see(seen, next(indexes), steps[-1])
        steps.append(steps[-1] * (q.shape[-1] ** -0.5 if scale is None else scale))
        self._see(seen, next(indexes), steps[-1])
        mask = given.get("attn_mask")
        if given.get("is_causal"):
            later = q.new_full(steps[-1].shape[-2:], -np.inf).triu(1)
            mask = later if mask is None else later + mask
        if mask is not None:
            steps.append(steps[-1] + mask)
            self._see(seen, next(indexes), steps[-1])
        steps.append(self._torch.softmax(steps[-1], -1))
        self._see(seen, next(indexes), steps[-1])
        steps.append(steps[-1] @ v)
        self._see(seen, next(indexes), steps[-1])
        return steps[-1]

    def _see(self, seen: Seen, op: int, tensor: TorchTensor) -> None:
        seen(op, tensor, lambda array: array.reshape(self._plans.ops[op].output_shape))

    def _called(self) -> Iterator[tuple[str, tuple[TorchModule, Node, Node]]]:
        """Parts without parts of their own that read and return one tensor: first node -> (part, its input, last node).

        They are called themselves, with their hooks, in place of the functions that the graph has for them.
        """
        inside: dict[str, list[Node]] = {}
        for node in self._program.graph.nodes:
            stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if not path.startswith("_")]
            if node.op == "call_function" and stack and stack[-1]:
                inside.setdefault(stack[-1], []).append(node)
        signature = self._program.graph_signature
        state = {
            *signature.inputs_to_parameters, *signature.inputs_to_buffers, *signature.inputs_to_lifted_tensor_constants,
        }  # fmt: skip
        self._skipped: dict[str, list[Node]] = {}
        for path, nodes in inside.items():
            part = self._module.get_submodule(path.partition("@")[0])
            read = {each for node in nodes for each in node.all_input_nodes if each not in nodes}
            sources = [each for each in read if each.name not in state]
            ends = [node for node in nodes if any(user not in nodes for user in node.users)]
            made = sum(len(self._plans.made[node.name].ops) for node in nodes if node.name in self._plans.made)
            if not list(part.children()) and len(sources) == len(ends) == 1 and made <= 1:
                self._skipped[nodes[0].name] = nodes[1:]
                yield nodes[0].name, (part, sources[0], ends[0])


def _expansions(x: Any, size: Sequence[int], implicit: bool = False) -> Iterator[Any]:
    x = x[(None,) * (len(size) - x.ndim)]
    for axis, each in enumerate(size):
        if each not in (-1, x.shape[axis]):
            x = x.expand(*(each if place == axis else -1 for place in range(x.ndim)))
            yield x


def _repetitions(x: Any, repeats: Sequence[int]) -> Iterator[Any]:
    repeats = [*[1] * (x.ndim - len(repeats)), *repeats]
    x = x[(None,) * (len(repeats) - x.ndim)]
    for axis, times in enumerate(repeats):
        if times != 1:
            x = x.repeat(*(times if place == axis else 1 for place in range(x.ndim)))
            yield x


def _flips(x: Any, dims: Sequence[int]) -> Iterator[Any]:
    for axis in dims:
        x = x.flip(axis)
        yield x


def _rolls(x: Any, shifts: Sequence[int], dims: Sequence[int]) -> Iterator[Any]:
    for shift, axis in zip(shifts, dims, strict=True):
        x = x.roll(shift, axis)
        yield x


#: Functions of several axes -> their results axis by axis, each of which is an op of mpsim.
_AXIS_BY_AXIS: dict[str, Callable[..., Iterator[TorchTensor]]] = {
    "aten.expand.default": _expansions, "aten.expand_as.default": lambda x, other: _expansions(x, other.shape),
    "aten.broadcast_to.default": _expansions, "aten.repeat.default": _repetitions, "aten.tile.default": _repetitions,
    "aten.flip.default": _flips, "aten.roll.default": _rolls,
}  # fmt: skip


def _resolved(value: Any, values: dict[str, Any]) -> Any:
    if is_node(value):
        return values[value.name]
    if isinstance(value, dict):
        return {name: _resolved(each, values) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_resolved(each, values) for each in value)
    return value


def _flat(value: object) -> list[Any]:
    return [each for part in value for each in _flat(part)] if isinstance(value, list | tuple) else [value]


def _to_op(result: Tensor, op: Op) -> Callable[[Array], Array]:
    """Brings an array in the shape of a result, a view of an op's output, to the shape of that output."""
    return lambda array: np.asarray(retrace(result.to_producer, array)).reshape(op.output_shape)
