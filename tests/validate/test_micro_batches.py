"""Steps of several micro-batches: each has a file, whose sum of gradients and update are recomputed.

What a spoiled file must say was written down beside each case before the run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from step_samples import batch_of, build

from mpsim import Trainer, nn, round_to
from mpsim.assignment import assign
from mpsim.errors import UsageError
from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.losses import CrossEntropy
from mpsim.recording import StepRecord, read_step, record_micro_batches, record_step
from mpsim.recording.steps import network_of
from mpsim.trace import trace
from mpsim.training.optimizer import SGD, AdamW
from mpsim.validate import TeacherReport, teacher_forced
from mpsim.validate.step.comparison import compare_steps

Array = np.ndarray[Any, Any]
IMAGES, LABELS = batch_of("small_cnn")


def made(**settings: Any) -> Trainer:
    """A trainer after a step, so that no state is 0."""
    settings = {"micro_batches": 3, "loss_scale": 256.0, "seed": 3, "optimizer": SGD(lr=0.05)} | settings
    semantics = settings.get("semantics", "standard")
    network = build("small_cnn")
    traced = trace(network, len(IMAGES), semantics, loss=settings.get("loss", CrossEntropy()))
    plan = assign(traced, "largest_first", ratio=0.8)
    trainer = Trainer(network, plan, backend="compiled", threads=1, **settings)
    trainer.step(IMAGES, LABELS)
    return trainer


@functools.cache
def recorded(storage: str = "gradients=bfloat16/stochastic", parts: int = 3) -> tuple[StepRecord, ...]:
    return record_micro_batches(made(storage=storage, micro_batches=parts), IMAGES, LABELS)


def check(step: StepRecord, tensors: dict[str, Array] | None = None, **index: Any) -> TeacherReport:
    file = TensorFile({**step.tensors, **(tensors or {})}, {**step.index, **index}, "theirs")
    network = network_of(file)
    return teacher_forced(file, network.model, network.plan, network.semantics, threads=1)


def places(step: StepRecord) -> list[str]:
    return [name.partition("/")[2] for name in step.tensors if name.startswith("next_sum/")]


def each(step: StepRecord, formula: Callable[[Array, Array], Array]) -> dict[str, Array]:
    """``next_sum`` by a formula of the sum so far and the gradient."""
    return {
        f"next_sum/{place}": formula(step.tensors[f"sum/{place}"], step.tensors[f"GP/{place}"])
        for place in places(step)
    }


def causes(report: TeacherReport, kind: str) -> set[str]:
    """The causes of the suspects, which are all of one kind."""
    suspects = report.suspects()
    assert suspects and {tensor.name.split("/")[0] for tensor in suspects} == {kind}
    return {cause for tensor in suspects for cause in tensor.causes}


# -- right steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {}, {"semantics": "lee2023", "storage": "gradients=bfloat16"}, {"storage": "gradients=float8_e5m2/stochastic"},
    {"clip": 0.05, "groups": "conv1.*:frozen;@vectors:weight_decay=0", "optimizer": AdamW(lr=0.01)},
    {"storage": "gradients=bfloat16/stochastic;masters=bfloat16/kahan;velocity=bfloat16/stochastic"},
    {"storage": "masters=bfloat16/stochastic", "micro_batches": 20},
], ids=str)  # fmt: skip
def test_every_micro_batch_is_equal_and_recording_changes_nothing(settings: dict[str, Any]) -> None:
    trainer, plain = made(**settings), made(**settings)
    steps = record_micro_batches(trainer, IMAGES, LABELS)
    plain.step(IMAGES, LABELS)
    assert trainer.digest() == plain.digest()
    assert [len(step.tensors["labels"]) for step in steps] == ([3, 3, 2] if len(steps) == 3 else [1] * 8)
    for number, step in enumerate(steps):
        report = check(step)
        assert report.equal, str(report)
        sums = [tensor for tensor in report.tensors if tensor.name.startswith("next_sum/")]
        assert len(sums) == len(places(step)) == len(trainer.model.parameters())
        updated = {tensor.name for tensor in report.tensors if tensor.name.startswith("next_master/")}
        assert updated == ({f"next_master/{place}" for place in places(step)} if step is steps[-1] else set())
        assert f"micro-batch {number} (from 0) of" in report.notes[0]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_part_that_counts_no_label(parts: int) -> None:
    """With ignored labels a part has the share 1 / (labels that count), also where none of its own counts."""
    labels = np.where(np.arange(8) < 3, 4, LABELS)
    loss = CrossEntropy(ignore_index=4, weights=tuple(np.linspace(0.5, 2, 10)))
    steps = record_micro_batches(made(micro_batches=parts, loss=loss), IMAGES, labels)
    assert all(check(step).equal for step in steps)
    if parts == 3:
        assert not steps[0].tensors["GP/1/0"].any() and np.isfinite(steps[2].tensors["next_sum/1/0"]).all()


def test_sums_by_numpy_and_passes_by_a_trainer_of_that_part_alone() -> None:
    """Four equal parts have the share 1/4: each is a step of 2 images with a quarter of the loss scale."""
    trainer = made(micro_batches=4, storage="gradients=bfloat16", optimizer=SGD(0.05, 0.0, 0.0))
    alone = [made(optimizer=SGD(0.05, 0.0, 0.0), micro_batches=4, storage="gradients=bfloat16") for _ in range(4)]
    steps = record_micro_batches(trainer, IMAGES, LABELS)
    total: dict[str, Array] = {}
    for number, step in enumerate(steps):
        part = slice(2 * number, 2 * number + 2)
        single = Trainer(alone[number].model, alone[number].plan, loss_scale=64.0, threads=1)
        expected = record_step(single, IMAGES[part], LABELS[part])
        for name, array in step.tensors.items():
            if name.split("/")[0] in ("P", "Y", "G", "GX", "GP", "master", "images", "labels"):
                assert array.tobytes() == expected.tensors[name].tobytes(), name
            if name.startswith("next_sum/"):
                gradient = step.tensors[name.replace("next_sum", "GP")]
                total[name] = round_to(total[name] + gradient if number else gradient, "bfloat16")
                assert array.tobytes() == total[name].tobytes()
                if number:
                    assert step.tensors[name[5:]].tobytes() == steps[number - 1].tensors[name].tobytes()
    for place in places(steps[3]):
        rate = np.float32(0.05) * (total[f"next_sum/{place}"] * np.float32(1 / 256))
        after = steps[3].tensors[f"master/{place}"] - rate
        assert after.tobytes() == steps[3].tensors[f"next_master/{place}"].tobytes()


def test_dropout_draws_by_the_number_of_the_part() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 10))
    network.input_shape, random = (1, 8, 8), np.random.default_rng(5)
    for parameter in network.parameters().values():
        parameter.replace(random.standard_normal(parameter.shape, np.float32))
    trainer = Trainer(network, micro_batches=2, backend="compiled", threads=1)
    trainer.step(IMAGES, LABELS)
    first, last = record_micro_batches(trainer, IMAGES, LABELS)
    for step, other in ((first, last), (last, first)):
        report = teacher_forced(TensorFile(step.tensors, step.index), network, None, "standard", threads=1)
        assert report.equal
        index = {**step.index, "micro_batch": other.index["micro_batch"]}
        report = teacher_forced(TensorFile(step.tensors, index), network, None, "standard", threads=1)
        assert report.suspects()[0].op.startswith("Dropout")


def test_random_bits_of_sums_that_are_not_known() -> None:
    step = recorded()[1]
    index = {name: value for name, value in step.index.items() if name != "seed"}
    report = teacher_forced(TensorFile(step.tensors, index), build("small_cnn"), made().plan, "standard", threads=1)
    assert not report.suspects() and any("random bits of stored sums are not known" in note for note in report.notes)


# -- spoiled ones ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula, said", [
    (lambda total, gradient: round_to(gradient, "bfloat16"), "of this micro-batch alone"),
    (lambda total, gradient: total, "of this micro-batch is not added"),
    (lambda total, gradient: total + gradient, "is not rounded when it is stored"),
    (lambda total, gradient: round_to(total + gradient, "bfloat16"), "rounded to nearest, not stochastically"),
    (lambda total, gradient: round_to(total + 3 * gradient, "bfloat16"), "multiplied by 3 before it is added"),
], ids=["alone", "not added", "unrounded", "nearest", "factor"])  # fmt: skip
def test_wrong_sums_are_named(formula: Callable[[Array, Array], Array], said: str) -> None:
    storage = "gradients=bfloat16/stochastic" if "stochastic" in said or "not" in said else "gradients=bfloat16"
    step = recorded(storage)[1]
    found = causes(check(step, each(step, formula)), "next_sum")
    assert len(found) == 1 and said in found.pop()


def test_sums_without_a_known_defect_are_unexplained() -> None:
    step, random = recorded("")[1], np.random.default_rng(2)
    spoiled = {name: array + random.standard_normal(array.shape).astype(np.float32)
               for name, array in each(step, lambda total, gradient: total + gradient).items()}  # fmt: skip
    report = check(step, spoiled)
    assert causes(report, "next_sum") == set()
    assert report.details(report.suspects()[0])[-1] == "unexplained"


@pytest.mark.parametrize("formula, said", [
    (lambda total, gradient, stored: gradient, "it takes the gradient of the last micro-batch alone"),
    (lambda total, gradient, stored: total, "it takes the sum of the earlier micro-batches alone"),
    (lambda total, gradient, stored: total + gradient, "it takes the gradient before rounding"),
    (lambda total, gradient, stored: stored / 3, "the gradient is multiplied by 0.333333 before the update"),
], ids=["last", "earlier", "unrounded", "mean"])  # fmt: skip
def test_updates_by_another_gradient_are_named(formula: Callable[..., Array], said: str) -> None:
    step, updated = recorded("gradients=bfloat16")[2], {}
    for place in places(step):
        given = (step.tensors[f"{kind}/{place}"] for kind in ("sum", "GP", "next_sum"))
        master, gradient = step.tensors[f"master/{place}"], np.float32(formula(*given)) * np.float32(1 / 256)
        velocity = np.float32(0.9) * step.tensors[f"velocity/{place}"] + (gradient + np.float32(5e-4) * master)
        updated[f"next_master/{place}"] = master - np.float32(0.05) * velocity
    assert causes(check(step, updated), "next_master") == {said}


@pytest.mark.parametrize("storage, formula, said", [
    ("", lambda total, gradient: round_to(total + gradient, "bfloat16"), "the sum is rounded to bfloat16"),
    ("gradients=bfloat16", lambda total, gradient: round_to(total + gradient, "float8_e5m2"), "rounded to float8_e5m2"),
    ("", lambda total, gradient: (total + gradient) / 2, "the sum is multiplied by 0.5"),
], ids=["not declared", "another format", "mean"])  # fmt: skip
def test_sums_in_other_formats_and_means_are_named(storage: str, formula: Callable[..., Array], said: str) -> None:
    step = recorded(storage)[1]
    (found,) = causes(check(step, each(step, formula)), "next_sum")
    assert said in found


def test_a_first_part_that_begins_with_an_earlier_sum() -> None:
    step = recorded("")[0]
    left = {f"sum/{place}": 3 * step.tensors[f"GP/{place}"] + np.float32(1) for place in places(step)}
    sums = {f"next_sum/{place}": left[f"sum/{place}"] + step.tensors[f"GP/{place}"] for place in places(step)}
    assert causes(check(step, left | sums), "next_sum") == {
        "the first micro-batch is added to the sum of an earlier step"
    }


def test_an_update_without_its_sums_is_not_looked_at() -> None:
    step = recorded("gradients=bfloat16")[2]
    for dropped in (("next_sum",), ("sum", "next_sum")):
        kept = {name: array for name, array in step.tensors.items() if name.split("/")[0] not in dropped}
        report = check(StepRecord(kept, step.index))
        assert not report.suspects() and not any(tensor.name.startswith("next_") for tensor in report.tensors)
        assert any("the update was not looked at: the file has no next_sum" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["sum", "next_sum", "master", "next_master", "velocity"])
def test_tensors_of_another_shape_are_refused(kind: str) -> None:
    step = recorded("")[2]
    for wrong in (step.tensors[f"{kind}/1/0"][:1], step.tensors[f"{kind}/1/0"].reshape(-1)):
        with pytest.raises(TensorFileError, match=f"{kind}/1/0 has shape"):
            check(step, {f"{kind}/1/0": wrong})


def test_cleared_sums_are_noted_and_a_missing_one_is_not_called_equal() -> None:
    step = recorded("")[1]
    cleared = {f"sum/{place}": np.zeros_like(step.tensors[f"sum/{place}"]) for place in places(step)}
    sums = {f"next_sum/{place}": step.tensors[f"GP/{place}"] for place in places(step)}
    report = check(step, cleared | sums)
    assert not report.suspects() and any("as if it were cleared between them" in note for note in report.notes)
    kept = {name: array for name, array in step.tensors.items() if name != "sum/1/0"}
    report = check(StepRecord(kept, step.index))
    assert "next_sum/1/0" not in [tensor.name for tensor in report.tensors]
    assert any("1 were not looked at: no sum of earlier micro-batches" in note for note in report.notes)


def test_a_share_that_is_left_out_is_a_constant_factor() -> None:
    """Gradients of mean losses that were not divided by the number of parts, as the index says they were."""
    step = recorded("", 2)[0]
    report = check(step, micro_batch={**step.index["micro_batch"], "weight": 16.0, "examples": 16})
    assert report.suspects()[0].name == "GX/14/0" and report.suspects()[0].causes == (
        "about 2 times what it should be",
    )


# -- files, commands, errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [
    {"number": 2}, {"number": -1}, {"of": 0}, {"examples": 0}, {"weight": -1.0}, {"weight": None}, {"number": "1"},
], ids=str)  # fmt: skip
def test_a_wrong_entry_of_the_index_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    step = recorded("", 2)[0]
    index = {**step.index, "micro_batch": {**step.index["micro_batch"], **wrong}}
    StepRecord(step.tensors, index).write(tmp_path / "step.npz")
    with pytest.raises(TensorFileError, match="'micro_batch' is"):
        read_step(tmp_path / "step.npz")
    with pytest.raises(UsageError, match="'micro_batch' is"):
        check(step, micro_batch=index["micro_batch"])


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"weight": 3.0}, {"examples": 1}, {"examples": 3}], ids=str)
def test_an_entry_that_the_labels_contradict_is_refused(wrong: dict[str, Any]) -> None:
    step = recorded("", 2)[0]
    with pytest.raises(UsageError, match="this part has 4 of weight 4"):
        check(step, micro_batch={**step.index["micro_batch"], **wrong})


def test_sums_without_the_entry_are_noted() -> None:
    step = recorded("", 2)[0]
    index = {name: value for name, value in step.index.items() if name != "micro_batch"} | {"loss_scale": 128.0}
    report = teacher_forced(TensorFile(step.tensors, index), made().model, None, "standard", threads=1)
    assert any("its index no micro_batch" in note for note in report.notes)


def test_record_step_refuses_before_the_step() -> None:
    trainer = made()
    steps = trainer.steps
    with pytest.raises(UsageError, match="call record_micro_batches"):
        record_step(trainer, IMAGES, LABELS)
    assert trainer.steps == steps


def test_commands_write_a_file_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    command = ["trace-step", "small_cnn", "--width", "0.1", "--batch", "3", "--micro-batches", "2", "--out", "s.npz"]
    code, out, _ = call(*command, "--storage", "gradients=bfloat16", "--steps", "1")
    assert code == 0 and [line.split(":")[0] for line in out.splitlines()] == ["s.0.npz", "s.1.npz"]
    assert "of step 1, micro-batch 1 of 2" in out and not Path("s.npz").exists()
    files: Sequence[TensorFile] = [read_step(name) for name in ("s.0.npz", "s.1.npz")]
    assert compare_steps(files[0], files[0]).equal
    kept = {name: array for name, array in files[1].tensors.items() if "sum" in name or name[0] in "YPGn"}
    StepRecord(kept, {}).write("bare.npz")
    for name, against in (("s.0.npz", []), ("s.1.npz", []), ("bare.npz", ["--against", "s.1.npz"])):
        code, out, _ = call("validate", "step", name, "--teacher-forced", *against)
        assert code == 0 and "0 otherwise" in out and "of 2: " in out


def test_a_loss_of_ones_own_is_passed_and_a_stop_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_loss.py").write_text(
        "from mpsim import ops\ndef loss(x, labels):\n    return ops.cross_entropy(x, labels)\n"
    )
    own = ["--loss", "my_loss.py:loss"]
    assert call("trace-step", "small_cnn", "--width", "0.1", *own, "--scheme", "float32", "--out", "s.npz")[0] == 0
    assert call("validate", "step", "s.npz", "--teacher-forced")[0] == 2
    assert call("validate", "step", "s.npz", "--teacher-forced", *own)[0] == 0
    assert call("validate", "step", "s.npz", "--against", "s.npz", *own)[::2] == (
        2, "mpsim: --loss needs --teacher-forced: two files are compared as they are\n"
    )  # fmt: skip

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mpsim.cli.steps.record_micro_batches", stop)
    assert call("trace-step", "small_cnn", "--width", "0.1", "--out", "t.npz") == (130, "", "mpsim: stopped\n")
