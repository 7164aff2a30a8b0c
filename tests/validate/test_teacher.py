"""Teacher-forced validation: steps that are right, steps with one bug planted, files of other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from step_samples import MODELS, SEMANTICS, bare, batch_of, build, clean, record, spoil_kernel, spoil_store, trainer_of

from mpsim import Trainer, kernels, nn, ops, round_to
from mpsim.assignment import assign, uniform
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import TensorId
from mpsim.files.tensors import TensorFile
from mpsim.kernels import reference
from mpsim.policies import Mode, Overflow, Policy
from mpsim.recording.steps import StepRecord, record_step
from mpsim.trace import trace
from mpsim.validate import TeacherReport, TensorFileError, teacher_forced
from mpsim.validate.step.bounds import bound_kernels
from mpsim.validate.step.comparison import compare_steps
from mpsim.validate.step.noise import Bound, bound_of

CASES = [(model, semantics) for model in MODELS for semantics in SEMANTICS]
each_case = pytest.mark.parametrize("model,semantics", CASES)
each_semantics = pytest.mark.parametrize("semantics", SEMANTICS)


def plan_of(model: str, semantics: str) -> Any:
    return trainer_of(model, semantics).plan


def check(step: StepRecord | TensorFile, model: str, semantics: str, **options: Any) -> TeacherReport:
    file = TensorFile(step.tensors, step.index, "theirs") if isinstance(step, StepRecord) else step
    return teacher_forced(file, build(model), plan_of(model, semantics), semantics, threads=1, **options)


def suspects(step: StepRecord, model: str, semantics: str) -> dict[str, str]:
    """Name -> text of every suspect."""
    found = check(step, model, semantics).suspects()
    return {tensor.name: " | ".join([str(tensor), *tensor.details()]) for tensor in found}


# -- steps that are right -------------------------------------------------------------------------------------


@each_case
def test_our_own_step_is_equal(model: str, semantics: str) -> None:
    step = clean(model, semantics)
    report = check(step, model, semantics)
    assert report.equal and not report.suspects()
    assert len(report.notes) == 1 and "every velocity is 0" in report.notes[0]  # the first step of a training
    assert {tensor.name for tensor in report.tensors} == {
        name for name in step.tensors if name.split("/")[0] in ("P", "Y", "G", "GX", "GP", "next_master")
    }


@each_case
def test_four_kinds_of_tensors_are_enough(model: str, semantics: str, tmp_path: Path) -> None:
    step = bare(clean(model, semantics))
    path = tmp_path / "step.npz"
    np.savez(path, **step.tensors)
    report = teacher_forced(path, build(model), plan_of(model, semantics), semantics, threads=1)
    assert report.equal and report.loss_scale == 65536
    assert np.array_equal(report.labels, batch_of(model)[1])
    assert any("labels inferred" in note for note in report.notes) and any("65536" in note for note in report.notes)
    assert all(tensor.differing_share == 0 and tensor.largest_distance == 0 for tensor in report.tensors)


def test_finished_gradients_are_enough_in_standard_semantics() -> None:
    step = clean("resnet18", "standard")
    kept = {name: array for name, array in step.tensors.items() if name.split("/")[0] in ("P", "Y", "G", "GP")}
    report = check(TensorFile(kept, {}, "theirs"), "resnet18", "standard")
    assert report.loss_scale == 65536 and np.array_equal(report.labels, batch_of("resnet18")[1])
    assert report.equal and sum(tensor.name.startswith("G/") for tensor in report.tensors) == 68


def test_a_step_without_a_plan() -> None:
    trainer = Trainer(build("small_cnn"), threads=1)
    step = record_step(trainer, *batch_of("small_cnn"))
    file = TensorFile(step.tensors, step.index)
    assert teacher_forced(file, build("small_cnn"), None, "standard", backend="reference").equal


def test_the_model_stays_as_it_was() -> None:
    model, step = build("small_cnn"), clean("small_cnn", "lee2023")
    before = model.state()
    teacher_forced(TensorFile(step.tensors, step.index), model, plan_of("small_cnn", "lee2023"), threads=1)
    assert all(np.array_equal(array, before[name]) for name, array in model.state().items())
    assert all(parameter.value is parameter.master for parameter in model.parameters().values())


class Shuffled(nn.Module):
    """A network whose ops read views: channels shuffled, then flattened."""

    name, width, classes, input_shape = "shuffled", 1.0, 3, (2, 4, 4)

    def __init__(self) -> None:
        self.conv1, self.conv2, self.linear = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 4, 1), nn.Linear(16, 3)
        random = np.random.default_rng(3)
        for parameter in self.parameters().values():
            parameter.replace(random.standard_normal(parameter.shape, np.float32))

    def __call__(self, x: Any) -> Any:
        return self.linear(ops.flatten(self.conv2(ops.channel_shuffle(self.conv1(x), 2))))


@each_semantics
def test_contributions_may_lie_as_the_op_read_its_input(semantics: str) -> None:
    network = Shuffled()
    plan = uniform(trace(network, 5, semantics), "low")
    images = np.random.default_rng(4).standard_normal((5, 2, 4, 4), np.float32)
    step = record_step(Trainer(network, plan, semantics=semantics, threads=1), images, np.array([0, 1, 2, 0, 1]))
    seen = dict(step.tensors)
    ours = seen["GX/2/0"]
    assert ours.shape == (5, 6, 2, 2)
    seen["GX/2/0"] = ours.reshape(5, 2, 3, 2, 2).transpose(0, 2, 1, 3, 4).reshape(ours.shape)
    assert not np.array_equal(ours, seen["GX/2/0"])
    seen["GX/3/0"] = seen["GX/3/0"].reshape(5, 16)
    assert teacher_forced(TensorFile(seen, step.index), network, plan, semantics, threads=1).equal


# -- steps with a bug -----------------------------------------------------------------------------------------


@each_semantics
@pytest.mark.parametrize("mode", [Mode.TOWARD_ZERO, Mode.UP, Mode.TO_ODD])
def test_a_wrong_mode_is_named(semantics: str, mode: Mode) -> None:
    def instead(value: Any, format: Any) -> Any:
        return reference.round_array(value, format, Policy(mode, Overflow.SATURATE))[0]

    step = record("small_cnn", semantics, spoil_store(TensorId(6, "activation"), instead))
    found = suspects(step, "small_cnn", semantics)
    assert list(found) == ["Y/6/0"]
    assert f"explained by mode {mode.value} instead of" in found["Y/6/0"] and "BatchNorm2d bn2" in found["Y/6/0"]
    first = compare_steps(
        TensorFile(step.tensors, step.index), TensorFile(clean("small_cnn", semantics).tensors, step.index)
    ).first
    assert first is not None and first.name == "Y/6/0"


@each_case
def test_an_unrounded_parameter_is_named(model: str, semantics: str) -> None:
    second = {"small_cnn": 5, "resnet18": 4}[model]  # its second convolution
    step = record(model, semantics, spoil_store(TensorId(second, "parameter"), lambda value, format: value))
    found, name = suspects(step, model, semantics), f"P/{second}/0"
    assert list(found) == [name]
    assert "are not numbers of fp_" in found[name] and "not rounded" in found[name]
    without_masters = teacher_forced(bare(step), build(model), plan_of(model, semantics), semantics, threads=1)
    assert [tensor.name for tensor in without_masters.suspects()] == [name]


@each_case
def test_a_wrong_relu_mask_is_named(model: str, semantics: str) -> None:
    def make(right: Callable[..., Any]) -> Callable[..., Any]:
        return lambda gradient, x, **options: right(gradient, np.ascontiguousarray(np.roll(x, 1, -1)), **options)

    step = record(model, semantics, spoil_kernel("relu_gradient", make))
    relus = [op.index for op in trace(build(model), 2).ops if op.kind == "ReLU"]
    found = suspects(step, model, semantics)
    assert set(found) == {f"GX/{index}/0" for index in relus}
    assert "should be zero and are not" in found[f"GX/{relus[0]}/0"]


@each_case
def test_a_term_missing_from_one_ops_gradient_is_named(model: str, semantics: str) -> None:
    def make(right: Callable[..., Any]) -> Callable[..., Any]:
        calls = []

        def wrong(gradient: Any, x: Any, mean: Any, deviation: Any, scale: Any, **options: Any) -> Any:
            calls.append(0)
            alone = np.array(gradient)
            gx, *parameters = right(gradient, x, mean, deviation, scale, **options)
            if len(calls) == 2:  # the last batch norm but one, without the mean of the gradient
                return (alone * (deviation * scale).reshape(1, -1, 1, 1), *parameters)
            return (gx, *parameters)

        return wrong

    step = record(model, semantics, spoil_kernel("batch_norm_gradient", make))
    norms = [op for op in trace(build(model), 2).ops if op.kind == "BatchNorm2d"]
    found = suspects(step, model, semantics)
    assert list(found) == [f"GX/{norms[-2].index}/0"] and norms[-2].name in next(iter(found.values()))


@each_semantics
def test_a_contribution_lost_at_a_fork_is_named(semantics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Tape._add

    def wrong(self: Tape, sums: Any, key: Any, part: Any) -> None:
        if key == 3 and key in sums:  # the first relu's output: read by conv1 of the block, and its add
            return
        right(self, sums, key, part)

    with monkeypatch.context() as patch:
        patch.setattr(Tape, "_add", wrong)
        step = record("resnet18", semantics)
    assert step.index["ops"][3]["kind"] == "ReLU"
    found = suspects(step, "resnet18", semantics)
    assert list(found) == (["G/3/0"] if semantics == "standard" else ["GX/3/0"])


def test_a_gradient_off_by_a_factor_is_explained() -> None:
    def instead(value: Any, format: Any) -> Any:
        return round_to(value * np.float32(3), format, "nearest_even", "mark", backend="reference")

    found = suspects(
        record("small_cnn", "standard", spoil_store(TensorId(5, "parameter_gradient"), instead)),
        "small_cnn",
        "standard",
    )
    assert list(found) == ["GP/5/0"] and "about 3 times what it should be" in found["GP/5/0"]


def test_ties_to_the_wrong_side_in_sums_are_named() -> None:
    """Products of few bits sum exactly, so a convolution's ties are real: each could be a sum in another order."""

    def instead(value: Any, format: Any) -> Any:
        return reference.round_array(value, format, Policy(Mode.NEAREST_AWAY, Overflow.SATURATE))[0]

    step = record("small_cnn", "standard", spoil_store(TensorId(11, "activation"), instead))
    found = suspects(step, "small_cnn", "standard")
    assert list(found) == ["Y/11/0"] and "explained by mode nearest_away instead of nearest_even" in found["Y/11/0"]


