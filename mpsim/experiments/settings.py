"""What a training run depends on: its settings, their key, and the data, network and plan that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from mpsim import checks, networks
from mpsim.assignment import SCHEMES, Plan, assign, parse_levels
from mpsim.data import LabelledImages
from mpsim.data import load as load_data
from mpsim.engine.tensor import ROLES
from mpsim.errors import UsageError
from mpsim.experiments.results import settings_key
from mpsim.trace import Trace, trace
from mpsim.training.arguments import SKIPPED_STATISTICS
from mpsim.training.optimizer import SGD, check_factor
from mpsim.training.schedule import Constant, Cosine
from mpsim.training.semantics import as_semantics

#: Part of every key: raised when the same settings come to give other bits, so that old results are not taken for new.
DEFINITION = 1

#: Settings that came later, and the value under which a run is what it was before them, and so has its old key.
_LATER_SETTINGS = {"model_sha256": None, "train_images": None, "evaluate_every": 1, "skipped_statistics": "updated"}

#: The numbers among the settings and what each may be; that of rounding is checked there.
_NUMBERS: dict[str, Callable[[str, Any], float]] = {
    "ratio": checks.share,
    "k": checks.whole,
    "plan_seed": checks.seed,
    "seed": checks.seed,
    "width": checks.width,
    "epochs": checks.epochs,
    "batch": checks.batch,
    "lr": check_factor,
    "momentum": check_factor,
    "weight_decay": check_factor,
    "promotion": partial(checks.share, zero=False),
    "train_images": partial(checks.whole, least=1),
    "evaluate_every": checks.epochs,
}


@dataclass(frozen=True)
class RunSettings:
    """Everything that the bits of a run depend on. Backend and threads are not here: they change none.

    ``plan`` is a plan's JSON text, used in place of a scheme. ``model``: a name in reference_models, or
    ``FILE.py:FUNCTION`` as ``mpsim.networks.build`` takes it; ``model_sha256`` is then the file's hash, found here.
    ``data``: of mpsim.data.DATASETS, ``data_path`` where it needs one. ``schedule``: "cosine" or "constant".
    ``promotion`` applies to the schemes under which the paper promotes, and to a given plan.
    ``weight_decay``: 0.005 suits 1437 digits; the paper takes 0.0005 on CIFAR.
    ``seed``: initial weights, data order and augmentation, random bits. ``plan_seed``: of scheme "random".
    ``train_images``: only so many of the training images, the first; None for all. ``evaluate_every``: so many
    epochs from one evaluation on the test images to the next; the last epoch always has one. ``skipped_statistics``: as
    for ``Trainer``.
    """

    scheme: str = "float32"
    ratio: float | None = None
    k: int | None = None
    plan_seed: int | None = None
    plan: str | None = None
    levels: str = "paper"
    seed: int = 0
    model: str = "small_cnn"
    width: float = 0.125
    data: str = "digits"
    data_path: str | None = None
    epochs: int = 15
    batch: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-3
    schedule: str = "cosine"
    promotion: float | None = 0.01
    semantics: str = "standard"
    rounding: str = "nearest"
    random_bit_count: int | None = None
    model_sha256: str | None = None
    train_images: int | None = None
    evaluate_every: int = 1
    skipped_statistics: str = "updated"

    def __post_init__(self) -> None:
        for name, check in _NUMBERS.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))
        checks.named("schedule", self.schedule, ("cosine", "constant"))
        checks.named("skipped_statistics", self.skipped_statistics, SKIPPED_STATISTICS)
        parse_levels(self.levels)
        as_semantics(self.semantics).policy("activation", self.rounding, self.random_bit_count)
        if self.model_sha256 is None:
            object.__setattr__(self, "model_sha256", networks.content_hash(self.model))

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON types, with the formats that the levels stand for."""
        pair = parse_levels(self.levels)
        formats = {
            side: {role: repr(getattr(pair, side)[role]) for role in ROLES} for side in ("high", "low")
        }  # a format's repr gives all its numbers
        settings = {**asdict(self), "formats": formats, "definition": DEFINITION}
        for name, neutral in _LATER_SETTINGS.items():
            if settings[name] == neutral:
                del settings[name]
        return settings | {"model": self.model_name}

    @property
    def model_name(self) -> str:
        """``model``, of a file its name without the folder."""
        file = networks.file_of(self.model)
        return self.model if file is None else file.label

    @property
    def key(self) -> str:
        """The name under which the run is stored."""
        return settings_key(self.to_dict())

    @property
    def label(self) -> str:
        """A few words for progress bars and tables."""
        options = [f"{self.ratio:g}" if self.ratio is not None else "", f"k={self.k}" if self.k is not None else ""]
        name = "plan" if self.plan is not None else self.scheme
        words = [name, *options, "" if self.scheme == "float32" else str(self.levels)]
        return " ".join(word for word in words if word)

    # -- what they stand for --------------------------------------------------------------------------------
    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """(training data, test data)."""
        training = load_data(self.data, "train", self.data_path)
        if self.train_images is not None:
            training = training.first(self.train_images)
        return training, load_data(self.data, "test", self.data_path)

    def build(self, data: LabelledImages) -> Any:
        """The network for images and classes of ``data``, its weights drawn from ``seed``."""
        network = networks.build(
            self.model,
            width=self.width,
            classes=data.classes,
            seed=self.seed,
            input_shape=tuple(data.image_shape),
            content=self.model_sha256,
        )
        if tuple(network.input_shape) != tuple(data.image_shape):
            raise UsageError(
                f"{self.model} takes images of {network.input_shape}, {data.name} has {data.image_shape}; "
                f"choose another model or dataset"
            )
        if network.classes < data.classes:
            raise UsageError(f"{self.model} tells {network.classes} classes apart, {data.name} has {data.classes}")
        return network

    def trace(self, network: Any) -> Trace:
        """A step of the network at the run's batch size."""
        return trace(network, batch=self.batch, semantics=self.semantics)

    def make_plan(self, network: Any, traced: Trace | None = None) -> Plan | None:
        """The plan for the network; ValueError as by ``assignment.assign``, or for a plan of another network.

        ``traced``: what ``trace(network)`` gave, where it is at hand.
        """
        if self.plan is not None:
            given = Plan.from_json(self.plan)
            given.check(trace(network, batch=given.network.batch, semantics=self.semantics))
            return given
        return assign(
            self.trace(network) if traced is None else traced,
            self.scheme,
            ratio=self.ratio,
            seed=self.plan_seed,
            k=self.k,
            levels=parse_levels(self.levels),
        )

    def optimizer(self) -> SGD:
        schedule = Cosine(self.epochs) if self.schedule == "cosine" else Constant()
        return SGD(self.lr, self.momentum, self.weight_decay, schedule)

    def promotion_threshold(self) -> float | None:
        promotes = self.plan is not None or SCHEMES[self.scheme].promotes
        return self.promotion if promotes else None


def keeping_data() -> Callable[[RunSettings], tuple[LabelledImages, LabelledImages]]:
    """A ``load`` for ``run`` that keeps the data it gave last, for runs one after the other."""
    kept: dict[tuple, tuple[LabelledImages, LabelledImages]] = {}

    def load(settings: RunSettings) -> tuple[LabelledImages, LabelledImages]:
        name = (settings.data, settings.data_path, settings.train_images)
        if name not in kept:
            kept.clear()
            kept[name] = settings.load()
        return kept[name]

    return load


def labels(settings: RunSettings) -> dict[str, Any]:
    """What a result says of its settings."""
    return {
        "key": settings.key,
        "scheme": settings.scheme if settings.plan is None else "given plan",
        "ratio": settings.ratio,
        "plan_seed": settings.plan_seed,
        "levels": None if settings.scheme == "float32" else str(parse_levels(settings.levels)),
        "promotion": settings.promotion_threshold(),
        "seed": settings.seed,
        "model": settings.model_name,
        "width": settings.width,
        "data": settings.data,
        "epochs": settings.epochs,
    }
