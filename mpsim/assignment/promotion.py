"""Promotes tensors: what overflowed in a step is stored one level higher from the next step on (paper §4.2)."""

from __future__ import annotations

from collections.abc import Mapping

from mpsim import checks
from mpsim.assignment.plan import Plan
from mpsim.engine.tensor import TensorId
from mpsim.errors import UsageError
from mpsim.process import in_default_environment

#: Roles that are promoted. Gradients are not, because loss scaling reacts to their overflows.
PROMOTED_ROLES = ("activation", "parameter")


@in_default_environment
def promote(
    plan: Plan, overflow_ratios: Mapping[TensorId, float], threshold: float = 0.01
) -> tuple[Plan, tuple[TensorId, ...]]:
    """Promotes the low activations and parameters whose overflow ratio is at least ``threshold``.

    A promoted tensor moves one level up: to its high format, or, with more than two levels, to the format of the next
    level, from which a later step may promote it again.

    Args:
        plan: The plan of this step.
        overflow_ratios: For each tensor, its overflowed elements before rounding divided by all its elements. Ratios of
            gradients are ignored.
        threshold: A share above 0 and at most 1. The paper uses 0.01.

    Returns:
        The plan for the next step (``plan`` itself if nothing is promoted), and the promoted tensors in the order of
        ``overflow_ratios``.

    Raises:
        ValueError: The plan has no such tensor, a ratio is outside [0, 1], or the threshold is out of range.

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
            raise UsageError(f"overflow_ratios has {tensor}, which is not a tensor of {plan!r}")
        if not (isinstance(ratio, float) and 0 <= ratio <= 1):  # the name costs more than the check
            checks.share(f"the overflow ratio of {tensor}", ratio)
        if tensor.role in PROMOTED_ROLES and ratio >= threshold and plan.is_low(tensor):
            promoted.append(tensor)
    return (plan.raised(promoted) if promoted else plan), tuple(promoted)
