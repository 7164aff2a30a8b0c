"""Updates of every optimizer in step files: recorded, recomputed, and those of others with one thing wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from step_samples import batch_of, build

from mpsim import Trainer
from mpsim.files.tensors import TensorFile
from mpsim.recording.reading import read_step
from mpsim.recording.steps import StepRecord, record_step
from mpsim.training.optimizer import SGD, Adam, AdamW, Lion, Optimizer
from mpsim.validate import TeacherReport, teacher_forced

Array = np.ndarray[Any, Any]

OPTIMIZERS: dict[str, Optimizer] = {
    "nesterov": SGD(lr=0.05, nesterov=True),
    "dampening": SGD(lr=0.05, dampening=0.25),
    "adam": Adam(lr=0.01, weight_decay=0.02),
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
    "lion": Lion(lr=0.01, weight_decay=0.1),
}


@functools.cache
def third(name: str) -> StepRecord:
    """The third step, before which no state is 0."""
    trainer = Trainer(build("small_cnn"), optimizer=OPTIMIZERS[name], loss_scale=256.0, backend="compiled", threads=1)
    for _ in range(2):
        trainer.step(*batch_of("small_cnn"))
    return record_step(trainer, *batch_of("small_cnn"))


def check(step: StepRecord, masters: Callable[[str], Array] | None = None) -> TeacherReport:
    """The report on a step, with other masters after it."""
    tensors = dict(step.tensors)
    if masters is not None:
        places = [key.partition("/")[2] for key in tensors if key.startswith("next_master/")]
        tensors |= {f"next_master/{place}": masters(place).astype(np.float32) for place in places}
    return teacher_forced(TensorFile(tensors, step.index, "theirs"), build("small_cnn"), None, "standard", threads=1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_our_own_update_is_equal(name: str) -> None:
    step = third(name)
    report = check(step)
    assert report.equal and not report.notes
    assert sum(tensor.name.startswith("next_master/") for tensor in report.tensors) == len(
        [key for key in step.tensors if key.startswith("master/")]
    )
    assert step.index["optimizer"]["kind"] == type(OPTIMIZERS[name]).__name__
    assert step.index["optimizer"]["count"] == 3 and step.index["optimizer"]["rate"] == OPTIMIZERS[name].lr


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_states_of_a_file_are_those_before_the_step(name: str) -> None:
    trainer = Trainer(build("small_cnn"), optimizer=OPTIMIZERS[name], loss_scale=256.0, backend="reference")
    for _ in range(2):
        trainer.step(*batch_of("small_cnn"))
    for state in OPTIMIZERS[name].states:
        recorded = [array for key, array in third(name).tensors.items() if key.startswith(f"{state}/")]
        expected = list(trainer.states[state].values())
        assert len(recorded) == len(expected) > 4
        assert all(one.tobytes() == other.tobytes() for one, other in zip(recorded, expected, strict=True))


def wide(step: StepRecord, place: str) -> tuple[Array, Array, Array, Array]:
    """Master, unscaled gradient and both moments in float64."""
    first = next(kind for kind in ("velocity", "first_moment") if f"{kind}/{place}" in step.tensors)
    names = ("master", "GP", first, "second_moment" if f"second_moment/{place}" in step.tensors else first)
    master, gradient, *states = (step.tensors[f"{kind}/{place}"].astype(np.float64) for kind in names)
    return master, gradient / 256, states[0], states[1]


def adam(step: StepRecord, place: str, count: int = 3, epsilon_inside: bool = False, coupled: bool = False) -> Array:
    """AdamW of the table in float64, written from its paper."""
    w, g, m, v = wide(step, place)
    if coupled:
        g = g + 0.1 * w
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    corrected = v / (1 - 0.999**count)
    root = np.sqrt(corrected + 1e-8) if epsilon_inside else np.sqrt(corrected) + 1e-8
    return np.asarray((1 if coupled else 1 - 0.01 * 0.1) * w - 0.01 * (m / (1 - 0.9**count)) / root)


def nesterov(step: StepRecord, place: str, look_ahead: bool = True) -> Array:
    w, g, v, _ = wide(step, place)
    g = g + 5e-4 * w
    v = 0.9 * v + g
    return np.asarray(w - 0.05 * (g + 0.9 * v if look_ahead else v))


def lion(step: StepRecord, place: str, betas: tuple[float, float] = (0.9, 0.99)) -> Array:
    w, g, m, _ = wide(step, place)
    return np.asarray(w * (1 - 0.01 * 0.1) - 0.01 * np.sign(betas[0] * m + (1 - betas[0]) * g))


RIGHT = {"nesterov": nesterov, "adamw": adam, "lion": lion}


@pytest.mark.parametrize("name", RIGHT)
def test_an_update_in_float64_is_explained_by_its_roundings(name: str) -> None:
    step = third(name)
    report = check(step, lambda place: RIGHT[name](step, place))
    found = [tensor for tensor in report.tensors if tensor.name.startswith("next_master/")]
    assert not report.suspects() and any(tensor.differing_share for tensor in found)


WRONG: dict[str, tuple[str, Callable[[StepRecord, str], Array]]] = {
    "momentum without Nesterov's rule": ("nesterov", lambda step, place: nesterov(step, place, look_ahead=False)),
    "weight decay is a part of the gradient": ("adamw", lambda step, place: adam(step, place, coupled=True)),
    "the number of updates is one more": ("adamw", lambda step, place: adam(step, place, count=4)),
    "the number of updates is one less": ("adamw", lambda step, place: adam(step, place, count=2)),
    "without the corrections of the moments' bias": ("adamw", lambda step, place: adam(step, place, count=1000000)),
    "beta1 and beta2 are exchanged": ("lion", lambda step, place: lion(step, place, (0.99, 0.9))),
    "the master is rounded to bfloat16": (
        "adamw",
        lambda step, place: rounded_to_bfloat16(step.tensors[f"next_master/{place}"]),
    ),
}


def rounded_to_bfloat16(x: Array) -> Array:
    words = x.view(np.uint32).astype(np.uint64)
    return np.asarray((((words + 0x7FFF + (words >> 16 & 1)) >> 16 << 16).astype(np.uint32)).view(np.float32))


@pytest.mark.parametrize("words", WRONG)
def test_an_update_with_one_thing_wrong_is_named(words: str) -> None:
    name, update = WRONG[words]
    step = third(name)
    report = check(step, lambda place: update(step, place))
    causes = [cause for tensor in report.suspects() for cause in tensor.causes]
    assert causes and all(cause.startswith(words) for cause in causes), causes


def test_a_first_step_notes_what_it_cannot_test() -> None:
    trainer = Trainer(build("small_cnn"), optimizer=OPTIMIZERS["adam"], backend="compiled", threads=1)
    report = check(record_step(trainer, *batch_of("small_cnn")))
    assert report.equal
    assert [note.split(",")[0] for note in report.notes] == ["every first_moment is 0", "every second_moment is 0"]


def test_a_written_file_has_the_optimizer_and_wrong_numbers_are_refused(tmp_path: Any) -> None:
    step = third("adamw")
    step.write(tmp_path / "step.npz")
    assert read_step(tmp_path / "step.npz").index["optimizer"]["beta2"] == 0.999
    for name, wrong in (("beta2", "much"), ("count", None), ("rate", True)):
        index = {**step.index, "optimizer": {**step.index["optimizer"], name: wrong}}
        replace(step, index=index).write(tmp_path / "wrong.npz")
        with pytest.raises(ValueError, match=f"'{name}' is"):
            read_step(tmp_path / "wrong.npz")
