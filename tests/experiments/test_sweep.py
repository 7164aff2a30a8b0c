"""Sweeps run what is missing, equal trainings once, and go on after an end."""

import csv
import dataclasses
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from quick import BACKEND, QUICK, timeless

from mpsim.assignment import parse_levels
from mpsim.experiments import workers
from mpsim.experiments.results import Results
from mpsim.experiments.run import run
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.studies import panels
from mpsim.experiments.sweep import plan_sweep, sweep, trained_as


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
