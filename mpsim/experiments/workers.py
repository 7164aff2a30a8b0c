"""Distributes runs over processes, which read a common queue and write epochs to the results file themselves.

What a worker has finished is therefore kept, regardless of the other workers and of the parent process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.queues import Queue, SimpleQueue
from pathlib import Path

from mpsim.errors import MpsimError
from mpsim.experiments.keeping import keeping_data
from mpsim.experiments.results import Results
from mpsim.experiments.run import run
from mpsim.experiments.settings import RunSettings
from mpsim.files.records import Fields

#: Seconds between two reads of the results file.
POLL = 0.25
#: Characters of a failed worker's message, at most. The pipe holds them, so that the worker ends without being read.
MOST_CHARACTERS = 8000


class WorkerError(MpsimError, RuntimeError):
    """A worker process failed. The message is its own, or describes how it ended."""


def run_all(
    jobs: Mapping[RunSettings, str],
    path: Path,
    *,
    processes: int,
    backend: str,
    threads: int,
    on_poll: Callable[[], None],
) -> None:
    """Runs jobs in new processes.

    Args:
        jobs: The keys of the settings to run.
        path: The results file.
        processes: The largest number of processes.
        backend: The backend of each run.
        threads: The number of threads of each process.
        on_poll: Called regularly while the processes run.

    Raises:
        WorkerError: A process failed. This error, like KeyboardInterrupt, ends the other processes, whose finished
            epochs are stored.
    """
    context = multiprocessing.get_context("spawn")
    tasks: Queue[tuple[RunSettings, str] | None] = context.Queue()
    failures: SimpleQueue[str] = context.SimpleQueue()
    count = min(processes, len(jobs))
    for task in [*jobs.items(), *[None] * count]:
        tasks.put(task)
    arguments = (tasks, failures, str(path), backend, threads, os.getpid())
    workers = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(count)]
    try:
        for worker in workers:
            worker.start()
        running = list(workers)
        while running:
            wait([worker.sentinel for worker in running], timeout=POLL)
            on_poll()
            for worker in [worker for worker in running if worker.exitcode is not None]:
                running.remove(worker)
                if worker.exitcode:
                    raise WorkerError(_cause(worker.exitcode, failures))
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.terminate()
                worker.join()
        tasks.cancel_join_thread()


def _cause(exit_code: int, failures: SimpleQueue[str]) -> str:
    if exit_code == 1 and not failures.empty():
        return failures.get()
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"
    return f"a worker process {how}; its finished epochs are stored. Call again to resume (with fewer processes?)"


def _shortened(message: str) -> str:
    """Returns the beginning and the end of a long message."""
    half = MOST_CHARACTERS // 2
    left_out = len(message) - 2 * half
    return (
        message if left_out <= 0 else f"{message[:half]} ... ({left_out:,} characters left out) ... {message[-half:]}"
    )


def _work(
    tasks: Queue[tuple[RunSettings, str] | None],
    failures: SimpleQueue[str],
    path: str,
    backend: str,
    threads: int,
    parent: int,
) -> None:
    """Executes one run after the other until the queue is empty or the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent also receives Ctrl-C and ends this process

    def stop_if_orphaned(metrics: Fields) -> None:
        if os.getppid() != parent:
            os._exit(1)

    try:
        with Results(path) as results:
            load = keeping_data()
            while (task := tasks.get()) is not None:
                job, key = task
                run(job, results, backend=backend, threads=threads, on_epoch=stop_if_orphaned, load=load, key=key)
    except Exception as error:
        failures.put(_shortened(str(error) or repr(error)))
        raise SystemExit(1) from error
