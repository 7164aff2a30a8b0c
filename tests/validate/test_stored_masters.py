"""Masters that are stored in another format: recomputed from a step file, and stored with one thing wrong."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from step_samples import batch_of, build

from mpsim import Trainer, round_to
from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.recording.steps import StepRecord, record_step
from mpsim.training.optimizer import SGD, AdamW, Lion, Optimizer
from mpsim.training.optimizer.base import Update
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
    assert causes(check(step, seed=4)) == {"the master is rounded by other random bits"}
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


# -- frozen parameters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_update_of_a_frozen_parameter_is_named(optimizer: str) -> None:
    """SGD's velocity of a frozen parameter is 0, as are the moments of AdamW and Lion."""
    settings: dict[str, Any] = {"storage": "", "groups": "conv1.weight:frozen"}
    step = record_step(trained(optimizer, "", **settings), *batch_of("small_cnn"))
    free = Trainer(build("small_cnn"), optimizer=OPTIMIZERS[optimizer], loss_scale=256.0, threads=1)
    rule = free.recipe.optimizer
    (place,) = [key for key in places(step) if f"velocity/{key}" not in step.tensors
                and f"first_moment/{key}" not in step.tensors]  # fmt: skip
    assert check(step).equal
    for words, gradient in (("its gradient", step.tensors[f"GP/{place}"]), ("a gradient of 0", None)):
        master = step.tensors[f"master/{place}"].copy()
        gradient = np.zeros_like(master) if gradient is None else gradient.reshape(master.shape)
        states = {state: np.zeros_like(master) for state in rule.states}
        rule.update(
            free.kernels, master, gradient, states, Update(rule.lr, step.index["optimizer"].get("count", 3), 1 / 256)
        )
        report = check(step, {f"next_master/{place}": master})
        assert [tensor.name for tensor in report.suspects()] == [f"next_master/{place}"]
        assert report.suspects()[0].causes == (f"it is frozen, and was updated by {words}",)
    moved = check(step, {f"next_master/{place}": step.tensors[f"master/{place}"] + 1})
    assert [tensor.causes for tensor in moved.suspects()] == [()]


def test_gradients_of_frozen_parameters_may_be_missing() -> None:
    settings: dict[str, Any] = {"storage": "", "groups": "conv1.*:frozen"}
    step = record_step(trained("adamw", "", **settings), *batch_of("small_cnn"))
    (place,) = [key for key in places(step) if f"first_moment/{key}" not in step.tensors]
    for name in (f"GP/{place}", f"unrounded/GP/{place}"):
        assert name in step.tensors
    kept = {name: array for name, array in step.tensors.items() if not name.endswith(f"GP/{place}")}
    report = check(StepRecord(kept, step.index))
    assert report.equal and f"GP/{place}" not in [tensor.name for tensor in report.tensors]
    trained_too = {name: array for name, array in step.tensors.items() if not name.endswith("GP/12/0")}
    with pytest.raises(TensorFileError, match="it lacks GP/12/0"):
        check(StepRecord(trained_too, step.index))
    wrong = {f"GP/{place}": step.tensors[f"GP/{place}"] + 1}
    assert [tensor.name for tensor in check(step, wrong).suspects()] == [f"GP/{place}"]
