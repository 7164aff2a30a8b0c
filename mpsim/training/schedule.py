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


@dataclass(frozen=True)
class ByStep:
    """A schedule whose epochs are steps of training.

    >>> ByStep(Step((100,), 0.5)).factor(epoch=0, step=100)
    0.5
    """

    schedule: Constant | Cosine | Step

    def __post_init__(self) -> None:
        checks.instance("schedule", self.schedule, Constant | Cosine | Step, "a Constant, Cosine or Step")

    @in_default_environment
    def factor(self, epoch: int, step: int = 0) -> float:
        return self.schedule.factor(step)


@dataclass(frozen=True)
class OneCycle:
    """Rises by half a cosine from 1 / ``start_divisor`` to 1 in the first share ``rise`` of ``steps``, then falls by
    half a cosine to 1 / (``start_divisor`` * ``end_divisor``) in the last step.

    Source: Smith and Topin 2018, in the form of torch.optim.lr_scheduler.OneCycleLR.

    >>> [round(OneCycle(11, rise=0.5, start_divisor=4).factor(0, step), 3) for step in (0, 2, 4, 5, 10)]
    [0.25, 0.56, 0.977, 0.98, 0.0]
    """

    steps: int
    rise: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", checks.whole("steps", self.steps, least=1))
        object.__setattr__(self, "rise", checks.real("rise", self.rise, least=0, most=1))
        for name in ("start_divisor", "end_divisor"):
            object.__setattr__(self, name, checks.real(name, getattr(self, name), least=1))

    @in_default_environment
    def factor(self, epoch: int, step: int = 0) -> float:
        first, last = 1 / self.start_divisor, 1 / self.start_divisor / self.end_divisor
        top, end = self.rise * self.steps - 1, self.steps - 1
        step = min(step, end)
        if step <= top:
            return _between(first, 1.0, step / top if top > 0 else 1.0)
        return _between(1.0, last, (step - top) / (end - top))


def _between(start: float, end: float, share: float) -> float:
    """Half a cosine from start (share 0) to end (share 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True)
class Warmup:
    """Multiplies another schedule by a factor that rises from ``start`` by equal amounts to 1 at step ``steps``.

    >>> [Warmup(4).factor(epoch=0, step=step) for step in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    steps: int
    then: Constant | Cosine | Step | ByStep | OneCycle = Constant()
    start: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", checks.whole("steps", self.steps, least=1))
        object.__setattr__(self, "start", checks.share("start", self.start))
        kinds = Constant | Cosine | Step | ByStep | OneCycle
        checks.instance("then", self.then, kinds, "a schedule, such as Cosine(20)")

    @in_default_environment
    def factor(self, epoch: int, step: int = 0) -> float:
        rising = self.start + (1 - self.start) * min(step, self.steps) / self.steps
        return rising * self.then.factor(epoch, step)


Schedule = Constant | Cosine | Step | ByStep | OneCycle | Warmup
SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant, "cosine": Cosine, "step": Step, "by_step": ByStep, "one_cycle": OneCycle, "warmup": Warmup,
}  # fmt: skip


def to_dict(schedule: Schedule) -> dict[str, Any]:
    """Returns name and fields for JSON.

    >>> to_dict(Cosine(20))
    {'name': 'cosine', 'epochs': 20}
    """
    name = next(name for name, kind in SCHEDULES.items() if kind is type(schedule))
    found = {field.name: getattr(schedule, field.name) for field in dataclasses.fields(schedule)}
    return {"name": name} | {
        key: to_dict(value) if isinstance(value, Schedule) else value for key, value in found.items()
    }


def from_dict(fields: Mapping[str, object]) -> Schedule:
    """Inverts ``to_dict``. Raises ValueError for an unknown name.

    >>> from_dict({"name": "step", "milestones": [3], "multiplier": 0.1})
    Step(milestones=(3,), multiplier=0.1)
    """
    name = checks.named("schedule", fields.get("name"), SCHEDULES)
    given: dict[str, Any] = {key: value for key, value in fields.items() if key != "name"}
    for key, value in given.items():
        if isinstance(value, Mapping):
            given[key] = from_dict(value)
    return SCHEDULES[name](**given)
