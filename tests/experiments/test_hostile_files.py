"""Network and data files that die, exit, print, fork or replace modules harm their own run alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpsim.experiments.child import Child, WorkerError, call
from mpsim.experiments.results import Results, ResultsError
from mpsim.experiments.run import run
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.sweep import RunsFailed, sweep, trained_apart
from tests.notices import own_words

BACKEND: dict[str, Any] = {"backend": "compiled", "threads": 1}
SLOW = pytest.mark.slow
QUICK: dict[str, Any] = {"epochs": 1, "batch": 32, "train_images": 64}

#: What a file does, and words of the failure that it should be, or None if its run is not harmed.
WAYS = {
    "mpsim.nn.Linear.forward = mpsim.experiments.run.run = None; os.kill(os.getpid(), signal.SIGKILL)": "by SIGKILL",
    "print('farewell', file=sys.stderr); ctypes.string_at(0)": "killed by SIGSEGV; its last words: farewell",
    "os._exit(0)": "its process ended with exit code 0 before it had finished",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "sys.modules['numpy'] = None; raise ValueError('no numpy')": "ValueError: no numpy",
    "os.fork(); print('x' * 1_000_000); print('y' * 1_000_000, file=sys.stderr)": None,
}
#: Those that Python itself reports, so that they differ less.
RAISES = {"sys.exit(3)": "SystemExit: 3", "raise MemoryError": "MemoryError", "again()": "RecursionError"}
NETWORK = """
import ctypes, os, signal, sys
import mpsim.experiments.run
from mpsim import nn

def again():
    again()

def build(seed, input_shape=(1, 8, 8)):
    {code}
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""
#: The set-up reads the data once, and each run once more. The second read fails.
DATA = """
import ctypes, os, signal, sys
from pathlib import Path
from mpsim.data import digits

def load():
    with Path({count!r}).open("a") as file:
        file.write("read\\n")
    if Path({count!r}).read_text().count("read") == 2:
        {code}
    return digits("train").first(64), digits("test").first(32)
"""


def network(folder: Path, code: str, name: str = "net.py") -> str:
    (folder / name).write_text(NETWORK.format(code=code))
    return f"{folder / name}:build"


def by_seed(folder: Path, ways: dict[str, Any]) -> str:
    """A network that does the n-th of these ways for seed n + 1."""
    lines = [f"if seed == {seed}:\n        {way}" for seed, way in enumerate(ways, 1)]
    return network(folder, "\n    ".join(lines))


def seeds(model: str, count: int) -> list[RunSettings]:
    return [RunSettings(model=model, seed=seed, **QUICK) for seed in range(count)]


