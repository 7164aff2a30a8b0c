"""Defines the settings of a run that its recipe is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mpsim import checks, losses
from mpsim.errors import UsageError
from mpsim.files.whole import text_or_file
from mpsim.products.accumulators import Accumulator
from mpsim.products.passes import as_accumulators, described
from mpsim.training.optimizer.groups import groups_of, text_of
from mpsim.training.optimizer.names import make
from mpsim.training.recipe import Recipe
from mpsim.training.schedule import Constant, Cosine, OneCycle, Schedule, Warmup

#: Settings of an optimizer that are None for optimizers without them, and by default those of the optimizer.
OF_OPTIMIZER = ("lr", "momentum", "weight_decay", "dampening", "beta1", "beta2", "epsilon")
#: Settings that were added later, with the values for which a run keeps its old key.
LATER = {
    "optimizer": "sgd", "dampening": 0.0, "nesterov": False, "beta1": None, "beta2": None, "epsilon": None,
    "warmup": 0, "groups": "", "clip": None, "ema": None, "micro_batches": 1,
    "storage": "",
    "skipped_statistics": "updated", "accumulator": described(Accumulator()),
    "loss": "cross_entropy",
}  # fmt: skip


def setting(default: object, help: str, **told: object) -> Any:
    """Declares a field of settings. For the command line it has a help text, and optionally further names
    (``options``), another ``type``, and a function that converts the value (``read``)."""
    return field(default=default, metadata={"help": help, **told})


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The settings of a recipe by the names of the command line. ``RunSettings`` adds network, data and plan.

    ``optimizer``: a name in mpsim.training.optimizer.OPTIMIZERS. Settings of OF_OPTIMIZER that are None become those of
    the optimizer. ``schedule``: "cosine" or "constant". ``skipped_statistics`` and ``accumulator`` (as text): as for
    ``Trainer``. ``seed``: for initial weights, data order, augmentation and random bits.

    Raises UsageError for invalid settings, and for those that the optimizer does not have.
    """

    seed: int = setting(0, "Seed of initial weights, data order and random bits.")
    epochs: int = setting(15, "Passes over the training data.")
    optimizer: str = setting("sgd", "Update rule: sgd, adam, adamw or lion.")
    lr: float | None = setting(
        None,
        "Learning rate of the first epoch; default: 0.1 for sgd, 0.001 for adam and adamw, 0.0001 for lion.",
        options=("--lr",),
    )
    momentum: float | None = setting(None, "For sgd: momentum of the updates; default: 0.9.")
    dampening: float | None = setting(None, "For sgd: 1 minus the factor of the gradient in the momentum; default: 0.")
    nesterov: bool = setting(False, "For sgd: Nesterov's momentum.")
    beta1: float | None = setting(
        None, "For adam, adamw and lion: share of the old first moment in a step; default: 0.9.", options=("--beta1",)
    )
    beta2: float | None = setting(
        None, "For adam, adamw (default: 0.999) and lion (0.99): share of the old second moment.", options=("--beta2",)
    )
    epsilon: float | None = setting(None, "For adam and adamw: number added to the root; default: 1e-8.")
    weight_decay: float | None = setting(
        None, "Weight decay; default: 0.0005 for sgd, 0.01 for adamw, else 0. It is decoupled for adamw and lion."
    )
    storage: str = setting(
        "",
        "Formats of masters, gradients (their sum over micro-batches) and the optimizer's states, each with nearest, "
        "stochastic or (masters) kahan rounding, e.g. 'masters=bfloat16/kahan;velocity=bfloat16/stochastic'.",
    )
    schedule: str = setting(
        "cosine", "Learning rate over the epochs: cosine (to 0) or constant; over the steps: one_cycle (up and down)."
    )
    warmup: int = setting(0, "Steps in which the learning rate rises from 0.")
    groups: str = setting(
        "",
        "Parameters with other settings: PATTERN:SETTING,...;... with weight_decay=NUMBER, rate=FACTOR or frozen, e.g. "
        "'@vectors:weight_decay=0;conv1.*:frozen'; @vectors are biases, and scales and shifts of norms.",
    )
    clip: float | None = setting(None, "Largest norm of all gradients; larger ones are scaled down.")
    ema: float | None = setting(
        None, "Share of the old average in an average of the parameters, which is evaluated in their place."
    )
    micro_batches: int = setting(1, "Parts of a batch that are computed one after the other; their gradients add up.")
    promotion: float | None = setting(
        0.01, "Overflow ratio from which a tensor is promoted; 0: never.", type=float, read=lambda ratio: ratio or None
    )
    semantics: str = setting("standard", "standard or lee2023 (as the published artifact computes).")
    rounding: str = setting("nearest", "nearest, or stochastic with --random-bit-count.")
    random_bit_count: int | None = setting(None, "For stochastic rounding: number of random bits, 1 to 32.")
    skipped_statistics: str = setting(
        "updated", "Batch norm's running statistics after a skipped step: updated (as in PyTorch) or kept."
    )
    accumulator: str = setting(
        described(Accumulator()),
        "Order of sums: chunk=64, a tensor core such as hopper_float16, or stages such as "
        "'groups(lanes(8), rising(), folding())'; by pass and by layer 'forward=hopper_float16;conv1:exact'; or a "
        "JSON file.",
        read=text_or_file,
    )
    loss: str = setting(
        "cross_entropy",
        "Loss: cross_entropy, 'cross_entropy(smoothing=0.1)', mse, bce, or my_loss.py:FUNCTION of outputs and labels.",
    )

    def check_recipe(self) -> None:
        """Checks the settings, and brings equal ones to the same form."""
        checks.named("schedule", self.schedule, ("cosine", "constant", "one_cycle"))
        object.__setattr__(self, "warmup", checks.whole("warmup", self.warmup, most=(1 << 32) - 1))
        object.__setattr__(self, "epochs", checks.epochs("epochs", self.epochs))
        if self.promotion is not None:  # the command line writes None as 0
            object.__setattr__(self, "promotion", checks.share("promotion", self.promotion, zero=False))
        recipe = self.plain_recipe()
        for name in ("seed", "clip", "ema", "micro_batches", "storage"):
            object.__setattr__(self, name, getattr(recipe, name))
        object.__setattr__(self, "groups", text_of(groups_of(recipe.groups)))
        summation = as_accumulators(recipe.accumulator)
        if not summation.promises_bits:
            raise UsageError(
                f"accumulator {self.accumulator!r} promises no bits, so its runs have no digest", "accumulator"
            )
        object.__setattr__(self, "accumulator", described(summation))  # equal orders have equal texts
        if losses.file_of(self.loss) is None:
            object.__setattr__(self, "loss", losses.described(losses.loss_of(self.loss)))
        values = {name: getattr(recipe.optimizer, name, None) for name in OF_OPTIMIZER}
        for name, value in {**values, "promotion": self.promotion}.items():
            object.__setattr__(self, name, None if value is None else float(value))  # 1 and 1.0 have the same key

    def _schedule(self, steps: int) -> Schedule:
        found: Constant | Cosine | OneCycle = Constant()
        if self.schedule != "constant":
            found = Cosine(self.epochs) if self.schedule == "cosine" else OneCycle(self.epochs * steps)
        return Warmup(self.warmup, found) if self.warmup else found

    def plain_recipe(self, steps: int = 1) -> Recipe:
        """Returns the settings that do not depend on the plan. ``steps``: the number of steps of an epoch."""
        given = {name: getattr(self, name) for name in OF_OPTIMIZER} | {"nesterov": self.nesterov or None}
        return Recipe(
            make(self.optimizer, given, self._schedule(steps)),
            promotion=self.promotion,
            semantics=self.semantics,
            rounding=self.rounding,
            random_bit_count=self.random_bit_count,
            skipped_statistics=self.skipped_statistics,
            accumulator=self.accumulator,
            seed=self.seed,
            loss=losses.loss_named(self.loss),
            groups=self.groups,
            clip=self.clip,
            ema=self.ema,
            micro_batches=self.micro_batches,
            storage=self.storage,
        )
