"""``mpsim trace-step``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mpsim import checks, data, networks
from mpsim.cli.options import help_of, takes
from mpsim.cli.output import JsonFlag, print_json
from mpsim.cli.paths import check_output, data_errors
from mpsim.cli.plans import PlannedNetwork, Scheme
from mpsim.data import DataLoader, LabelledImages
from mpsim.experiments.settings import DEFAULTS
from mpsim.files.whole import text_or_file
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.losses import loss_named
from mpsim.nn.inputs import check_fits
from mpsim.recording.steps import record_micro_batches
from mpsim.training.optimizer import names as optimizers
from mpsim.training.recipe import MOST_PARTS, Recipe
from mpsim.training.schedule import Constant
from mpsim.training.trainer import Trainer

#: The largest number of steps before the recorded one.
MOST_STEPS = 1 << 32


@dataclass(frozen=True)
class RecordedStep(PlannedNetwork):
    """The options of a step: the network and its plan, the images, and the training before the step."""

    classes: Annotated[int | None, typer.Option(help="Number of classes; default: the data's.")] = None
    batch: Annotated[int, typer.Option(help="Examples of the step.")] = 2
    scheme: Scheme = "uniform_low"
    plan_seed: Annotated[int | None, typer.Option(help=help_of("plan_seed"))] = None
    data: Annotated[
        str | None,
        typer.Option(
            help="Dataset, or your own data as for mpsim train; default: digits or synthetic10, by the network's "
            "channels, or grammar for tokens."
        ),
    ] = None
    data_path: Annotated[str | None, typer.Option(help=help_of("data_path"))] = None
    normalisation: Annotated[str | None, typer.Option(help=help_of("normalisation"))] = None
    test_share: Annotated[float | None, typer.Option(help=help_of("test_share"))] = None
    context: Annotated[int | None, typer.Option(help=help_of("context"))] = None
    steps: Annotated[int, typer.Option(help="Steps to train before the recorded one.")] = 0
    optimizer: Annotated[str, typer.Option(help=help_of("optimizer"))] = DEFAULTS.optimizer
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate; default: the optimizer's.")] = None
    micro_batches: Annotated[int, typer.Option(help=help_of("micro_batches"))] = DEFAULTS.micro_batches
    storage: Annotated[str, typer.Option(help=help_of("storage"))] = DEFAULTS.storage
    accumulator: Annotated[str, typer.Option(help=help_of("accumulator"))] = DEFAULTS.accumulator
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and the examples' order.")] = DEFAULTS.seed


@takes("settings", RecordedStep)
def trace_step(
    settings: RecordedStep,
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: .safetensors or .npz; the index is written next to it as .json. With --micro-batches "
            "above 1 each has a file of its own: NAME.0.npz, NAME.1.npz and so on."
        ),
    ],
    backend: Annotated[
        str, typer.Option(help="reference, numba or compiled; results do not depend on it.")
    ] = DEFAULT_BACKEND,
    threads: Annotated[int | None, typer.Option(help="Default: all cores; results do not depend on it.")] = None,
    json: JsonFlag = False,
) -> None:
    """Record every stored tensor of one training step, for 'mpsim validate step' and for other programs."""
    checks.whole("steps", settings.steps, most=MOST_STEPS)
    if settings.plan_seed is not None:
        checks.seed("plan_seed", settings.plan_seed)
    parts = checks.whole("micro_batches", settings.micro_batches, least=1, most=MOST_PARTS)
    paths = _paths(out, min(parts, checks.batch("batch", settings.batch)), divided=parts > 1)
    for path in paths:
        check_output(path, "--out")
    dataset = _dataset(settings)
    network = networks.build(
        settings.model,
        width=settings.width,
        classes=settings.classes or dataset.classes,
        seed=settings.seed,
        input_shape=tuple(dataset.image_shape),
        vocabulary=data.vocabulary_of(dataset),
    )
    check_fits(network, settings.model, dataset.image_shape, data.vocabulary_of(dataset), dataset.name)
    _, plan = settings.planned(network, seed=settings.plan_seed)
    recipe = Recipe(
        optimizers.make(settings.optimizer, {"lr": settings.lr}, Constant()),
        semantics=settings.semantics,
        accumulator=text_or_file(settings.accumulator),
        seed=settings.seed,
        loss=loss_named(settings.loss),
        micro_batches=parts,
        storage=settings.storage,
    )
    trainer = Trainer(network, plan, recipe, backend=backend, threads=threads)
    batches = _batches(DataLoader(dataset, settings.batch, seed=settings.seed, drop_last=True))
    for _ in range(settings.steps):
        trainer.step(*next(batches))
    records = record_micro_batches(trainer, *next(batches))
    for record, path in zip(records, paths, strict=True):
        record.write(path)
    if json:
        print_json([record.index for record in records] if parts > 1 else records[0].index)
        return
    for number, (record, path) in enumerate(zip(records, paths, strict=True)):
        which = f"step {record.index['step']}" + (f", micro-batch {number} of {len(paths)}" if parts > 1 else "")
        typer.echo(
            f"{path}: {len(record.tensors)} tensors of {which}, {path.stat().st_size / 1e6:.1f} MB; "
            f"index in {path.with_suffix('.json')}"
        )


def _paths(out: Path, parts: int, *, divided: bool) -> list[Path]:
    """The files of the micro-batches, or ``out`` itself if the batch is not divided."""
    return [out.with_suffix(f".{number}{out.suffix}") for number in range(parts)] if divided else [out]


def _dataset(settings: RecordedStep) -> LabelledImages:
    """Returns the chosen dataset, or by default one whose images fit the network."""
    name = settings.data
    if name is None:
        network = networks.build(settings.model, seed=None)
        by_channels = "digits" if network.input_shape[0] == 1 else "synthetic10"
        name = by_channels if network.vocabulary is None else "grammar"
    name, path = data.located(name, settings.data_path)
    with data_errors(path):
        return data.load(
            name,
            "train",
            path,
            normalisation=settings.normalisation,
            test_share=settings.test_share,
            context=settings.context,
        )


def _batches(loader: DataLoader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches epoch after epoch, without end."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1
