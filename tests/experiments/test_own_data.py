"""Runs on a user's own data: in every command, in sweeps and their processes; found by what the data are."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim.data import digits
from mpsim.data.own import remembered
from mpsim.experiments.keeping import keeping_data
from mpsim.experiments.results import Results
from mpsim.experiments.run import run
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.sweep import sweep

BACKEND: dict[str, Any] = {"backend": "compiled", "threads": 1}
FUNCTION = """
import numpy as np
from pathlib import Path

class Pictures:
    def __init__(self, images, labels):
        self.images, self.labels = images, labels
    def __len__(self):
        return len(self.images)
    def __getitem__(self, place):
        return self.images[place] + np.random.randint(3), self.labels[place]

def load():
    file = np.load(Path(__file__).parent / "digits.npz")
    return Pictures(file["x_train"], file["y_train"]), Pictures(file["x_test"], file["y_test"])
"""


def pixels(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The bundled digits as integers from 0 to 16."""
    chosen = digits(split).first(count)
    images = np.rint((chosen.images[:, 0] * np.float32(0.3760) + np.float32(0.3053)) * 16)
    return images.astype(np.uint8), chosen.labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with digits.npz, and my_data.py, which adds a random number to each image."""
    (x_train, y_train), (x_test, y_test) = pixels("train", 400), pixels("test", 100)
    np.savez(tmp_path / "digits.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    (tmp_path / "my_data.py").write_text(FUNCTION)
    return tmp_path


def jobs_on(place: Path | str, **settings: Any) -> list[RunSettings]:
    usual = {"data": str(place), "width": 0.0625, "epochs": 2, "batch": 100}
    return [RunSettings(scheme, **usual | settings) for scheme in ("float32", "uniform_low")]


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_sweep_in_processes_gives_the_results_of_one(folder: Path) -> None:
    jobs = jobs_on(folder / "my_data.py:load")
    with Results.in_folder(folder / "one") as one, Results.in_folder(folder / "two") as two:
        expected = sweep(jobs, one, **BACKEND)
        assert timeless(sweep(jobs, two, processes=2, **BACKEND)) == timeless(expected)
    assert expected[0]["data"] == "arrays" and len({row["digest"] for row in expected}) == 2


def test_stored_runs_are_found_by_what_the_data_are(folder: Path) -> None:
    path = folder / "digits.npz"
    settings = jobs_on(path)[0]
    trained: list[Any] = []
    with np.load(path) as file:
        arrays = dict(file)
    with Results.in_folder(folder) as results:
        first = run(settings, results, **BACKEND)
        moved = folder / "elsewhere"
        moved.mkdir()
        np.savez_compressed(moved / "other.npz", **arrays)
        found = run(jobs_on(moved / "other.npz")[0], results, on_epoch=trained.append, **BACKEND)
        assert found == first and not trained
        arrays["x_test"][99, 7, 7] += 1
        np.savez_compressed(moved / "other.npz", **arrays)
        changed = jobs_on(moved / "other.npz")[0]
        assert changed.key != settings.key
        assert run(changed, results, on_epoch=trained.append, **BACKEND)["data_sha256"] != first["data_sha256"]
        assert len(trained) == 2
        given = replace(settings, normalisation="0:1")
        assert given.key != settings.key == replace(settings, normalisation="training").key
        assert len(keeping_data()(given)[0]) == 400


def test_a_function_of_other_data_in_every_process_is_noticed(folder: Path) -> None:
    (folder / "my_data.py").write_text(
        "import os, numpy as np\n"
        "def load():\n"
        "    return np.frombuffer(os.urandom(6400), np.uint8).reshape(100, 8, 8), np.arange(100) % 10\n"
    )
    settings = jobs_on(folder / "my_data.py:load", batch=50)[0]
    key = settings.key
    assert run(settings, key=key, **BACKEND)["key"] == key
    remembered.forget()  # as in another process
    with pytest.raises(ValueError, match="changed after the run was set up; .* so draw with a fixed seed"):
        run(settings, key=key, **BACKEND)


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_the_same_results(folder: Path) -> None:
    settings = {"epochs": 12}
    jobs = jobs_on(folder / "my_data.py:load", **settings)
    code = f"""
from mpsim.experiments.results import Results
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.sweep import sweep
if __name__ == "__main__":
    sweep({jobs!r}, Results.in_folder("killed"), processes=2, backend="compiled", threads=1)
"""
    (folder / "killed.py").write_text(code)
    child = subprocess.Popen([sys.executable, "killed.py"], cwd=folder, stderr=subprocess.PIPE, text=True)
    with Results.in_folder(folder / "killed") as results:
        while not any(results.epochs_done().values()):
            assert child.poll() is None, child.stderr and child.stderr.read()
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        before = sum(results.epochs_done().values())
        assert before < 24
        resumed = sweep(jobs, results, processes=2, **BACKEND)
    with Results.in_folder(folder / "whole") as results:
        assert timeless(resumed) == timeless(sweep(jobs, results, **BACKEND))


# -- the command line -----------------------------------------------------------------------------------------------
def test_commands_take_own_data(folder: Path, call_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    usual = ("--width", 0.0625, "--epochs", 1, "--batch", 100, "--threads", 1)
    rows = [
        call_json("train", "small_cnn", "--data", *data, *usual)
        for data in (["digits.npz"], ["arrays", "--data-path", folder / "digits.npz"])
    ]
    assert rows[0]["key"] == rows[1]["key"] and rows[1]["stored_on"] and rows[0]["data"] == "arrays"
    plan = call_json("plan", "small_cnn", "--data", "my_data.py:load", "--width", 0.0625, "--ratio", 0.5)
    step = call_json("trace-step", "small_cnn", "--data", "my_data.py:load", "--out", "step.npz", "--width", 0.0625)
    assert plan["classes"] == step["model"]["classes"] == 10


def test_commands_name_what_is_wrong(folder: Path, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    np.savez("broken.npz", images=np.full((20, 8, 8), np.inf), labels=np.arange(20) % 10)
    for arguments, said in [
        (["--data", "broken.npz"], "broken.npz: image 0 has a value that is NaN"),
        (["--data", "none.npz"], "--data none.npz: none.npz does not exist; expected an .npz file"),
        (["--data", "arrays"], "dataset 'arrays' needs the path"),
        (["--data", "arrays", "--data-path", "no"], "--data-path no: no does not exist"),
        (["--data", "my_data.py"], "needs the function that returns the data, e.g. my_data.py:load"),
        (["--data", "digits.npz", "--test-share", 0.5], "--test-share is for data without a test part"),
        (["--data", "digits", "--normalisation", "none"], "--normalisation has no meaning for dataset 'digits'"),
        (["--data", "digits.npz", "--normalisation", "no"], "--normalisation must be training, none"),
    ]:
        for command in (["train", "small_cnn"], ["sweep"]):
            code, _, error = call(*command, *arguments)
            assert code == (1 if "does not exist" in said else 2) and said in error, error
    code, _, error = call("plan", "small_cnn", "--data-path", "digits.npz")
    assert code == 2 and "--data-path needs --data" in error
