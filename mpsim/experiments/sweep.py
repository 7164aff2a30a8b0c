"""The main job: one network under every scheme, at rising shares of low precision (paper figure 4).

A sweep is a list of runs. Those that the results file has are not run again, an unfinished one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from mpsim.experiments import workers
from mpsim.experiments.results import Results
from mpsim.experiments.run import RunSettings, run

#: The paper's levels, and a harsher pair under which a small network fails when all is low, and promotion saves it.
LEVELS = ("paper", "five_bit")
#: Shares at which the paper's assignment is tried.
RATIOS = tuple(tenth / 10 for tenth in range(11))
#: Schemes without a ratio, beside float32.
SCHEMES = ("uniform_high", "uniform_low", "operator_based", "operator_based_extended")


def plan_sweep(
    common: RunSettings = RunSettings(),
    *,
    levels: Sequence[str] = LEVELS,
    ratios: Iterable[float] = RATIOS,
    seeds: int = 1,
) -> list[RunSettings]:
    """The runs of a sweep: per seed float32 once, and per level pair the four schemes and demotion at each ratio.

    ``common`` gives everything else. ValueError for a ratio outside [0, 1], unknown levels, or seeds < 1.

    >>> len(plan_sweep(ratios=[0.5], levels=["paper"], seeds=2))
    12
    """
    if seeds < 1:
        raise ValueError(f"seeds is a number of runs per setting, at least 1, got {seeds}")
    ratios = list(ratios)
    for ratio in ratios:
        if not 0 <= ratio <= 1:
            raise ValueError(f"a ratio is a share of elements in [0, 1], got {ratio}")
    jobs = []
    for seed in range(common.seed, common.seed + seeds):
        jobs.append(replace(common, scheme="float32", ratio=None, seed=seed))
        for pair in dict.fromkeys(levels):
            jobs += [replace(common, scheme=scheme, ratio=None, levels=pair, seed=seed) for scheme in SCHEMES]
            jobs += [replace(common, scheme="largest_first", ratio=r, levels=pair, seed=seed) for r in ratios]
    return jobs


def sweep(
    jobs: Sequence[RunSettings],
    results: Results,
    *,
    processes: int = 1,
    backend: str = "compiled",
    threads: int | None = None,
    on_progress: Callable[[dict[str, int]], None] | None = None,
) -> list[dict[str, Any]]:
    """Runs what is missing of ``jobs`` and returns the results of all, in order.

    processes: 1 runs them here, more run them in new processes of one thread each (unless ``threads`` says more).
    on_progress: called as epochs are finished, with the number of stored epochs by run. KeyboardInterrupt leaves
    every finished epoch stored. Raises ValueError (before anything runs) for settings that do not fit together,
    BackendUnavailable, ResultsError, workers.WorkerError.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    missing = [job for job in jobs if results.result(job.key) is None]
    _check(missing)

    def tell(metrics: dict[str, Any] | None = None) -> None:
        if on_progress is not None:
            on_progress(results.epochs_done())

    if processes > 1 and len(missing) > 1:
        workers.run_all(missing, results.path, processes=processes, backend=backend, threads=threads or 1, on_poll=tell)
    else:
        for job in missing:
            run(job, results, backend=backend, threads=threads, on_epoch=tell)
    tell()
    return [result for job in jobs if (result := results.result(job.key)) is not None]


def _check(jobs: Sequence[RunSettings]) -> None:
    """ValueError for the first run that cannot be set up."""
    networks: dict[tuple, Any] = {}
    for job in jobs:
        place = (job.model, job.width, job.data, job.data_path)
        if place not in networks:
            networks[place] = job.build(job.load()[0])
        job.make_plan(networks[place])
