"""``mpsim train``, ``mpsim sweep``, ``mpsim figure``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpsim.cli.output import JsonFlag, complain, print_json, print_table, write_json
from mpsim.cli.plans import GroupCount, LevelsText, Ratio, Scheme, SemanticsName, Width

if TYPE_CHECKING:
    from mpsim.experiments.results import Results
    from mpsim.experiments.run import RunSettings

ModelName = Annotated[str, typer.Option(help="Network: of reference_models, or my_net.py:build.")]
DataName = Annotated[str, typer.Option(help="Dataset: digits (bundled), synthetic10, cifar10, ...")]
DataPath = Annotated[str | None, typer.Option(help="The dataset's archive or folder, where it needs one.")]
Epochs = Annotated[int, typer.Option(help="Passes over the training data.")]
Batch = Annotated[int, typer.Option(help="Images of a training step.")]
Rate = Annotated[float, typer.Option("--lr", help="Learning rate of the first epoch.")]
Decay = Annotated[float, typer.Option(help="Weight decay; the paper takes 0.0005 on CIFAR.")]
Schedule = Annotated[str, typer.Option(help="Learning rate over the epochs: cosine (to 0) or constant.")]
Promotion = Annotated[float, typer.Option(help="Overflow ratio from which a tensor is promoted; 0: never.")]
Folder = Annotated[Path, typer.Option("--results", help="Folder of the results file and the figures.")]
Backend = Annotated[str, typer.Option(help="reference, numba, compiled, cuda or cuda:1; changes no bit of a result.")]
Threads = Annotated[int | None, typer.Option(help="Threads of a run; default: all cores (1 with --processes > 1).")]

#: (name of the field in a result, heading, how it is shown)
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("scheme", "scheme", "{}"),
    ("ratio", "r", "{:g}"),
    ("levels", "levels", "{}"),
    ("seed", "seed", "{}"),
    ("low_share", "share low", "{:.1%}"),
    ("bytes", "bytes", "{:,}"),
    ("test_accuracy", "test accuracy", "{:.2%}"),
    ("promotions", "promotions", "{}"),
    ("skipped_steps", "skipped steps", "{}"),
    ("diverged", "diverged", "{}"),
)


def sweep(
    levels: Annotated[list[str] | None, typer.Option(help="Level pair; may be given several times.")] = None,
    ratios: Annotated[str | None, typer.Option(help="Shares to demote to, as 0,0.5,1; default 0 to 1 by 0.1.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs per setting, with seeds 0, 1, ...")] = 1,
    model: ModelName = "small_cnn",
    width: Width = 0.125,
    data: DataName = "digits",
    data_path: DataPath = None,
    epochs: Epochs = 15,
    batch: Batch = 32,
    lr: Rate = 0.1,
    weight_decay: Decay = 5e-3,
    schedule: Schedule = "cosine",
    promotion: Promotion = 0.01,
    semantics: SemanticsName = "standard",
    processes: Annotated[int | None, typer.Option(help="Runs at the same time; default: one per core.")] = None,
    threads: Threads = None,
    backend: Backend = "compiled",
    results: Folder = Path("results"),
    json: Annotated[Path | None, typer.Option(help="Also write the runs to this JSON file.")] = None,
) -> None:
    """Train under every scheme and draw the memory-accuracy curve; what the results folder has is not run again."""
    from mpsim.experiments import sweep as experiment
    from mpsim.experiments.results import Results
    from mpsim.kernels import load
    from mpsim.rounding import available_threads

    common = _settings(
        model=model, width=width, data=data, data_path=data_path, epochs=epochs, batch=batch, lr=lr,
        weight_decay=weight_decay, schedule=schedule, promotion=promotion or None, semantics=semantics,
    )  # fmt: skip
    jobs = experiment.plan_sweep(
        common, levels=levels or experiment.LEVELS, ratios=_ratios(ratios) or experiment.RATIOS, seeds=seeds
    )
    load(backend)
    processes = available_threads() if processes is None else processes
    if json is not None:
        _check_writable(json)
    with _kept_when_stopped(results), Results.in_folder(results) as opened, _Progress(jobs, opened) as progress:
        rows = experiment.sweep(
            jobs, opened, processes=processes, backend=backend, threads=threads, on_progress=progress.update
        )
    _print_runs(rows)
    if json is not None:
        write_json(json, rows)
    _draw(rows, results, f"{model}, width {width:g}, on {data}: {epochs} epochs, seeds {seeds}")


def train(
    model: Annotated[str, typer.Argument(help="Network: of reference_models, or my_net.py:build.")] = "small_cnn",
    scheme: Scheme = "float32",
    ratio: Ratio = None,
    k: GroupCount = None,
    plan_seed: Annotated[int | None, typer.Option(help="For scheme random: which order.")] = None,
    plan: Annotated[Path | None, typer.Option(help="A plan's JSON file, of 'mpsim plan --json'.")] = None,
    levels: LevelsText = "paper",
    seed: Annotated[int, typer.Option(help="Of initial weights, data order and random bits.")] = 0,
    width: Width = 1.0,
    data: DataName = "digits",
    data_path: DataPath = None,
    epochs: Epochs = 15,
    batch: Batch = 32,
    lr: Rate = 0.1,
    weight_decay: Decay = 5e-3,
    schedule: Schedule = "cosine",
    promotion: Promotion = 0.01,
    semantics: SemanticsName = "standard",
    rounding: Annotated[str, typer.Option(help="nearest, or stochastic with --random-bit-count.")] = "nearest",
    random_bit_count: Annotated[int | None, typer.Option(help="For stochastic rounding: bits used, 1 to 32.")] = None,
    threads: Threads = None,
    backend: Backend = "compiled",
    results: Folder = Path("results"),
    save: Annotated[Path | None, typer.Option(help="File for the trained state (Trainer.load reads it).")] = None,
    json: JsonFlag = False,
) -> None:
    """Train once and store every epoch; an unfinished run goes on, a finished one is shown."""
    from mpsim.experiments.results import Results
    from mpsim.experiments.run import run

    settings = _settings(
        scheme=scheme, ratio=ratio, k=k, plan_seed=plan_seed, levels=levels, seed=seed, model=model, width=width,
        data=data, data_path=data_path, epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay, schedule=schedule,
        promotion=promotion or None, semantics=semantics, rounding=rounding, random_bit_count=random_bit_count,
        plan=None if plan is None else plan.read_text(encoding="utf-8"),
    )  # fmt: skip
    if save is not None:
        _check_writable(save)
    with _kept_when_stopped(results), Results.in_folder(results) as opened:
        with _Progress([settings], opened) as progress:
            result = run(
                settings, opened, backend=backend, threads=threads, save=None if save is None else str(save),
                on_epoch=lambda metrics: progress.update(opened.epochs_done()),
            )  # fmt: skip
        history = opened.history(settings.key)
    if json:
        print_json({**result, "history": history})
        return
    columns = ("epoch", "learning_rate", "train_loss", "train_accuracy", "test_accuracy", "low_share", "promotions")
    rows = [[_short(epoch[column]) for column in columns] for epoch in history]
    print_table([column.replace("_", " ") for column in columns], rows)
    _print_runs([result])


def figure(
    results: Folder = Path("results"),
    json: JsonFlag = False,
) -> None:
    """Draw the memory-accuracy curve of the finished runs in a results folder, one figure per kind of run."""
    from mpsim.experiments.results import Results

    gathered: dict[tuple, list[dict[str, Any]]] = {}
    with Results.in_folder(results, create=False) as opened:
        for stored in opened.runs():
            if stored.result is not None:
                settings = stored.settings
                kind = tuple(settings[name] for name in ("model", "width", "data", "epochs", "semantics"))
                gathered.setdefault(kind, []).append(stored.result)
    if not gathered:
        raise ValueError(f"no finished run in {results}; 'mpsim sweep' makes some")
    files = []
    for (model, width, data, epochs, semantics), rows in gathered.items():
        title = f"{model}, width {width:g}, on {data}: {epochs} epochs, {semantics}"
        files += _draw(rows, results, title, f"memory_accuracy_{model}_{width:g}_{data}_{epochs}_{semantics}", not json)
    if json:
        print_json([str(file) for file in files])


class _Progress:
    """Bars on standard error: all epochs with the time left, and the runs in work."""

    def __init__(self, jobs: list[RunSettings], results: Results) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._jobs = {job.key: job for job in jobs}
        self._bars = Progress(
            TextColumn("{task.description:34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._runs: dict[str, Any] = {}
        self._before = sum(count for key, count in results.epochs_done().items() if key in self._jobs)

    def __enter__(self) -> _Progress:
        self._bars.start()
        total = sum(job.epochs for job in self._jobs.values())
        self._all = self._bars.add_task("all epochs", total=total, completed=self._before)
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def update(self, epochs_done: dict[str, int]) -> None:
        """Takes the number of stored epochs by run."""
        done = {key: epochs_done.get(key, 0) for key in self._jobs}
        self._bars.update(self._all, completed=sum(done.values()))
        for key, job in self._jobs.items():
            if 0 < done[key] < job.epochs and key not in self._runs:
                self._runs[key] = self._bars.add_task(f"  {job.label}, seed {job.seed}", total=job.epochs)
            if key in self._runs:
                self._bars.update(self._runs[key], completed=done[key], visible=done[key] < job.epochs)


@contextmanager
def _kept_when_stopped(folder: Path) -> Iterator[None]:
    """Turns Ctrl-C into a word on what becomes of the work, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"stopped; the finished epochs are kept in {folder}, the same command goes on from there")
        raise typer.Exit(130) from None