# -- sums in another order ------------------------------------------------------------------------------------


def reversed_sums(trainer: Trainer) -> None:
    """Convolutions and products that sum from the last term to the first, batch norms in float64."""
    kernels = trainer.kernels
    conv2d, weight, matmul, norm = kernels.conv2d, kernels.conv2d_weight_gradient, kernels.matmul, kernels.batch_norm

    def flip(x: Any, axis: int) -> Any:
        return np.ascontiguousarray(np.flip(x, axis))

    def float64_norm(x: Any, scale: Any, shift: Any, epsilon: float) -> Any:
        _, *rest = norm(x, scale, shift, epsilon)
        wide = x.astype(np.float64)
        centred = wide - wide.mean((0, 2, 3), keepdims=True)
        y = centred / np.sqrt(wide.var((0, 2, 3), keepdims=True) + epsilon) * scale.reshape(1, -1, 1, 1)
        return ((y + shift.reshape(1, -1, 1, 1)).astype(np.float32), *rest)

    kernels.conv2d = lambda x, w, b, *rest: conv2d(flip(x, 1), flip(w, 1), b, *rest)
    kernels.conv2d_weight_gradient = lambda x, gradient, *rest: weight(flip(x, 0), flip(gradient, 0), *rest)
    kernels.matmul = lambda a, b, transpose_a=False, transpose_b=False, bias=None: matmul(
        flip(a, 0 if transpose_a else 1), flip(b, 1 if transpose_b else 0), transpose_a, transpose_b, bias
    )
    kernels.batch_norm = float64_norm


