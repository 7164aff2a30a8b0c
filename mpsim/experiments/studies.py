"""Lists the runs of each figure of the paper, with its networks, plans and seeds, at the paper's or a small scale.

``FIGURES`` describes what a figure compares, and ``SCALES`` how runs are trained. ``panels`` combines them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from mpsim import checks
from mpsim.assignment import uniform
from mpsim.data import LabelledImages
from mpsim.errors import UsageError
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.sweep import RATIOS, checked_ratios, seed_range
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.losses import loss_named
from mpsim.nn.inputs import blank
from mpsim.training.trainer import Trainer

NETWORKS = ("squeezenet", "shufflenet_v2", "mobilenet_v2", "resnet18")
NARROW = (0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Figure:
    """An entry of ``FIGURES``. ``compares`` is "plans" (accuracy by memory), "orders" (of demotion) or "promotion"."""

    number: int
    compares: str
    data: tuple[str, ...]
    widths: tuple[float, ...] = (1.0,)
    models: tuple[str, ...] = NETWORKS

    @property
    def title(self) -> str:
        return {
            "plans": "accuracy against memory",
            "orders": "in which order groups are demoted",
            "promotion": "promotion of tensors that overflow",
        }[self.compares]


_FIGURES = (
    Figure(4, "plans", ("cifar100",)),
    Figure(5, "orders", ("cifar100",)),
    Figure(10, "plans", ("cifar10",)),
    Figure(11, "plans", ("cifar100",), NARROW),
    Figure(12, "plans", ("cifar10",), NARROW),
    Figure(16, "orders", ("cifar100", "cifar10"), (1.0, *NARROW)),
    Figure(17, "promotion", ("cifar100", "cifar10")),
)

#: The paper's figures that compare training runs, by number. Which panels belong to 4 and 10 to 12, and to 5 and 16, is
#: our reading (docs/reproducing-the-paper.md). Models, widths and data are arguments of ``panels``.
FIGURES = {row.number: row for row in _FIGURES}


@dataclass(frozen=True)
class Scale:
    """Describes how the runs of a figure are trained.

    Args:
        common: The settings, written out so that a scale does not depend on the defaults of ``RunSettings``.
        ratios, levels: Those of the curve.
        ablation_ratios, ablation_levels: Those at which an order or promotion is varied.
        seeds: The number of seeds.
        orders: The number of random orders. None means one for each seed of the training.
        data, models, widths: None means those of the figure.
        epochs: The epochs of networks for which they differ from those of ``common``.
    """

    common: RunSettings
    ratios: tuple[float, ...]
    ablation_ratios: tuple[float, ...]
    seeds: int
    orders: int | None
    levels: tuple[str, ...] = ("paper",)
    ablation_levels: tuple[str, ...] = ("paper",)
    data: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    widths: tuple[float, ...] | None = None
    epochs: tuple[tuple[str, int], ...] = ()


#: "paper" is the recipe of its section 5.1. "small" has two narrow networks on rendered images, for two cores. It uses
#: the paper's levels, with which such networks train even if all tensors are low, and a narrower pair, with which
#: orders and promotion matter.
SCALES = {
    "paper": Scale(
        RunSettings(epochs=200, batch=128, lr=0.1, momentum=0.9, weight_decay=5e-4, schedule="cosine", promotion=0.01),
        RATIOS,
        RATIOS[1:],
        seeds=4,
        orders=3,
    ),
    "small": Scale(
        RunSettings(
            epochs=2,
            batch=32,
            lr=0.03,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            promotion=0.01,
            evaluate_every=1000,
        ),
        ratios=RATIOS[1:],
        ablation_ratios=(0.4, 0.7, 1.0),
        seeds=3,
        orders=None,
        levels=("paper", "five_bit"),
        ablation_levels=("five_bit",),
        data=("synthetic10",),
        models=("squeezenet", "shufflenet_v2"),
        widths=(0.25,),
        epochs=(("squeezenet", 3),),
    ),
}


@dataclass(frozen=True)
class Panel:
    """The runs of one network on one dataset with one pair of levels, which are drawn together."""

    model: str
    width: float
    data: str
    levels: str
    jobs: tuple[RunSettings, ...]

    @property
    def title(self) -> str:
        return f"{self.model}, width {self.width:g}, {self.data}, levels {self.levels}"


def panels(
    number: int,
    scale: str = "small",
    *,
    data: Sequence[str] | None = None,
    data_path: str | None = None,
    models: Sequence[str] | None = None,
    widths: Sequence[float] | None = None,
    levels: Sequence[str] | None = None,
    ratios: Sequence[float] | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    semantics: str = "standard",
) -> list[Panel]:
    """Returns the panels of a figure with their runs.

    Args:
        number: The figure, a key of ``FIGURES``.
        scale: A key of ``SCALES``.
        data, data_path, models, widths, levels, ratios, epochs, seeds, semantics: Replace the values of the scale and
            the figure.

    Raises:
        ValueError: The figure or the scale is unknown, a ratio is outside [0, 1], or ``seeds`` is below 1.

    >>> [(panel.title, len(panel.jobs)) for panel in panels(17, models=["squeezenet"], seeds=1)]
    [('squeezenet, width 0.25, synthetic10, levels five_bit', 7)]
    """
    if number not in FIGURES:
        raise UsageError(f"figure {number} is not a comparison of training runs. Known: {', '.join(map(str, FIGURES))}")
    checks.named("scale", scale, SCALES)
    figure, size = FIGURES[number], SCALES[scale]
    common = replace(size.common, data_path=data_path, semantics=semantics)
    places = product(
        data or size.data or figure.data,
        widths or size.widths or figure.widths,
        models or size.models or figure.models,
        levels or (size.levels if figure.compares == "plans" else size.ablation_levels),
    )
    made = []
    for name, width, model, pair in places:
        own = dict(size.epochs).get(model, common.epochs) if epochs is None else epochs
        settings = replace(common, model=model, width=width, data=name, levels=pair, epochs=own)
        jobs = _jobs(figure.compares, settings, size, ratios, size.seeds if seeds is None else seeds)
        made.append(Panel(model, width, name, pair, tuple(jobs)))
    return made


def _jobs(
    compares: str, common: RunSettings, size: Scale, ratios: Sequence[float] | None, seeds: int
) -> list[RunSettings]:
    curve = checked_ratios(size.ratios if ratios is None else ratios)
    ablation = checked_ratios(size.ablation_ratios if ratios is None else ratios)
    jobs = []
    for seed in seed_range(common.seed, seeds):
        one = replace(common, seed=seed)
        jobs.append(replace(one, levels="paper"))  # the float32 run is the same for every pair
        if compares == "plans":
            fixed = ("uniform_low", "operator_based", "operator_based_extended")
            jobs += [replace(one, scheme=scheme) for scheme in fixed]
            jobs += [replace(one, scheme="largest_first", ratio=ratio) for ratio in curve]
        else:
            jobs += [replace(one, scheme="largest_first", ratio=ratio) for ratio in ablation]
        if compares == "orders":
            orders = [seed] if size.orders is None else range(size.orders)
            jobs += [replace(one, scheme="smallest_first", ratio=ratio) for ratio in ablation]
            jobs += [replace(one, scheme="random", ratio=r, plan_seed=order) for order in orders for r in ablation]
        if compares == "promotion":
            jobs += [replace(one, scheme="largest_first", ratio=ratio, promotion=None) for ratio in ablation]
    return jobs


def estimate_seconds(jobs: Sequence[RunSettings], *, backend: str = DEFAULT_BACKEND, threads: int = 1) -> float:
    """Estimates the total time of the runs on this machine from the time of one step of each network.

    The evaluation of an image counts as a third of its step. It runs twice, as trained and in float32.
    """
    seconds: dict[tuple, float] = {}
    total = 0.0
    sizes: dict[tuple, tuple[int, int]] = {}
    for job in jobs:
        place = (job.model, job.width, job.source, job.batch, job.semantics)
        if place not in seconds:
            training, test = job.load()
            sizes[place] = len(training), len(test)
            seconds[place] = _seconds_per_image(job, training, backend, threads)
        evaluations = -(-job.epochs // job.evaluate_every)
        training_images = min(sizes[place][0], job.train_images or sizes[place][0])
        total += seconds[place] * (job.epochs * training_images + evaluations * sizes[place][1] * 2 / 3)
    return total


def _seconds_per_image(job: RunSettings, training: LabelledImages, backend: str, threads: int) -> float:
    network = job.build(training)
    plan = uniform(job.trace(network), "low")
    loss = loss_named(job.loss)
    trainer = Trainer(network, plan, semantics=job.semantics, loss=loss, backend=backend, threads=threads)
    images = np.array(blank(network, job.batch, training.image_shape))
    labels = np.zeros((job.batch, *training.labels.shape[1:]), np.int64)
    trainer.step(images, labels)
    begin = time.perf_counter()
    trainer.step(images, labels)
    return (time.perf_counter() - begin) / job.batch
