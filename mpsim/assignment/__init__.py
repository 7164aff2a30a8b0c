"""Computes a precision plan from a trace, by pure functions. ``SCHEMES`` lists the assignments by name.

>>> import reference_models
>>> from mpsim.trace import trace
>>> plan = assign(trace(reference_models.build("small_cnn"), batch=32), "largest_first", ratio=0.5)
>>> plan.scheme, 0.5 < plan.low_share < 1
('largest_first', True)
>>> list(SCHEMES)[:4], ORDERS
(['float32', 'uniform_high', 'uniform_low', 'operator_based'], ('largest_first', 'smallest_first', 'random'))
>>> str(LEVELS["paper"].low["activation"])
'fp_4_3_4'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpsim import checks
from mpsim.assignment.levels import LEVELS, PAPER_LEVELS, Levels, parse_levels
from mpsim.assignment.liveness import plan_report
from mpsim.assignment.plan import Plan, PlanMismatch
from mpsim.assignment.promotion import promote
from mpsim.assignment.schemes.by_operator import operator_based, operator_based_extended
from mpsim.assignment.schemes.demotion import ORDERS, demote, demote_k, demoted, group_order
from mpsim.assignment.schemes.in_steps import demote_in_steps
from mpsim.assignment.schemes.optimal import optimal
from mpsim.assignment.schemes.uniform import uniform
from mpsim.assignment.sensitivity import Sensitivity, measure_sensitivity
from mpsim.errors import UsageError
from mpsim.process import in_default_environment
from mpsim.trace import Trace

__all__ = [
    "LEVELS", "ORDERS", "PAPER_LEVELS", "SCHEMES", "Levels", "Plan", "PlanMismatch", "Scheme", "Sensitivity", "assign",
    "demote", "demote_in_steps", "demote_k", "demoted", "group_order", "measure_sensitivity", "operator_based",
    "operator_based_extended", "optimal", "parse_levels", "plan_report", "promote", "uniform",
]  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """Declares an assignment, i.e. an entry of ``SCHEMES``.

    Args:
        name: The name that ``assign`` and the command line know it by.
        summary: One line for help texts.
        make: ``make(trace, levels=..., **options)`` returns the plan.
        options: The names of the options that ``make`` requires.
        promotes: Whether the paper promotes overflowing tensors when it trains with this assignment.

    >>> SCHEMES["random"].options
    ('ratio', 'seed')
    """

    name: str
    summary: str
    make: Callable[..., Plan]
    options: tuple[str, ...] = ()
    promotes: bool = True


def _uniform(level: str) -> Callable[..., Plan]:
    return lambda trace, levels=PAPER_LEVELS: uniform(trace, level, levels)


def _demote(order: str) -> Callable[..., Plan]:
    return lambda trace, ratio, levels=PAPER_LEVELS, seed=None: demote(trace, ratio, order, seed, levels)


def _in_steps(order: str) -> Callable[..., Plan]:
    return lambda trace, ratios, levels=PAPER_LEVELS, seed=None: demote_in_steps(trace, ratios, order, seed, levels)


def _demote_k(trace: Trace, k: int, levels: Levels | str = PAPER_LEVELS) -> Plan:
    return demote_k(trace, k, levels)


_ROWS = (
    Scheme("float32", "nothing is rounded", _uniform("float32"), promotes=False),
    Scheme("uniform_high", "every tensor is high", _uniform("high"), promotes=False),
    Scheme("uniform_low", "every tensor is low", _uniform("low"), promotes=False),
    Scheme("operator_based", "inputs of Conv2d and Linear are low (HFP8)", operator_based, promotes=False),
    Scheme("operator_based_extended", "their outputs are low too (torch.amp)", operator_based_extended, promotes=False),
    Scheme("largest_first", "demotes the largest groups first (the paper's)", _demote("largest_first"), ("ratio",)),
    Scheme("smallest_first", "demotes the smallest groups first", _demote("smallest_first"), ("ratio",)),
    Scheme("random", "demotes groups in a random order", _demote("random"), ("ratio", "seed")),
    Scheme("largest_k", "demotes the k largest groups", _demote_k, ("k",)),
    *(
        Scheme(
            f"{order}_in_steps",
            f"like {order}, but demotes to the lowest level first, then to the levels above it",
            _in_steps(order),
            ("ratios", "seed") if order == "random" else ("ratios",),
        )
        for order in ORDERS
    ),
)

#: Assignments by name. A new assignment is a new entry.
SCHEMES = {row.name: row for row in _ROWS}


@in_default_environment
def assign(
    trace: Trace,
    scheme: str,
    *,
    ratio: float | None = None,
    seed: int | None = None,
    k: int | None = None,
    ratios: Sequence[float] | None = None,
    levels: Levels | str = PAPER_LEVELS,
) -> Plan:
    """Computes the plan of the assignment with the given name.

    Args:
        trace: The trace of the network to plan for.
        scheme: A name in ``SCHEMES``.
        ratio, seed, k, ratios: The options of the assignment (``SCHEMES[scheme].options``); the others stay None.
        levels: The formats to choose from.

    Returns:
        The plan.

    Raises:
        ValueError: The assignment is unknown, an option it requires is missing, or an option it does not have is given.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> assign(trace(reference_models.build("small_cnn")), "largest_first", ratio=1).ratio
    1.0
    """
    row = SCHEMES[checks.named("scheme", scheme, SCHEMES)]
    options = {"ratio": ratio, "seed": seed, "k": k, "ratios": ratios}
    given = {name: value for name, value in options.items() if value is not None}
    for name in row.options:
        if name not in given:
            raise UsageError(f"scheme {scheme!r} needs {name}")
    for name in given:
        if name not in row.options:
            users = ", ".join(other for other, one in SCHEMES.items() if name in one.options)
            raise UsageError(f"scheme {scheme!r} has no option {name} (schemes with it: {users}); got {given[name]!r}")
    return row.make(trace, levels=levels, **given)
