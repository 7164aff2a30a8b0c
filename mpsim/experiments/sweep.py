"""The main job: one network under every scheme, at rising shares of low precision (paper figure 4).

A sweep is a list of runs. Those that the results file has are not run again, an unfinished one goes on, and settings
that come to the same training (plans of the same formats) are trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from mpsim import checks
from mpsim.experiments import workers
from mpsim.experiments.labels import Row, labels
from mpsim.experiments.results import Results, ResultsError, settings_key
from mpsim.experiments.run import run
from mpsim.experiments.settings import DEFAULTS, RunSettings, keeping_contents, keeping_data
from mpsim.files.records import Fields
from mpsim.nn import Module
from mpsim.trace import Trace

#: The paper's levels, and a harsher pair under which a small network fails when all is low, and promotion saves it.
LEVELS = ("paper", "five_bit")
#: Shares at which the paper's assignment is tried.
RATIOS = tuple(tenth / 10 for tenth in range(11))
#: The most runs per setting.
MOST_SEEDS = 10_000
#: Schemes without a ratio, beside float32.
SCHEMES = ("uniform_high", "uniform_low", "operator_based", "operator_based_extended")


def plan_sweep(
    common: RunSettings = DEFAULTS,
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
    ratios = checked_ratios(ratios)
    jobs = []
    for seed in seed_range(common.seed, seeds):
        jobs.append(replace(common, scheme="float32", ratio=None, seed=seed))
        for pair in dict.fromkeys(levels):
            jobs += [replace(common, scheme=scheme, ratio=None, levels=pair, seed=seed) for scheme in SCHEMES]
            jobs += [replace(common, scheme="largest_first", ratio=r, levels=pair, seed=seed) for r in ratios]
    return jobs


def seed_range(first: int, seeds: int) -> range:
    """The seeds of ``seeds`` runs per setting; ValueError for less than one."""
    checks.whole("seeds", seeds, least=1, most=MOST_SEEDS)
    return range(first, first + seeds)


def checked_ratios(ratios: Iterable[float]) -> list[float]:
    """The ratios as a list; ValueError for one outside [0, 1]."""
    return checks.shares("ratios", ratios)


def sweep(
    jobs: Sequence[RunSettings],
    results: Results,
    *,
    processes: int = 1,
    backend: str = "compiled",
    threads: int | None = None,
    on_progress: Callable[[dict[str, int]], None] | None = None,
    trained: Mapping[RunSettings, RunSettings] | None = None,
) -> list[Fields]:
    """Runs what is missing of ``jobs`` and returns the results of all, in order.

    processes: 1 runs them here, more run them in new processes of one thread each (unless ``threads`` says more).
    on_progress: called as epochs are finished, with the number of stored epochs by run. KeyboardInterrupt leaves
    every finished epoch stored. ``trained``: what ``trained_as(jobs)`` gave, where it is at hand. Raises ValueError
    (before anything runs) for settings that do not fit together, BackendUnavailable, ResultsError, workers.WorkerError.
    """
    checks.processes(processes)
    trained = trained_as(jobs) if trained is None else trained
    contents = keeping_contents()
    described = {job: labels(job, contents(job)) for job in jobs}
    keys = {job: described[job]["key"] for job in dict.fromkeys(trained.values())}
    missing = {job: key for job, key in keys.items() if results.result(key) is None}

    def tell(metrics: Fields | None = None) -> None:
        if on_progress is not None:
            on_progress(results.epochs_done())

    if processes > 1 and len(missing) > 1:
        workers.run_all(missing, results.path, processes=processes, backend=backend, threads=threads or 1, on_poll=tell)
    else:
        load = keeping_data()
        for job, key in missing.items():
            run(job, results, backend=backend, threads=threads, on_epoch=tell, load=load, key=key)
    tell()
    return [_result(described[job], keys[trained[job]], results) for job in jobs]


def _result(row: Row, key: str, results: Results) -> Fields:
    """The result of the run ``key`` under the labels ``row``; ``trained_as`` then names the run that was trained."""
    result = results.result(key)
    if result is None:
        raise ResultsError(f"the run {key[:12]} is gone from {results.path}; start the command anew")
    return {**result, **row} | ({} if row["key"] == key else {"trained_as": key})


def trained_as(jobs: Sequence[RunSettings]) -> Mapping[RunSettings, RunSettings]:
    """Job -> the first of the jobs that comes to the same training: equal settings, and plans of equal formats.

    ValueError for the first job that cannot be set up.

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
        place = (job.model, job.width, job.data, job.data_path)
        images = (job.data, job.data_path, job.train_images)
        if place not in networks or images not in sizes:
            training = load(job)[0]
            networks[place], sizes[images] = job.build(training), len(training)
        job.check_batch(sizes[images])
        traced = traces.get(step := (*place, job.batch, job.semantics)) or job.trace(networks[place])
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


#: What makes the plan, and nothing else.
_MAKE_THE_PLAN = ("scheme", "ratio", "k", "plan_seed", "plan", "levels", "formats", "definition")
