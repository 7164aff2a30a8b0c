"""Measures the cost of holding each group low, by trial and by a first-order estimate from one backward pass.

This module does not train. The caller passes steps that run with any plan; ``mpsim.training.sensitivity.steps`` builds
them from a model and batches.
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
from mpsim.process import in_default_environment
from mpsim.trace import Trace

Gradients = Mapping[str, np.ndarray]


class Outcome(Protocol):
    """The result of a step: the stored loss, and the gradient of each parameter, unscaled, in float64."""

    @property
    def loss(self) -> float: ...

    @property
    def gradients(self) -> Gradients: ...

    def first_order(self, other: Plan) -> float:
        """Estimates the change of the loss with plan ``other``: gradient * change of each activation and parameter."""
        ...


class Step(Protocol):
    """A forward and backward pass on one batch that leaves the model unchanged."""

    @property
    def trace(self) -> Trace: ...

    def take(self, plan: Plan, keep: bool = False) -> Outcome:
        """Runs the step with a plan. ``keep`` also stores what ``first_order`` needs."""
        ...


@dataclass(frozen=True)
class Sensitivity:
    """The costs of holding each group low, by group id, averaged over the batches.

    ``loss`` is |loss with the group low - loss with all groups high|, where losses are rounded to their format.

    ``gradient`` is |g - h| / |h|, where g and h are the gradients of all parameters as one vector, with the group low
    and with all groups high. It is infinity if a gradient overflows.

    ``loss_first_order`` is |sum over the group's activations and parameters of gradient * (low value - high value)|,
    with all values from the step with all groups high. If the group rounds one tensor after the other, it estimates
    only the order of magnitude of ``loss``, because the later tensor is then rounded at different values. Ops that only
    select values which the group has already rounded (such as max pooling, halves and concatenation) contribute
    nothing. Neither does the input, whose gradient is not computed.

    >>> costs = Sensitivity(loss=(0.5, 0.125), gradient=(0.25, 0.0), loss_first_order=(0.5, 0.125))
    >>> min(range(2), key=costs.loss.__getitem__)  # the group that costs least
    1
    """

    loss: tuple[float, ...]
    gradient: tuple[float, ...]
    loss_first_order: tuple[float, ...]


@in_default_environment
def measure_sensitivity(steps: Iterable[Step], levels: Levels | str = PAPER_LEVELS) -> Sensitivity:
    """Measures each group's cost by running every step with that group low and all others high.

    The paper does not measure costs: its §4 uses the groups' sizes.

    Args:
        steps: The steps, one for each batch. Each runs groups + 1 times.
        levels: The high and low formats.

    Returns:
        The costs. ``optimal`` accepts ``Sensitivity.gradient`` as ``sensitivity``.

    Raises:
        ValueError: There are no steps, or a gradient overflows with all tensors high.

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
    """Returns the loss, gradient and first-order errors by group."""
    high = step.take(uniform(step.trace, "high", levels), keep=True)
    if not _finite(high.gradients):
        raise UsageError("a gradient overflows with all tensors high; measure with a lower loss_scale")
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
