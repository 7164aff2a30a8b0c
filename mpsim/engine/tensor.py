"""What flows through a tape: tensors, the parameters they meet, and the names that stores give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: A raw array of the backend (NumPy on the CPU); its dtype is float32 (float64 in gradient checks).
Array = Any

#: The four roles of a tensor; in the paper v, θ, dv, dθ (Lee et al. 2023, section 2).
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
    """A trained array: ``master`` is what the optimizer updates, ``value`` what the ops of this step read.

    ``value`` is the master itself until somebody puts a rounded copy there. Compared and hashed by identity.
    """

    master: Array
    name: str = ""
    value: Array = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.value is None:
            self.value = self.master

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.master.shape)

    def replace(self, master: Array) -> None:
        """Takes another master, and reads it as it is."""
        self.master = self.value = master


@dataclass(eq=False)
class Tensor:
    """A stored value on a tape. A view (reshape, permute) keeps the producer of what it views.

    ``to_producer`` are the steps, in forward order, that a gradient of this tensor's shape retraces backwards
    to the shape of its producer's output.
    """

    value: Array
    tape: Any
    producer: int
    to_producer: tuple[Callable[[Array], Array], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    def __repr__(self) -> str:
        op = self.tape.ops[self.producer]
        return f"Tensor(shape={self.shape}, producer={op.index}: {op.name!r})"


def retrace(to_producer: tuple[Callable[[Array], Array], ...], gradient: Array) -> Array:
    """Brings a view's gradient back to the shape of the producer's output."""
    for step in reversed(to_producer):
        gradient = step(gradient)
    return gradient
