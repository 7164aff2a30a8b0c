"""``mpsim validate step``: where a training step differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mpsim.cli.validate.verdict import gives_verdict
from mpsim.errors import UsageError
from mpsim.files.tensors import TensorFile
from mpsim.files.whole import text_or_file
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.losses import loss_named
from mpsim.products.passes import Accumulators, entries_of
from mpsim.recording.reading import read_step
from mpsim.recording.steps import network_of
from mpsim.training.optimizer.names import STATES
from mpsim.validate.presentation import Presentation, Report
from mpsim.validate.step import naming, replay
from mpsim.validate.step import report as presentation
from mpsim.validate.step.comparison import compare_steps
from mpsim.validate.step.update import UpdateRule

#: What a step starts from; another implementation need not write it.
_STARTS = ("images", "labels", "master", "sum", *STATES)


@gives_verdict("step")
def step(
    other: Annotated[Path, typer.Argument(help="The other implementation's step: .safetensors or .npz.")],
    against: Annotated[
        Path | None,
        typer.Option(
            help="mpsim's record of the same step, by 'mpsim trace-step'. With --teacher-forced: default OTHER itself, "
            "if it has an index (mpsim.recording.torch writes one)."
        ),
    ] = None,
    teacher_forced: Annotated[
        bool, typer.Option("--teacher-forced", help="Check each op alone, on the inputs that OTHER stored.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --teacher-forced: name or my_net.py:build of a network that is not of reference_models."
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="With --teacher-forced: the loss, my_loss.py:FUNCTION for your own; default: the index's."),
    ] = None,
    accumulator: Annotated[
        str,
        typer.Option(
            help="With --teacher-forced: in what order OTHER sums products, by pass and by layer, as of 'mpsim train', "
            "or a JSON file. What these products make has to be equal in every bit."
        ),
    ] = "",
    names: Annotated[
        Path | None,
        typer.Option(
            help="JSON object: OTHER's name of a tensor -> its name in step files. Default: tensors with other names "
            "are matched with --against by shape and value."
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="reference, numba or compiled; changes no bit.")] = DEFAULT_BACKEND,
    threads: Annotated[int | None, typer.Option(help="Default: all cores; changes no bit.")] = None,
) -> tuple[Report, Presentation]:
    """Find the first tensor of a training step that differs from mpsim's, or each op that computes otherwise.

    Exit code 0: every bit equal (with --teacher-forced: or as float32 sums in another order may give); 1: not; 2: could
    not tell, as where tensors that the step stores were not compared.
    """

    if not teacher_forced:
        _check_comparison(against, {"--accumulator": accumulator, "--loss": loss})
    theirs, ours = read_step(other), None if against is None else read_step(against)
    if names is not None:
        named = naming.named_by(theirs, naming.read_table(names))
    else:
        named = naming.Named(theirs) if ours is None else naming.matched(theirs, ours)
    if teacher_forced:
        described = entries_of(text_or_file(accumulator))
        checked = _teacher_forced(named.file, ours, model, loss, described, backend, threads)
        return replace(checked, names=named.names, notes=(*named.notes, *checked.notes)), presentation
    assert ours is not None
    compared = compare_steps(named.file, ours)
    return replace(compared, names=named.names, notes=(*named.notes, *compared.notes)), presentation


def _check_comparison(against: Path | None, others: dict[str, str | None]) -> None:
    """Raises UsageError for options of a comparison of two files that do not fit it."""
    for option, given in others.items():
        if given:
            raise UsageError(f"{option} needs --teacher-forced: two files are compared as they are")
    if against is None:
        raise UsageError("--against is missing: mpsim's record of the same step; or pass --teacher-forced")


def _teacher_forced(
    theirs: TensorFile, against: TensorFile | None, model: str | None, loss: str | None, described: Accumulators,
    backend: str, threads: int | None,
) -> replay.TeacherReport:  # fmt: skip
    """The report on ``theirs``, with network and plan, and what it lacks of _STARTS, from the record ``against``."""
    ours = theirs if against is None else against
    if against is None and not ours.index:
        raise UsageError(
            f"{theirs.source} has no index, so --against is missing: mpsim's record of a step of the same network"
        )
    network = network_of(ours, model)
    index = theirs.index
    if "loss_scale" not in index and "loss_scale" not in theirs.tensors:
        index = {**{name: ours.index[name] for name in ("loss_scale", "micro_batch") if name in ours.index}, **index}
    starts = {name: array for name, array in ours.tensors.items() if name.split("/")[0] in _STARTS}
    completed = TensorFile({**starts, **theirs.tensors}, index, theirs.source)
    replay.check_images(completed, network.model, theirs)
    return replay.teacher_forced(
        completed,
        network.model,
        network.plan,
        network.semantics,
        update=UpdateRule.of_index(theirs.index) or UpdateRule.of_index(ours.index),
        loss=None if loss is None else loss_named(loss),
        accumulator=network.accumulator,
        described=described,
        backend=backend,
        threads=threads,
    )
