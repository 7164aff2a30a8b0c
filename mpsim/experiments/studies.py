"""The figures of the paper as runs: which networks, plans and seeds stand behind each, at the paper's or a small scale.

FIGURES says what a figure compares; SCALES how it is trained. ``panels`` puts both together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from mpsim import checks
from mpsim.assignment import uniform
from mpsim.errors import UsageError
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.sweep import RATIOS, checked_ratios, seed_range
from mpsim.nn import Module
from mpsim.trace import trace
from mpsim.training.trainer import Trainer

NETWORKS = ("squeezenet", "shufflenet_v2", "mobilenet_v2", "resnet18")
NARROW = (0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Figure:
    """A row of FIGURES. ``compares``: "plans" (accuracy against memory), "orders" (of demotion) or "promotion"."""

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

#: The paper's figures that compare training runs, by number. Which panels stand in which of 4 and 10 to 12, and in 5
#: and 16, is our reading (docs/reproducing-the-paper.md); models, widths and data are arguments of ``panels``.
FIGURES = {row.number: row for row in _FIGURES}


@dataclass(frozen=True)
class Scale:
    """How the runs of a figure are trained. None for data, models and widths: the figure's own.

    ``common`` is written out, so that other defaults of RunSettings do not move a scale.
    ``ratios`` and ``levels`` are those of the curve, ``ablation_ratios`` and ``ablation_levels`` those at which an
    order or promotion is varied. ``orders``: how many random orders; None: one per training seed, its own.
    ``epochs``: by network, where it is not that of ``common``.
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


#: "paper": the recipe of its section 5.1. "small": two narrow networks on rendered images, for two cores, under the
#: paper's levels, which such networks bear all low, and a harsher pair, under which orders and promotion matter.
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
    """One network on one dataset under one level pair: the runs that are drawn together."""

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
    """The panels of a figure with their runs. What is given takes the place of what the scale and the figure say.

    ValueError for a figure that is none of FIGURES, an unknown scale, a ratio outside [0, 1], seeds < 1.

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
        jobs.append(replace(one, levels="paper"))  # float32: the same run for every pair
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


def estimate_seconds(jobs: Sequence[RunSettings], *, backend: str = "compiled", threads: int = 1) -> float:
    """About how long the runs take here, one after the other: a step of each network is timed, the rest is counted.

    An evaluation of an image counts as a third of a step, twice for as trained and in float32.
    """
    seconds: dict[tuple, float] = {}
    total = 0.0
    sizes: dict[tuple, tuple[int, int]] = {}
    for job in jobs:
        place = (job.model, job.width, job.data, job.batch, job.semantics)
        if place not in seconds:
            training, test = job.load()
            sizes[place] = len(training), len(test)
            seconds[place] = _seconds_per_image(job, training.image_shape, job.build(training), backend, threads)
        evaluations = -(-job.epochs // job.evaluate_every)
        training_images = min(sizes[place][0], job.train_images or sizes[place][0])
        total += seconds[place] * (job.epochs * training_images + evaluations * sizes[place][1] * 2 / 3)
    return total


def _seconds_per_image(
    job: RunSettings, shape: tuple[int, int, int], network: Module, backend: str, threads: int
) -> float:
    plan = uniform(trace(network, batch=job.batch, semantics=job.semantics), "low")
    trainer = Trainer(network, plan, semantics=job.semantics, backend=backend, threads=threads)
    images, labels = np.zeros((job.batch, *shape), np.float32), np.zeros(job.batch, np.int64)
    trainer.step(images, labels)
    begin = time.perf_counter()
    trainer.step(images, labels)
    return (time.perf_counter() - begin) / job.batch
