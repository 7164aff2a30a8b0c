"""Exports a module of PyTorch and binds each function of the exported graph to ops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeGuard

from mpsim.engine.tape import Tape, placeholder
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError, UsageTypeError
from mpsim.interchange import as_array
from mpsim.interchange.pytorch import Program, TorchModule, TorchTensor
from mpsim.kernels import bind
from mpsim.nn.pytorch.constants import CONSTANTS
from mpsim.nn.pytorch.graph import exported, read
from mpsim.nn.pytorch.modes import compared
from mpsim.nn.pytorch.network import ImportedNetwork, Instruction, Ref, filled_network
from mpsim.nn.pytorch.rules import RULES
from mpsim.plugins import require
from mpsim.process import in_default_environment

#: Names that a part of a network cannot have as parameter, buffer or module, because Module uses them.
_TAKEN = {name for name in dir(ImportedNetwork()) if not name.startswith("__")} | {
    "width",
    "classes",
    "input_shape",
    "name",
}


@in_default_environment
def from_torch(module: object, example: object) -> ImportedNetwork:
    """Imports a network of PyTorch: its parameters, buffers, and the ops that compute its result.

    The module is exported by ``torch.export`` in training and in evaluation, for any batch size, and is not changed.
    Each function of the graph becomes an op of mpsim, named by its module and, in a module with several, by the
    function. The network is traced, planned, trained and stored as any other, and does not need PyTorch.

    Args:
        module: A ``torch.nn.Module`` of one input and one output, e.g. images (N, C, H, W) to logits (N, classes).
        example: An input with the shape and type of a batch, a tensor or an array. Its values do not matter.

    Returns:
        The network, with ``input_shape`` of the example without the batch. If the example has integers, its
        ``vocabulary`` is the number of rows of the embedding that reads them. The names of its state, shared parameters
        and values are those of ``module.state_dict()``. On a training tape, dropout and batch norm work as in
        ``module.train()``, on other tapes as in ``module.eval()``.

    Raises:
        MissingExtra: PyTorch is not installed.
        UsageTypeError: It is not a module, or the example is not an array.
        UsageError: The module cannot be exported, or uses something that is not supported. The message lists each
            function with the line of the module that uses it.

    >>> from mpsim import plugins
    >>> if plugins.has_extra("torch"):
    ...     import torch
    ...     network = from_torch(torch.nn.Linear(4, 2), torch.zeros(2, 4))
    ...     assert list(network.state()) == ["weight", "bias"]
    """
    torch = require("torch", "from_torch")
    if not is_torch(module):
        raise UsageTypeError(f"from_torch: module must be a torch.nn.Module, got {type(module).__name__}")
    batch = _batch(torch, example)
    _check_state(module)
    network = filled_network(
        (name for name, _ in module.named_modules(remove_duplicate=False) if name),
        module.named_parameters(remove_duplicate=False),
        [
            (name, buffer)
            for name, buffer in module.named_buffers(remove_duplicate=False)
            if name in module.state_dict()
        ],
    )
    network.name = type(module).__name__
    network.input_shape = tuple(batch.shape[1:])
    graph = exported(torch, module, batch, training=True)
    only, differences = compared(graph, exported(torch, module, batch, training=False))
    read(graph, network)
    problems = _trial(network, batch, graph, only) + differences
    if problems:
        raise UsageError(f"from_torch: {network.name} is not supported:\n" + "\n".join(dict.fromkeys(problems)))
    if batch.numpy().dtype.kind != "f":
        network.vocabulary = _vocabulary(network, batch.numpy())
    return network


def _vocabulary(network: ImportedNetwork, tokens: Array) -> int:
    """Returns the number of rows of the smallest table whose rows the tokens choose."""
    tape = Tape(bind("reference"), shape_only=True)
    network(tape.input(tokens))
    return min(op.parameters[0].shape[0] for op in tape.ops if op.kind == "Embedding" and op.producers == (-1,))


def is_torch(value: object) -> TypeGuard[TorchModule]:
    """Returns whether the value is a ``torch.nn.Module``, without importing PyTorch."""
    return any(
        each.__name__ == "Module" and each.__module__ == "torch.nn.modules.module" for each in type(value).__mro__
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from PyTorch's generator of the host with a seed, and restores the generator's state afterwards."""
    torch = require("torch", "a network of PyTorch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _batch(torch: ModuleType, example: object) -> TorchTensor:
    """Returns a batch of two with the shape and type of the example."""
    array = as_array(example)
    if array.ndim < 2 or array.dtype.kind not in "fiu":
        raise UsageTypeError(
            f"from_torch: example must be a batch (N, ...) of numbers, got {array.dtype} {array.shape}"
        )
    kind = torch.float32 if array.dtype.kind == "f" else torch.int64
    return torch.zeros((2, *array.shape[1:]), dtype=kind)


def _check_state(module: TorchModule) -> None:
    """Raises UsageError for names, types and properties that a network of mpsim cannot keep."""
    named = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers(remove_duplicate=False))
    modules = [name for name, _ in module.named_modules(remove_duplicate=False) if name]
    wrong = []
    for name in (*named, *buffers, *modules):
        if name.split(".")[-1] in _TAKEN or name.split(".")[-1].startswith("_"):
            wrong.append(f"{name}: mpsim uses this name itself; rename it")
    for name, parameter in named.items():
        if hasattr(parameter, "materialize"):  # torch.nn.parameter.UninitializedParameter
            wrong.append(f"{name}: a lazy module has no values yet; call the module with a batch first")
            continue
        if parameter.is_meta:
            wrong.append(f"{name}: a parameter on the device meta has no values; use to_empty and set them first")
        if str(parameter.dtype) != "torch.float32":
            wrong.append(f"{name}: parameters must be float32, got {parameter.dtype}")
    wrong += [
        f"{name}: a buffer under several names"
        for name, buffer in buffers.items()
        if sum(other is buffer for other in buffers.values()) > 1
    ]
    if wrong:
        raise UsageError(f"from_torch: {type(module).__name__} is not supported:\n" + "\n".join(dict.fromkeys(wrong)))


