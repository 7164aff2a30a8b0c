"""``mpsim train`` and ``mpsim sweep``."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mpsim import checks
from mpsim.assignment import PlanMismatch
from mpsim.cli import command
from mpsim.cli.figures import draw_memory_accuracy
from mpsim.cli.options import takes, takes_settings
from mpsim.cli.output import JsonFlag, parse_numbers, print_json, print_table, write_json
from mpsim.cli.paths import check_data, check_output, check_results, read_plan
from mpsim.cli.progress import Backend, Folder, Progress, Running, Threads, Timeout, kept_when_stopped, note, run_jobs
from mpsim.errors import UsageError
from mpsim.experiments.results import Results
from mpsim.experiments.settings import RunSettings
from mpsim.files.records import Fields
from mpsim.kernels import DEFAULT_BACKEND, load
from mpsim.plugins import has_extra

#: The settings that a sweep varies itself or does not support.
_VARIED = ("scheme", "ratio", "k", "plan_seed", "plan", "levels", "seed")
_SETTINGS = tuple(field.name for field in fields(RunSettings) if field.name != "plan")

#: The columns of a table of results: the field of the result, the heading, and the format.
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


@takes_settings([name for name in _SETTINGS if name not in _VARIED])
@takes("running", Running)
def sweep(
    settings: RunSettings,
    running: Running,
    levels: Annotated[list[str] | None, typer.Option(help="Pair of levels; may be given several times.")] = None,
    ratios: Annotated[
        str | None, typer.Option(help="Shares to demote to, e.g. 0,0.5,1; default: 0 to 1 by 0.1.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds (0, 1, ...) for each setting.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Also write the runs to this JSON file.")] = None,
) -> None:
    """Train with every scheme and draw the memory-accuracy curve. Runs in the results folder are not repeated."""
    from mpsim.experiments import sweep as experiment

    jobs = experiment.plan_sweep(
        settings,
        levels=levels or experiment.LEVELS,
        ratios=parse_numbers(ratios, "--ratios") or experiment.RATIOS,
        seeds=seeds,
    )
    check_output(json, "--json")
    check_results(running.results)
    check_data(jobs, running.timeout)
    load(running.backend)
    trained = experiment.trained_apart(jobs, running.timeout)
    try:
        rows = run_jobs(jobs, trained, running).rows
    except experiment.RunsFailed as failed:
        _show_runs(failed.rows, json)
        raise
    _show_runs(rows, json)
    if has_extra("matplotlib"):
        draw_memory_accuracy(rows, running.results, "sweep")
    else:
        draw = f"mpsim figure --results {shlex.quote(str(running.results))}"
        note(f"no figure was drawn: it needs matplotlib; run: pip install 'mpsim[plots]', then: {draw}")


@takes_settings(_SETTINGS, argument="model")
def train(
    settings: RunSettings,
    plan: Annotated[Path | None, typer.Option(help="A plan's JSON file, from 'mpsim plan --json'.")] = None,
    threads: Threads = None,
    workers: Annotated[
        int, typer.Option(help="Threads that load batches in advance; results do not depend on it.")
    ] = 1,
    backend: Backend = DEFAULT_BACKEND,
    timeout: Timeout = None,
    results: Folder = Path("results"),
    save: Annotated[Path | None, typer.Option(help="File for the trained state (Trainer.load reads it).")] = None,
    json: JsonFlag = False,
) -> None:
    """Train once and store every epoch. An unfinished run resumes, and a finished one is printed."""
    from mpsim.experiments.run import run
    from mpsim.experiments.workers import run_alone

    checks.threads(threads)
    checks.time_limit(timeout)
    checks.whole("workers", workers, most=checks.MOST_THREADS)
    if plan is not None:
        if beside := command.options_given("scheme", "ratio", "k", "plan_seed", "levels"):
            raise UsageError(f"--plan already defines the plan; remove {' and '.join(beside)}")
        given = read_plan(plan, "--plan")
        settings = replace(settings, plan=given.to_json())
        if given.network.batch != settings.batch:
            batches = f"{given.network.batch}; bytes and shares are those of batch {settings.batch}"
            note(f"{plan} is for batch {batches}")
    check_output(save, "--save")
    check_results(results)
    check_data([settings], timeout)
    with kept_when_stopped(results), Results.in_folder(results) as opened:
        key = settings.key
        stored = _note_what_is_stored(opened, key, settings.epochs, save)
        with Progress({key: settings}, opened) as progress:
            options: dict[str, Any] = {
                "backend": backend, "threads": threads, "save": None if save is None else str(save),
                "workers": workers, "key": key,
            }  # fmt: skip

            def tell(metrics: Fields | None = None) -> None:
                progress.update(opened.epochs_done())

            try:
                if settings.runs_files or timeout is not None:
                    result = run_alone(settings, opened, on_poll=tell, timeout=timeout, **options)
                else:
                    result = run(settings, opened, on_epoch=tell, **options)
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


def _note_what_is_stored(results: Results, key: str, epochs: int, save: Path | None) -> str | None:
    """Prints which epochs are stored. Returns when a finished run was stored, or None if it trains now."""
    finished, done = results.finished(key), results.epochs_done().get(key, 0)
    if finished is not None and save is None:
        note(f"stored on {finished[:10]} in {results.path}: nothing was trained; another --results folder trains again")
        return finished
    if finished is not None:
        note(f"stored on {finished[:10]} in {results.path}; trained again for --save")
    elif done:
        note(f"{done} of {epochs} epochs are stored in {results.path}; resuming after them")
    return None


def _show_runs(rows: list[Fields], json: Path | None) -> None:
    """Prints the results of a sweep, and the runs that failed in a table of their own."""
    _print_runs([row for row in rows if "failed" not in row])
    failed = [row for row in rows if "failed" in row]
    if failed:
        names = ("scheme", "ratio", "levels", "seed", "failed")
        cells = [[_word(row.get(name)) for name in names] for row in failed]
        print_table(["scheme", "r", "levels", "seed", "why it failed"], cells, "Failed runs")
    if json is not None:
        write_json(json, rows)


def _print_runs(rows: list[Fields]) -> None:
    cells = [
        ["" if row[name] is None else shown.format(_word(row[name])) for name, _, shown in _COLUMNS] for row in rows
    ]
    print_table([heading for _, heading, _ in _COLUMNS], cells)


def _word(value: object) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
