"""Defines the imported network: the parameters and buffers of a state dict, and instructions that call ops."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageTypeError
from mpsim.interchange import as_array
from mpsim.interchange.pytorch import TorchTensor
from mpsim.nn.module import Module
from mpsim.nn.pytorch.constants import CONSTANTS
from mpsim.nn.pytorch.rules import OPERANDS, RULES, WEIGHTED
from mpsim.nn.pytorch.values import Call
from mpsim.ops import scale
from mpsim.ops.arithmetic import MULTIPLY
from mpsim.plugins import require
from mpsim.process import in_default_environment

#: The momentum that stands for None, i.e. statistics that are averages over all batches.
CUMULATIVE = 2.0**-1074


class Ref(NamedTuple):
    """The result of the instruction, or the placeholder, of that name."""

    node: str


class Instruction(NamedTuple):
    """One call of the exported graph.

    ``node`` is the name of its result, ``op`` a key of RULES, ``name`` the name of the op on the tape, ``changed`` the
    value that PyTorch overwrites with the result, and ``line`` the line of the user's module. ``copies`` is None or the
    number of ops of a call that the module makes in training only: on other tapes they copy its first argument.
    """

    node: str
    op: str
    name: str
    arguments: dict[str, Any]
    changed: str | None
    line: str
    copies: int | None = None


class Part(Module):
    """A module of the imported network. It has the parameters, buffers and modules of PyTorch's, and no call."""


class ImportedNetwork(Module):
    """A network that runs the instructions of an exported graph. ``from_torch`` builds it.

    >>> from mpsim import nn, plugins
    >>> if plugins.has_extra("torch"):
    ...     import torch
    ...     network = nn.from_torch(torch.nn.Sequential(torch.nn.ReLU()), torch.zeros(1, 2))
    ...     assert nn.apply(network, [[-1.0, 2.0]]).tolist() == [[0, 2]]
    """

    def __init__(self) -> None:
        self._program: tuple[Instruction, ...] = ()
        self._sources: dict[str, str] = {}  # placeholder -> name of its parameter or buffer
        self._constants: dict[str, Array] = {}
        self._input = self._output = ""

    def __call__(self, x: Tensor) -> Tensor:
        values = self.start(x)
        for instruction in self._program:
            values[instruction.node] = result = self.apply(instruction, values, x)
            if instruction.changed is not None:
                values[instruction.changed] = result
        return values[self._output]

    def start(self, x: Tensor) -> dict[str, Any]:
        """Returns the values of the placeholders."""
        held = {node: self.place(source) for node, source in self._sources.items()}
        values = {node: getattr(part, attribute) for node, (part, attribute) in held.items()}
        return {**values, **self._constants, self._input: x}

    def apply(self, instruction: Instruction, values: dict[str, Any], x: Tensor) -> Any:
        """Returns the result of one instruction."""
        arguments = {name: _resolved(value, values) for name, value in instruction.arguments.items()}
        if instruction.copies is not None and not x.tape.training:
            return _copied(next(iter(arguments.values())), instruction)
        if instruction.op == "count":
            if x.tape.training and not x.tape.shape_only:
                part, attribute = self.place(instruction.name)
                setattr(part, attribute, np.asarray(int(getattr(part, attribute)) + 1, np.int64))
            return None
        if arguments.get("momentum") == CUMULATIVE and isinstance(mean := instruction.arguments["running_mean"], Ref):
            part, _ = self.place(self._sources[mean.node])
            arguments["momentum"] = 1 / max(1, int(vars(part)["num_batches_tracked"]))
        if instruction.op in CONSTANTS and _are_constants(arguments):
            host = {name: _on_host(value, x.tape) for name, value in arguments.items()}
            return CONSTANTS[instruction.op](SimpleNamespace(**host))
        arguments = {
            name: self._with_tensors(value, instruction.op, arguments, x, values) for name, value in arguments.items()
        }
        return RULES[instruction.op](Call(instruction.name, x.tape), SimpleNamespace(**arguments))

    def _with_tensors(self, value: Any, op: str, arguments: dict[str, Any], x: Tensor, values: dict[str, Any]) -> Any:
        """Returns the value, with a parameter that the function does not take as a weight as a tensor."""
        if isinstance(value, list):
            return [self._with_tensors(each, op, arguments, x, values) for each in value]
        if not isinstance(value, Parameter) or op in WEIGHTED:
            return value
        operands = [each for each in arguments.values() if isinstance(each, Tensor | Parameter)]
        if (
            op in OPERANDS
            and any(isinstance(each, Tensor) for each in operands)
            and (OPERANDS[op] or value is not operands[0])
        ):
            return value
        key = f"{value.name} as a tensor"
        if key not in values:
            one = np.ones((1,) * max(1, len(value.shape)), np.float32)
            values[key] = x.tape.bind(MULTIPLY, (one,), (value,), value.name)
        return values[key]

    def place(self, name: str) -> tuple[Module, str]:
        """Returns the part that holds a parameter or buffer, and its attribute."""
        *path, attribute = name.split(".")
        part: Module = self
        for each in path:
            part = getattr(part, each)
        return part, attribute