def _trial(network: ImportedNetwork, batch: TorchTensor, graph: Program, only: frozenset[str]) -> list[str]:
    """Runs the instructions over shapes and returns what is not supported. Compares each shape with PyTorch's.

    Counts the ops of the instructions ``only`` of training.
    """
    images = batch.numpy()
    tape = Tape(bind("reference"), shape_only=True)
    x = tape.input(placeholder(images.shape) if images.dtype.kind == "f" else images)
    nodes, values, problems, program = {node.name: node for node in graph.graph.nodes}, network.start(x), [], []
    for instruction in network._program:
        expected, before = nodes[instruction.node].meta.get("val"), len(tape.ops)
        result, problem = _tried(network, instruction, values, x)
        if instruction.node in only:
            instruction = instruction._replace(copies=len(tape.ops) - before)
            given = next(iter(instruction.arguments.values()), None)
            source = values.get(given.node) if isinstance(given, Ref) else None
            if isinstance(result, Tensor) and not (isinstance(source, Tensor) and source.shape == result.shape):
                problem = " is called in training only, and changes the shape"
        if problem is None:
            problem = _shape_problem(result, expected)
        if problem is not None:
            problems.append(f"{instruction.line}: {instruction.op}{problem}")
        if result is None and instruction.op != "count":
            result = _stand_in(tape, expected)
        program.append(instruction)
        values[instruction.node] = result
        if instruction.changed is not None:
            values[instruction.changed] = result
    network._program = tuple(program)
    if not isinstance(values.get(network._output), Tensor):
        problems.append("the result must be one tensor that is computed from the input, not several or a constant")
    return problems


def _tried(
    network: ImportedNetwork, instruction: Instruction, values: dict[str, Any], x: Tensor
) -> tuple[Any, str | None]:
    """Returns the result of an instruction, or None and why it has none."""
    if instruction.op not in RULES and instruction.op not in CONSTANTS and instruction.op != "count":
        return None, " is not supported"
    try:
        return network.apply(instruction, values, x), None
    except (UsageError, TypeError, AttributeError, KeyError) as error:
        return None, f": {error}"


def _shape_problem(result: object, expected: Any) -> str | None:
    """Returns in what a result differs from what PyTorch expects, or None."""
    if not (isinstance(result, Tensor) and hasattr(expected, "shape")):
        return None
    shape = tuple(size if isinstance(size, int) else 2 for size in expected.shape)
    known = all(isinstance(size, int) or str(size).isidentifier() for size in expected.shape)
    if known and result.shape != shape and (result.shape, shape) != ((1,), ()):
        return f" has shape {shape}, mpsim's {result.shape}"
    if str(expected.dtype) not in ("torch.float32", "torch.int64"):
        return f" in {expected.dtype} (not float32) is not supported"
    return None


def _stand_in(tape: Tape, expected: Any) -> Any:
    """Returns a tensor of the shape that PyTorch computed, so that the rest can be tried."""
    if isinstance(expected, list | tuple):
        return [_stand_in(tape, each) for each in expected]
    if not hasattr(expected, "shape"):
        return expected
    return tape.input(placeholder(tuple(size if isinstance(size, int) else 2 for size in expected.shape)))
