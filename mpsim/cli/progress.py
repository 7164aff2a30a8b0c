"""What commands that train share: their options, bars of progress, and the word when they are stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from mpsim.cli.output import complain, console
from mpsim.experiments.results import Results
from mpsim.experiments.settings import RunSettings, keys_of
from mpsim.files.records import Fields

Folder = Annotated[Path, typer.Option("--results", help="Folder of the results file and the figures.")]
Backend = Annotated[str, typer.Option(help="reference, numba, compiled, cuda or cuda:1; changes no bit of a result.")]
Threads = Annotated[int | None, typer.Option(help="Threads of a run; default: all cores (1 with --processes > 1).")]
Processes = Annotated[int | None, typer.Option(help="Runs at the same time; default: one per core.")]


class Progress:
    """On standard error, bars: all epochs with the time left, and the runs in work. Where it is no terminal, a line for
    each run that ends. ``jobs``: by their keys."""

    def __init__(self, jobs: Mapping[str, RunSettings], results: Results) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._jobs = jobs
        networks = {(job.model, job.width) for job in self._jobs.values()}
        self._names = {
            key: f"{f'{job.model} {job.width:g}, ' if len(networks) > 1 else ''}{job.label}, seed {job.seed}"
            for key, job in self._jobs.items()
        }
        terminal = console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:34}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True), console=terminal, transient=True,
            disable=not terminal.is_terminal,
        )  # fmt: skip
        self._runs: Fields = {}
        before = {key: count for key, count in results.epochs_done().items() if key in self._jobs}
        self._before = sum(before.values())
        self._ended = {key for key, count in before.items() if count >= self._jobs[key].epochs}

    def __enter__(self) -> Progress:
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
                self._runs[key] = self._bars.add_task(f"  {self._names[key]}", total=job.epochs)
            if done[key] >= job.epochs and key not in self._ended:
                self._ended.add(key)
                if not self._bars.console.is_terminal:
                    typer.echo(f"{len(self._ended)} of {len(self._jobs)} runs: {self._names[key]}", err=True)
            if key in self._runs:
                self._bars.update(self._runs[key], completed=done[key], visible=done[key] < job.epochs)


@contextmanager
def kept_when_stopped(folder: Path) -> Iterator[None]:
    """Turns Ctrl-C into a word on what becomes of the work, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"stopped; the finished epochs are kept in {folder}, the same command goes on from there")
        raise typer.Exit(130) from None


def note(message: str) -> None:
    """What people should know of the work, on standard error."""
    typer.echo(f"mpsim: {message}", err=True)


class Outcome(NamedTuple):
    """The results of a command's runs, in order, and how many trainings were made now or found stored."""

    rows: list[Fields]
    trained: int
    stored: int


def run_jobs(
    jobs: Sequence[RunSettings],
    trained: Mapping[RunSettings, RunSettings],
    results: Path,
    processes: int,
    threads: int | None,
    backend: str,
) -> Outcome:
    """Runs what the folder lacks of the jobs, says how far it is, and in the end how much was stored. ``trained``: what
    ``trained_as(jobs)`` gave."""
    from mpsim.experiments.sweep import sweep

    with kept_when_stopped(results), Results.in_folder(results) as opened:
        keys = {key: job for job, key in keys_of(trained.values()).items()}
        stored = sum(opened.finished(key) is not None for key in keys)
        with Progress(keys, opened) as bars:
            rows = sweep(
                jobs, opened, processes=processes, backend=backend, threads=threads, on_progress=bars.update,
                trained=trained,
            )  # fmt: skip
        equal = f", {len(jobs) - len(keys)} equal to another of them" if len(keys) < len(jobs) else ""
        anew = "" if stored < len(keys) else "; --results elsewhere trains anew"
        note(f"{len(jobs)} runs: {len(keys) - stored} trained now, {stored} stored in {opened.path}{equal}{anew}")
    return Outcome(rows, len(keys) - stored, stored)
