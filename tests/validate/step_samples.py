"""Recorded steps that the tests of steps share, and steps with a bug planted in them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import reference_models
from mpsim import Trainer
from mpsim.assignment import assign
from mpsim.engine.tensor import TensorId
from mpsim.files.tensors import TensorFile
from mpsim.recording.steps import StepRecord, record_step
from mpsim.trace import trace

#: model -> (options of reference_models.build, batch)
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "small_cnn": ({"width": 0.5}, 8),
    "resnet18": ({"width": 0.1}, 2),
}
SEMANTICS = ("standard", "lee2023")


def build(model: str) -> Any:
    return reference_models.build(model, **MODELS[model][0])


def batch_of(model: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, the same at every call."""
    random, batch = np.random.default_rng(7), MODELS[model][1]
    images = random.standard_normal((batch, *build(model).input_shape), np.float32)
    return images, random.integers(0, 10, batch)


def trainer_of(model: str, semantics: str, backend: str = "compiled") -> Trainer:
    network = build(model)
    plan = assign(trace(network, MODELS[model][1], semantics), "largest_first", ratio=0.8)
    return Trainer(network, plan, semantics=semantics, backend=backend, threads=1)


def record(model: str, semantics: str, plant: Callable[[Trainer], None] = lambda trainer: None) -> StepRecord:
    """The first step of a model; ``plant`` may spoil the trainer before it."""
    trainer = trainer_of(model, semantics)
    plant(trainer)
    return record_step(trainer, *batch_of(model))


@functools.cache
def clean(model: str, semantics: str) -> StepRecord:
    """``record`` with nothing spoiled; made once, so its arrays are not to be changed."""
    step = record(model, semantics)
    for array in step.tensors.values():
        array.flags.writeable = False
    return step


def bare(step: StepRecord) -> TensorFile:
    """What another engine would write: P, Y, GX and GP alone, no index."""
    kept = {name: array for name, array in step.tensors.items() if name.split("/")[0] in ("P", "Y", "GX", "GP")}
    return TensorFile(kept, {}, "bare")


class SpoiledStore:
    """A store that treats one tensor by ``instead`` (which gets the format), all others properly."""

    def __init__(self, store: Any, id: TensorId, instead: Callable[[Any, Any], Any]) -> None:
        self.store, self.id, self.instead = store, id, instead
        self.overflow, self.underflow, self.counts = store.overflow, store.underflow, store.counts

    def __call__(self, id: TensorId, value: Any) -> Any:
        if id != self.id:
            return self.store(id, value)
        return self.instead(np.array(value), self.store.formats[id])


def spoil_store(id: TensorId, instead: Callable[[Any, Any], Any]) -> Callable[[Trainer], None]:
    """A planter of a wrong store of one tensor."""

    def plant(trainer: Trainer) -> None:
        proper = trainer._store
        trainer._store = lambda **options: SpoiledStore(proper(**options), id, instead)  # type: ignore[method-assign]

    return plant


def spoil_kernel(name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[Trainer], None]:
    """A planter of a wrong kernel: ``make`` gets the right one."""

    def plant(trainer: Trainer) -> None:
        setattr(trainer.kernels, name, make(getattr(trainer.kernels, name)))

    return plant
