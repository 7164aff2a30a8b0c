"""Masters that are stored in another format: recomputed from a step file, and stored with one thing wrong."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from step_samples import batch_of, build

from mpsim import Trainer, round_to
from mpsim.files.tensors import TensorFile
from mpsim.recording.steps import StepRecord, record_step
from mpsim.training.optimizer import SGD, AdamW, Lion, Optimizer
from mpsim.validate import TeacherReport, teacher_forced

Array = np.ndarray[Any, Any]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(lr=0.05), "adamw": AdamW(lr=0.01, weight_decay=0.1), "lion": Lion(lr=0.01, weight_decay=0.1),
}  # fmt: skip
ROUNDINGS = ("nearest", "stochastic", "kahan")


def trained(optimizer: str, rounding: str, **settings: Any) -> Trainer:
    """A trainer after two steps, so that no state is 0."""
    settings = {"storage": f"masters=bfloat16/{rounding}", "loss_scale": 256.0, "seed": 3} | settings
    trainer = Trainer(build("small_cnn"), optimizer=OPTIMIZERS[optimizer], backend="compiled", threads=1, **settings)
    for _ in range(2):
        trainer.step(*batch_of("small_cnn"))
    return trainer


@functools.cache
def third(optimizer: str, rounding: str) -> StepRecord:
    return record_step(trained(optimizer, rounding), *batch_of("small_cnn"))


def check(step: StepRecord, further: dict[str, Array] | None = None, **index: Any) -> TeacherReport:
    """The report on a step with other tensors and fields of the index; a field that is None is left out."""
    fields = {name: value for name, value in {**step.index, **index}.items() if value is not None}
    file = TensorFile({**step.tensors, **(further or {})}, fields, "theirs")
    return teacher_forced(file, build("small_cnn"), None, "standard", threads=1)


def places(step: StepRecord) -> list[str]:
    return [name.partition("/")[2] for name in step.tensors if name.startswith("next_master/")]


def exact(step: StepRecord, place: str, start: Array | None = None) -> Array:
    """SGD's update in float32, written out; ``start``: in place of the master and what was kept of it."""
    if start is None:
        start = step.tensors[f"master/{place}"] + step.tensors.get(f"compensation/{place}", np.float32(0))
    gradient = step.tensors[f"GP/{place}"].reshape(start.shape) * np.float32(1 / 256)
    velocity = np.float32(0.9) * step.tensors[f"velocity/{place}"] + (gradient + np.float32(5e-4) * start)
    return np.asarray(start - np.float32(0.05) * velocity)


def causes(report: TeacherReport, kind: str = "next_master") -> set[str]:
    """The causes of the suspects, which are all of one kind."""
    suspects = report.suspects()
    assert suspects and {tensor.name.split("/")[0] for tensor in suspects} == {kind}
    return {cause for tensor in suspects for cause in tensor.causes}


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_our_own_masters_are_equal(optimizer: str, rounding: str) -> None:
    step = third(optimizer, rounding)
    report = check(step)
    assert report.equal and not report.notes
    found = [tensor for tensor in report.tensors if tensor.name.startswith("next_")]
    assert {tensor.format.name for tensor in found} == {"bfloat16"}
    assert len(found) == len(places(step)) * (2 if rounding == "kahan" else 1)


def test_groups_clipping_and_frozen_masters() -> None:
    settings = {"groups": "conv1.*:frozen;@vectors:weight_decay=0", "clip": 0.05}
    for rounding in ROUNDINGS:
        report = check(record_step(trained("sgd", rounding, **settings), *batch_of("small_cnn")))
        assert report.equal and any(tensor.op.startswith("frozen") for tensor in report.tensors)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_skipped_step_keeps_masters(rounding: str) -> None:
    trainer = trained("sgd", rounding)
    images, labels = batch_of("small_cnn")
    step = record_step(trainer, np.full_like(images, 3e38), labels)
    assert step.index["skipped"] and check(step).equal


def test_masters_that_are_not_rounded() -> None:
    step = third("sgd", "nearest")
    wrong = {f"next_master/{place}": exact(step, place) for place in places(step)}
    assert causes(check(step, wrong)) == {"the master is not rounded when it is stored"}


def test_masters_rounded_to_nearest_in_place_of_stochastically() -> None:
    step = third("sgd", "stochastic")
    wrong = {f"next_master/{place}": round_to(exact(step, place), "bfloat16") for place in places(step)}
    assert causes(check(step, wrong)) == {"the master is rounded to nearest, not stochastically"}


def test_other_random_bits() -> None:
    step = third("sgd", "stochastic")
    assert causes(check(step, seed=4)) == {"the master is rounded to the other neighbour"}
    report = check(step, seed=None)
    assert not report.suspects() and any("random bits of stored masters are not known" in each for each in report.notes)
    wrong = {
        f"next_master/{place}": round_to(exact(step, place) * np.float32(1.05), "bfloat16") for place in places(step)
    }
    assert check(step, wrong, seed=None).suspects()


def test_what_is_kept_of_a_master() -> None:
    step = third("sgd", "kahan")
    wrong = {}
    for place in places(step):
        start = exact(step, place, step.tensors[f"master/{place}"])
        wrong[f"next_master/{place}"] = round_to(start, "bfloat16")
        rest = exact(step, place) - wrong[f"next_master/{place}"]
        wrong[f"next_compensation/{place}"] = round_to(rest, "bfloat16")
    assert causes(check(step, wrong)) == {"it starts from the master without what Kahan's rule kept"}
    name = f"next_compensation/{places(step)[0]}"
    other = step.tensors[name].copy()
    other.flat[1] += np.float32(2.0**-8)
    assert not causes(check(step, {name: other}), "next_compensation")
