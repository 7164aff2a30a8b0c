"""Reads the graph that torch.export returns."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

import numpy as np

from mpsim.errors import UsageError
from mpsim.interchange import as_array
from mpsim.interchange.pytorch import Node, Program, TorchModule, TorchTensor, is_node
from mpsim.nn.pytorch.network import CUMULATIVE, ImportedNetwork, Instruction, Ref
from mpsim.nn.pytorch.rules import CHECKS, NAMELESS, VIEWS


def exported(torch: ModuleType, module: TorchModule, batch: TorchTensor, training: bool) -> Program:
    """Exports the module in training or evaluation, with any number of samples, and restores its mode.

    Raises:
        UsageError: It cannot be exported.
    """
    modes = [(part, part.training) for part in module.modules()]
    averaging = [
        part
        for part in module.modules()
        if getattr(part, "momentum", 0) is None and getattr(part, "num_batches_tracked", None) is not None
    ]
    module.train(training)
    for part in averaging:  # the number of batches, which PyTorch reads here, depends on values
        part.momentum = CUMULATIVE
    try:
        with _quiet():
            return torch.export.export(module, (batch,), dynamic_shapes=({0: torch.export.Dim("samples")},))
    except Exception as error:
        cause = _first_line(error)
        frames = [(frame.filename, frame.lineno or 0, frame.line or "") for frame in extract_tb(error.__traceback__)]
        line = _own_line(frames[1:])
        place = f"{line}: " if line else ""
        name, sample = type(module).__name__, tuple(batch.shape[1:])
        if (refusal := _refusal(torch, module, batch)) is not None:
            raise UsageError(
                f"from_torch: {place}{name} does not take a batch of samples of shape {sample}; pass an example, or "
                f"choose data, of the shape that the module expects (PyTorch: {refusal})"
            ) from error
        raise UsageError(
            f"from_torch: {place}{name} cannot be exported by torch.export for batches of any size of {sample} "
            f"({_advice(module, cause)}{type(error).__name__}: {cause})"
        ) from error
    finally:
        for part, mode in modes:
            part.training = mode
        for part in averaging:
            part.momentum = None


def _advice(module: TorchModule, cause: str) -> str:
    """Returns what to do about a decision that depends on the values of tensors, or "" if there was none."""
    if "data-dependent" not in cause:
        return ""
    known = any(type(part).__name__ == "TransformerEncoder" for part in module.modules())
    what = "pass is_causal to torch.nn.TransformerEncoder, which otherwise compares its mask with a causal one"
    return f"it decides by the values of tensors, which an export cannot follow{'; ' + what if known else ''}. "


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "")


def _refusal(torch: ModuleType, module: TorchModule, batch: TorchTensor) -> str | None:
    """Returns PyTorch's words if the module itself fails on the batch, in evaluation, and None if it does not."""
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            module(batch)
    except Exception as error:
        return f"{type(error).__name__}: {_first_line(error)}"
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out what PyTorch writes to standard error about an export that fails, e.g. the graph so far."""
    names = ("torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def read(program: Program, network: ImportedNetwork) -> None:
    """Sets the instructions of a network to those of an exported program."""
    signature, results = program.graph_signature, []
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    held = network.state()
    network._sources = {node: name for node, name in sources.items() if name in held}
    constants = {**signature.inputs_to_lifted_tensor_constants, **{n: b for n, b in sources.items() if b not in held}}
    everything = {**program.constants, **program.state_dict}
    network._constants = {node: np.array(as_array(everything[name])) for node, name in constants.items()}
    (network._input,) = signature.user_inputs
    (nodes,) = [node.args[0] for node in program.graph.nodes if node.op == "output"]
    if len(nodes) != 1 or not hasattr(nodes[0], "name"):
        raise UsageError(f"from_torch: {network.name} must return one tensor, the logits, got {len(nodes)} results")
    network._output = nodes[0].name
    names = _Names(program.graph.nodes)
    for node in program.graph.nodes:
        if node.op == "call_function" and _name_of(node.target) not in CHECKS:
            results.append(_instruction(node, network, names))
    network._program = tuple(results)
    _check_changes(network)


def line_of(node: Node) -> str:
    """Returns the innermost line of the user's own code that calls the function, as file, line and code.

    Where all of the code is PyTorch's, e.g. in a Sequential of its layers, it returns the module's name.
    """
    lines = (node.meta.get("stack_trace") or "").splitlines()
    frames = [
        (match[1], int(match[2]), lines[i + 1].strip() if i + 1 < len(lines) else "")
        for i, line in enumerate(lines)
        if (match := re.match(r'\s*File "(.+)", line (\d+)', line))
    ]
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    return _own_line(frames) or f"module {path!r} ({getattr(kind, '__name__', str(kind)).split('.')[-1]})"


def _own_line(frames: list[tuple[str, int, str]]) -> str | None:
    """Returns the last of the frames (file, line, code) that is not PyTorch's or Python's, or None."""
    library = Path(sys.modules["torch"].__file__ or "").parent
    standard = Path(inspect.__file__).parent
    for path, number, code in reversed(frames):
        if path != "<string>" and library not in Path(path).parents and Path(path).parent != standard:
            return f"{Path(path).name}, line {number} ({code})"
    return None


class _Names:
    """Names each op by its module, or by the module and the function in a module that has others inside."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.paths = {path for node in nodes for path, _ in (node.meta.get("nn_module_stack") or {}).values()}
        self.used: Counter[str] = Counter()

    def of(self, node: Node) -> str:
        stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if not path.startswith("_empty")]
        path = re.sub(r"@\d+$", "", stack[-1]) if stack else ""
        inner = not path or any(other.startswith(f"{path}.") for other in self.paths)
        function = _name_of(node.target).split(".")[1]
        name = f"{path}.{function}".lstrip(".") if inner else path
        self.used[name] += 1
        return name if self.used[name] == 1 else f"{name}.{self.used[name]}"


