"""What holding each group low costs, group by group: by trial, and foretold from one backward pass.

Nothing here trains: a step is handed in that can be taken under any plan (``mpsim.training.sensitivity.steps`` makes
them of a model and batches).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mpsim.assignment.levels import PAPER_LEVELS, Levels
from mpsim.assignment.plan import Plan
from mpsim.assignment.schemes.demotion import demoted
from mpsim.assignment.schemes.uniform import uniform
from mpsim.errors import UsageError
from mpsim.trace import Trace

Gradients = Mapping[str, np.ndarray]


class Outcome(Protocol):
    """What a step under a plan gave: the loss as stored, and the gradients by parameter, unscaled, in float64."""

    @property
    def loss(self) -> float: ...

    @property
    def gradients(self) -> Gradients: ...

    def first_order(self, other: Plan) -> float:
        """The change of the loss under ``other``, by gradient * change of each activation and parameter."""
        ...


class Step(Protocol):
    """A forward and backward pass on one batch, which leaves the model as it was."""

    @property
    def trace(self) -> Trace: ...

    def take(self, plan: Plan, keep: bool = False) -> Outcome:
        """``keep``: with what ``first_order`` needs."""
        ...


@dataclass(frozen=True)
class Sensitivity:
    """Per group id, averaged over the batches.

    ``loss``: |loss with the group low - loss with all high|, losses as stored (in their format).
    ``gradient``: |g - h| / |h|, g and h all parameters' gradients as one vector, with the group low and with all high
    (infinity if a gradient overflows).
    ``loss_first_order``: |sum over the group's activations and parameters of gradient * (low value - high value)|,
    everything taken from the all-high step. Where the group rounds one tensor after the other it tells the size of
    ``loss`` only: the later one is rounded at other values than these. Ops that only choose among values which the
    group already rounded (ReLU, pooling by maximum, halves, concatenation) add nothing; nor does the input, whose
    gradient is not computed.
    """

    loss: tuple[float, ...]
    gradient: tuple[float, ...]
    loss_first_order: tuple[float, ...]


def measure_sensitivity(steps: Iterable[Step], levels: Levels | str = PAPER_LEVELS) -> Sensitivity:
    """Tries each group low, all else high, in every one of ``steps``: groups + 1 passes for each.

    ``Sensitivity.gradient`` is what ``optimal`` takes as ``sensitivity``. Raises ValueError if there is no step, or a
    gradient overflows with all tensors high. Beyond the paper, whose §4 takes sizes for costs.

    >>> import reference_models
    >>> from mpsim.training.sensitivity import steps
    >>> model = reference_models.build("small_cnn", width=0.25)
    >>> batch = np.ones((4, 1, 8, 8), np.float32), np.arange(4)
    >>> len(measure_sensitivity(steps(model, [batch], backend="reference", threads=1)).gradient)
    5
    """
    rows = [_one_step(step, levels) for step in steps]
    if not rows:
        raise UsageError("measuring needs at least one batch, got none")
    means = np.mean(np.array(rows), axis=0)  # (steps, 3, groups) -> (3, groups)
    return Sensitivity(*(tuple(map(float, row)) for row in means))


def _one_step(step: Step, levels: Levels | str) -> list[list[float]]:
    """Loss, gradient and first-order errors by group."""
    high = step.take(uniform(step.trace, "high", levels), keep=True)
    if not _finite(high.gradients):
        raise UsageError("a gradient overflows with all tensors high: measure with a lower loss_scale")
    table: list[list[float]] = [[], [], []]
    for group in range(len(step.trace.groups)):
        plan = demoted(step.trace, [group], "one_group", levels)
        low = step.take(plan)
        table[0].append(abs(low.loss - high.loss))
        table[1].append(_distance(low.gradients, high.gradients))
        table[2].append(abs(high.first_order(plan)))
    return table


def _finite(gradients: Gradients) -> bool:
    return all(np.isfinite(array).all() for array in gradients.values())


def _distance(found: Gradients, expected: Gradients) -> float:
    if not _finite(found):
        return math.inf
    difference = sum(float(np.sum((found[name] - expected[name]) ** 2)) for name in expected)
    size = sum(float(np.sum(expected[name] ** 2)) for name in expected)
    return math.sqrt(difference / size) if size else math.sqrt(difference)
