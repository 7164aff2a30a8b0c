"""Lion, which steps by the sign of an interpolated momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mpsim.kernels import Kernels
from mpsim.kernels.contract import Array
from mpsim.process import in_default_environment
from mpsim.training.optimizer.base import Optimizer, Update
from mpsim.training.schedule import Constant, Schedule


@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion. ``kernels.lion_update`` specifies its order of operations.

    Every number changes by the learning rate, against the sign of beta1 * moment + (1 - beta1) * gradient. Weight decay
    is decoupled: parameters are multiplied by 1 - rate * decay.

    Raises:
        UsageError: A number is negative or not finite, or a beta is not below 1.

    Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2.

    >>> Lion().learning_rate(epoch=0)
    0.0001
    """

    states: ClassVar[tuple[str, ...]] = ("first_moment",)

    lr: float = 1e-4
    weight_decay: float = 0.0
    schedule: Schedule = Constant()
    beta1: float = 0.9
    beta2: float = 0.99

    @in_default_environment
    def update(
        self, kernels: Kernels, master: Array, gradient: Array, states: Mapping[str, Array], update: Update
    ) -> None:
        kernels.lion_update(
            master, gradient, states["first_moment"], update.rate, 1 - update.rate * self.weight_decay, self.beta1,
            self.beta2, update.inverse_scale,
        )  # fmt: skip
