"""``mpsim train`` and ``mpsim sweep``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mpsim import checks
from mpsim.cli import command
from mpsim.cli.figures import draw_memory_accuracy
from mpsim.cli.output import JsonFlag, parse_numbers, print_json, print_table, write_json
from mpsim.cli.paths import check_data, check_output, check_results, read_plan
from mpsim.cli.plans import GroupCount, LevelsText, Ratio, Scheme, SemanticsName, Width
from mpsim.cli.progress import Backend, Folder, Processes, Progress, Threads, kept_when_stopped, note, run_jobs
from mpsim.errors import UsageError
from mpsim.experiments.settings import DEFAULTS, RunSettings

ModelName = Annotated[str, typer.Option(help="Network: of reference_models, or my_net.py:build.")]
DataName = Annotated[str, typer.Option(help="Dataset: digits (bundled), synthetic10, cifar10, ...")]
DataPath = Annotated[str | None, typer.Option(help="The dataset's archive or folder, where it needs one.")]
Epochs = Annotated[int, typer.Option(help="Passes over the training data.")]
Batch = Annotated[int, typer.Option(help="Images of a training step; at most the training images.")]
Rate = Annotated[float, typer.Option("--lr", help="Learning rate of the first epoch.")]
Decay = Annotated[float, typer.Option(help="Weight decay.")]
Schedule = Annotated[str, typer.Option(help="Learning rate over the epochs: cosine (to 0) or constant.")]
SkippedStatistics = Annotated[
    str, typer.Option(help="Batch norm's running statistics after a skipped step: updated (as in PyTorch) or kept.")
]
Promotion = Annotated[float, typer.Option(help="Overflow ratio from which a tensor is promoted; 0: never.")]

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
    model: ModelName = DEFAULTS.model,
    width: Width = DEFAULTS.width,
    data: DataName = DEFAULTS.data,
    data_path: DataPath = None,
    epochs: Epochs = DEFAULTS.epochs,
    batch: Batch = DEFAULTS.batch,
    lr: Rate = DEFAULTS.lr,
    weight_decay: Decay = DEFAULTS.weight_decay,
    schedule: Schedule = DEFAULTS.schedule,
    promotion: Promotion = DEFAULTS.promotion or 0.0,
    semantics: SemanticsName = DEFAULTS.semantics,
    skipped_statistics: SkippedStatistics = DEFAULTS.skipped_statistics,
    processes: Processes = None,
    threads: Threads = None,
    backend: Backend = "compiled",
    results: Folder = Path("results"),
    json: Annotated[Path | None, typer.Option(help="Also write the runs to this JSON file.")] = None,
) -> None:
    """Train under every scheme and draw the memory-accuracy curve; what the results folder has is not run again."""
    from mpsim.experiments import sweep as experiment
    from mpsim.kernels import load

    processes = checks.processes(processes)
    checks.threads(threads)
    common = RunSettings(
        model=model, width=width, data=data, data_path=data_path, epochs=epochs, batch=batch, lr=lr,
        weight_decay=weight_decay, schedule=schedule, promotion=promotion or None, semantics=semantics,
        skipped_statistics=skipped_statistics,
    )  # fmt: skip
    jobs = experiment.plan_sweep(
        common,
        levels=levels or experiment.LEVELS,
        ratios=parse_numbers(ratios, "--ratios") or experiment.RATIOS,
        seeds=seeds,
    )
    check_output(json, "--json")
    check_results(results)
    check_data(jobs)
    load(backend)
    rows = run_jobs(jobs, experiment.trained_as(jobs), results, processes, threads, backend).rows
    _print_runs(rows)
    if json is not None:
        write_json(json, rows)
    draw_memory_accuracy(rows, results, "sweep")


def train(
    model: Annotated[str, typer.Argument(help="Network: of reference_models, or my_net.py:build.")] = DEFAULTS.model,
    scheme: Scheme = DEFAULTS.scheme,
    ratio: Ratio = None,
    k: GroupCount = None,
    plan_seed: Annotated[int | None, typer.Option(help="For scheme random: which order.")] = None,
    plan: Annotated[Path | None, typer.Option(help="A plan's JSON file, of 'mpsim plan --json'.")] = None,
    levels: LevelsText = DEFAULTS.levels,
    seed: Annotated[int, typer.Option(help="Of initial weights, data order and random bits.")] = DEFAULTS.seed,
    width: Width = DEFAULTS.width,
    data: DataName = DEFAULTS.data,
    data_path: DataPath = None,
    epochs: Epochs = DEFAULTS.epochs,
    batch: Batch = DEFAULTS.batch,
    lr: Rate = DEFAULTS.lr,
    weight_decay: Decay = DEFAULTS.weight_decay,
    schedule: Schedule = DEFAULTS.schedule,
    promotion: Promotion = DEFAULTS.promotion or 0.0,
    semantics: SemanticsName = DEFAULTS.semantics,
    rounding: Annotated[str, typer.Option(help="nearest, or stochastic with --random-bit-count.")] = DEFAULTS.rounding,
    random_bit_count: Annotated[int | None, typer.Option(help="For stochastic rounding: bits used, 1 to 32.")] = None,
    skipped_statistics: SkippedStatistics = "updated",
    threads: Threads = None,
    workers: Annotated[int, typer.Option(help="Threads that load batches ahead; 0: none. Changes no bit.")] = 1,
    backend: Backend = "compiled",
    results: Folder = Path("results"),
    save: Annotated[Path | None, typer.Option(help="File for the trained state (Trainer.load reads it).")] = None,
    json: JsonFlag = False,
) -> None:
    """Train once and store every epoch; an unfinished run goes on, a finished one is shown."""
    from mpsim.assignment import PlanMismatch
    from mpsim.experiments.results import Results
    from mpsim.experiments.run import run

    checks.threads(threads)
    checks.whole("workers", workers, most=checks.MOST_THREADS)
    settings = RunSettings(
        scheme=scheme, ratio=ratio, k=k, plan_seed=plan_seed, levels=levels, seed=seed, model=model, width=width,
        data=data, data_path=data_path, epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay, schedule=schedule,
        promotion=promotion or None, semantics=semantics, rounding=rounding, random_bit_count=random_bit_count,
        skipped_statistics=skipped_statistics,
    )  # fmt: skip
    if plan is not None:
        if beside := command.options_given("scheme", "ratio", "k", "plan_seed", "levels"):
            raise UsageError(f"--plan has a plan of its own: it takes no {' and no '.join(beside)}")
        given = read_plan(plan, "--plan")
        settings = replace(settings, plan=given.to_json())
        if given.network.batch != batch:
            note(f"{plan} was made for batch {given.network.batch}; bytes and shares are those of batch {batch}")
    check_output(save, "--save")
    check_results(results)
    check_data([settings])
    with kept_when_stopped(results), Results.in_folder(results) as opened:
        key = settings.key
        stored = _tell_what_is_stored(opened, key, settings.epochs, save)
        with Progress([settings], opened) as progress:
            try:
                result = run(
                    settings, opened, backend=backend, threads=threads, save=None if save is None else str(save),
                    on_epoch=lambda metrics: progress.update(opened.epochs_done()), workers=workers, key=key,
                )  # fmt: skip
            except PlanMismatch as error:
                raise UsageError(f"--plan {plan}: {error}") from error
        history = opened.history(key)
    if json:
        print_json({**result, "history": history, "stored_on": stored})
        return
    columns = ("epoch", "learning_rate", "train_loss", "train_accuracy", "test_accuracy", "low_share", "promotions")
    rows = [[_short(epoch[column]) for column in columns] for epoch in history]
    print_table([column.replace("_", " ") for column in columns], rows)
    _print_runs([result])


def _tell_what_is_stored(results: Any, key: str, epochs: int, save: Path | None) -> str | None:
    """Says on standard error what the run need not train; when it was stored, or None if it trains now."""
    finished, done = results.finished(key), results.epochs_done().get(key, 0)
    if finished is not None and save is None:
        note(f"stored on {finished[:10]} in {results.path}: nothing was trained; --results elsewhere trains anew")
        return finished
    if finished is not None:
        note(f"stored on {finished[:10]} in {results.path}; trained again for --save")
    elif done:
        note(f"{done} of {epochs} epochs are stored in {results.path}; going on after them")
    return None


def _print_runs(rows: list[dict[str, Any]]) -> None:
    cells = [
        ["" if row[name] is None else shown.format(_word(row[name])) for name, _, shown in _COLUMNS] for row in rows
    ]
    print_table([heading for _, heading, _ in _COLUMNS], cells)


def _word(value: Any) -> Any:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


COMMANDS: tuple[tuple[Any, str, dict[str, Any]], ...] = (
    (sweep, "sweep", {}),
    (train, "train", {}),
)
