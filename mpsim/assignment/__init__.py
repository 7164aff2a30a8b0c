"""Precision assignments: from a trace to a plan, by pure functions. ``SCHEMES`` lists them by name.

>>> import reference_models
>>> from mpsim.trace import trace
>>> plan = assign(trace(reference_models.build("small_cnn"), batch=32), "largest_first", ratio=0.5)
>>> plan.scheme, 0.5 < plan.low_share < 1
('largest_first', True)
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
from mpsim.trace import Trace

__all__ = [
    "LEVELS", "ORDERS", "PAPER_LEVELS", "SCHEMES", "Levels", "Plan", "PlanMismatch", "Scheme", "Sensitivity", "assign",
    "demote", "demote_in_steps", "demote_k", "demoted", "group_order", "measure_sensitivity", "operator_based",
    "operator_based_extended", "optimal", "parse_levels", "plan_report", "promote", "uniform",
]  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """A row of SCHEMES: ``make(trace, levels=..., **options)`` -> Plan, and the options it needs."""

    name: str
    summary: str
    make: Callable[..., Plan]
    options: tuple[str, ...] = ()
    promotes: bool = True  # whether the paper promotes while training under it


def _uniform(level: str) -> Callable[..., Plan]:
    return lambda trace, levels=PAPER_LEVELS: uniform(trace, level, levels)


def _demote(order: str) -> Callable[..., Plan]:
    return lambda trace, ratio, levels=PAPER_LEVELS, seed=None: demote(trace, ratio, order, seed, levels)


def _in_steps(order: str) -> Callable[..., Plan]:
    return lambda trace, ratios, levels=PAPER_LEVELS, seed=None: demote_in_steps(trace, ratios, order, seed, levels)


def _demote_k(trace: Trace, k: int, levels: Levels | str = PAPER_LEVELS) -> Plan:
    return demote_k(trace, k, levels)


_ROWS = (
    Scheme("float32", "nothing rounded", _uniform("float32"), promotes=False),
    Scheme("uniform_high", "every tensor high", _uniform("high"), promotes=False),
    Scheme("uniform_low", "every tensor low", _uniform("low"), promotes=False),
    Scheme("operator_based", "what Conv2d and Linear read is low (HFP8)", operator_based, promotes=False),
    Scheme("operator_based_extended", "and their outputs too (torch.amp)", operator_based_extended, promotes=False),
    Scheme("largest_first", "groups go low, the largest first (the paper's)", _demote("largest_first"), ("ratio",)),
    Scheme("smallest_first", "groups go low, the smallest first", _demote("smallest_first"), ("ratio",)),
    Scheme("random", "groups go low in a random order", _demote("random"), ("ratio", "seed")),
    Scheme("largest_k", "the k largest groups go low", _demote_k, ("k",)),
    *(
        Scheme(
            f"{order}_in_steps",
            f"as {order}, to the lowest level first, then to those above it",
            _in_steps(order),
            ("ratios", "seed") if order == "random" else ("ratios",),
        )
        for order in ORDERS
    ),
)

#: Assignments by name; a new one is a row.
SCHEMES = {row.name: row for row in _ROWS}


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
    """The plan of a scheme by name. ValueError for an unknown scheme, or an option that is missing or not its own.

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
            raise UsageError(f"scheme {scheme!r} takes no {name} (which {users} do); got {given[name]!r}")
    return row.make(trace, levels=levels, **given)
