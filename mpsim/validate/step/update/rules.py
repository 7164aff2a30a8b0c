"""The rule of an update, for the whole network and for each of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpsim.engine.tensor import TensorId
from mpsim.nn import Module
from mpsim.recording.updates import UpdateRule
from mpsim.trace import Trace


@dataclass(frozen=True)
class StepRules:
    """``whole``: the rule of the step, None if it is not known. ``trained``: that of each parameter that is trained, in
    the order in which a step reads them; ``frozen``: the others. ``places``: the number of the network's parameters."""

    whole: UpdateRule | None
    trained: Mapping[TensorId, UpdateRule]
    frozen: frozenset[TensorId]
    places: int

    @classmethod
    def of(cls, rule: UpdateRule | None, model: Module, traced: Trace) -> StepRules:
        """Returns the rules of a network. UsageError for groups that do not fit it."""
        ids, parameters = traced.parameter_ids, model.parameters()
        if rule is None:
            return cls(None, {}, frozenset(), len(parameters))
        shapes = {name: tuple(parameters[name].shape) for name in dict.fromkeys([*ids, *parameters])}
        found = rule.by_parameter(shapes)
        trained = {ids[name]: each for name, each in found.items() if name in ids}
        return cls(rule, trained, frozenset(ids.values()) - set(trained), len(parameters))
