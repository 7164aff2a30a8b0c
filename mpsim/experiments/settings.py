"""Defines the settings of a training run, their key, and the data, network and plan that they describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from mpsim import checks, losses, networks
from mpsim.assignment import SCHEMES, Plan, assign, parse_levels
from mpsim.data import LabelledImages, located, vocabulary_of
from mpsim.data import digest as digest_data
from mpsim.data import load as load_data
from mpsim.data.digests import digest_of_splits
from mpsim.data.own import check_normalisation, is_function
from mpsim.engine.tensor import ROLES
from mpsim.errors import UsageError
from mpsim.experiments.results import settings_key
from mpsim.experiments.training_settings import LATER, TrainingSettings, setting
from mpsim.files.records import Record
from mpsim.nn import Module
from mpsim.nn.inputs import check_fits
from mpsim.trace import Trace, trace
from mpsim.training.loss_scale import LossScale
from mpsim.training.recipe import Recipe
from mpsim.user_code import label_of

#: Part of every key. It is increased when the same settings give different results, so that old results are not reused.
DEFINITION = 1
#: The same for runs with a given plan. Their bytes and share were changed to those of the run's batch.
GIVEN_PLAN_DEFINITION = 2

#: Checks of numeric settings. The recipe checks those of training.
_NUMBERS: dict[str, Callable[[str, object], float]] = {
    "ratio": checks.share,
    "k": checks.whole,
    "plan_seed": checks.seed,
    "width": checks.width,
    "batch": checks.batch,
    "train_images": partial(checks.whole, least=1),
    "evaluate_every": checks.epochs,
    "test_share": partial(checks.share, zero=False),
    "context": partial(checks.whole, least=1),
}
#: Data that had no digest in the keys of the first stored runs, with their digests at that time. These keys stay valid.
DATA_OF_OLD_KEYS = {
    "digits": "6ccfbf39fb544ef0c1a45da7a2d0633a4b86f57b0eeebc778d9594f83624e993",
    "synthetic10": "8cfc398ac0aa2d52c6dc4c845e18305b8bcd710572eb22db80ff092b60d77023",
    "synthetic100": "a241675a6e3d71ad1c9d5fc8742ed1141851e5d63eecf06406b3723db0f56117",
}


def later_settings(data: str) -> dict[str, object]:
    """Returns the settings that were added later, with the values for which a run keeps its old key."""
    found = {"model_sha256": None, "loss_sha256": None, "train_images": None, "evaluate_every": 1}
    return found | LATER | {"data_sha256": DATA_OF_OLD_KEYS.get(data)}


class Contents(NamedTuple):
    """Digests of the files that settings name: SHA-256 (hex) of the data, and of network and loss or None."""

    data_sha256: str
    model_sha256: str | None
    loss_sha256: str | None = None


def formats_of(levels: str) -> dict[str, dict[str, str]]:
    """Returns the formats of levels: side -> role -> the format's repr, which has all its numbers."""
    pair = parse_levels(levels)
    return {side: {role: repr(getattr(pair, side)[role]) for role in ROLES} for side in ("high", "low")}


