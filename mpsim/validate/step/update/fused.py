"""Updates of SGD whose products are fused with the sums that they are part of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from mpsim.formats import FORMATS
from mpsim.kernels.contract import Array
from mpsim.kernels.reference.fma import fma
from mpsim.recording.updates import Parts, UpdateRule
from mpsim.training.optimizer import SGD
from mpsim.validate.step.tensor_compare import compare_arrays

#: Products of an update that other programs fuse with the sum they are part of.
FUSED = {"decay": "weight decay", "momentum": "momentum", "step": "the step"}


def fused_in(pairs: Sequence[tuple[Array, Parts]], rule: UpdateRule, loss_scale: float) -> tuple[str, ...]:
    """Returns the fewest products that are fused with a sum in every one of the updates (next master, parts), or none
    if no choice gives them all. It is known for plain SGD."""
    if not isinstance(rule.optimizer, SGD) or rule.optimizer.dampening or rule.optimizer.nesterov:
        return ()
    for count in range(len(FUSED) + 1):
        for fused in combinations(FUSED, count):
            made = ((next_with_fused(parts, rule, loss_scale, fused), theirs) for theirs, parts in pairs)
            if all(compare_arrays("", expected, found, FORMATS["float32"]).equal for expected, found in made):
                return fused
    return ()


def next_with_fused(parts: Parts, rule: UpdateRule, loss_scale: float, fused: Sequence[str]) -> Array:
    """Returns ``rule.next`` where the products of the names are not rounded before they are added."""
    if not fused:
        return rule.next(parts, loss_scale)
    optimizer = rule.optimizer
    assert isinstance(optimizer, SGD)

    def total(name: str, factor: float, x: Array, y: Array) -> Array:
        number = np.float32(factor)
        return fma(np.full(x.shape, number), x, y) if name in fused else number * x + y

    with np.errstate(over="ignore", invalid="ignore"):
        whole = total("decay", optimizer.weight_decay, parts.master, parts.gradient * np.float32(1 / loss_scale))
        velocity = total("momentum", optimizer.momentum, parts.states["velocity"], whole)
        return total("step", -rule.rate, velocity, parts.master)
