"""Runs and sweeps: stored by epoch, gone on with where they stopped, run once."""

import csv
import dataclasses
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from mpsim.assignment import PlanMismatch, demote, parse_levels
from mpsim.data.digits import digits
from mpsim.experiments import workers
from mpsim.experiments.results import Results
from mpsim.experiments.run import has_diverged, run
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.studies import panels
from mpsim.experiments.sweep import plan_sweep, sweep, trained_as
from mpsim.trace import trace
from mpsim.training.trainer import Trainer

#: A run of a few hundred milliseconds.
QUICK = RunSettings("largest_first", 0.6, levels="four_bit", width=0.0625, epochs=3, batch=479)
BACKEND = {"backend": "compiled", "threads": 1}


def timeless(result):
    return {name: value for name, value in result.items() if name != "seconds"}


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


def test_what_a_sweep_runs():
    jobs = plan_sweep(seeds=2)
    assert len(jobs) == 2 * (1 + 2 * (4 + 11)) == len({job.key for job in jobs})
    names = {(job.scheme, job.ratio) for job in jobs if job.levels == "paper" and job.seed == 1}
    assert names == {("float32", None), *((s, None) for s in ("uniform_high", "uniform_low", "operator_based",
        "operator_based_extended")), *(("largest_first", tenth / 10) for tenth in range(11))}  # fmt: skip
    assert {job.levels for job in jobs if job.scheme != "float32"} == {"paper", "five_bit"}
    with pytest.raises(ValueError, match=r"ratios\[0\] must be a share from 0 to 1, got 1.5"):
        plan_sweep(ratios=[1.5])
    with pytest.raises(ValueError, match="unknown levels"):
        plan_sweep(levels=["papr"])
    with pytest.raises(ValueError, match="seeds"):
        plan_sweep(seeds=0)


#: The defaults of the first version, under which results files have runs.
FIRST_DEFAULTS = {"width": 0.125, "batch": 32, "weight_decay": 5e-3}


def test_settings_that_came_later_leave_old_keys_as_they_were():
    """A results file of an earlier version goes on to serve."""
    old = RunSettings(**FIRST_DEFAULTS)
    assert old.key == "6838eac9caab70cd49da068294c51c474e000a38302e33d6b8570a002415c404"
    assert not {"train_images", "evaluate_every", "model_sha256", "data_sha256"} & set(old.to_dict())


def test_the_runs_of_the_small_scale_study_are_still_those_of_the_figures():
    with (Path(__file__).parents[2] / "docs" / "small_scale_study.csv").open(newline="") as file:
        stored = {line["key"]: line["trained_as"] for line in csv.DictReader(file)}
    assert set(stored) == {job.key for number in (4, 17, 5) for panel in panels(number) for job in panel.jobs}
    assert len([key for key, other in stored.items() if not other]) == 192


def test_equal_trainings_are_run_once(tmp_path):
    """All low is the same training under three names where nothing is promoted; with promotion it is another."""
    low = replace(QUICK, scheme="uniform_low", ratio=None, epochs=1)
    demoted = replace(low, scheme="largest_first", ratio=1.0, promotion=None)
    smallest = replace(demoted, scheme="smallest_first")
    promoted = replace(demoted, promotion=0.01)
    with Results.in_folder(tmp_path) as results:
        rows = sweep([low, demoted, smallest, promoted], results, **BACKEND)
        assert {stored.key for stored in results.runs()} == {low.key, promoted.key}
    assert [row["scheme"] for row in rows] == ["uniform_low", "largest_first", "smallest_first", "largest_first"]
    assert [row.get("trained_as") for row in rows] == [None, low.key, low.key, None]
    assert [row["key"] for row in rows] == [low.key, demoted.key, smallest.key, promoted.key]
    own = run(demoted, **BACKEND)
    assert timeless(own) == {name: value for name, value in timeless(rows[1]).items() if name != "trained_as"}


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"epochs": 2}, {"levels": "five_bit"}, {"lr": 0.2}, {"train_images": 999}, {"batch": 32}]
)
def test_other_settings_are_other_trainings(change):
    trained = trained_as([QUICK, other := replace(QUICK, **change)])
    assert trained[other] == other


def test_a_given_plan_is_the_same_training_as_the_scheme_that_made_it():
    plan = QUICK.make_plan(QUICK.build(QUICK.load()[0]))
    given = replace(QUICK, scheme="float32", ratio=None, plan=plan.to_json())
    assert trained_as([QUICK, given])[given] == QUICK
    other_high = parse_levels(
        "float16:fp_2_1_0,fp_3_0_0"
    )  # what promotion leads to, in the plan and not in the settings
    raised = replace(given, plan=dataclasses.replace(plan, levels=other_high).to_json())
    assert trained_as([given, raised])[raised] == raised