@dataclass(frozen=True)
class RunSettings(TrainingSettings):
    """Everything on which the bits of a run depend. Backend and threads change no bit.

    The defaults are those of every command that has the setting. ``plan`` is a plan's JSON text, used instead of a
    scheme. ``model``: a name in reference_models, or ``FILE.py:FUNCTION`` as for ``mpsim.networks.build``. ``data``: a
    name in mpsim.data.DATASETS, with ``data_path`` if it needs one, or the place of the user's own data, which becomes
    the ``data_path`` of the dataset "arrays" or "text". ``normalisation``, ``test_share`` and ``context``: as for
    ``mpsim.data.load``. ``promotion`` applies to the schemes for which the paper promotes, and to a
    given plan. ``plan_seed``: for scheme "random". ``train_images``: the number of training examples (images, or rows
    of text) that are used, from the first on; None for all. ``evaluate_every``: the epochs between evaluations on the
    test examples. The last epoch is always evaluated.

    ``key`` depends on the current content of the data and of the network's file, not on their location. A subclass may
    load other data (``load``). The digest of the data covers their normalisation and split.
    """

    scheme: str = setting(
        "float32",
        "float32, uniform_high, uniform_low, operator_based, operator_based_extended, largest_first, smallest_first, "
        "random (with --plan-seed), largest_k (with --k).",
    )
    ratio: float | None = setting(None, "For *_first and random: share of elements to set low, 0 to 1.")
    k: int | None = setting(None, "For largest_k: the number of groups.", options=("--k",))
    plan_seed: int | None = setting(None, "For scheme random: the seed of the order.")
    plan: str | None = None
    levels: str = setting(
        "paper",
        "A named pair (paper, six_bit, ...) or HIGH:FORWARD,BACKWARD, e.g. fp_6_9_0:fp_4_3_4,fp_5_2_0; more "
        ":FORWARD,BACKWARD are lower levels.",
    )
    model: str = setting("small_cnn", "Network: a name in reference_models, or my_net.py:build.")
    width: float = setting(1.0, "Width multiplier of the network.")
    data: str = setting(
        "digits",
        "Dataset: digits (bundled), synthetic10, cifar10, ...; or yours: FILE.npz, FILE.txt, FILE.py:FUNCTION, FOLDER.",
    )
    data_path: str | None = setting(None, "The dataset's archive or folder, if it needs one.")
    normalisation: str | None = setting(
        None, "For your own data: training (default: its mean and deviation), none, or MEAN:DEVIATION."
    )
    test_share: float | None = setting(None, "For your own data without a test part: the share for it; default: 0.2.")
    context: int | None = setting(None, "For your own text: characters of a row; default: 64.")
    batch: int = setting(128, "Examples of a training step (images, or rows of text); at most the training examples.")
    train_images: int | None = setting(None, "Number of training examples to use, from the first on; default: all.")
    evaluate_every: int = setting(1, "Epochs between evaluations on the test examples.")

    def __post_init__(self) -> None:
        for name, check in _NUMBERS.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))
        self.check_recipe()
        for name in ("ratio", "width"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(value))  # 1 and 1.0 have the same key
        parse_levels(self.levels)
        if self.train_images is not None:
            self.check_batch(self.train_images)
        networks.file_of(self.model)
        if self.normalisation is not None:
            check_normalisation(self.normalisation)
        name, path = located(self.data, self.data_path)
        object.__setattr__(self, "data", name)
        object.__setattr__(self, "data_path", path)

    def check_batch(self, examples: int) -> None:
        """Raises ValueError if a batch has more examples than there are for training."""
        if self.batch > examples:
            raise UsageError(
                f"batch is {self.batch} examples, but there are only {examples} training examples of {self.data}; "
                f"use a batch of at most {examples}",
                "batch",
            )

    # -- key and label --------------------------------------------------------------------------------------
    def contents(self) -> Contents:
        """Returns the files' current digests. Raises ValueError or OSError for unreadable data or networks."""
        if type(self).load is not RunSettings.load:  # the data of a subclass
            data = digest_of_splits(*self.load())
        else:
            data = digest_data(self.data, self.data_path, **self._options)
        return Contents(data, networks.content_hash(self.model), losses.file_hash(self.loss))

    def to_dict(self, contents: Contents | None = None) -> Record:
        """Returns the settings as JSON types, with the formats of the levels and the digests of the files.

        ``contents``: the result of ``contents()``, if it is already known. Digests of networks in reference_models and
        of the data in DATA_OF_OLD_KEYS are omitted.
        """
        found = self.contents() if contents is None else contents
        settings = {**asdict(self), **found._asdict(), "formats": formats_of(self.levels)}
        settings["definition"] = DEFINITION if self.plan is None else GIVEN_PLAN_DEFINITION
        for name, neutral in later_settings(self.data).items():
            if settings[name] == neutral:
                del settings[name]
        for name in self._options:
            del settings[name]
        labels = {name: label_of(settings[name]) for name in ("model", "loss") if name in settings}
        return settings | labels | {"data_path": None}

    @property
    def model_name(self) -> str:
        """``model``, without the folder if it is a file."""
        return label_of(self.model)

    @property
    def key(self) -> str:
        """The key under which the run is stored, for the current content of the data and of the network's file."""
        return settings_key(self.to_dict())

    @property
    def runs_files(self) -> bool:
        """Whether the run executes a user's file, for its network, data or loss."""
        files = networks.file_of(self.model), losses.file_of(self.loss)
        return is_function(self.data_path) or any(file is not None for file in files)

    @property
    def label(self) -> str:
        """A short description for progress bars and tables."""
        options = [f"{self.ratio:g}" if self.ratio is not None else "", f"k={self.k}" if self.k is not None else ""]
        name = "plan" if self.plan is not None else self.scheme
        words = [name, *options, "" if self.scheme == "float32" else str(self.levels)]
        return " ".join(word for word in words if word)

    @property
    def source(self) -> tuple[object, ...]:
        """Everything that says which data are read and how they are prepared."""
        return self.data, self.data_path, *self._options.values()

    # -- data, network and plan -----------------------------------------------------------------------------
    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """Returns (training data, test data)."""
        training = load_data(self.data, "train", self.data_path, **self._options)
        if self.train_images is not None:
            if self.train_images > len(training):
                raise UsageError(
                    f"train_images is {self.train_images}, but {self.data} has {len(training)} training examples; "
                    f"use at most that many, or leave the number out for all",
                    "train_images",
                )
            training = training.first(self.train_images)
        return training, load_data(self.data, "test", self.data_path, **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        """The settings whose effect is in the data, and therefore in their digest."""
        return {"normalisation": self.normalisation, "test_share": self.test_share, "context": self.context}

    def build(self, data: LabelledImages) -> Module:
        """Builds the network for images and classes of ``data``, with weights drawn from ``seed``.

        Raises ValueError if the network does not fit the data.
        """
        network = networks.build(
            self.model,
            width=self.width,
            classes=data.classes,
            seed=self.seed,
            input_shape=tuple(data.image_shape),
            vocabulary=vocabulary_of(data),
        )
        check_fits(network, self.model, data.image_shape, vocabulary_of(data), data.name)
        if network.classes < data.classes:
            raise UsageError(f"{self.model} has {network.classes} output classes but {data.name} has {data.classes}")
        return network

    def trace(self, network: Module) -> Trace:
        """Traces a step of the network at the run's batch size."""
        return trace(network, self.batch, self.semantics, loss=losses.loss_named(self.loss))

    def make_plan(self, network: Module, traced: Trace | None = None) -> Plan | None:
        """Returns the plan for the network at the run's batch size.

        ``traced``: the result of ``trace(network)``, if it is already known. A given plan keeps its formats also if it
        was made for another batch. Raises ValueError like ``assignment.assign``, and PlanMismatch for a given plan of
        another network.
        """
        traced = self.trace(network) if traced is None else traced
        if self.plan is not None:
            given = Plan.from_json(self.plan)
            if given.network.batch != self.batch:
                given.check(replace(self, batch=given.network.batch, train_images=None).trace(network))
                given = given.at_batch_of(traced)
            given.check(traced)
            return given
        return assign(
            traced,
            self.scheme,
            ratio=self.ratio,
            seed=self.plan_seed,
            k=self.k,
            levels=parse_levels(self.levels),
        )

    def recipe(self, plan: Plan | None, steps: int) -> Recipe:
        """Returns the run's recipe under its plan. ``steps`` per epoch is the growth interval of the loss scale."""
        scale = LossScale(growth_interval=steps) if plan is not None and plan.rounds else LossScale.fixed()
        return replace(self.plain_recipe(steps), loss_scale=scale, promotion=self.promotion_threshold())

    def promotion_threshold(self) -> float | None:
        """The ratio from which tensors are promoted, or None for a scheme without promotion."""
        promotes = self.plan is not None or SCHEMES[self.scheme].promotes
        return self.promotion if promotes else None


#: The defaults of every command.
DEFAULTS = RunSettings()