def digests(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row.get("digest") for row in rows]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The parameters that each seed should give, of a file that does nothing else."""
    model = network(tmp_path_factory.mktemp("plain"), "pass")
    return [run(job, **BACKEND)["digest"] for job in seeds(model, len(WAYS) + 1)]


@pytest.mark.parametrize(
    ("ways", "processes"), [(WAYS, 2), pytest.param(WAYS, 1, marks=SLOW), pytest.param(RAISES, 2, marks=SLOW)]
)
def test_each_run_dies_alone(tmp_path: Path, expected: list[str], ways: dict[str, Any], processes: int) -> None:
    jobs = seeds(by_seed(tmp_path, ways), len(ways) + 1)
    with Results.in_folder(tmp_path) as results:
        with pytest.raises(RunsFailed) as caught:
            sweep(jobs, results, processes=processes, isolated=True, **BACKEND)
        words = [None, *ways.values()]
        wanted = [digest if word is None else None for digest, word in zip(expected, words, strict=False)]
        assert digests(caught.value.rows) == wanted
        for row, word in zip(caught.value.rows, words, strict=True):
            assert word is None and "failed" not in row or word in row["failed"], row
        failed = sum(word is not None for word in words)
        assert f"{failed} of {len(jobs)} runs failed" in str(caught.value)
        finished = [stored.key for stored in results.runs() if stored.result is not None]
        assert sorted(finished) == sorted(row["key"] for row in caught.value.rows if "failed" not in row)
        assert len(finished) == len(jobs) - failed and all(len(results.history(key)) == 1 for key in finished)


def test_the_next_call_tries_failed_runs_again(tmp_path: Path, expected: list[str]) -> None:
    """In one process at a time. The condition is outside the file, so that its digest remains."""
    sign = tmp_path / "die"
    sign.touch()
    jobs = seeds(network(tmp_path, f"if seed == 1 and os.path.exists({str(sign)!r}): os.kill(os.getpid(), 9)"), 2)[1:]
    trained = {job: job for job in jobs}  # the set-up was before the sign
    with Results.in_folder(tmp_path) as results:
        with pytest.raises(
            RunsFailed, match=r"1 of 1 runs failed.* float32, seed 1: its process was killed by SIGKILL"
        ):
            sweep(jobs, results, isolated=True, trained=trained, **BACKEND)
        sign.unlink()
        assert digests(sweep(jobs, results, isolated=True, **BACKEND)) == expected[1:2]


def test_data_that_die_harm_their_run(tmp_path: Path) -> None:
    way = "os._exit(0)"
    (tmp_path / "my_data.py").write_text(DATA.format(count=str(tmp_path / "count"), code=way))
    base = RunSettings(model="small_cnn", width=0.0625, data=f"{tmp_path / 'my_data.py'}:load", epochs=1, batch=32)
    jobs = [base, replace(base, seed=1)]
    trained = trained_apart(jobs)
    with Results.in_folder(tmp_path) as results, pytest.raises(RunsFailed) as caught:
        sweep(jobs, results, isolated=True, trained=trained, **BACKEND)
    assert WAYS[way] in caught.value.rows[0]["failed"] and "digest" in caught.value.rows[1]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["--epochs", "1", "--batch", "32", "--train-images", "64", "--results", str(folder / "results")]
    program = [sys.executable, "-m", "mpsim.cli", *arguments, *options]
    return subprocess.run(program, capture_output=True, text=True, timeout=60)


def test_train_ends_in_one_sentence(tmp_path: Path) -> None:
    done = command(
        tmp_path, "train", network(tmp_path, "print('x' * 1_000_000 + ' farewell', flush=True); ctypes.string_at(0)")
    )
    assert done.returncode == 1 and done.stdout == ""
    printed, sentence = own_words(done.stderr).splitlines()
    assert printed == "x" * 1_000_000 + " farewell" and sentence.endswith("xxx farewell") and len(sentence) < 1200
    assert sentence.startswith(
        "mpsim: the run of net.py:build on digits failed: its process was killed by SIGSEGV; its last words: xxx"
    )


@SLOW
def test_a_sweep_names_the_runs_that_failed(tmp_path: Path) -> None:
    """The set-up builds seed 0 only, so that the runs of seed 1 fail."""
    model = network(tmp_path, "if seed == 1: os._exit(7)")
    options = ["--levels", "paper", "--ratios", "0.5", "--seeds", "2", "--processes", "2"]
    file = tmp_path / "runs.json"
    done = command(tmp_path, "sweep", "--model", model, *options, "--json", str(file))
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mpsim: ") and "the next call tries these again" in last and "Traceback" not in done.stderr
    rows = json.loads(file.read_text())
    assert [row["seed"] for row in rows if "failed" in row] == [1] * (len(rows) // 2)
    assert done.stdout.count("exit code 7") == len(rows) // 2


def test_ctrl_c_ends_a_run_that_loops(tmp_path: Path) -> None:
    """It ignores SIGINT and SIGTERM, and so does the process that it forks."""
    pids = tmp_path / "pids"
    stubborn = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork()\n"
        f"    with open({str(pids)!r}, 'a') as file: file.write(f'{{os.getpid()}}\\n')\n    while True: pass"
    )
    program = [sys.executable, "-m", "mpsim.cli", "train", network(tmp_path, stubborn), "--results", str(tmp_path)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not pids.exists() or pids.read_text().count("\n") < 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and "stopped" in errors and "Traceback" not in errors
    looping = [int(pid) for pid in pids.read_text().split()]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(map(runs, looping)):
        time.sleep(0.05)
    assert len(looping) == 2 and not any(map(runs, looping))


def test_a_run_that_loops_is_ended_and_may_go_on(tmp_path: Path, expected: list[str]) -> None:
    """Seed 1 loops, the others end, and the next call trains seed 1 to the same parameters."""
    sign, pids = tmp_path / "sign", tmp_path / "pids"
    sign.touch()
    way = (
        f"if seed == 1 and os.path.exists({str(sign)!r}):\n        open({str(pids)!r}, 'w').write(str(os.getpid()))\n"
        "        while True: signal.pause()"
    )
    jobs = seeds(network(tmp_path, way), 3)
    options: dict[str, Any] = {"trained": {job: job for job in jobs}, "processes": 2, "timeout": 10, **BACKEND}
    with Results.in_folder(tmp_path) as results:
        began = time.monotonic()
        with pytest.raises(RunsFailed, match="1 of 3 runs failed") as caught:
            sweep(jobs, results, **options)
        assert time.monotonic() - began < 30
        assert digests(caught.value.rows) == [expected[0], None, expected[2]]
        failed = caught.value.rows[1]["failed"]
        assert failed == "its process did not end within 10 s and was ended; --timeout allows more"
        assert not runs(int(pids.read_text()))
        sign.unlink()
        assert digests(sweep(jobs, results, **options)) == expected[:3]


def test_epochs_of_a_run_that_is_ended_are_stored(tmp_path: Path) -> None:
    """The process loops after it has stored an epoch."""
    sign = tmp_path / "sign"
    sign.touch()
    way = (
        "from mpsim.experiments.results import Results\n"
        "    right = Results.add_epoch\n"
        "    def add_epoch(*arguments):\n"
        "        right(*arguments)\n"
        f"        while os.path.exists({str(sign)!r}): signal.sigtimedwait([], 0.05)\n"
        "    Results.add_epoch = add_epoch"
    )
    job = replace(seeds(network(tmp_path, way), 1)[0], epochs=3)
    options: dict[str, Any] = {"trained": {job: job}, "timeout": 10, **BACKEND}
    with Results.in_folder(tmp_path) as results:
        with pytest.raises(RunsFailed, match="did not end within 10 s"):
            sweep([job], results, **options)
        (before,) = results.epochs_done().values()
        assert before == 1
        kept = results.history(job.key)
        sign.unlink()
        (row,) = sweep([job], results, **options)
        assert "failed" not in row and results.history(job.key)[:before] == kept


@pytest.mark.parametrize("sort", ["network", "data"])
def test_what_loops_while_it_is_set_up_is_ended(tmp_path: Path, sort: str) -> None:
    loop = "while True: signal.pause()"
    (tmp_path / "data.py").write_text(f"import signal\n\ndef load():\n    {loop}\n")
    model = network(tmp_path, loop) if sort == "network" else "small_cnn"
    options = [] if sort == "network" else ["--data", f"{tmp_path / 'data.py'}:load", "--width", "0.0625"]
    done = command(tmp_path, "sweep", "--model", model, *options, "--ratios", "0.5", "--timeout", "3")
    said = own_words(done.stderr)
    assert done.returncode == 1 and "its process did not end within 3 s and was ended; --timeout allows more" in said
    assert ("cannot be set up" if sort == "network" else "cannot be read") in said and "Traceback" not in said


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), 1e9, "1"])
def test_time_limits_are_checked(tmp_path: Path, limit: Any) -> None:
    words = "timeout must be a number of seconds"
    with Results.in_folder(tmp_path) as results, pytest.raises((ValueError, TypeError), match=words):
        sweep([], results, timeout=limit)


def runs(pid: int) -> bool:
    """Whether a process runs. One that has ended, and that nobody asked about, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_forked_process_cannot_write_results(tmp_path: Path) -> None:
    with Results.in_folder(tmp_path) as results:
        pid = os.fork()
        if pid == 0:
            try:
                results.start("k", {}, plan="{}", environment={})
            except ResultsError:
                os._exit(5)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        assert results.runs() == []


def test_a_child_answers_until_it_ends() -> None:
    child = Child()
    try:
        child.ask(int, "7f", 16)
        assert child.answer() == 127
        child.ask(int, "g", 16)
        with pytest.raises(WorkerError, match="it failed with ValueError: invalid literal"):
            child.answer()
        child.ask(os._exit, 4)
        with pytest.raises(WorkerError, match="its process ended with exit code 4 before it had finished"):
            child.answer()
    finally:
        child.close()
    with pytest.raises(FileNotFoundError):
        call(os.stat, "/no/such/file")
