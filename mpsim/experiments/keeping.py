"""Reads the data and the files of several settings once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mpsim.data import LabelledImages
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


def keys_of(jobs: Iterable[RunSettings]) -> dict[RunSettings, str]:
    """Returns job -> key, for the current content of the files."""
    contents = keeping_contents()
    return {job: settings_key(job.to_dict(contents(job))) for job in jobs}
