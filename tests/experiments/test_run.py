"""Runs store, resume and refuse; what their key depends on; divergence."""

from dataclasses import dataclass, fields, replace

import pytest
from quick import BACKEND, QUICK, timeless

from mpsim.assignment import PlanMismatch, demote
from mpsim.data.digits import digits
from mpsim.experiments.results import Results
from mpsim.experiments.run import has_diverged, run
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.sweep import sweep
from mpsim.trace import trace
from mpsim.training.trainer import Trainer


@pytest.fixture(scope="module")
def expected():
    """The result of QUICK in one go."""
    return run(QUICK, **BACKEND)


@dataclass(frozen=True)
class OfFewImages(RunSettings):
    """Settings that load other data than their name says, as those of bench.accuracy do."""

    def load(self):
        return digits("train", 7).first(64), digits("test", 7).first(32)


def test_a_run_trains_on_what_its_settings_load():
    accuracy = run(OfFewImages(width=0.0625, epochs=1, batch=32), **BACKEND)["test_accuracy"]
    assert accuracy * 32 % 1 == 0 and accuracy * 360 % 1 != 0


def test_a_run_stores_settings_plan_history_and_result(tmp_path, expected):
    with Results.in_folder(tmp_path) as results:
        result = run(QUICK, results, **BACKEND)
        assert timeless(result) == timeless(expected)
        history = results.history(QUICK.key)
        assert [epoch["epoch"] for epoch in history] == [0, 1, 2]
        assert history[-1]["test_accuracy"] == result["test_accuracy"]
        given, promoted = results.plans(QUICK.key)
        assert '"scheme": "largest_first"' in given and '"promoted"' in promoted
        (stored,) = results.runs()
        assert stored.settings["levels"] == "four_bit" and stored.settings["epochs"] == 3
        assert run(QUICK, results, on_epoch=pytest.fail, **BACKEND) == result


@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path, stop, expected):
    def interrupt(metrics):
        if metrics["epoch"] == stop - 1:
            raise KeyboardInterrupt

    with Results.in_folder(tmp_path) as results, pytest.raises(KeyboardInterrupt):
        run(QUICK, results, on_epoch=interrupt, **BACKEND)
    with Results.in_folder(tmp_path) as results:
        assert len(results.history(QUICK.key)) == stop
        epochs = []
        result = run(QUICK, results, on_epoch=lambda metrics: epochs.append(metrics["epoch"]), **BACKEND)
        assert epochs == list(range(stop, 3))
        assert timeless(result) == timeless(expected)


def test_every_setting_is_part_of_the_key():
    other = {
        "scheme": "uniform_low", "ratio": 0.5, "k": 2, "plan_seed": 1, "plan": "{}", "levels": "paper", "seed": 1,
        "model": "resnet18", "width": 0.5, "data": "synthetic10", "epochs": 4, "batch": 8, "lr": 0.3,
        "momentum": 0.8, "weight_decay": 0.0, "schedule": "constant", "promotion": None, "semantics": "lee2023",
        "rounding": "stochastic", "random_bit_count": 8, "train_images": 999, "evaluate_every": 2,
        "skipped_statistics": "kept", "accumulator": "chunk=64", "optimizer": "adam", "dampening": 0.5,
        "nesterov": True, "beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6, "warmup": 3, "groups": "*.bias:frozen",
        "clip": 1.0, "ema": 0.9, "micro_batches": 2, "storage": "velocity=bfloat16", "loss": "cross_entropy(0.1)",
    }  # fmt: skip
    # What says how to read the data is not: the digest of what was read is (test_contents.py, test_own_data.py).
    assert set(other) | {"data_path", "normalisation", "test_share", "context"} == {
        field.name for field in fields(RunSettings)
    }
    adam = {"optimizer": "adam", "momentum": None, "dampening": None}
    together = {
        "rounding": {"random_bit_count": 7},
        "random_bit_count": {"rounding": "stochastic"},
        "optimizer": {"momentum": None, "dampening": None},
        "beta1": adam,
        "beta2": adam,
        "epsilon": adam,
    }  # one needs the other
    keys = {replace(QUICK, **{name: value}, **together.get(name, {})).key for name, value in other.items()}
    assert len(keys | {QUICK.key}) == len(other) + 1
    assert replace(QUICK, lr=1, width=1).key == replace(QUICK, lr=1.0, width=1.0).key


