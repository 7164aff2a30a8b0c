"""Chooses the groups with the least cost: a 0-1 knapsack over measured sensitivities, solved exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpsim import checks
from mpsim.assignment.levels import PAPER_LEVELS, Levels
from mpsim.assignment.plan import Plan
from mpsim.assignment.schemes.demotion import demoted
from mpsim.errors import UsageError
from mpsim.process import in_default_environment
from mpsim.trace import Trace

#: Sensitivities are compared in steps of 2**-30 of the largest.
RESOLUTION = 1 << 30


@in_default_environment
def optimal(trace: Trace, levels: Levels | str = PAPER_LEVELS, *, ratio: float, sensitivity: Sequence[float]) -> Plan:
    """Demotes the groups with the least sum of ``sensitivity`` whose share of all elements is at least ``ratio``.

    It assumes that the costs of groups add up. scipy's mixed-integer solver finds the solution, which is then checked
    in integers. Among equally good solutions it prefers one without the highest group id, then one without the next, so
    that the plan depends only on the arguments. Costs in proportion to the groups' sizes make the search long (minutes
    for 58 groups); with measured costs it takes seconds. The paper does not solve this problem: its §4 proves it
    NP-hard and demotes the largest groups first.

    Args:
        trace: The trace of the network to plan for.
        levels: The high and low formats.
        ratio: The least share of all elements, from 0 to 1.
        sensitivity: The cost of each group, a finite number >= 0 (``measure_sensitivity`` measures it).

    Raises:
        ValueError: The ratio is out of range, or the sensitivities are not one finite number >= 0 for each group.

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
        raise UsageError(f"sensitivity needs one number for each of the {len(groups)} groups, got shape {costs.shape}")
    if not (np.isfinite(costs).all() and (costs >= 0).all()):
        raise UsageError(f"sensitivities must be finite numbers >= 0, got {costs.tolist()}")
    chosen = _cheapest(groups, _integers(costs), least_elements(sum(groups), ratio))
    return demoted(trace, chosen, "optimal", levels, ratio=float(ratio))


def least_elements(total: int, ratio: float) -> int:
    """Returns the smallest count whose share of ``total`` is >= ``ratio``, compared as in ``demote``.

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
    """Returns the rising ids of the chosen groups. ``optimal`` describes how ties are broken."""
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
    """Returns the cheapest groups with at least ``need`` elements and without ``left_out``.

    It returns None if there are none, or, with a ``bound``, if all of them cost more than the bound.
    """
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
        # The solution is within the solver's tolerance but too small in integers. So is each subset of it.
        rows.append(np.array([group not in chosen for group in range(count)], np.float64))
        lowest.append(1.0)
