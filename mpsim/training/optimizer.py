"""Stochastic gradient descent with momentum and weight decay, with float32 state and masters (paper §4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpsim import checks
from mpsim.files.records import Record
from mpsim.kernels import Kernels
from mpsim.kernels.contract import Array
from mpsim.training import schedule as schedules
from mpsim.training.schedule import Constant, Schedule


def check_factor(name: str, value: object) -> float:
    """Returns a valid learning rate, momentum or weight decay: at least 0 and finite in float32."""
    return checks.real(name, value, least=0, most=checks.FLOAT32_LARGEST)


@dataclass(frozen=True)
class SGD:
    """The rule of an update. ``kernels.sgd_update`` specifies its order of operations.

    ``lr`` is multiplied by ``schedule.factor(epoch)``. Weight decay applies to every parameter, including biases and
    batch norm's scale and shift. Raises UsageError for a negative or non-finite number.

    >>> SGD(lr=0.1).learning_rate(epoch=3)
    0.1
    """

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = Constant()

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            object.__setattr__(self, name, check_factor(name, getattr(self, name)))
        checks.instance("schedule", self.schedule, Schedule, "Constant, Cosine or Step")

    def learning_rate(self, epoch: int) -> float:
        """Returns the rate of an epoch in float64. The kernel converts it to float32."""
        return self.lr * self.schedule.factor(epoch)

    def update(
        self, kernels: Kernels, master: Array, gradient: Array, velocity: Array, *, epoch: int, loss_scale: float
    ) -> None:
        """Updates one parameter: changes master and velocity in place.

        ``gradient`` is still multiplied by ``loss_scale``.
        """
        rate = self.learning_rate(epoch)
        kernels.sgd_update(master, gradient, velocity, rate, self.momentum, self.weight_decay, 1 / loss_scale)

    def to_dict(self) -> Record:
        """Returns the fields for JSON."""
        return {
            "lr": self.lr,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "schedule": schedules.to_dict(self.schedule),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SGD:
        """Inverts ``to_dict``.

        >>> SGD.from_dict(SGD(lr=0.05).to_dict()) == SGD(lr=0.05)
        True
        """
        return cls(**{**fields, "schedule": schedules.from_dict(fields["schedule"])})
