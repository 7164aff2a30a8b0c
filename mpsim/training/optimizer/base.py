"""Defines what the trainer, checkpoints, step files and commands know of an optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, NamedTuple, Self

from mpsim import checks
from mpsim.kernels import Kernels
from mpsim.kernels.contract import Array
from mpsim.process import in_default_environment
from mpsim.training.schedule import Schedule


def factor(name: str, value: object) -> float:
    """Returns a valid learning rate, decay or momentum: at least 0 and finite in float32."""
    return checks.real(name, value, least=0, most=checks.FLOAT32_LARGEST)


def share(name: str, value: object) -> float:
    """Returns a valid share of an old state: at least 0 and below 1."""
    return checks.real(name, value, least=0, below=1)


def power(base: float, exponent: int) -> float:
    """Returns a power with a whole exponent in float64 by squaring, so that it does not depend on a library.

    From the lowest bit of the exponent on, the result is multiplied by base^1, base^2, base^4, ... where a bit is 1.

    >>> power(0.5, 3)
    0.125
    """
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


class Update(NamedTuple):
    """The numbers of one update. ``rate``: the learning rate in float64. ``number``: of this update, from 1 on.
    ``inverse_scale``: by what the gradient is multiplied, i.e. 1 / loss scale."""

    rate: float
    number: int
    inverse_scale: float


@dataclass(frozen=True)
class Optimizer(ABC):
    """An update rule with its settings. Every setting is a field. All rules have ``lr``, ``weight_decay`` and
    ``schedule``.

    ``states`` names the float32 arrays that the rule keeps for each parameter. They have the parameter's shape and
    start at +0. Steps that are skipped do not count as updates.
    """

    #: The name of each array that is kept for a parameter.
    states: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def lr(self) -> float:
        """The learning rate, without the schedule's factor."""

    @property
    @abstractmethod
    def weight_decay(self) -> float:
        """The weight decay."""

    @property
    @abstractmethod
    def schedule(self) -> Schedule:
        """The schedule."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name == "schedule":
                checks.instance("schedule", self.schedule, Schedule, "a schedule, such as Cosine(20)")
            elif field.name == "nesterov":
                checks.instance("nesterov", getattr(self, field.name), bool, "True or False")
            else:
                check = share if field.name in ("beta1", "beta2") else factor
                object.__setattr__(self, field.name, check(field.name, getattr(self, field.name)))

    @in_default_environment
    def learning_rate(self, epoch: int, step: int = 0) -> float:
        """Returns the rate of a step in float64. Kernels convert it to float32. ``step`` counts all steps from 0."""
        return self.lr * self.schedule.factor(epoch, step)

    def with_decay(self, weight_decay: float) -> Self:
        """Returns the optimizer with another weight decay."""
        settings: dict[str, object] = {"weight_decay": weight_decay}
        return replace(self, **settings)

    @abstractmethod
    def update(
        self, kernels: Kernels, master: Array, gradient: Array, states: Mapping[str, Array], update: Update
    ) -> None:
        """Updates one parameter: changes the master and its states in place by one kernel.

        ``gradient`` is still multiplied by the loss scale.
        """
