"""Runs one training from its settings. It stores every epoch and resumes after an interruption."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict

from mpsim import checks, networks
from mpsim.assignment import Plan
from mpsim.data import DATASETS, DataLoader, LabelledImages
from mpsim.data.own import is_function
from mpsim.errors import UsageError
from mpsim.experiments.labels import Row, labels_of
from mpsim.experiments.results import Results, settings_key
from mpsim.experiments.settings import Contents, RunSettings
from mpsim.files.records import Fields, Record
from mpsim.files.semantics import FIELD, SEMANTICS
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.losses import loss_named
from mpsim.nn import Module
from mpsim.training.reports import EpochReport
from mpsim.training.trainer import Trainer

#: The batch size of an evaluation, the same as the default of ``Trainer.evaluate``.
EVALUATION_BATCH = 256


def run(
    settings: RunSettings,
    results: Results | None = None,
    *,
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
    on_epoch: Callable[[Fields], None] | None = None,
    save: str | None = None,
    load: Callable[[RunSettings], tuple[LabelledImages, LabelledImages]] | None = None,
    workers: int = 1,
    key: str | None = None,
) -> Fields:
    """Trains, evaluates and returns the result, in the form of an entry of ``mpsim sweep --json``.

    Args:
        settings: The settings of the run.
        results: Where epochs are stored. A finished run is returned, and an unfinished one resumes.
        backend, threads, workers: What trains, with how many threads, and how many threads load batches. Bits do not
            depend on them.
        on_epoch: Called with the metrics of each new epoch.
        save: A file for the trained state.
        load: Replaces ``settings.load``. With ``keeping_data()``, runs on the same data read them once.
        key: The key of the settings at the time the run was set up.

    Raises:
        ValueError: The settings do not match, or data or the network's file changed. Stored epochs are kept.
    """
    checks.threads(threads)
    checks.whole("workers", workers, most=checks.MOST_THREADS)
    contents, described, row = _described(settings, key)
    stored = None if results is None or save is not None else results.result(row["key"])
    if stored is not None:
        return stored | row
    data = _Data(_place(settings), *(settings.load() if load is None else load(settings)))
    settings.check_batch(len(data.training))
    network = settings.build(data.training)
    if settings.contents() != contents:
        raise _changed(settings)
    plan = settings.make_plan(network)
    trainer = _stored_trainer(settings, row["key"], network, results, backend, threads)
    if trainer is None:
        recipe = settings.recipe(plan, steps=-(-len(data.training) // settings.batch))
        trainer = Trainer(network, plan, recipe, backend=backend, threads=threads)
        if results is not None:
            environment = _environment(backend, settings)
            results.start(row["key"], described, plan=_plan_text(plan), environment=environment)
    history = [] if results is None else results.history(row["key"])[: trainer.epoch]
    for metrics in _epochs(settings, trainer, data, workers):
        history.append(metrics)
        if results is not None:
            results.add_epoch(row["key"], metrics["epoch"], metrics, trainer.dump())
        if on_epoch is not None:
            on_epoch(metrics)
    if save is not None:
        trainer.save(save)
    result = row | _result(plan, trainer, history)
    if results is not None:
        results.finish(row["key"], result, final_plan=_plan_text(trainer.plan))
    return result


def _described(settings: RunSettings, key: str | None) -> tuple[Contents, Record, Fields]:
    """Returns the digests, the stored form and the labels of settings. Raises UsageError if their key has changed."""
    contents = settings.contents()
    described = settings.to_dict(contents)
    row = labels_of(settings_key(described), described)
    if key is not None and row["key"] != key:
        raise _changed(settings)
    return contents, described, row


def _changed(settings: RunSettings) -> UsageError:
    file = networks.file_of(settings.model)
    network = "" if file is None else f" or {file.path}"
    function = is_function(settings.data_path)
    drawn = "; a function must return the same data in every process, so draw with a fixed seed" if function else ""
    return UsageError(
        f"the data ({_place(settings)}){network} changed after the run was set up; restart the command to use the "
        f"current content{drawn}"
    )


def _place(settings: RunSettings) -> str:
    return settings.data if settings.data_path is None else f"{settings.data} in {settings.data_path}"


class _Data:
    """The data of a run, with a check that they have not changed since the run began."""

    def __init__(self, place: str, training: LabelledImages, test: LabelledImages) -> None:
        self.training, self.test, self._place = training, test, place
        self._digests = training.digest(), test.digest()

    def check(self, epoch: int) -> None:
        """Raises UsageError if files that training reads have changed."""
        if (self.training.digest(), self.test.digest()) != self._digests:
            raise UsageError(
                f"the data ({self._place}) changed during epoch {epoch}, which is not stored. Restore the files to "
                f"resume after the previous epoch, or restart the command to train with the current ones"
            )


def _epochs(settings: RunSettings, trainer: Trainer, data: _Data, workers: int) -> Iterator[Fields]:
    """Trains the remaining epochs of a run and yields the metrics of each."""
    augmentation = DATASETS[settings.data].augmentation
    loader = DataLoader(data.training, settings.batch, seed=settings.seed, augmentation=augmentation, workers=workers)
    test = DataLoader(data.test, EVALUATION_BATCH, shuffle=False, workers=workers)
    while trainer.epoch < settings.epochs:
        begin = time.perf_counter()
        with closing(loader.epoch(trainer.epoch)) as batches:
            report = trainer.train_epoch(batches)
        evaluates = trainer.epoch % settings.evaluate_every == 0 or trainer.epoch == settings.epochs
        metrics = _metrics(report, trainer, test if evaluates else None)
        metrics["seconds"] = time.perf_counter() - begin
        data.check(report.epoch)
        yield metrics


def _stored_trainer(
    settings: RunSettings, key: str, network: Module, results: Results | None, backend: str, threads: int | None
) -> Trainer | None:
    """Restores the trainer of the run from its last checkpoint, if there is one."""
    stored = None if results is None else results.checkpoint(key)
    if results is None or stored is None:
        return None
    source = f"the checkpoint of run {key[:12]} in {results.path}"
    loss = loss_named(settings.loss)
    return Trainer.restore(stored[1], source, model=network, backend=backend, threads=threads, loss=loss)


def _environment(backend: str, settings: RunSettings) -> Record:
    """Describes the environment in which a run was started."""
    return {
        "backend": backend, "machine": platform.machine(), "python": platform.python_version(),
        "model": settings.model, "data_path": settings.data_path, "normalisation": settings.normalisation,
        "test_share": settings.test_share, "context": settings.context,
    }  # fmt: skip


def _plan_text(plan: Plan | None) -> str:
    return "null" if plan is None else plan.to_json()


def _metrics(report: EpochReport, trainer: Trainer, test: DataLoader | None) -> Fields:
    """Returns the stored metrics of an epoch. Without test data the test metrics are None."""
    weights = "average" if trainer.averages else "trained"
    as_trained = None if test is None else trainer.evaluate(test, weights=weights)
    in_float32 = None if test is None else trainer.evaluate(test, "float32", weights=weights)
    row = asdict(report)
    return {
        "epoch": row.pop("epoch"),
        "train_loss": row.pop("loss"),
        "train_accuracy": row.pop("accuracy"),
        "test_accuracy": None if as_trained is None else as_trained.accuracy,
        "test_loss": None if as_trained is None else as_trained.loss,
        "test_accuracy_float32": None if in_float32 is None else in_float32.accuracy,
        "finite": trainer.is_finite(),
        **row,
    }


def has_diverged(last: Row, classes: int) -> bool:
    """Returns whether a run has diverged.

    It has if a master or a running statistic is not finite, if every step of the last epoch was skipped, or if the
    training accuracy is less than twice that of guessing. Of few classes, where twice may be everything, the limit is a
    ninth of the way from guessing to 1, which is twice for ten classes.

    >>> has_diverged({"finite": True, "steps": 9, "skipped_steps": 0, "train_accuracy": 0.12}, classes=10)
    True
    >>> has_diverged({"finite": True, "steps": 9, "skipped_steps": 0, "train_accuracy": 0.9}, classes=2)
    False
    """
    all_skipped = last["skipped_steps"] == last["steps"]
    guessing = 1 / classes
    least = min(2 * guessing, guessing + (1 - guessing) / 9)
    return not last["finite"] or all_skipped or last["train_accuracy"] < least


def _result(planned: Plan | None, trainer: Trainer, history: list[Fields]) -> Fields:
    last, plan = history[-1], trainer.plan
    return {
        "low_share": last["low_share"],
        "low_share_planned": 0.0 if planned is None else planned.low_share,
        "bytes": None if plan is None else plan.bytes,
        "test_accuracy": last["test_accuracy"],
        "test_accuracy_float32": last["test_accuracy_float32"],
        "train_accuracy": last["train_accuracy"],
        "train_loss": last["train_loss"],
        "diverged": has_diverged(last, trainer.model.classes),
        "promotions": sum(epoch["promotions"] for epoch in history),
        "skipped_steps": sum(epoch["skipped_steps"] for epoch in history),
        "steps": trainer.steps,
        "digest": trainer.digest(),
        FIELD: SEMANTICS,
        "seconds": sum(epoch["seconds"] for epoch in history),
    }
