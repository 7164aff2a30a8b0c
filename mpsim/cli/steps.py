"""``mpsim trace-step`` and ``mpsim validate step``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mpsim import checks, data, networks
from mpsim.assignment import assign
from mpsim.cli.output import JsonFlag, print_json
from mpsim.cli.paths import check_output
from mpsim.cli.plans import GroupCount, LevelsText, Model, Ratio, Scheme, SemanticsName, Width
from mpsim.cli.settings import help_of
from mpsim.cli.verdict import Junit, Outputs, Plot, answer, comparison
from mpsim.data import DataLoader, LabelledImages
from mpsim.experiments.settings import DEFAULTS
from mpsim.files.tensors import TensorFile
from mpsim.trace import trace
from mpsim.training.optimizer import SGD
from mpsim.training.semantics import as_semantics
from mpsim.training.trainer import Trainer
from mpsim.validate.step.index import read_step
from mpsim.validate.step.recording import network_of, record_step
from mpsim.validate.step.replay import TeacherReport, check_images, teacher_forced
from mpsim.validate.step.update import UpdateRule

#: The most steps to train before the one that is recorded.
MOST_STEPS = 1 << 32
#: What a step starts from; another implementation need not write it.
_STARTS = ("images", "labels", "master", "velocity")


def trace_step(
    model: Model,
    out: Annotated[Path, typer.Option(help="File to write: .safetensors or .npz; the index goes beside it as .json.")],
    width: Width = DEFAULTS.width,
    classes: Annotated[int | None, typer.Option(help="Number of classes; default: the data's, else 10.")] = None,
    batch: Annotated[int, typer.Option(help="Images of the step.")] = 2,
    scheme: Scheme = "uniform_low",
    ratio: Ratio = None,
    plan_seed: Annotated[int | None, typer.Option(help=help_of("plan_seed"))] = None,
    k: GroupCount = None,
    levels: LevelsText = DEFAULTS.levels,
    semantics: SemanticsName = DEFAULTS.semantics,
    data: Annotated[
        str | None, typer.Option(help="Dataset of the images; default: digits or synthetic10, as the network takes.")
    ] = None,
    data_path: Annotated[str | None, typer.Option(help=help_of("data_path"))] = None,
    steps: Annotated[int, typer.Option(help="Steps to train before the recorded one.")] = 0,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate.")] = DEFAULTS.lr,
    seed: Annotated[int, typer.Option(help="Of the initial weights and the order of the images.")] = DEFAULTS.seed,
    backend: Annotated[str, typer.Option(help="reference, numba or compiled; changes no bit.")] = "compiled",
    threads: Annotated[int | None, typer.Option(help="Default: all cores; changes no bit.")] = None,
    json: JsonFlag = False,
) -> None:
    """Record every stored tensor of one training step, for 'mpsim validate step' and for other programs."""

    checks.whole("steps", steps, most=MOST_STEPS)
    if plan_seed is not None:
        checks.seed("plan_seed", plan_seed)
    check_output(out, "--out")
    dataset = _dataset(model, data, data_path)
    network = networks.build(
        model, width=width, classes=classes or dataset.classes, seed=seed, input_shape=tuple(dataset.image_shape)
    )
    traced = trace(network, batch=batch, semantics=as_semantics(semantics).name)
    plan = assign(traced, scheme, ratio=ratio, seed=plan_seed, k=k, levels=levels)
    trainer = Trainer(
        network, plan, optimizer=SGD(lr=lr), semantics=semantics, backend=backend, threads=threads, seed=seed
    )
    batches = _batches(DataLoader(dataset, batch, seed=seed, drop_last=True))
    for _ in range(steps):
        trainer.step(*next(batches))
    record = record_step(trainer, *next(batches))
    record.write(out)
    if json:
        print_json(record.index)
    else:
        megabytes = out.stat().st_size / 1e6
        typer.echo(
            f"{out}: {len(record.tensors)} tensors of step {record.index['step']}, {megabytes:.1f} MB; "
            f"index in {out.with_suffix('.json')}"
        )


def _dataset(model: str, name: str | None, path: str | None) -> LabelledImages:
    """The dataset named, or one of the images that the network takes."""

    if name is None:
        grey = networks.build(model, seed=None).input_shape[0] == 1
        name = "digits" if grey else "synthetic10"
    return data.load(name, "train", path)


def _batches(loader: Any) -> Any:
    """Batches without end, epoch after epoch."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def validate_step(
    other: Annotated[Path, typer.Argument(help="The other implementation's step: .safetensors or .npz.")],
    against: Annotated[Path, typer.Option(help="mpsim's record of the same step, by 'mpsim trace-step'.")],
    teacher_forced: Annotated[
        bool, typer.Option("--teacher-forced", help="Check each op by itself, on the inputs that OTHER stored.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --teacher-forced: name or my_net.py:build of a network that is not of reference_models."
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="reference, numba or compiled; changes no bit.")] = "compiled",
    threads: Annotated[int | None, typer.Option(help="Default: all cores; changes no bit.")] = None,
    junit: Junit = None,
    plot: Plot = None,
    json: JsonFlag = False,
) -> None:
    """Find the first tensor of a training step that differs from mpsim's, or each op that computes otherwise.

    Exit code 0: every bit equal (with --teacher-forced: or as float32 sums in another order may give); 1: not; 2: could
    not tell, as where tensors that the step stores were not compared.
    """
    from mpsim.validate.step import report as presentation
    from mpsim.validate.step.comparison import compare_steps

    report: Any
    outputs = Outputs("step", str(other), json, junit, plot)
    with comparison(outputs):
        if teacher_forced:
            report = _teacher_forced(other, against, model, backend, threads)
        else:
            report = compare_steps(other, against)
        answer(report, presentation, outputs)


def _teacher_forced(other: Path, against: Path, model: str | None, backend: str, threads: int | None) -> TeacherReport:
    """The report on ``other``, with network and plan, and what it lacks of _STARTS, from the record ``against``."""

    theirs, ours = read_step(other), read_step(against)
    check_images(theirs)
    network = network_of(ours, model)
    says_scale = "loss_scale" in theirs.index or "loss_scale" in theirs.tensors
    starts = {name: array for name, array in ours.tensors.items() if name.split("/")[0] in _STARTS}
    return teacher_forced(
        TensorFile({**starts, **theirs.tensors}, theirs.index, theirs.source),
        network.model,
        network.plan,
        network.semantics,
        loss_scale=None if says_scale else ours.index.get("loss_scale"),
        update=UpdateRule.of_index(theirs.index) or UpdateRule.of_index(ours.index),
        accumulator=network.accumulator,
        backend=backend,
        threads=threads,
    )


COMMANDS: tuple[tuple[Any, str, dict[str, Any]], ...] = ((trace_step, "trace-step", {}),)
#: In the group ``mpsim validate``.
VALIDATE_COMMANDS: tuple[tuple[Any, str, dict[str, Any]], ...] = ((validate_step, "step", {}),)
