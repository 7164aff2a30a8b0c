"""Demotes entire groups of tensors to low formats in a chosen order until a share is reached (paper §4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpsim import checks
from mpsim.assignment.levels import PAPER_LEVELS, Levels, parse_levels
from mpsim.assignment.plan import Plan
from mpsim.engine.tensor import TensorId
from mpsim.errors import UsageError
from mpsim.formats import Format
from mpsim.kernels.philox import Stream, permutation
from mpsim.process import in_default_environment
from mpsim.trace import Trace

#: The orders in which groups are chosen. Ties are broken by the lower group id.
ORDERS = ("largest_first", "smallest_first", "random")


@in_default_environment
def demote(
    trace: Trace,
    ratio: float,
    order: str = "largest_first",
    seed: int | None = None,
    levels: Levels | str = PAPER_LEVELS,
) -> Plan:
    """Demotes groups in ``order`` while their share of all elements is below ``ratio`` (the paper's assignment).

    Activations and activation gradients are low in the chosen groups. Parameters and their gradients are low for ops
    all of whose inputs come from chosen groups.

    Args:
        trace: The trace of the network to plan for.
        ratio: A share from 0 (no group) to 1 (all groups).
        order: "largest_first" (the paper's), "smallest_first" or "random" (both from the ablations of §5.4).
        seed: The seed of order "random".
        levels: The high and low formats.

    Raises:
        ValueError: The ratio, the order or the seed is out of range, or the order and the seed do not match.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> plan = demote(trace(reference_models.build("small_cnn")), 0.7)
    >>> plan.scheme, plan.reached >= 0.7
    ('largest_first', True)
    """
    ratio = checks.share("ratio", ratio)
    groups = list(trace.groups)
    total = sum(groups)
    chosen: list[int] = []
    taken = 0
    for group in group_order(groups, order, seed):
        if ratio < 1 and taken / total >= ratio:
            break
        chosen.append(group)
        taken += groups[group]
    return demoted(trace, chosen, order, levels, ratio=float(ratio), seed=seed)


@in_default_environment
def demote_k(trace: Trace, k: int, levels: Levels | str = PAPER_LEVELS) -> Plan:
    """Demotes the ``k`` largest groups.

    Raises:
        ValueError: ``k`` is not in 0 to the number of groups.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> len(demote_k(trace(reference_models.build("small_cnn")), 2).chosen_groups)
    2
    """
    count = len(trace.groups)
    k = checks.whole("k", k, most=count, note=", the number of groups of this network")
    return demoted(trace, group_order(trace.groups, "largest_first")[:k], "largest_k", levels, k=k)


@in_default_environment
def group_order(groups: Sequence[int], order: str, seed: int | None = None) -> list[int]:
    """Returns the ids of the groups in the given order.

    Order "random" sorts the group ids by 64-bit keys. The key of group g consists of the Philox words 2g (low half) and
    2g + 1 (high half) of purpose "group_order" for the seed.

    Args:
        groups: The number of elements of each group.
        order: A member of ``ORDERS``.
        seed: The seed of order "random", otherwise None.

    >>> group_order([5, 9, 5], "largest_first")
    [1, 0, 2]
    """
    if checks.named("order", order, ORDERS) == "random":
        return _shuffled(len(groups), seed)
    if seed is not None:
        raise UsageError(f"a seed is for order 'random', not {order!r}; got seed {seed!r}")
    sign = -1 if order == "largest_first" else 1
    return sorted(range(len(groups)), key=lambda group: (sign * groups[group], group))


def _shuffled(count: int, seed: int | None) -> list[int]:
    if seed is None:
        raise UsageError("order 'random' needs a seed, a whole number from 0 to 2**64 - 1; got None")
    seed = checks.seed("seed", seed)
    return [int(group) for group in permutation(Stream(seed, "group_order"), count)]


@in_default_environment
def demoted(
    trace: Trace,
    chosen: Sequence[int],
    scheme: str,
    levels: Levels | str = PAPER_LEVELS,
    *,
    ratio: float | None = None,
    seed: int | None = None,
    k: int | None = None,
) -> Plan:
    """Returns the plan in which the groups ``chosen``, in this order, are low (paper §4.1).

    ``scheme``, ``ratio``, ``seed`` and ``k`` are recorded in the plan.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> demoted(trace(reference_models.build("small_cnn")), [2, 0], "by_hand").chosen_groups
    (2, 0)
    """
    levels = parse_levels(levels)
    formats = formats_by_group(trace, dict.fromkeys(chosen, len(levels.steps) - 1), levels)
    return Plan.of(trace, formats, scheme, levels, ratio=ratio, seed=seed, k=k, chosen_groups=tuple(chosen))


def formats_by_group(trace: Trace, depths: Mapping[int, int], levels: Levels) -> dict[TensorId, Format]:
    """Returns the format of every tensor if group g is at level ``levels.steps[depths[g]]``.

    Groups that ``depths`` lacks are at the high level. Activations and their gradients are at the level of their group,
    an op's parameters and their gradients at the highest level of the groups that the op reads.
    """
    own = {op.index: depths.get(op.group, 0) for op in trace.ops}
    # An op's parameters follow its inputs. A producer of -1 stands for the labels, which are not a tensor.
    fed = {op.index: min([own[p] for p in op.producers if p >= 0], default=0) for op in trace.ops}
    formats: dict[TensorId, Format] = {}
    for tensor in trace.tensors:
        role = tensor.id.role
        depth = own if role.startswith("activation") else fed
        formats[tensor.id] = levels.steps[depth[tensor.id.op]][role]
    return formats
