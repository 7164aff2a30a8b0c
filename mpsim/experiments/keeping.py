"""Reads the data and the files of several settings once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mpsim.data import LabelledImages
from mpsim.data.own import is_function, remembered
from mpsim.experiments.child import WorkerError, call
from mpsim.experiments.results import settings_key
from mpsim.experiments.settings import Contents, RunSettings


def keeping_data() -> Callable[[RunSettings], tuple[LabelledImages, LabelledImages]]:
    """Returns a ``load`` for ``run`` that caches the last data, for consecutive runs on the same content."""
    kept: dict[tuple[object, ...], tuple[LabelledImages, LabelledImages]] = {}

    def load(settings: RunSettings) -> tuple[LabelledImages, LabelledImages]:
        name = (*settings.source, settings.contents().data_sha256, settings.train_images)
        if name not in kept:
            kept.clear()
            kept[name] = settings.load()
        return kept[name]

    return load


def keeping_contents() -> Callable[[RunSettings], Contents]:
    """Returns ``RunSettings.contents`` for several settings, which checks each shared file once."""
    kept: dict[object, Contents] = {}

    def contents(settings: RunSettings) -> Contents:
        plain = type(settings) is RunSettings
        name = (settings.source, settings.model, settings.loss) if plain else settings
        if name not in kept:
            kept[name] = settings.contents()
        return kept[name]

    return contents


def contents_apart(settings: RunSettings, timeout: float | None = None) -> Contents:
    """Returns ``settings.contents()``. A function that returns data is called in a new process.

    This process remembers the digest, so that it need not call the function either.

    Args:
        settings: The settings whose data are read.
        timeout: The seconds that the process may take.

    Raises:
        WorkerError: The process died or took too long.
        ValueError, OSError: As for ``RunSettings.contents``.
    """
    if not is_function(settings.data_path):
        return settings.contents()
    try:
        return taught(_contents, settings, timeout=timeout)
    except WorkerError as error:
        raise WorkerError(f"{settings.data_path} cannot be read: {error}") from error


def taught(function: Callable[..., object], *arguments: object, timeout: float | None = None) -> Any:
    """Returns the result of a function of a module, called in a new process, and learns digests of data from it."""
    answer: Any = call(_with_digests, function, *arguments, timeout=timeout)
    result, digests = answer
    remembered.learn(digests)
    return result


def _with_digests(function: Callable[..., object], *arguments: object) -> object:
    return function(*arguments), remembered.digests()


def _contents(settings: RunSettings) -> Contents:
    return settings.contents()


def keys_of(jobs: Iterable[RunSettings]) -> dict[RunSettings, str]:
    """Returns job -> key, for the current content of the files."""
    contents = keeping_contents()
    return {job: settings_key(job.to_dict(contents(job))) for job in jobs}