def _are_constants(value: object) -> bool:
    """Returns whether a value has nothing that is trained or computed from the input."""
    if isinstance(value, dict | list):
        return all(map(_are_constants, value.values() if isinstance(value, dict) else value))
    return (
        value is None
        or isinstance(value, str | int | float)
        or (hasattr(value, "dtype") and not isinstance(value, Tensor | Parameter))
    )


def _on_host(value: Any, tape: Tape) -> Any:
    return tape.kernels.to_numpy(value) if hasattr(value, "dtype") and not isinstance(value, np.ndarray) else value


def _copied(value: Any, instruction: Instruction) -> Any:
    """Returns a copy of a tensor by as many ops as training has, so that both have the same tensors, or else None."""
    if not isinstance(value, Tensor):
        return None
    for place in range(instruction.copies or 0):
        value = scale(value, 1.0, name=f"{instruction.name}.{place + 1}" if place else instruction.name)
    return value


def _resolved(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.node]
    if isinstance(value, list | tuple):
        return [_resolved(each, values) for each in value]
    return value


def filled_network(
    modules: Iterable[str], parameters: Iterable[tuple[str, TorchTensor]], buffers: Iterable[tuple[str, TorchTensor]]
) -> ImportedNetwork:
    """Returns a network with these modules, parameters and buffers, whose objects may occur under several names."""
    network, made = ImportedNetwork(), {}
    for name in modules:
        part, attribute = network.place(name)
        setattr(part, attribute, Part())
    for name, tensor in parameters:
        part, attribute = network.place(name)
        if id(tensor) not in made:
            array = np.array(as_array(tensor), np.float32, order="C")
            made[id(tensor)] = Parameter(array, trained=tensor.requires_grad)
        setattr(part, attribute, made[id(tensor)])
    for name, tensor in buffers:
        part, attribute = network.place(name)
        part.buffer_names = (*part.buffer_names, attribute)
        setattr(part, attribute, np.array(as_array(tensor), order="C"))
    network.parameters()  # names shared parameters after their first place
    return network


@in_default_environment
def to_torch_state(network: Module) -> dict[str, Any]:
    """Returns the network's parameters and buffers as tensors, for ``module.load_state_dict``.

    Args:
        network: Any network. Its names are those of the module from which ``from_torch`` made it.

    Returns:
        Tensors of PyTorch by name, on the host, copied.

    Raises:
        MissingExtra: PyTorch is not installed.
        UsageTypeError: It is not a network.

    >>> from mpsim import plugins
    >>> from mpsim.nn import Linear
    >>> if plugins.has_extra("torch"):
    ...     assert list(to_torch_state(Linear(4, 2))) == ["weight", "bias"]
    """
    if not isinstance(network, Module):
        raise UsageTypeError(f"network must be an mpsim.nn.Module, got {type(network).__name__}")
    torch = require("torch", "to_torch_state")
    return {name: torch.from_numpy(array) for name, array in network.state().items()}
