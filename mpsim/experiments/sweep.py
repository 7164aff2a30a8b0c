"""Trains one network with every scheme, at rising shares of low precision (paper figure 4).

A sweep is a list of runs. Runs in the results file are not repeated, and an unfinished run resumes. Settings that lead
to the same training (plans with equal formats) are trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from mpsim import checks
from mpsim.experiments import workers
from mpsim.experiments.keeping import keeping_contents, keeping_data, taught
from mpsim.experiments.labels import Row, labels
from mpsim.experiments.results import Results, ResultsError, settings_key
from mpsim.experiments.run import run
from mpsim.experiments.settings import DEFAULTS, RunSettings
from mpsim.files.records import Fields
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.nn import Module
from mpsim.trace import Trace

#: The paper's levels, and a narrower pair with which a small network fails if all tensors are low and no tensor is
#: promoted.
LEVELS = ("paper", "five_bit")
#: The shares for the paper's assignment.
RATIOS = tuple(tenth / 10 for tenth in range(11))
#: The largest number of seeds.
MOST_SEEDS = 10_000
#: The largest number of failed runs that a message describes.
MOST_NAMED = 5
#: The schemes without a ratio, except float32.
SCHEMES = ("uniform_high", "uniform_low", "operator_based", "operator_based_extended")


class RunsFailed(workers.WorkerError):
    """Runs of a sweep failed. The other runs are stored, and the next call tries the failed ones again.

    Attributes:
        rows: The results of all jobs in order. That of a failed one has its labels, and the reason under "failed".
    """

    def __init__(self, message: str = "", rows: Sequence[Fields] = ()) -> None:
        super().__init__(message)
        self.rows = list(rows)


def plan_sweep(
    common: RunSettings = DEFAULTS,
    *,
    levels: Sequence[str] = LEVELS,
    ratios: Iterable[float] = RATIOS,
    seeds: int = 1,
) -> list[RunSettings]:
    """Lists the runs of a sweep: for each seed float32, and for each pair of levels four schemes and every ratio.

    Args:
        common: All other settings.
        levels: The pairs of levels.
        ratios: The shares for ``largest_first``.
        seeds: The number of seeds, starting at ``common.seed``.

    Raises:
        ValueError: A ratio is outside [0, 1], levels are unknown, or ``seeds`` is below 1.

    >>> len(plan_sweep(ratios=[0.5], levels=["paper"], seeds=2))
    12
    """
    ratios = checked_ratios(ratios)
    jobs = []
    for seed in seed_range(common.seed, seeds):
        jobs.append(replace(common, scheme="float32", ratio=None, seed=seed))
        for pair in dict.fromkeys(levels):
            jobs += [replace(common, scheme=scheme, ratio=None, levels=pair, seed=seed) for scheme in SCHEMES]
            jobs += [replace(common, scheme="largest_first", ratio=r, levels=pair, seed=seed) for r in ratios]
    return jobs


def seed_range(first: int, seeds: int) -> range:
    """Returns the seeds of ``seeds`` runs. Raises UsageError if there are fewer than one."""
    checks.whole("seeds", seeds, least=1, most=MOST_SEEDS)
    return range(first, first + seeds)


def checked_ratios(ratios: Iterable[float]) -> list[float]:
    """Returns the ratios as a list. Raises UsageError if one is outside [0, 1]."""
    return checks.shares("ratios", ratios)


def sweep(
    jobs: Sequence[RunSettings],
    results: Results,
    *,
    processes: int = 1,
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
    on_progress: Callable[[dict[str, int]], None] | None = None,
    trained: Mapping[RunSettings, RunSettings] | None = None,
    isolated: bool = False,
    timeout: float | None = None,
) -> list[Fields]:
    """Runs the jobs that are not stored yet, and returns the results of all jobs in order.

    After KeyboardInterrupt every finished epoch is stored. In new processes, a failed run leaves the others alone.

    Args:
        jobs: The settings of the runs.
        results: Where epochs are stored.
        processes: With 1, runs execute in this process. Otherwise they execute in new processes.
        backend: The backend of the runs.
        threads: The number of threads of a run. The default is one thread in each of several processes.
        on_progress: Called with the number of stored epochs of each run whenever epochs are finished.
        trained: The result of ``trained_as(jobs)``, if it is already known.
        isolated: Runs execute in new processes also if ``processes`` is 1. They do so with a ``timeout`` too.
        timeout: The seconds that a run may take before it is ended and counts as failed. Its stored epochs stay.

    Raises:
        ValueError: Settings do not match (checked before anything runs).
        BackendUnavailable, ResultsError: The backend or the results file failed.
        RunsFailed: Runs in new processes failed. It is raised after all other runs have ended.
    """
    checks.processes(processes)
    isolated |= checks.time_limit(timeout) is not None
    if trained is None:
        trained = trained_apart(jobs, timeout) if isolated else trained_as(jobs)
    contents = keeping_contents()
    described = {job: labels(job, contents(job)) for job in jobs}
    keys = {job: described[job]["key"] for job in dict.fromkeys(trained.values())}
    missing = {job: key for job, key in keys.items() if results.result(key) is None}

    def tell(metrics: Fields | None = None) -> None:
        if on_progress is not None:
            on_progress(results.epochs_done())

    failures: Mapping[RunSettings, str] = {}
    several = processes > 1 and len(missing) > 1
    if isolated or several:
        threads = threads or (1 if several else None)
        failures = workers.run_all(
            missing, results.path, processes=processes, backend=backend, threads=threads, on_poll=tell, timeout=timeout
        )
    else:
        load = keeping_data()
        for job, key in missing.items():
            run(job, results, backend=backend, threads=threads, on_epoch=tell, load=load, key=key)
    tell()
    rows = [_result(described[job], keys[trained[job]], results, failures.get(trained[job])) for job in jobs]
    _raise_failures(failures, len(missing), rows)
    return rows


def _raise_failures(failures: Mapping[RunSettings, str], runs: int, rows: list[Fields]) -> None:
    """Raises RunsFailed if there are failures."""
    if not failures:
        return
    named = [f"{job.label}, seed {job.seed}: {why}" for job, why in failures.items()]
    more = f"; and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    raise RunsFailed(
        f"{len(failures)} of {runs} runs failed; the others are stored, and the next call tries these again. "
        f"{'; '.join(named[:MOST_NAMED])}{more}",
        rows,
    )


def _result(row: Row, key: str, results: Results, failure: str | None) -> Fields:
    """Returns the result of run ``key`` with the labels ``row``. If they differ, ``trained_as`` names the run."""
    if failure is not None:
        return {**row, "failed": failure}
    result = results.result(key)
    if result is None:
        raise ResultsError(f"the run {key[:12]} is no longer in {results.path}; restart the command")
    return {**result, **row} | ({} if row["key"] == key else {"trained_as": key})


def trained_apart(jobs: Sequence[RunSettings], timeout: float | None = None) -> Mapping[RunSettings, RunSettings]:
    """Returns ``trained_as(jobs)``, computed in a new process if it executes a user's file.

    Args:
        jobs: The settings of the runs.
        timeout: The seconds that the process may take.

    Raises:
        WorkerError: The process died or took too long.
        ValueError: A job cannot be set up.
    """
    if not any(job.runs_files for job in jobs):
        return trained_as(jobs)
    try:
        return taught(_set_up, list(jobs), timeout=timeout)
    except workers.WorkerError as error:
        files = "; ".join(dict.fromkeys(f"{job.model_name} on {job.data}" for job in jobs if job.runs_files))
        raise workers.WorkerError(f"{files} cannot be set up: {error}") from error


def _set_up(jobs: list[RunSettings]) -> dict[RunSettings, RunSettings]:
    return dict(trained_as(jobs))


def trained_as(jobs: Sequence[RunSettings]) -> Mapping[RunSettings, RunSettings]:
    """Maps each job to the first job that leads to the same training, i.e. equal settings and plans of equal formats.

    Raises:
        ValueError: A job cannot be set up.

    >>> low, demoted = (RunSettings("uniform_low"), RunSettings("largest_first", 1.0, promotion=None))
    >>> trained_as([low, demoted])[demoted] == low
    True
    """
    networks: dict[tuple, Module] = {}
    traces: dict[tuple, Trace] = {}
    sizes: dict[tuple, int] = {}
    load, contents = keeping_data(), keeping_contents()
    firsts: dict[str, RunSettings] = {}
    trained = {}
    for job in jobs:
        place = (job.model, job.width, job.source)
        images = (job.source, job.train_images)
        if place not in networks or images not in sizes:
            training = load(job)[0]
            networks[place], sizes[images] = job.build(training), len(training)
        job.check_batch(sizes[images])
        traced = traces.get(step := (*place, job.batch, job.semantics, job.loss)) or job.trace(networks[place])
        plan = job.make_plan(networks[place], traces.setdefault(step, traced))
        every = job.to_dict(contents(job))
        settings = {name: value for name, value in every.items() if name not in _MAKE_THE_PLAN}
        settings["promotion"] = job.promotion_threshold()
        if plan is not None:
            settings["plan"] = sorted([*id, repr(format)] for id, format in plan.formats.items())
        if plan is not None and settings["promotion"] is not None:
            above = plan.levels.steps[:-1]
            settings["promotes_to"] = [{role: repr(format) for role, format in level.items()} for level in above]
        trained[job] = firsts.setdefault(settings_key(settings), job)
    return trained


#: The settings that affect only the plan.
_MAKE_THE_PLAN = ("scheme", "ratio", "k", "plan_seed", "plan", "levels", "formats", "definition")
