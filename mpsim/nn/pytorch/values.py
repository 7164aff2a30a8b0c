"""Defines what the rules of the importer share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Parameter, Tensor
from mpsim.errors import UsageError


class Call(NamedTuple):
    """The name of the op of an instruction, and the tape."""

    name: str
    tape: Tape


def tensor(value: Any, what: str = "this function") -> Tensor:
    """Returns the value if it is computed from the input. Raises UsageError for a parameter, buffer or constant."""
    if isinstance(value, Tensor):
        return value
    kind = "a parameter" if isinstance(value, Parameter) else "a buffer or constant"
    raise UsageError(f"{what} of {kind}, not of a value computed from the input, is not supported")


def parameter(value: Any, what: str) -> Parameter:
    """Returns the value if it is a parameter itself. Raises UsageError for anything else."""
    if isinstance(value, Parameter):
        return value
    raise UsageError(f"{what} must be a parameter itself, not a buffer or computed from one")


def optional_parameter(value: Any, what: str) -> Parameter | None:
    """Returns None or a parameter."""
    return None if value is None else parameter(value, what)


def axis_of(dim: int, x: Tensor, more: int = 0) -> int:
    """Returns the axis from 0 on. ``more``: axes that the result has beyond those of x."""
    return int(dim) % (len(x.shape) + more)


def constant(value: Any, tape: Tape) -> np.ndarray:
    """Returns a buffer, constant or number as a host array of float32 with at least one axis."""
    need(isinstance(value, int | float) or hasattr(value, "dtype"), "an operand that is random, or several values,")
    array = value if isinstance(value, np.ndarray | int | float) else tape.kernels.to_numpy(value)
    return np.atleast_1d(np.asarray(array, np.float32))


def need(condition: bool, what: str) -> None:
    """Raises UsageError saying that something is not supported unless the condition holds."""
    if not condition:
        raise UsageError(f"{what} is not supported")
