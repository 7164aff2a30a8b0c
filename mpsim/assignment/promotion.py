"""Promotion: what overflowed in a step is held one level higher from the next step on (paper §4.2)."""

from __future__ import annotations

from collections.abc import Mapping

from mpsim import checks
from mpsim.assignment.plan import Plan
from mpsim.engine.tensor import TensorId
from mpsim.errors import UsageError

#: Roles that are promoted; a gradient never is (loss scaling sees its overflows).
PROMOTED_ROLES = ("activation", "parameter")


def promote(
    plan: Plan, overflow_ratios: Mapping[TensorId, float], threshold: float = 0.01
) -> tuple[Plan, tuple[TensorId, ...]]:
    """(the plan for the next step, the tensors promoted, in the order of ``overflow_ratios``).

    ``overflow_ratios``: per tensor, overflowed elements / all elements of this step, before rounding. Promoted are
    activations and parameters held low whose ratio is >= ``threshold``; ratios of gradients take no part. A promoted
    tensor goes one level up: to its high format, or with more than two levels to that of the level above its own,
    from which a later step may promote it again.
    ``threshold`` in (0, 1]; the paper's is 0.01. The plan itself is returned if nothing is promoted. Raises ValueError
    for a tensor that the plan does not know, a ratio outside [0, 1] or a threshold that does not fit.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> from mpsim.assignment import uniform
    >>> plan = uniform(trace(reference_models.build("small_cnn")), "low")
    >>> after, promoted = promote(plan, {TensorId(1, "activation", 0): 0.02, TensorId(2, "activation", 0): 0.001})
    >>> promoted[0].op, after.low_share < plan.low_share
    (1, True)
    """
    threshold = checks.share("threshold", threshold, zero=False)
    promoted = []
    for tensor, ratio in overflow_ratios.items():
        if tensor not in plan.formats:
            raise UsageError(f"overflow ratio of {tensor}, which is no tensor of {plan!r}")
        checks.share(f"the overflow ratio of {tensor}", ratio)
        if tensor.role in PROMOTED_ROLES and ratio >= threshold and plan.is_low(tensor):
            promoted.append(tensor)
    return (plan.raised(promoted) if promoted else plan), tuple(promoted)
