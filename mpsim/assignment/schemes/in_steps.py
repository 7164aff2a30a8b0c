"""Demotes groups to more than two levels: the first groups to the lowest level, the next to the level above it, etc."""

from __future__ import annotations

from collections.abc import Sequence

from mpsim import checks
from mpsim.assignment.levels import PAPER_LEVELS, Levels, parse_levels
from mpsim.assignment.plan import Plan
from mpsim.assignment.schemes.demotion import formats_by_group, group_order
from mpsim.errors import UsageError
from mpsim.process import in_default_environment
from mpsim.trace import Trace


@in_default_environment
def demote_in_steps(
    trace: Trace,
    ratios: Sequence[float],
    order: str = "largest_first",
    seed: int | None = None,
    levels: Levels | str = PAPER_LEVELS,
) -> Plan:
    """Demotes groups in ``order`` to several levels, from the lowest level up.

    Groups move to the lowest level while the share of all elements in the groups chosen so far is below ``ratios[0]``,
    then to the next level while that share is below ``ratios[1]``, and so on. The rest stays high. Activations and
    their gradients are at the level of their group, an op's parameters and their gradients at the highest level of the
    groups that the op reads. With two levels this is ``demote``. The paper has two levels.

    Args:
        trace: The trace of the network to plan for.
        ratios: Rising shares from 0 to 1, one for each level below the high one. A ratio of 1 chooses all remaining
            groups, and a ratio equal to the one before it chooses none.
        order, seed: As for ``demote``.
        levels: The formats.

    Raises:
        ValueError: The ratios, the order or the seed are out of range, or do not match.

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
            f"ratios must rise from the lowest level up, because each includes those before it; got {given}",
            "ratios",
        )
    return tuple(float(ratio) for ratio in given)
