"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from mpsim.kernels import Kernels
from mpsim.kernels.contract import Array
from mpsim.process import in_default_environment
from mpsim.training.optimizer.base import Optimizer, Update, power
from mpsim.training.schedule import Constant, Schedule


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015). ``kernels.adam_update`` specifies its order of operations.

    ``beta1`` and ``beta2`` are the shares of the old moments. Weight decay adds ``weight_decay`` * parameter to the
    gradient. In update t the rate is lr · schedule / (1 - beta1^t), and the root of the second moment is divided by
    √(1 - beta2^t). These numbers are computed in float64, the powers by squaring.

    Raises:
        UsageError: A number is negative or not finite, or a beta is not below 1.

    Source: torch.optim.Adam, whose updates these are.

    >>> Adam(lr=0.01).states
    ('first_moment', 'second_moment')
    """

    states: ClassVar[tuple[str, ...]] = ("first_moment", "second_moment")
    #: Whether weight decay multiplies the parameter, and is no part of the gradient.
    decoupled: ClassVar[bool] = False

    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Schedule = Constant()
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @in_default_environment
    def update(
        self, kernels: Kernels, master: Array, gradient: Array, states: Mapping[str, Array], update: Update
    ) -> None:
        decay, kept = self.weight_decay, 1.0
        if self.decoupled:
            decay, kept = 0.0, 1 - update.rate * self.weight_decay
        correction1, correction2 = (1 - power(beta, update.number) for beta in (self.beta1, self.beta2))
        kernels.adam_update(
            master, gradient, states["first_moment"], states["second_moment"], update.rate / correction1, kept, decay,
            self.beta1, self.beta2, math.sqrt(correction2), self.epsilon, update.inverse_scale,
        )  # fmt: skip


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): parameters are multiplied by 1 - rate * decay.

    Raises:
        UsageError: As for ``Adam``.

    Source: torch.optim.AdamW, whose updates these are.

    >>> AdamW().weight_decay
    0.01
    """

    decoupled: ClassVar[bool] = True

    weight_decay: float = 0.01
