"""Reads PyTorch's optimizers: their states by mpsim's names, and the rule of the next update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from mpsim.interchange import as_array
from mpsim.interchange.pytorch import TorchOptimizer, TorchTensor
from mpsim.kernels.contract import Array
from mpsim.recording.updates import UpdateRule
from mpsim.training.optimizer import SGD, Adam, AdamW, Optimizer
from mpsim.training.optimizer.groups import Group

#: mpsim's name of a state -> PyTorch's.
STATES = {"velocity": "momentum_buffer", "first_moment": "exp_avg", "second_moment": "exp_avg_sq"}


def rule_of(torch: ModuleType, optimizer: TorchOptimizer, frozen: Iterable[str] = ()) -> UpdateRule | None:
    """Returns the rule of the next update, or None for one that mpsim does not have, or that differs by parameter.
    ``frozen`` parameters are not updated."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    if any(group != groups[0] for group in groups) or groups[0].get("maximize") or groups[0].get("amsgrad"):
        return None
    group = groups[0]
    counts = {float(state["step"]) for state in optimizer.state.values() if "step" in state}
    found = _settings(torch, type(optimizer), group)
    if found is None or len(counts) > 1:
        return None
    count = 1 + int(counts.pop() if counts else 0)
    return UpdateRule(found, float(group["lr"]), count, tuple(Group(name, frozen=True) for name in frozen))


def _settings(torch: ModuleType, kind: type, group: Mapping[str, Any]) -> Optimizer | None:
    decay = float(group["weight_decay"]) if "weight_decay" in group else 0.0
    if kind is torch.optim.SGD and not group["dampening"]:
        return SGD(momentum=float(group["momentum"]), weight_decay=decay, nesterov=bool(group["nesterov"]))
    decoupled = group.get("decoupled_weight_decay", kind is torch.optim.AdamW)
    if kind in (torch.optim.Adam, torch.optim.AdamW) and decoupled == (kind is torch.optim.AdamW):
        beta1, beta2 = map(float, group["betas"])
        own = AdamW if decoupled else Adam
        return own(beta1=beta1, beta2=beta2, epsilon=float(group["eps"]), weight_decay=decay)
    return None


def states_of(rule: UpdateRule, optimizer: TorchOptimizer, parameter: TorchTensor) -> dict[str, Array]:
    """Returns copies of a parameter's states by mpsim's names: 0 before the first update."""
    kept = optimizer.state.get(parameter, {})
    found = {name: kept.get(STATES[name]) for name in rule.states}
    zero = np.zeros(tuple(parameter.shape), np.float32)
    return {name: np.array(zero if state is None else as_array(state)) for name, state in found.items()}
