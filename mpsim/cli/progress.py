"""Provides what commands that train share: their options, progress bars, and the message after an interruption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from mpsim import checks
from mpsim.cli.output import complain, console
from mpsim.experiments.keeping import keys_of
from mpsim.experiments.results import Results
from mpsim.experiments.settings import RunSettings
from mpsim.files.records import Fields
from mpsim.kernels import DEFAULT_BACKEND

Folder = Annotated[Path, typer.Option("--results", help="Folder of the results file and the figures.")]
Backend = Annotated[str, typer.Option(help="reference, numba, compiled, cuda or cuda:1; results do not depend on it.")]
Threads = Annotated[int | None, typer.Option(help="Threads of a run; default: all cores (1 with --processes > 1).")]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds that a run may take before it is ended and failed; default: no limit.")
]


@dataclass(frozen=True)
class Running:
    """The options that say how and where runs are computed. Results do not depend on them."""

    processes: Annotated[int | None, typer.Option(help="Runs at the same time; default: one per core.")] = None
    threads: Threads = None
    backend: Backend = DEFAULT_BACKEND
    timeout: Timeout = None
    results: Folder = Path("results")

    def __post_init__(self) -> None:
        checks.processes(self.processes)
        checks.threads(self.threads)
        checks.time_limit(self.timeout)

    @property
    def at_once(self) -> int:
        """The number of runs at the same time."""
        return checks.processes(self.processes)


class Progress:
    """Shows progress on standard error: bars for all epochs, with the remaining time, and for each active run.

    If standard error is not a terminal, it prints a line for each finished run. ``jobs`` are the settings by key.
    """

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
        """Updates the bars with the number of stored epochs of each run."""
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
    """Turns Ctrl-C into a message about the stored epochs, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"stopped; the finished epochs are stored in {folder}, and the same command resumes after them")
        raise typer.Exit(130) from None


def note(message: str) -> None:
    """Prints a note to standard error."""
    typer.echo(f"mpsim: {message}", err=True)


class Outcome(NamedTuple):
    """The results of a command's runs, in order, and how many of them were trained now or already stored."""

    rows: list[Fields]
    trained: int
    stored: int


def run_jobs(jobs: Sequence[RunSettings], trained: Mapping[RunSettings, RunSettings], running: Running) -> Outcome:
    """Runs the jobs that the folder lacks, with progress bars, and prints how many were already stored.

    ``trained`` is the result of ``trained_as(jobs)``.
    """
    from mpsim.experiments.sweep import sweep

    with kept_when_stopped(running.results), Results.in_folder(running.results) as opened:
        keys = {key: job for job, key in keys_of(trained.values()).items()}
        stored = sum(opened.finished(key) is not None for key in keys)
        with Progress(keys, opened) as bars:
            rows = sweep(
                jobs, opened, processes=running.at_once, backend=running.backend, threads=running.threads,
                on_progress=bars.update, trained=trained, isolated=any(job.runs_files for job in jobs),
                timeout=running.timeout,
            )  # fmt: skip
        equal = f", {len(jobs) - len(keys)} equal to another of them" if len(keys) < len(jobs) else ""
        again = "" if stored < len(keys) else "; another --results folder trains again"
        note(f"{len(jobs)} runs: {len(keys) - stored} trained now, {stored} stored in {opened.path}{equal}{again}")
    return Outcome(rows, len(keys) - stored, stored)
