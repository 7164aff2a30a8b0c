"""Assigns the same level to every tensor, or rounds nothing."""

from __future__ import annotations

from mpsim import checks
from mpsim.assignment.levels import PAPER_LEVELS, Levels, parse_levels
from mpsim.assignment.plan import Plan
from mpsim.engine.tensor import ROLES
from mpsim.formats import FORMATS
from mpsim.process import in_default_environment
from mpsim.trace import Trace

LEVEL_SCHEMES = {"low": "uniform_low", "high": "uniform_high", "float32": "float32"}


@in_default_environment
def uniform(trace: Trace, level: str, levels: Levels | str = PAPER_LEVELS) -> Plan:
    """Assigns one level to every tensor.

    Args:
        trace: The trace of the network to plan for.
        level: "low", "high", or "float32" (nothing is rounded).
        levels: The high and low formats.

    Raises:
        ValueError: The level is unknown.

    Source: paper §5.1 (pi_unif, pi_fp32).

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> uniform(trace(reference_models.build("small_cnn")), "high").low_share
    0.0
    """
    levels = parse_levels(levels)
    checks.named("uniform level", level, LEVEL_SCHEMES)
    by_role = {
        "low": levels.low,
        "high": levels.high,
        "float32": dict.fromkeys(ROLES, FORMATS["float32"]),
    }[level]
    formats = {tensor.id: by_role[tensor.id.role] for tensor in trace.tensors}
    return Plan.of(trace, formats, LEVEL_SCHEMES[level], levels)
