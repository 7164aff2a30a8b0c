"""Demotion in steps: groups go to the lowest level first, the next ones to the level above it, and so on."""

from __future__ import annotations

from collections.abc import Sequence

from mpsim import checks
from mpsim.assignment.levels import PAPER_LEVELS, Levels, parse_levels
from mpsim.assignment.plan import Plan
from mpsim.assignment.schemes.demotion import formats_by_group, group_order
from mpsim.errors import UsageError
from mpsim.trace import Trace


def demote_in_steps(
    trace: Trace,
    ratios: Sequence[float],
    order: str = "largest_first",
    seed: int | None = None,
    levels: Levels | str = PAPER_LEVELS,
) -> Plan:
    """Groups in ``order`` go to the lowest level while the share of all elements in the groups taken so far is below
    ``ratios[0]``, then to the level above it while that share is below ``ratios[1]``, and so on; the rest stays high.

    ``ratios``: rising shares in [0, 1], one per level below the high one; a ratio of 1 takes all that is left, and one
    equal to that before it takes nothing. ``order`` and ``seed`` as for ``demote``. Activations and their gradients
    are at their group's level, an op's parameters and their gradients at the highest level of the groups that it
    reads. With two levels it is ``demote``. Beyond the paper, whose levels are two. Raises ValueError for ratios, an
    order or a seed that do not fit.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> small = trace(reference_models.build("small_cnn"))
    >>> plan = demote_in_steps(small, (0.3, 0.8), levels="float16:fp_5_6_0:fp_4_3_4,fp_5_2_0")
    >>> plan.chosen_groups, plan.groups_per_step
    ((1, 3, 2), (1, 2))
    """
    levels = parse_levels(levels)
    given = _checked(ratios, len(levels.steps) - 1)
    groups = list(trace.groups)
    waiting = group_order(groups, order, seed)
    total, taken = sum(groups), 0
    chosen: list[int] = []
    counts: list[int] = []
    depths: dict[int, int] = {}
    for number, ratio in enumerate(given):
        before = len(chosen)
        while waiting and (ratio == 1 or taken / total < ratio):
            group = waiting.pop(0)
            chosen.append(group)
            depths[group] = len(given) - number
            taken += groups[group]
        counts.append(len(chosen) - before)
    return Plan.of(
        trace,
        formats_by_group(trace, depths, levels),
        f"{order}_in_steps",
        levels,
        seed=seed,
        chosen_groups=tuple(chosen),
        ratios=given,
        groups_per_step=tuple(counts),
    )


def _checked(ratios: Sequence[float], count: int) -> tuple[float, ...]:
    if isinstance(ratios, str) or not isinstance(ratios, Sequence) or len(ratios) != count:
        raise UsageError(
            f"ratios must be {count} for these levels, one per level below the high one; got {checks.shown(ratios)}",
            "ratios",
        )
    given = checks.shares("ratios", ratios)
    if given != sorted(given):
        raise UsageError(
            f"ratios must rise from the lowest level's on, as each counts those before it; got {given}", "ratios"
        )
    return tuple(float(ratio) for ratio in given)