def test_the_order_of_sums_is_a_setting():
    """By name or in stages, on every backend; the default has the key of runs from before there was a choice."""
    usual = replace(QUICK, scheme="float32", ratio=None, epochs=1)  # in four bits the order does not show
    lanes = replace(usual, accumulator="product(order=groups( lanes(8),rising(), folding()))")
    assert lanes.accumulator == "groups(lanes(8), rising(), folding())"
    assert lanes.key == replace(lanes, accumulator="groups(lanes(8), rising(), folding())").key != usual.key
    assert "accumulator" not in QUICK.to_dict()
    assert replace(QUICK, accumulator="chunk=256").key == QUICK.key
    digests = {run(lanes, backend=backend, threads=2)["digest"] for backend in ("numba", "compiled")}
    assert len(digests) == 1 and digests != {run(usual, **BACKEND)["digest"]}


def test_sums_by_pass_and_by_layer_are_a_setting():
    usual = replace(QUICK, scheme="float32", ratio=None, epochs=1)
    apart = replace(usual, accumulator="forward=hopper_float16; linear:exact ;backward=chunk=256")
    assert apart.accumulator == (
        "forward=aligned,terms=16,fraction_bits=25,format=float32,rounding=toward_zero,chunk=none,inputs=float16,"
        "least_alignment=-133;backward=sequential,format=float32,chunk=256,fma=true;linear:exact"
    )
    assert apart.key not in (usual.key, replace(usual, accumulator="forward=hopper_float16").key)
    assert replace(usual, accumulator="forward=chunk=256;conv1:chunk=256").key == usual.key
    digests = {run(apart, backend=backend, threads=2)["digest"] for backend in ("numba", "compiled")}
    assert len(digests) == 1 and digests != {run(usual, **BACKEND)["digest"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [("lanes=8", "is not a field"), ("blas", "promises no bits"), ("conv1:blas", "promises no bits"), ("up()", "up")],
)
def test_an_order_that_cannot_be_trained_with_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        RunSettings(accumulator=text)


def test_what_skipped_steps_do_to_the_statistics_is_a_setting(expected, tmp_path):
    """QUICK skips three of nine steps; then the statistics differ, and the weights, which training makes, do not."""
    kept = replace(QUICK, skipped_statistics="kept")
    result = run(kept, **BACKEND)
    assert result["skipped_steps"] == expected["skipped_steps"] == 3
    assert result["digest"] == expected["digest"] and kept.key != QUICK.key
    trainers = []
    for settings in (QUICK, kept):
        run(settings, save=str(tmp_path / "state"), **BACKEND)
        trainers.append(Trainer.load(tmp_path / "state"))
    assert [trainer.recipe.skipped_statistics for trainer in trainers] == ["updated", "kept"]
    assert [int(trainer.model.bn1.num_batches_tracked) for trainer in trainers] == [9, 6]


def test_a_given_plan_is_trained_under(expected):
    text = QUICK.make_plan(QUICK.build(QUICK.load()[0])).to_json()
    result = run(replace(QUICK, scheme="float32", ratio=None, plan=text), **BACKEND)
    assert result["digest"] == expected["digest"] and result["scheme"] == "given plan"


def by_hand(traced, formats):
    """(bytes, share held low) of a plan with the paper's levels, from the tensors of a trace."""
    bits = low = elements = 0
    for tensor in traced.tensors:
        width = formats[tensor.id].bits
        assert width in (8, 16)
        bits += width * tensor.elements
        low += tensor.elements * (width == 8)
        elements += tensor.elements
    return -(-bits // 8), low / elements


@pytest.mark.parametrize("semantics", ["standard", "lee2023"])
@pytest.mark.parametrize("made_for", [128, 32, 7])
def test_bytes_and_shares_of_a_given_plan_are_of_the_batch_that_runs(tmp_path, made_for, semantics):
    """Whatever batch it was made for: its formats are trained under, and the elements counted are those that are there.
    The batch that counts is the full one; the last of an epoch has 13 images here."""
    small = replace(QUICK, levels="paper", batch=32, train_images=77, promotion=None, semantics=semantics, epochs=1)
    network = small.build(small.load()[0])
    plan = demote(trace(network, batch=made_for, semantics=semantics), 0.6)
    wanted = by_hand(trace(network, batch=32, semantics=semantics), plan.formats)
    settings = replace(small, scheme="float32", ratio=None, plan=plan.to_json())
    with Results.in_folder(tmp_path) as results:
        result = run(settings, results, **BACKEND)
        (epoch,) = results.history(settings.key)
        assert '"batch": 32' in results.plans(settings.key)[0]
    assert (result["bytes"], result["low_share"]) == wanted
    assert result["low_share_planned"] == epoch["low_share"] == epoch["low_share_after"] == wanted[1]
    assert wanted[1] != plan.low_share or made_for == 32
    assert result["given_plan"] == "largest_first ratio=0.6" and result["levels"] == "paper"


def test_a_given_plan_for_another_network_is_refused_at_any_batch():
    plan = demote(trace(replace(QUICK, width=1.0).build(QUICK.load()[0]), batch=7), 0.6).to_json()
    with pytest.raises(PlanMismatch, match="width is 1.0 in the plan and 0.0625 here"):
        run(replace(QUICK, scheme="float32", ratio=None, plan=plan), **BACKEND)


@pytest.mark.parametrize("images,change", [(1437, {"batch": 1438}), (99, {"batch": 100, "train_images": 99})])
def test_a_batch_larger_than_the_training_data_is_refused(tmp_path, images, change):
    words = f"batch is {change['batch']} examples, but there are only {images} training examples of digits"
    with Results.in_folder(tmp_path) as results:
        for train in (run, lambda job, results, **options: sweep([QUICK, job], results, **options)):
            with pytest.raises(ValueError, match=words):
                train(replace(QUICK, **change), results, **BACKEND)
        assert results.runs() == []
    assert run(replace(QUICK, batch=1437, epochs=1), **BACKEND)["steps"] == 1
    with pytest.raises(ValueError, match="train_images is 1438, but digits has 1437"):
        replace(QUICK, train_images=1438).load()


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0}, {"lr": float("nan")}, {"momentum": -0.1}, {"weight_decay": -1.0}, {"promotion": 1.5},
        {"promotion": float("nan")}, {"width": 0}, {"width": float("nan")}, {"ratio": 1.01}, {"ratio": float("nan")},
    ],
)  # fmt: skip
def test_numbers_that_no_run_can_have_are_refused_at_once(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        replace(QUICK, **wrong)


@pytest.mark.parametrize(
    "last,diverged",
    [
        ({"finite": True, "steps": 3, "skipped_steps": 0, "train_accuracy": 0.9}, False),
        ({"finite": False, "steps": 3, "skipped_steps": 0, "train_accuracy": 0.9}, True),
        ({"finite": True, "steps": 3, "skipped_steps": 3, "train_accuracy": 0.9}, True),
        ({"finite": True, "steps": 3, "skipped_steps": 0, "train_accuracy": 0.19}, True),
    ],
)
def test_divergence(last, diverged):
    assert has_diverged(last, classes=10) is diverged


@pytest.mark.parametrize(
    "classes,accuracy,diverged",
    [
        (2, 0.55, True),
        (2, 0.56, False),
        (3, 0.4, True),
        (3, 0.41, False),
        (9, 0.2, True),
        (9, 0.21, False),
        (100, 0.019, True),
        (100, 0.021, False),
    ],
)
def test_divergence_of_few_classes(classes, accuracy, diverged):
    last = {"finite": True, "steps": 3, "skipped_steps": 0, "train_accuracy": accuracy}
    assert has_diverged(last, classes=classes) is diverged