def _settings(**fields: Any) -> RunSettings:
    from mpsim.experiments.run import RunSettings

    return RunSettings(**fields)


def _ratios(text: str | None) -> list[float]:
    try:
        return [] if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"'{text}' should be numbers with commas, as 0,0.5,1", param_hint="--ratios") from None


def _check_writable(path: Path) -> None:
    """OSError now rather than after the work, if the file's folder is not there."""
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} does not exist; make it first")


def _print_runs(rows: list[dict[str, Any]]) -> None:
    cells = [
        ["" if row[name] is None else shown.format(_word(row[name])) for name, _, shown in _COLUMNS] for row in rows
    ]
    print_table([heading for _, heading, _ in _COLUMNS], cells)


def _word(value: Any) -> Any:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _draw(
    rows: list[dict[str, Any]], folder: Path, title: str, name: str = "memory_accuracy", tell: bool = True
) -> list[Path]:
    from mpsim.experiments.figures import memory_accuracy

    files = memory_accuracy(rows, folder / name, title=title)
    if tell:
        typer.echo(f"figure: {' and '.join(map(str, files))}")
    return files


COMMANDS: tuple[tuple[Any, str, dict[str, Any]], ...] = (
    (sweep, "sweep", {}),
    (train, "train", {}),
    (figure, "figure", {}),
)
