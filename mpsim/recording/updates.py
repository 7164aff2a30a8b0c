"""The rule of one update in a step file: the optimizer, this step's learning rate, the number of the update, and the
tensors that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mpsim.engine.tensor import TensorId
from mpsim.kernels import bind
from mpsim.kernels.contract import Array
from mpsim.training.optimizer import OPTIMIZERS, SGD, Optimizer
from mpsim.training.optimizer.base import Update
from mpsim.training.optimizer.groups import Group, groups_of, rules_of, text_of
from mpsim.training.optimizer.names import settings_of
from mpsim.training.optimizer.storage import MASTERS, storage_of

#: Kind in a step file -> name of the optimizer.
KINDS = {kind.__name__: name for name, kind in OPTIMIZERS.items()}


class Parts(NamedTuple):
    """The tensors that the update of one parameter reads. ``states``: the optimizer's, before the step. ``gradient``:
    as stored, still multiplied by the loss scale. ``before``: the same before rounding, None if it is not known.
    ``used``: the parameter as the step used it. ``compensation``: what Kahan's rule kept of the master, if anything.
    ``parts``: of several micro-batches, whose gradients add up to ``gradient``, that of the last one and the sum of the
    earlier ones."""

    master: Array
    states: Mapping[str, Array]
    gradient: Array
    used: Array
    before: Array | None = None
    compensation: Array | None = None
    parts: tuple[Array, Array | None] | None = None


def parts_of(tensors: Mapping[str, Array], id: TensorId, states: tuple[str, ...]) -> Parts:
    """Returns the tensors of one parameter's update."""
    place = f"{id.op}/{id.index}"
    master = tensors[f"master/{place}"]
    found = {state: tensors[f"{state}/{place}"].reshape(master.shape) for state in states}
    gradient, used = (tensors[f"{kind}/{place}"].reshape(master.shape) for kind in ("GP", "P"))
    before, total, compensation = (
        _of(tensors, kind, place, master) for kind in ("unrounded/GP", "next_sum", "compensation")
    )
    if total is None:
        return Parts(master, found, gradient, used, before, compensation)
    earlier = _of(tensors, "sum", place, master)
    exact = gradient if earlier is None else np.asarray(bind("reference").add(earlier, gradient))
    return Parts(master, found, total, used, exact, compensation, parts=(gradient, earlier))


def _of(tensors: Mapping[str, Array], kind: str, place: str, master: Array) -> Array | None:
    """A tensor in the shape of the master, None if there is none."""
    found = tensors.get(f"{kind}/{place}")
    return None if found is None else found.reshape(master.shape)


@dataclass(frozen=True)
class UpdateRule:
    """An update: the optimizer with its settings (its ``lr`` and schedule are not used), the learning rate of this
    step, the number of the update from 1 on, and the recipe's groups, clipping and storage."""

    optimizer: Optimizer
    rate: float
    count: int = 1
    groups: tuple[Group, ...] = ()
    clip: float | None = None
    storage: str = ""

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the optimizer's states."""
        return self.optimizer.states

    @property
    def has_momentum(self) -> bool:
        """Whether the optimizer is SGD with momentum."""
        return isinstance(self.optimizer, SGD) and self.optimizer.momentum > 0

    def to_index(self) -> dict[str, Any]:
        """Returns the entry ``optimizer`` of a step file's index. Plain SGD has the fields of older files."""
        name = KINDS[type(self.optimizer).__name__]
        settings = {each: getattr(self.optimizer, each) for each in settings_of(name) if each != "lr"}
        if isinstance(self.optimizer, SGD) and not (self.optimizer.dampening or self.optimizer.nesterov):
            settings = {each: settings[each] for each in ("momentum", "weight_decay")}
        else:
            settings = {"count": self.count, **settings}
        if self.groups:
            settings["groups"] = text_of(self.groups)
        if self.clip is not None:
            settings["clip"] = self.clip
        if self.storage:
            settings["storage"] = self.storage
        return {"kind": type(self.optimizer).__name__, "rate": self.rate, **settings}

    @classmethod
    def of_index(cls, index: Mapping[str, Any]) -> UpdateRule | None:
        """Returns the rule of a step file's index, or None if it has none, or one of another optimizer."""
        found = index.get("optimizer")
        if not isinstance(found, Mapping) or found.get("kind") not in KINDS:
            return None
        name = KINDS[found["kind"]]
        settings = {each: found[each] for each in settings_of(name) if each in found}
        return cls(
            OPTIMIZERS[name](**settings), float(found["rate"]), int(found.get("count", 1)),
            groups_of(found.get("groups", "")), found.get("clip"), found.get("storage", ""),
        )  # fmt: skip

    @property
    def stores_masters(self) -> bool:
        """Whether masters are rounded after the update."""
        return MASTERS in storage_of(self.storage)

    def by_parameter(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, UpdateRule]:
        """Returns the rule of every parameter that is trained, by name."""
        found = rules_of(self.groups, self.optimizer, shapes)
        return {
            name: UpdateRule(rule.optimizer, self.rate * rule.rate, self.count, storage=self.storage)
            for name, rule in found.items()
        }

    def with_(self, **settings: Any) -> UpdateRule:
        """Returns the rule with other settings of the optimizer."""
        return replace(self, optimizer=replace(self.optimizer, **settings))

    def next(self, parts: Parts, loss_scale: float) -> Array:
        """Returns the next master before it is stored, in the dtype of the parts, by the reference kernels."""
        master, states = np.array(parts.master), {name: np.array(array) for name, array in parts.states.items()}
        if parts.compensation is not None:
            master = bind("reference").add(master, parts.compensation)
        self.optimizer.update(
            bind("reference"), master, parts.gradient, states, Update(self.rate, self.count, 1 / loss_scale)
        )
        return master
