"""Learning-rate schedules: the factor of the optimizer's ``lr`` in each epoch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpsim import checks
from mpsim.process import in_default_environment


@dataclass(frozen=True)
class Constant:
    """The same rate in every epoch.

    >>> Constant().factor(7)
    1.0
    """

    def factor(self, epoch: int, step: int = 0) -> float:
        return 1.0


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 at epoch 0 to 0 at ``epochs`` (paper §4.1), with one step per epoch.

    >>> [round(Cosine(4).factor(epoch), 3) for epoch in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    epochs: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", checks.epochs("epochs", self.epochs))

    @in_default_environment
    def factor(self, epoch: int, step: int = 0) -> float:
        return (1 + math.cos(math.pi * min(epoch, self.epochs) / self.epochs)) / 2


@dataclass(frozen=True)
class Step:
    """Multiplies the rate by ``multiplier`` at the start of each epoch in ``milestones``.

    >>> [Step((2, 4), 0.5).factor(epoch) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    milestones: tuple[int, ...]
    multiplier: float = 0.1

    def __post_init__(self) -> None:
        milestones = (checks.whole(f"milestones[{place}]", epoch) for place, epoch in enumerate(self.milestones))
        object.__setattr__(self, "milestones", tuple(milestones))
        object.__setattr__(self, "multiplier", checks.real("multiplier", self.multiplier, least=0))

    @in_default_environment
    def factor(self, epoch: int, step: int = 0) -> float:
        return float(self.multiplier ** sum(epoch >= milestone for milestone in self.milestones))


Schedule = Constant | Cosine | Step
SCHEDULES: dict[str, type[Schedule]] = {"constant": Constant, "cosine": Cosine, "step": Step}


def to_dict(schedule: Schedule) -> dict[str, Any]:
    """Returns name and fields for JSON.

    >>> to_dict(Cosine(20))
    {'name': 'cosine', 'epochs': 20}
    """
    name = next(name for name, kind in SCHEDULES.items() if kind is type(schedule))
    return {"name": name, **dataclasses.asdict(schedule)}


def from_dict(fields: Mapping[str, Any]) -> Schedule:
    """Inverts ``to_dict``. Raises ValueError for an unknown name.

    >>> from_dict({"name": "step", "milestones": [3], "multiplier": 0.1})
    Step(milestones=(3,), multiplier=0.1)
    """
    name = checks.named("schedule", fields.get("name"), SCHEDULES)
    return SCHEDULES[name](**{key: value for key, value in fields.items() if key != "name"})