@each_case
def test_sums_in_another_order_are_no_suspicion(model: str, semantics: str) -> None:
    step = record(model, semantics, reversed_sums)
    report = check(step, model, semantics)
    moved = [tensor for tensor in report.tensors if not tensor.equal]
    assert not report.suspects()
    assert moved or model == "small_cnn"  # whose few products of few bits are exact in any order
    assert all(tensor.unexplained_distance == 0 < tensor.largest_distance for tensor in moved)
    assert all(0 < tensor.differing <= tensor.open for tensor in moved)
    assert sum(tensor.differing for tensor in moved) <= 1e-3 * sum(tensor.elements for tensor in report.tensors)


def test_one_wrong_element_is_a_suspicion() -> None:
    step = clean("small_cnn", "lee2023")
    name, format = "Y/2/0", step.index["tensors"]["Y/2/0"]["format"]
    assert format == "fp_4_3_4" and step.tensors[name].size > 2000
    array = step.tensors[name].copy()
    unrounded = step.tensors[f"unrounded/{name}"]
    place = np.unravel_index(np.argmin(np.abs(unrounded - 0.255)), array.shape)  # far from 0.2656, the next midpoint
    assert array[place] == 0.25
    for codes in (1, 2):
        array[place] = 0.25 + codes / 32
        report = check(StepRecord({**step.tensors, name: array}, step.index), "small_cnn", "lee2023")
        tensor, *readers = report.suspects()  # what was made from the element as it was
        assert {reader.name for reader in readers} <= {"Y/3/0", "GX/3/0"}
        assert tensor.name == name and tensor.differing == tensor.unexplained == 1
        assert (
            tensor.largest_distance == tensor.unexplained_distance == codes and tensor.differing_share == 1 / array.size
        )


