"""Defines the settings on which the bits of a training step depend, besides network, plan and batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from mpsim import checks, losses
from mpsim.assignment import Plan
from mpsim.engine.tensor import ROLES, Tensor, TensorId
from mpsim.errors import UsageError, UsageTypeError
from mpsim.files.records import Record
from mpsim.kernels import spec
from mpsim.losses import CrossEntropy, Loss, loss_of
from mpsim.nn import Module
from mpsim.policies import Policy
from mpsim.products import passes
from mpsim.products.accumulators import Accumulator
from mpsim.products.passes import Accumulators, Choice, as_accumulators
from mpsim.trace import check_layers, trace
from mpsim.training import optimizer as optimizers
from mpsim.training.loss_scale import LARGEST, SMALLEST, LossScale
from mpsim.training.optimizer import SGD, Optimizer, storage
from mpsim.training.optimizer.groups import Group, groups_of, text_of
from mpsim.training.semantics import Semantics, as_semantics, of_stored, stored

#: What a skipped step does to the running statistics of batch norm.
SKIPPED_STATISTICS = ("updated", "kept")
#: The largest number of micro-batches.
MOST_PARTS = 1 << 16


@dataclass(frozen=True)
class Recipe:
    """The settings of a Trainer. Fields are converted from the other types that they accept.

    optimizer: SGD, Adam, AdamW or Lion, with its learning rate and schedule. loss_scale: a LossScale, a number for a
    fixed one, or None for the default (no scaling if nothing is rounded). promotion: the overflow ratio from which an
    activation or parameter is high from the next step on, or None. semantics: "standard" or "lee2023", or a Semantics.
    rounding: "nearest" or "stochastic" (in standard semantics with ``random_bit_count`` in 1..32). seed: for the random
    bits of stochastic rounding. skipped_statistics: whether a step with a skipped update leaves batch norm's running
    statistics "updated", as in PyTorch, or "kept". accumulator: the order of sums: an Accumulator, a Product,
    Accumulators by pass and by layer, or a text such as "hopper_float16" or "forward=hopper_float16;conv1:exact"
    (mpsim.products.passes.accumulators_of). loss: a loss, its text such as "cross_entropy(smoothing=0.1)", or a
    function of outputs and labels (mpsim.losses). groups: Groups of parameters with other settings, or their text.
    clip: the largest norm of all gradients, or None. ema: the share of the old average in an average of the parameters,
    or None. micro_batches: the number of parts that a batch is divided into, whose gradients are added. storage: the
    formats of masters, states and the sum of gradients, such as "masters=bfloat16/kahan;velocity=bfloat16/stochastic".

    Raises UsageError or UsageTypeError for invalid settings.

    >>> Recipe(semantics="lee2023", loss_scale=1024).loss_scale == LossScale.fixed(1024)
    True
    """

    optimizer: Optimizer = SGD()
    loss_scale: LossScale | float | None = None
    promotion: float | None = 0.01
    semantics: str | Semantics = "standard"
    rounding: str = "nearest"
    random_bit_count: int | None = None
    skipped_statistics: str = "updated"
    accumulator: Choice | str = Accumulator()
    seed: int = 0
    loss: Loss | str | Callable[[Tensor, np.ndarray], Tensor] = CrossEntropy()
    groups: tuple[Group, ...] | str = ()
    clip: float | None = None
    ema: float | None = None
    micro_batches: int = 1
    storage: str = ""

    def __post_init__(self) -> None:
        checks.instance("optimizer", self.optimizer, Optimizer, "an optimizer, such as SGD(lr=0.1)")
        made: dict[str, object] = {
            "semantics": as_semantics(self.semantics),
            "accumulator": as_accumulators(self.accumulator),
            "skipped_statistics": checks.named("skipped_statistics", self.skipped_statistics, SKIPPED_STATISTICS),
            "seed": checks.seed("seed", self.seed),
            "loss": loss_of(self.loss),
            "groups": groups_of(self.groups),
            "micro_batches": checks.whole("micro_batches", self.micro_batches, least=1, most=MOST_PARTS),
        }
        made["storage"] = storage.checked(self.storage, self.optimizer.states, self.micro_batches)
        if self.clip is not None:
            clip = checks.real("clip", self.clip, above=0, most=checks.FLOAT32_LARGEST, note=", or None")
            made["clip"] = float(clip)
        if self.ema is not None:
            made["ema"] = float(checks.real("ema", self.ema, least=0, below=1, note=", or None"))
        if self.promotion is not None:
            made["promotion"] = checks.share("promotion", self.promotion, zero=False, note=", or None")
        if self.loss_scale is not None and not isinstance(self.loss_scale, LossScale):
            number = checks.real("loss_scale", self.loss_scale, least=SMALLEST, most=LARGEST, note=", or a LossScale")
            made["loss_scale"] = LossScale.fixed(number)
        for name, value in made.items():
            object.__setattr__(self, name, value)
        assert self.policies  # raises for a rounding that the semantics do not have

    @cached_property
    def policies(self) -> dict[str, Policy]:
        """The rounding policies by role."""
        semantics = as_semantics(self.semantics)
        return {role: semantics.policy(role, self.rounding, self.random_bit_count) for role in ROLES}

    def with_(self, settings: Mapping[str, Any]) -> Recipe:
        """Returns the recipe with some settings replaced. Raises UsageTypeError for an unknown one."""
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                near = checks.did_you_mean(checks.near(name, known))
                raise UsageTypeError(f"there is no setting {name!r}{near or '.'} Known: {', '.join(known)}", name)
        return replace(self, **settings)

    def freezing(self, names: Iterable[str]) -> Recipe:
        """Returns the recipe with a frozen group for each parameter of these names."""
        groups = groups_of(self.groups)
        further = [group for name in names if (group := Group(name, frozen=True)) not in groups]
        return replace(self, groups=(*groups, *further)) if further else self

    def scaling(self, plan: Plan | None) -> LossScale:
        """Returns the loss scale under a plan."""
        if isinstance(self.loss_scale, LossScale):
            return self.loss_scale
        return LossScale() if plan is not None and plan.rounds else LossScale.fixed()

    def parameter_ids(self, model: Module, plan: Plan | None) -> dict[str, TensorId]:
        """Returns the parameters' ids by name. Checks that plan and accumulators fit this model and these semantics."""
        semantics = as_semantics(self.semantics)
        batch = 1 if plan is None else plan.network.batch
        traced = trace(model, batch, semantics.name, loss=loss_of(self.loss))
        if isinstance(self.accumulator, Accumulators):
            check_layers(self.accumulator, traced)
        if plan is not None:
            plan.check(traced)
            for format in set(plan.formats.values()):
                if not format.fits_float32:
                    raise UsageError(f"the plan uses {format}, which has values that float32 cannot hold")
                legacy = self.policies["activation"].mode.is_legacy
                if legacy and format.name != "float32" and not spec.legacy_applies(format):
                    raise UsageError(
                        f"semantics {semantics.name!r} rounds like QPyTorch, which supports fp_E_M_B (E <= 8) but "
                        f"not {format}; use other levels, or semantics 'standard'"
                    )
        return traced.parameter_ids

    def to_dict(self) -> Record:
        """Returns the settings as JSON types."""
        assert isinstance(self.semantics, Semantics) and not isinstance(self.accumulator, str)
        scale = self.loss_scale.to_dict() if isinstance(self.loss_scale, LossScale) else None
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        found |= {"optimizer": optimizers.to_dict(self.optimizer), "loss_scale": scale}
        found |= {"semantics": stored(self.semantics), "accumulator": passes.to_dict(self.accumulator)}
        found["groups"] = text_of(groups_of(self.groups))
        return found | {"loss": losses.described(loss_of(self.loss))}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Recipe:
        """Inverts ``to_dict``. Settings that an older version did not have get their defaults."""
        settings = {field.name: found[field.name] for field in fields(cls) if field.name in found}
        settings["optimizer"] = optimizers.from_dict(found["optimizer"])
        settings["semantics"] = of_stored(found["semantics"])
        settings["accumulator"] = passes.from_dict(found["accumulator"])
        if found["loss_scale"] is not None:
            settings["loss_scale"] = LossScale(**found["loss_scale"])
        return cls(**settings)
