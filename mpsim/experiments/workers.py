"""Distributes runs over processes, which write epochs to the results file themselves.

What a process has finished is therefore kept, regardless of the other processes and of the parent. A run that fails, or
whose process dies, leaves the others alone. A run that executes a user's file has a separate process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mpsim.data import LabelledImages
from mpsim.errors import MissingExtra
from mpsim.experiments.child import Child, WorkerError, call, shortened, wait_for
from mpsim.experiments.keeping import keeping_data
from mpsim.experiments.results import Results, ResultsError
from mpsim.experiments.run import run
from mpsim.experiments.settings import RunSettings
from mpsim.files.records import Fields
from mpsim.kernels import BackendUnavailable

__all__ = ["WorkerError", "run_all", "run_alone"]

#: Failures that the other runs would share.
SHARED = (ResultsError, BackendUnavailable, MissingExtra)


def run_all(
    jobs: Mapping[RunSettings, str],
    path: Path,
    *,
    processes: int,
    backend: str,
    threads: int | None,
    on_poll: Callable[[], None],
    timeout: float | None = None,
) -> dict[RunSettings, str]:
    """Runs jobs in new processes.

    KeyboardInterrupt ends the processes, whose finished epochs are stored.

    Args:
        jobs: The keys of the settings to run.
        path: The results file.
        processes: The largest number of processes.
        backend: The backend of each run.
        threads: The number of threads of each process.
        on_poll: Called regularly while the processes run.
        timeout: The seconds that a run may take. One that takes longer is ended, and its stored epochs stay.

    Returns:
        Why runs failed, for those that did.

    Raises:
        ResultsError, BackendUnavailable, MissingExtra: No run can succeed.
    """
    waiting, idle = deque(jobs.items()), list[Child]()
    busy: dict[Child, RunSettings] = {}
    failures = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < processes:
                job, key = waiting.popleft()
                child = idle.pop() if idle and not job.runs_files else Child()
                busy[child] = job
                child.ask(_train, job, str(path), {"backend": backend, "threads": threads, "key": key})
            wait_for(list(busy))
            on_poll()
            for child in [child for child in busy if child.is_ready() or child.is_late(timeout)]:
                job = busy[child]
                try:
                    child.answer(timeout=timeout)
                except SHARED:
                    raise
                except Exception as error:
                    failures[job] = shortened(str(error) or repr(error))
                del busy[child]
                if job.runs_files or job in failures:
                    child.close()
                else:
                    idle.append(child)
    finally:
        for child in (*busy, *idle):
            child.close()
    return failures


def run_alone(
    settings: RunSettings,
    results: Results,
    *,
    on_poll: Callable[[], None],
    timeout: float | None = None,
    **options: object,
) -> Fields:
    """Runs one job in a new process.

    Args:
        settings, results, options: As for ``run``.
        on_poll: Called regularly while the process runs.
        timeout: The seconds that the run may take.

    Raises:
        WorkerError: The process died or took too long, or the run failed with an error that is not mpsim's.
        Exception: As for ``run``.
    """
    try:
        result: Any = call(_train, settings, str(results.path), options, on_poll=on_poll, timeout=timeout)
    except WorkerError as error:
        raise WorkerError(f"the run of {settings.model_name} on {settings.data} failed: {error}") from error
    return result


def _train(job: RunSettings, path: str, options: dict[str, Any]) -> Fields:
    with Results(path) as results:
        return run(job, results, load=_loader(), **options)


@cache
def _loader() -> Callable[[RunSettings], tuple[LabelledImages, LabelledImages]]:
    """Returns the ``load`` of this process, so that consecutive runs on the same data read them once."""
    return keeping_data()