# -- files that do not fit ------------------------------------------------------------------------------------


def without(step: StepRecord, *names: str) -> StepRecord:
    return StepRecord({name: array for name, array in step.tensors.items() if name not in names}, step.index)


def test_what_is_missing_is_told() -> None:
    step = clean("small_cnn", "lee2023")
    with pytest.raises(TensorFileError, match=r"theirs does not have .* it lacks P/1/0, Y/7/0, GX/7/0"):
        check(without(step, "P/1/0", "Y/7/0", "GX/7/0"), "small_cnn", "lee2023")
    with pytest.raises(TensorFileError, match="no tensor Y/0/0"):
        check(without(step, "Y/0/0"), "small_cnn", "lee2023")
    standard = clean("small_cnn", "standard")
    with pytest.raises(TensorFileError, match="it lacks GX/8/0"):
        check(without(standard, "GX/8/0", "G/7/0"), "small_cnn", "standard")


def test_other_shapes_are_told() -> None:
    step = clean("small_cnn", "lee2023")
    wrong = StepRecord({**step.tensors, "Y/2/0": np.zeros((8, 8), np.float32)}, step.index)
    with pytest.raises(TensorFileError, match=r"other shapes: Y/2/0 is \(8, 8\), not \(8, 8, 8, 8\)"):
        check(wrong, "small_cnn", "lee2023")


def test_other_networks_and_plans_are_told() -> None:
    step = clean("small_cnn", "lee2023")
    plan = plan_of("resnet18", "lee2023")
    file = TensorFile(step.tensors, step.index, "theirs")
    with pytest.raises(TensorFileError, match="made from another network"):
        teacher_forced(file, build("resnet18"), plan)
    short = TensorFile({**step.tensors, "Y/20/0": np.zeros(3, np.float32)}, {}, "theirs")
    with pytest.raises(TensorFileError, match="theirs has outputs of 21 ops, .* has 15"):
        check(short, "small_cnn", "lee2023")
    other = assign(trace(build("small_cnn"), 4, "lee2023"), "uniform_low")
    with pytest.raises(ValueError, match="plan is for a batch of 4, theirs has 8"):
        teacher_forced(file, build("small_cnn"), other)
    with pytest.raises(ValueError, match="unknown semantics 'lee'"):
        teacher_forced(file, build("small_cnn"), plan_of("small_cnn", "lee2023"), "lee")


def test_labels_and_scale_that_cannot_be_told() -> None:
    step = bare(clean("small_cnn", "lee2023"))
    blank = TensorFile({**step.tensors, "GX/14/0": np.zeros((8, 10), np.float32)}, {}, "theirs")
    with pytest.raises(TensorFileError, match="row 0 of GX/14/0 does not tell one; pass labels="):
        check(blank, "small_cnn", "lee2023")
    with pytest.raises(TensorFileError, match="pass loss_scale="):
        check(blank, "small_cnn", "lee2023", labels=np.zeros(8, np.int64))
    report = check(blank, "small_cnn", "lee2023", labels=batch_of("small_cnn")[1], loss_scale=65536)
    assert "GX/14/0" in [tensor.name for tensor in report.suspects()]
    with pytest.raises(TypeError, match="labels must be integers, got float64"):
        check(step, "small_cnn", "lee2023", labels=np.zeros(8))


def test_what_an_op_computes_from_a_sum_is_no_bound() -> None:
    """Else a user's op, a product plus 100, might be 100 off and pass for a sum in another order."""
    a = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    product = bound_kernels(kernels.bind("compiled")).matmul(a, a, False, True)
    assert isinstance(product, Bound) and 0 < bound_of(product).max() < 1e-3
    assert isinstance(product.reshape(-1), Bound)
    for further in (product + np.float32(100), np.float32(2) * product, -product, np.add(product, a[:, :4])):
        assert not isinstance(further, Bound) and not bound_of(further).any()
