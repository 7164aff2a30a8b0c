"""The arguments of a Trainer beside its recipe: whether plan and network are such, and belong together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpsim import checks
from mpsim.assignment import Plan
from mpsim.engine.tensor import TensorId
from mpsim.errors import UsageError
from mpsim.kernels import spec
from mpsim.nn import Module
from mpsim.policies import Policy
from mpsim.trace import trace
from mpsim.training.semantics import Semantics


def check_types(model: Any, plan: Any) -> None:
    """Raises UsageTypeError for a network or plan of another type."""
    checks.instance("model", model, Module, "a network (mpsim.nn.Module), as of reference_models.build")
    checks.instance("plan", plan, Plan | None, "a Plan or None; Plan.from_json reads the text of a plan's file")


def parameter_ids(
    model: Module, plan: Plan | None, semantics: Semantics, policies: Mapping[str, Policy]
) -> dict[str, TensorId]:
    """Parameter's name -> id, after checking that the plan was made for this model under these semantics."""
    traced = trace(model, batch=1 if plan is None else plan.network.batch, semantics=semantics.name)
    if plan is not None:
        plan.check(traced)
        for format in set(plan.formats.values()):
            if not format.fits_float32:
                raise UsageError(f"the plan uses {format}, which has values that float32 cannot hold")
            legacy = policies["activation"].mode.is_legacy
            if legacy and format.name != "float32" and not spec.legacy_applies(format):
                raise UsageError(
                    f"semantics {semantics.name!r} rounds as QPyTorch does, which knows fp_E_M_B (E <= 8) "
                    f"and not {format}; use other levels, or semantics 'standard'"
                )
    return traced.parameter_ids