def test_levels_that_promotion_leads_to_count(tmp_path):
    """Two level pairs that differ in the high format only are the same training unless something is promoted."""
    low, other = (
        replace(QUICK, ratio=1.0, levels=f"{high}:fp_2_1_0,fp_3_0_0,fp_3_0_0") for high in ("float16", "bfloat16")
    )
    assert len(set(trained_as([low, other]).values())) == 2
    fixed = [replace(job, scheme="uniform_low", ratio=None) for job in (low, other)]
    assert len(set(trained_as(fixed).values())) == 1


def test_a_test_every_few_epochs(tmp_path):
    """The last epoch has one in any case, and training does not depend on them."""
    with Results.in_folder(tmp_path) as results:
        settings = replace(QUICK, evaluate_every=2, train_images=100, batch=50)
        result = run(settings, results, **BACKEND)
        history = results.history(settings.key)
    assert [epoch["test_accuracy"] is None for epoch in history] == [True, False, False]
    assert result["steps"] == 6 and result["test_accuracy"] == history[-1]["test_accuracy"]
    assert result["digest"] == run(replace(QUICK, train_images=100, batch=50), **BACKEND)["digest"]


def test_a_second_sweep_runs_only_what_is_missing(tmp_path):
    common = replace(QUICK, epochs=1, seed=4)
    few = plan_sweep(common, levels=["paper"], ratios=[0.5])
    more = plan_sweep(common, levels=["paper"], ratios=[0.5, 1.0])
    with Results.in_folder(tmp_path) as results:
        first = sweep(few, results, **BACKEND)
        before = {stored.key: stored for stored in results.runs()}
        rows = sweep(more, results, processes=2, **BACKEND)
        assert len(rows) == 7 and [row for row in rows if row["ratio"] != 1.0] == first
        assert {stored.key: stored for stored in results.runs() if stored.key in before} == before
    assert {row["scheme"]: row["promotions"] for row in rows}["uniform_low"] == 0


def test_settings_that_cannot_work_are_refused_before_anything_runs(tmp_path):
    with Results.in_folder(tmp_path) as results:
        with pytest.raises(ValueError, match="small_cnn takes|width"):
            sweep([QUICK, replace(QUICK, width=-1.0)], results, **BACKEND)
        with pytest.raises(ValueError, match="needs ratio"):
            sweep([QUICK, replace(QUICK, ratio=None)], results, **BACKEND)
        with pytest.raises(ValueError, match="resnet18 takes images|is defined for images"):
            sweep([replace(QUICK, model="resnet18", width=0.1)], results, **BACKEND)
        assert results.runs() == []


def test_a_failing_worker_says_why(tmp_path):
    job = replace(QUICK, ratio=None)
    with Results.in_folder(tmp_path) as results:
        failures = workers.run_all(
            {job: job.key}, results.path, processes=1, backend="compiled", threads=1, on_poll=lambda: None
        )
    assert list(failures) == [job] and "needs ratio" in failures[job]


def test_a_worker_with_a_long_message_ends(tmp_path: Path) -> None:
    """200,000 bytes filled the pipe that nobody read, so that the worker never ended. Each character is four bytes."""
    net = tmp_path / "net.py"
    fails = "raise ValueError('first ' + chr(0x1F600) * 50_000 + ' last')"
    net.write_text(
        "import multiprocessing\nfrom mpsim import nn\ndef build():\n"
        f"    if multiprocessing.parent_process():\n        {fails}\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    job = replace(QUICK, model=f"{net}:build", width=1.0)
    with Results.in_folder(tmp_path) as results:
        failures = workers.run_all(
            {job: job.key}, results.path, processes=1, backend="compiled", threads=1, on_poll=lambda: None
        )
    assert "first" in failures[job] and "last" in failures[job] and len(failures[job]) < 9000


@pytest.mark.parametrize("how,code,processes", [("SIGINT", 130, 1), ("SIGINT", 130, 2), ("SIGKILL", -9, 2)])
def test_a_killed_sweep_goes_on(tmp_path, how, code, processes):
    """Killed in the middle, it keeps the finished epochs; the next call ends as one that was never stopped."""
    options = ["--width", "0.0625", "--epochs", "25", "--batch", "479", "--levels", "four_bit", "--ratios", "0.6"]
    command = [sys.executable, "-m", "mpsim.cli", "sweep", *options, "--results", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--processes", str(processes)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    file = tmp_path / "mpsim.sqlite"
    deadline = time.monotonic() + 180
    done = {}
    while sum(done.values()) < 5 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
        if file.exists():
            with Results(file) as results:
                done = results.epochs_done()
    process.send_signal(getattr(signal, how))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    if how == "SIGINT":
        assert "the finished epochs are stored" in errors
    jobs = plan_sweep(
        replace(QUICK, scheme="float32", ratio=None, levels="paper", epochs=25), levels=["four_bit"], ratios=[0.6]
    )
    with Results(file) as results:
        kept = results.epochs_done()
        assert sum(kept.values()) >= 5 and any(results.result(job.key) is None for job in jobs)
        interrupted = next(job for job in jobs if results.result(job.key) is None and kept.get(job.key))
        result = run(interrupted, results, **BACKEND)
        assert timeless(result) == timeless(run(interrupted, **BACKEND))
