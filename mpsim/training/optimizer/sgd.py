"""Stochastic gradient descent with momentum, dampening and Nesterov's momentum (paper §4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.kernels.contract import Array
from mpsim.process import in_default_environment
from mpsim.training.optimizer.base import Optimizer, Update
from mpsim.training.schedule import Constant, Schedule


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent. ``kernels.sgd_update`` specifies its order of operations.

    ``lr`` is multiplied by ``schedule``. Weight decay applies to every parameter, including biases and batch norm's
    scale and shift, unless a group of the recipe changes it. From the second update on, the gradient is multiplied by
    1 - ``dampening`` when it is added to the velocity. ``nesterov`` needs momentum and no dampening.

    Raises:
        UsageError: A number is negative or not finite, or ``nesterov`` has no meaning.

    Source: torch.optim.SGD, whose updates these are.

    >>> SGD(lr=0.1).learning_rate(epoch=3)
    0.1
    """

    states: ClassVar[tuple[str, ...]] = ("velocity",)

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = Constant()
    dampening: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise UsageError(
                f"nesterov needs a momentum above 0 and dampening 0, got momentum {self.momentum:g} and dampening "
                f"{self.dampening:g}",
                "nesterov",
            )

    @in_default_environment
    def update(
        self, kernels: Kernels, master: Array, gradient: Array, states: Mapping[str, Array], update: Update
    ) -> None:
        damping = 1 - self.dampening if update.number > 1 else 1.0
        kernels.sgd_update(
            master, gradient, states["velocity"], update.rate, self.momentum, self.weight_decay, update.inverse_scale,
            damping, self.nesterov,
        )  # fmt: skip
