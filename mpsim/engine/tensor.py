"""Defines the values of a tape: tensors, parameters, and the ids by which stores name them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: An array of the backend (NumPy on the CPU). Its dtype is float32 (float64 in gradient checks).
Array = Any

#: The four roles of a tensor: v, θ, dv, dθ in the paper (Lee et al. 2023, section 2).
ROLES = ("activation", "parameter", "activation_gradient", "parameter_gradient")


class TensorId(NamedTuple):
    """Names one tensor of a training step: the op's index, the role, and the parameter's position (else 0).

    >>> TensorId(3, "parameter", 1)
    TensorId(op=3, role='parameter', index=1)
    """

    op: int
    role: str
    index: int = 0  # type: ignore[assignment]


@dataclass(eq=False)
class Parameter:
    """A trained array. The optimizer updates ``master``, and the ops of the current step read ``value``.

    ``value`` is the master itself unless it was replaced by a rounded copy. Parameters are compared by identity. A
    Trainer does not update a parameter whose ``trained`` is False.

    >>> import numpy as np
    >>> Parameter(np.zeros((2, 3), np.float32)).shape
    (2, 3)
    """

    master: Array
    name: str = ""
    value: Array = field(default=None, repr=False)
    trained: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        if self.value is None:
            self.value = self.master

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.master.shape)

    def replace(self, master: Array) -> None:
        """Replaces the master, and uses it as the value."""
        self.master = self.value = master


@dataclass(eq=False)
class Tensor:
    """A stored value on a tape. A view (reshape, permute) has the producer of the tensor that it views.

    ``to_producer`` has a function for each view, in forward order. Applied in reverse order they map a gradient of this
    tensor's shape to the shape of its producer's output.
    """

    value: Array
    tape: Any
    producer: int
    to_producer: tuple[Callable[[Array], Array], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    def __repr__(self) -> str:
        if self.producer < 0:
            return f"Tensor(shape={self.shape}, of an array)"
        op = self.tape.ops[self.producer]
        return f"Tensor(shape={self.shape}, producer={op.index}: {op.name!r})"


def retrace(to_producer: tuple[Callable[[Array], Array], ...], gradient: Array) -> Array:
    """Maps a view's gradient back to the shape of the producer's output."""
    for step in reversed(to_producer):
        gradient = step(gradient)
    return gradient
