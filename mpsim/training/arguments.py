"""The arguments of a Trainer: what each may be given as, and whether plan and network belong together."""

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
from mpsim.training.loss_scale import LARGEST, SMALLEST, LossScale
from mpsim.training.optimizer import SGD
from mpsim.training.semantics import Semantics

#: What a skipped step does to the running statistics of batch norm.
SKIPPED_STATISTICS = ("updated", "kept")


def check_types(model: Any, plan: Any, optimizer: Any) -> None:
    """Raises UsageTypeError for a network, plan or optimizer of another type."""
    checks.instance("model", model, Module, "a network (mpsim.nn.Module), as of reference_models.build")
    checks.instance("plan", plan, Plan | None, "a Plan or None; Plan.from_json reads the text of a plan's file")
    checks.instance("optimizer", optimizer, SGD, "an SGD, such as SGD(lr=0.1)")


def as_loss_scale(loss_scale: LossScale | float | None, plan: Plan | None) -> LossScale:
    """The LossScale itself, or a fixed one for a number. None: the usual one if the plan rounds, else no scaling.

    >>> as_loss_scale(1024, None) == LossScale.fixed(1024)
    True
    """
    if loss_scale is None:
        rounds = plan is not None and any(format.name != "float32" for format in plan.formats.values())
        return LossScale() if rounds else LossScale.fixed()
    if isinstance(loss_scale, LossScale):
        return loss_scale
    return LossScale.fixed(checks.real("loss_scale", loss_scale, least=SMALLEST, most=LARGEST, note=", or a LossScale"))


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
