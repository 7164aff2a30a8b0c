"""Groups of parameters, clipping, schedules by step, averages and micro-batches."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import training_samples

from mpsim import kernels, nn
from mpsim.errors import UsageError
from mpsim.files.tensors import TensorFile
from mpsim.losses import CrossEntropy
from mpsim.training import schedule as schedules
from mpsim.training.optimizer import SGD, AdamW, Lion
from mpsim.training.optimizer.groups import Group, groups_of, rules_of, text_of
from mpsim.training.recipe import Recipe
from mpsim.training.schedule import ByStep, Constant, Cosine, OneCycle, Step, Warmup
from mpsim.training.trainer import Trainer
from mpsim.validate import record_step, teacher_forced

Array = np.ndarray[Any, Any]
F = np.float32


def masters(trainer: Trainer) -> dict[str, Array]:
    return {name: np.array(trainer.kernels.to_numpy(p.master)) for name, p in trainer.model.parameters().items()}


# -- groups ---------------------------------------------------------------------------------------------------


def test_groups_are_read_and_written() -> None:
    text = "@vectors:weight_decay=0;head.*:rate=0.5,weight_decay=0.25;body.*:frozen"
    groups = (Group("@vectors", weight_decay=0), Group("head.*", 0.5, 0.25), Group("body.*", frozen=True))
    assert groups_of(text) == groups == groups_of(text_of(groups)) and groups_of("") == ()
    assert Recipe.from_dict(json.loads(json.dumps(Recipe(groups=text).to_dict()))).groups == groups


@pytest.mark.parametrize("text", ["*.bias", "*.bias:", "x:rate", "x:rate=fast", "x:decay=1", "x:rate=-1", "x:rate=nan"])
def test_texts_that_are_no_groups_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="rate|of the form|not a number"):
        Recipe(groups=text)


def test_a_later_group_counts_more_and_rates_are_multiplied() -> None:
    shapes = {"a.weight": (2, 3), "a.bias": (2,), "b.weight": (3, 3), "b.bias": (3,)}
    rules = rules_of(groups_of("@vectors:weight_decay=0,rate=0.5;b.*:rate=0.5;b.bias:weight_decay=1"), AdamW(), shapes)
    assert {name: (rule.rate, rule.optimizer.weight_decay) for name, rule in rules.items()} == {
        "a.weight": (1, 0.01), "a.bias": (0.5, 0), "b.weight": (0.5, 0.01), "b.bias": (0.25, 1),
    }  # fmt: skip
    for text, message in (("c.*:frozen", "no parameter of the network"), ("*:frozen", "every parameter is frozen")):
        with pytest.raises(UsageError, match=message):
            rules_of(groups_of(text), SGD(), shapes)


def test_groups_change_their_parameters_alone(make, batches) -> None:  # type: ignore[no-untyped-def]
    """The parameters of one step by three trainers, put together as the groups say."""
    text = "@vectors:weight_decay=0;*1.*:rate=0.5;linear.weight:frozen"
    start = masters(make())
    found = {}
    for name, settings in {
        "plain": {}, "no decay": {"optimizer": SGD(weight_decay=0)}, "groups": {"groups": text},
        "half": {"optimizer": SGD(lr=0.05)}, "half, no decay": {"optimizer": SGD(lr=0.05, weight_decay=0)},
    }.items():  # fmt: skip
        trainer = make("uniform_low", **settings)
        trainer.step(*batches[0])
        found[name] = masters(trainer)
    kinds = set()
    for name, array in found["groups"].items():
        kind = "no decay" if array.ndim == 1 else "plain"
        if "1." in name:
            kind = {"plain": "half", "no decay": "half, no decay"}[kind]
        expected = start[name] if name == "linear.weight" else found[kind][name]
        assert array.tobytes() == expected.tobytes(), name
        kinds.add("frozen" if name == "linear.weight" else kind)
    assert kinds == {"plain", "no decay", "half", "half, no decay", "frozen"}


def test_a_frozen_parameter_has_no_states(make, batches) -> None:  # type: ignore[no-untyped-def]
    trainer = make(optimizer=Lion(), groups="linear.*:frozen")
    assert not any(name.startswith("linear") for name in trainer.states["first_moment"])
    loaded = Trainer.restore(trainer.dump(), "here", model=None, backend=None, threads=None)
    for each in (trainer, loaded):
        each.step(*batches[0])
    assert loaded.digest() == trainer.digest()


# -- clipping -------------------------------------------------------------------------------------------------


def reduction(values: Array) -> Any:
    """The REDUCTION of the contract, number by number."""
    total = None
    for begin in range(0, values.size, 4096):
        lanes = [F(0)] * 32
        for place, value in enumerate(values[begin : begin + 4096]):
            lanes[place % 32] = lanes[place % 32] + value
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[i] + lanes[i + half] for i in range(half)]
        total = lanes[0] if total is None else total + lanes[0]
    return F(0) if total is None else total


@pytest.mark.parametrize("share", [0.01, 1.5, 1e6])
def test_clipping_is_its_written_order(share, make, batches, backend) -> None:  # type: ignore[no-untyped-def]
    settings = {"optimizer": SGD(lr=1.0, momentum=0.0, weight_decay=0.0), "loss_scale": 64.0}
    plain = make(**settings)
    start, (images, labels) = masters(plain), batches[0]
    record = record_step(plain, images, labels)
    gradients = {}
    for op in record.index["ops"]:
        for place, name in enumerate(op["parameters"]):
            gradients[name] = record.tensors[f"GP/{op['index']}/{place}"] * F(1 / 64)
    gradients = {name: gradients[name] for name in start}
    total = F(0)
    for gradient in gradients.values():
        total = total + reduction((gradient * gradient).reshape(-1))
    norm = np.sqrt(total)
    limit = float(share * norm)
    factor = F(limit) / (norm + F(1e-6))
    trainer = make(clip=limit, backend=backend, **settings)
    report = trainer.step(images, labels)
    assert report.gradient_norm == norm and (factor < 1) == (share < 1)
    for name, array in masters(trainer).items():
        step = gradients[name] * factor if factor < 1 else gradients[name]
        assert array.tobytes() == (start[name] - step).tobytes(), name


def test_clipping_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    from mpsim.training.updating import clipped

    generator = np.random.default_rng(3)
    gradients = {str(i): generator.standard_normal((i + 1, 700)).astype(F) for i in range(4)}
    parameters = [torch.nn.Parameter(torch.zeros(array.shape)) for array in gradients.values()]
    for parameter, array in zip(parameters, gradients.values(), strict=True):
        parameter.grad = torch.tensor(array)
    theirs = torch.nn.utils.clip_grad_norm_(parameters, 2.0)
    ours, norm = clipped(kernels.bind("reference"), gradients, 1.0, 2.0)
    assert abs(norm - float(theirs)) < 1e-4
    for parameter, array in zip(parameters, ours.values(), strict=True):
        np.testing.assert_allclose(parameter.grad.numpy(), array, rtol=1e-5)


# -- schedules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [ByStep(Cosine(7)), ByStep(Step((3,), 0.5)), OneCycle(100, 0.2, 10.0, 100.0), Warmup(5),
     Warmup(5, OneCycle(9), 0.5), Warmup(2, ByStep(Cosine(9)))],
)  # fmt: skip
def test_schedules_come_back_from_json(schedule) -> None:  # type: ignore[no-untyped-def]
    assert schedules.from_dict(json.loads(json.dumps(schedules.to_dict(schedule)))) == schedule


def test_a_schedule_by_step_is_one_of_epochs() -> None:
    assert [ByStep(Cosine(4)).factor(9, step) for step in range(6)] == [Cosine(4).factor(step) for step in range(6)]
    assert Warmup(4, Cosine(3), 0.2).factor(1, 2) == (0.2 + 0.8 * 2 / 4) * Cosine(3).factor(1)


def test_schedules_by_step_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")

    def rates(make: Any) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        schedule, found = make(optimizer), []
        for _ in range(40):
            found.append(optimizer.param_groups[0]["lr"] / 0.5)
            optimizer.step()
            schedule.step()
        return found

    module = torch.optim.lr_scheduler
    for ours, theirs in (
        (OneCycle(41), lambda optimizer: module.OneCycleLR(optimizer, 0.5, total_steps=41)),
        (OneCycle(41, 0.5, 10.0, 50.0), lambda optimizer: module.OneCycleLR(
            optimizer, 0.5, total_steps=41, pct_start=0.5, div_factor=10.0, final_div_factor=50.0)),
        (Warmup(9, Constant(), 0.25), lambda optimizer: module.LinearLR(optimizer, 0.25, total_iters=9)),
    ):  # fmt: skip
        np.testing.assert_allclose([ours.factor(0, step) for step in range(40)], rates(theirs), rtol=1e-9)


def test_a_trainer_takes_the_rate_of_its_step(make, batches) -> None:  # type: ignore[no-untyped-def]
    trainer = make(optimizer=SGD(lr=0.4, schedule=Warmup(4)))
    start, rates = masters(trainer), []
    for batch in batches[:3]:
        rates.append(trainer.learning_rate)
        trainer.step(*batch)
        if trainer.steps == 1:  # the rate is 0
            assert all(array.tobytes() == start[name].tobytes() for name, array in masters(trainer).items())
    assert rates == [0.0, 0.1, 0.2]


# -- averages -------------------------------------------------------------------------------------------------


def test_averages_are_their_written_order(make, batches, backend, tmp_path) -> None:  # type: ignore[no-untyped-def]
    trainer = make("uniform_low", ema=0.75, backend=backend)
    expected: dict[str, Array] = {}
    for batch in batches[:3]:
        trainer.step(*batch)
        for name, master in masters(trainer).items():
            share = F(1 - 0.75)
            expected[name] = (F(1) - share) * expected[name] + share * master if name in expected else master
    found = {name: trainer.kernels.to_numpy(array) for name, array in trainer.averages.items()}
    assert all(found[name].tobytes() == array.tobytes() for name, array in expected.items())
    trainer.save(tmp_path / "state")
    loaded = Trainer.load(tmp_path / "state")
    assert all(loaded.averages[name].tobytes() == array.tobytes() for name, array in expected.items())
    before = trainer.digest()
    average = trainer.evaluate(batches[:2], weights="average")
    assert trainer.digest() == before and average != trainer.evaluate(batches[:2])
    assert loaded.evaluate(batches[:2], weights="average") == average
    trainer.model.load_state(expected, strict=False)
    assert trainer.evaluate(batches[:2]) == average


def test_averages_need_a_recipe_with_them(make, batches) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="needs a recipe with ema"):
        make().evaluate(batches[:1], weights="average")


# -- micro-batches --------------------------------------------------------------------------------------------


def test_micro_batches_add_the_gradients_of_their_shares(make, batches) -> None:  # type: ignore[no-untyped-def]
    """By hand: steps of another trainer on 5, 4 and 3 of the 12 images, whose loss is scaled by their share."""
    images, labels = batches[0]
    assert len(images) == training_samples.BATCH == 12
    images, labels = images[:11], labels[:11]  # parts of 4, 4 and 3
    trainer = make("uniform_low", micro_batches=3, optimizer=SGD(momentum=0.0, weight_decay=0.0), loss_scale=1024.0)
    start, sums, losses = masters(trainer), {}, []
    for part in (slice(0, 4), slice(4, 8), slice(8, 11)):
        share = (part.stop - part.start) / 11
        alone = make("uniform_low", loss_scale=1024 * share)
        record = record_step(alone, images[part], labels[part])
        losses.append(share * float(record.tensors[f"Y/{len(record.index['ops']) - 1}/0"].reshape(())))
        for op in record.index["ops"]:
            for place, name in enumerate(op["parameters"]):
                gradient = record.tensors[f"GP/{op['index']}/{place}"]
                sums[name] = sums[name] + gradient if name in sums else gradient
    report = trainer.step(images, labels)
    assert report.loss == pytest.approx(sum(losses), rel=1e-12) and report.logits.shape == (11, 10)
    for name, array in masters(trainer).items():
        assert array.tobytes() == (start[name] - F(0.1) * (sums[name] * F(1 / 1024))).tobytes(), name


def test_micro_batches_have_one_digest_and_go_on_from_a_checkpoint(make, batches, fast_backend) -> None:  # type: ignore[no-untyped-def]
    settings = {"micro_batches": 2, "clip": 0.5, "ema": 0.5, "groups": "@vectors:weight_decay=0", "optimizer": AdamW()}
    trainers = [make("uniform_low", backend=backend, **settings) for backend in ("reference", fast_backend)]
    for batch in batches[:2]:
        for trainer in trainers:
            trainer.step(*batch)
    trainers.append(Trainer.restore(trainers[1].dump(), "here", model=None, backend=None, threads=None))
    for trainer in trainers:
        trainer.step(*batches[2])
    assert len({trainer.digest() for trainer in trainers}) == 1
    with pytest.raises(UsageError, match="call record_micro_batches"):
        record_step(trainers[0], *batches[0])


def test_more_parts_than_images_are_one_image_each(make, batches) -> None:  # type: ignore[no-untyped-def]
    images, labels = batches[0][0][:2], batches[0][1][:2]
    digests = set()
    for parts in (2, 5):
        trainer = make(micro_batches=parts)
        trainer.step(images, labels)
        digests.add(trainer.digest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    "loss",
    [CrossEntropy(0.1, (4.0, 0.5, 0.0, *[1.0] * 7)), CrossEntropy(ignore_index=0), CrossEntropy(weights=[2] * 10)],
)
def test_parts_weigh_what_their_labels_do(batches, backend, loss) -> None:  # type: ignore[no-untyped-def]
    """The mean over the batch is one mean for any number of parts, also if no label of a part counts."""
    images, labels = batches[0][0], np.array([2, 0, 0, 0, 1, 0, 5, 2, 2, 2, 7, 9])
    if loss.weights:
        labels[:3] = 2  # of weight 0
    else:
        labels[:3] = 0
    found = {}
    for parts in (1, 4):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # batch norm has statistics of parts
        network.input_shape = 1, 8, 8
        trainer = Trainer(
            network, backend=backend, loss=loss, micro_batches=parts, threads=1,
            optimizer=SGD(lr=1.0, momentum=0.0, weight_decay=0.0),
        )  # fmt: skip
        found[parts] = trainer.step(images, labels).loss, masters(trainer)
    assert found[4][0] == pytest.approx(found[1][0], rel=1e-6) and np.isfinite(found[1][0])
    for name, array in found[1][1].items():
        np.testing.assert_allclose(found[4][1][name], array, rtol=0, atol=1e-6)


def test_a_batch_in_which_no_label_counts_has_no_loss(make, batches) -> None:  # type: ignore[no-untyped-def]
    trainer = make(loss=CrossEntropy(ignore_index=3), micro_batches=3)
    report = trainer.step(batches[0][0], np.full(12, 3))
    assert np.isnan(report.loss) and report.skipped


# -- step files -----------------------------------------------------------------------------------------------


def test_step_files_have_groups_and_clipping(make, batches) -> None:  # type: ignore[no-untyped-def]
    trainer = make(groups="@vectors:weight_decay=0;linear.*:rate=0.5;conv1.*:frozen", clip=0.05, optimizer=AdamW())
    trainer.step(*batches[0])
    step = record_step(trainer, *batches[1])
    report = teacher_forced(TensorFile(step.tensors, step.index, "theirs"), make().model, None, "standard", threads=1)
    updates = [tensor for tensor in report.tensors if tensor.name.startswith("next_master/")]
    assert report.equal and not report.notes and len(updates) == len(masters(trainer))
    index = {**step.index, "optimizer": {**step.index["optimizer"], "clip": 0.04}}
    report = teacher_forced(TensorFile(step.tensors, index, "theirs"), make().model, None, "standard", threads=1)
    assert not report.equal and {tensor.name.split("/")[0] for tensor in report.suspects()} == {"next_master"}
