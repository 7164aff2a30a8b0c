"""The groups that cost least: the 0-1 knapsack over measured sensitivities, solved exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpsim import checks
from mpsim.assignment.levels import PAPER_LEVELS, Levels
from mpsim.assignment.plan import Plan
from mpsim.assignment.schemes.demotion import demoted
from mpsim.errors import UsageError
from mpsim.trace import Trace

#: Sensitivities are compared in steps of 2**-30 of the largest.
RESOLUTION = 1 << 30


def optimal(trace: Trace, levels: Levels | str = PAPER_LEVELS, *, ratio: float, sensitivity: Sequence[float]) -> Plan:
    """The plan with the least sum of ``sensitivity`` over the groups held low, their elements >= ``ratio`` of all.

    ``sensitivity``: a number >= 0 per group, what holding it low costs (``measure_sensitivity`` measures it).
    That costs of groups add up is this scheme's assumption. Solved by scipy's mixed-integer solver; the solution is
    checked in integers, and of equally good ones that without the highest group id is taken, then that without the
    next, so the plan follows from the arguments alone. Costs in proportion to the groups' sizes make the search long
    (minutes for 58 groups), measured ones take seconds. Raises ValueError for a ratio or sensitivities that do not fit.
    Beyond the paper, whose §4 proves the choice NP-hard and takes the largest groups first.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> small = trace(reference_models.build("small_cnn"), batch=16)
    >>> optimal(small, ratio=0.3, sensitivity=[5, 1, 1, 4, 2]).chosen_groups
    (1,)
    """
    groups = list(trace.groups)
    ratio = checks.share("ratio", ratio)
    costs = np.asarray(sensitivity, np.float64)
    if costs.shape != (len(groups),):
        raise UsageError(f"sensitivity is one number for each of the {len(groups)} groups, got shape {costs.shape}")
    if not (np.isfinite(costs).all() and (costs >= 0).all()):
        raise UsageError(f"sensitivities are finite numbers >= 0, got {costs.tolist()}")
    chosen = _cheapest(groups, _integers(costs), least_elements(sum(groups), ratio))
    return demoted(trace, chosen, "optimal", levels, ratio=float(ratio))


def least_elements(total: int, ratio: float) -> int:
    """The smallest count whose share of ``total`` is >= ``ratio``, as ``demote`` compares them.

    >>> least_elements(10, 0.3)
    3
    """
    count = min(total, math.ceil(ratio * total))
    while count > 0 and (count - 1) / total >= ratio:
        count -= 1
    while count < total and count / total < ratio:
        count += 1
    return count


def _integers(costs: np.ndarray) -> list[int]:
    largest = costs.max()
    return [round(float(cost) / float(largest) * RESOLUTION) if largest > 0 else 0 for cost in costs]


def _cheapest(sizes: list[int], costs: list[int], need: int) -> list[int]:
    """Rising ids of the groups; ties as ``optimal`` says."""
    best = _solve(sizes, costs, need, frozenset(), None)
    if best is None:
        raise AssertionError("all groups together reach every share")
    bound = sum(costs[group] for group in best)
    left_out: frozenset[int] = frozenset()
    for group in reversed(range(len(sizes))):
        if group in best:
            other = _solve(sizes, costs, need, left_out | {group}, bound)
            if other is None:
                continue
            best = other
        left_out |= {group}
    return sorted(best)


def _solve(
    sizes: list[int], costs: list[int], need: int, left_out: frozenset[int], bound: int | None
) -> set[int] | None:
    """The cheapest groups with at least ``need`` elements, none of ``left_out``; None if there are none (with a
    ``bound``: none that cost at most so much)."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    count, total = len(sizes), sum(sizes)
    upper = np.array([group not in left_out for group in range(count)], np.float64)
    rows, lowest = [np.array(sizes, np.float64) / total], [need / total]
    while True:
        found = milp(
            np.array(costs, np.float64),
            integrality=np.ones(count),
            bounds=Bounds(np.zeros(count), upper),
            constraints=LinearConstraint(np.array(rows), np.array(lowest) - 1e-9, np.inf),
            options={"mip_rel_gap": 0},
        )
        if found.x is None:
            return None
        chosen = {group for group in range(count) if found.x[group] > 0.5}
        if sum(sizes[group] for group in chosen) >= need:
            return None if bound is not None and sum(costs[group] for group in chosen) > bound else chosen
        # Within the solver's tolerance, but not enough in integers: nor is any part of it.
        rows.append(np.array([group not in chosen for group in range(count)], np.float64))
        lowest.append(1.0)