def _name_of(target: Any) -> str:
    """Returns the key of RULES, e.g. "aten.relu.default" also for the function that overwrites its argument."""
    if not hasattr(target, "_schema"):
        return f"python.{getattr(target, '__name__', target)}"
    space, function, overload = str(target).split(".")
    return f"{space}.{function.rstrip('_') or function}.{overload}" if _overwrites(target) else str(target)


def _overwrites(target: Any) -> bool:
    """Returns whether a function overwrites its first argument, as relu_ does."""
    return hasattr(target, "_schema") and target._schema.is_mutable and str(target).split(".")[1].endswith("_")


def _instruction(node: Node, network: ImportedNetwork, names: _Names) -> Instruction:
    line, op = line_of(node), _name_of(node.target)
    changed = node.args[0].name if _overwrites(node.target) and node.args else None
    source = network._sources.get(changed or "")
    if op == "aten.add.Tensor" and source is not None and source.endswith("num_batches_tracked"):
        return Instruction(node.name, "count", source, {}, None, line)
    arguments = {argument: _plain(value) for argument, value in arguments_of(node).items()}
    whole = op == "aten.slice.Tensor" and arguments["start"] in (None, 0) and arguments["end"] in (None, 2**63 - 1)
    nameless = op.startswith("python.") or op in NAMELESS or (whole and arguments["step"] == 1)
    return Instruction(node.name, op, "" if nameless else names.of(node), arguments, changed, line)


def arguments_of(node: Node) -> dict[str, Any]:
    """Returns the arguments of a call by their names, with the defaults of those that are not passed."""
    if not hasattr(node.target, "_schema"):
        return {"positional": list(node.args)}
    named = enumerate(node.target._schema.arguments)
    return {
        argument.name: node.args[place]
        if place < len(node.args)
        else node.kwargs.get(argument.name, argument.default_value)
        for place, argument in named
    }


def _plain(value: Any) -> Any:
    """Replaces nodes by references, and what belongs to PyTorch by its name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return Ref(value.name) if is_node(value) else str(value)


def _check_changes(network: ImportedNetwork) -> None:
    """Raises UsageError if a function overwrites memory that another value, used later, shares, or a parameter."""
    base: dict[str, str] = {}
    readers: dict[str, int] = {}
    for place, instruction in enumerate(network._program):
        found = _references(instruction.arguments)
        readers.update(dict.fromkeys(found, place))
        if instruction.op in VIEWS or instruction.changed is not None:
            base[instruction.node] = base.get(found[0], found[0])
    readers[network._output] = len(network._program)
    for place, instruction in enumerate(network._program):
        target = instruction.changed
        if target is None:
            continue
        if target in network._sources or target in network._constants or target == network._input:
            raise UsageError(
                f"from_torch: {instruction.line}: {instruction.op} overwrites a parameter, buffer or input"
            )
        root = base.get(target, target)
        earlier = {each.node for each in network._program[:place]} - {target}
        shared = [name for name in {*base, root} & earlier if base.get(name, name) == root]
        if any(readers.get(name, -1) > place for name in shared):
            raise UsageError(
                f"from_torch: {instruction.line}: {instruction.op} overwrites memory that a view read later shares; "
                f"use the function that returns a new tensor"
            )


def _references(value: Any) -> list[str]:
    if isinstance(value, Ref):
        return [value.node]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [name for each in values for name in _references(each)]
