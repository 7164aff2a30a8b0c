"""What the crash tests interrupt: a small sweep into a results file, and a training that saves checkpoints."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpsim.data import DataLoader
from mpsim.data.digits import digits
from mpsim.errors import MpsimError
from mpsim.experiments.results import FILE_NAME, Results
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.sweep import sweep
from mpsim.training.trainer import Trainer

#: Of milliseconds an epoch; with promotion, so that plans change.
JOB = RunSettings(
    "largest_first", 0.6, levels="four_bit", width=0.0625, epochs=2, batch=16, train_images=48, promotion=0.001
)  # fmt: skip
JOBS = [JOB, replace(JOB, scheme="uniform_low", ratio=None)]
BACKEND: dict[str, Any] = {"backend": "compiled", "threads": 1}
EPOCHS = 3
#: Of a command that runs three trainings.
OPTIONS = (
    "--width", "0.0625", "--epochs", "9", "--batch", "16", "--levels", "four_bit", "--ratios", "0.6",
    "--train-images", "96",
)  # fmt: skip
#: What a report names: the runs' keys and this file.
STATE = "state.mpsim"

Tell = Callable[[str, int], None]


def work(folder: Path, tell: Tell) -> None:
    """Does all the work that is not done yet. It calls ``tell`` when an epoch is stored."""
    with Results.in_folder(folder / "results") as results:

        def on_progress(done: dict[str, int]) -> None:
            for key, epochs in done.items():
                tell(key, epochs)

        sweep(JOBS, results, on_progress=on_progress, **BACKEND)
    path = folder / STATE
    trainer = Trainer.load(path, **BACKEND) if path.exists() else new_trainer()
    batches = DataLoader(digits("train", 0).first(48), 16, seed=0)
    while trainer.epoch < EPOCHS:
        trainer.train_epoch(batches.epoch(trainer.epoch))
        trainer.save(path)
        tell(STATE, trainer.epoch)


def new_trainer() -> Trainer:
    network = JOB.build(JOB.load()[0])
    plan = JOB.make_plan(network)
    return Trainer(network, plan, JOB.recipe(plan, steps=3), **BACKEND)


def stored(folder: Path) -> dict[str, int]:
    """The numbers of epochs that a run would go on from. Every check of mpsim's reader passes."""
    found = {}
    if (folder / "results" / FILE_NAME).exists():
        with Results.in_folder(folder / "results") as results:
            found = results.epochs_done()
            for run in results.runs():
                results.checkpoint(run.key)
    if (folder / STATE).exists():
        found[STATE] = Trainer.load(folder / STATE, **BACKEND).epoch
    return found


def contents(folder: Path) -> dict[str, Any]:
    """Everything that finished work leaves, without times and without the names that temporary files had."""
    database = sqlite3.connect(folder / "results" / FILE_NAME)
    try:
        rows = {
            name: database.execute(f"SELECT {columns} FROM {name} ORDER BY 1, 2").fetchall()
            for name, columns in (
                ("runs", "key, settings, plan, final_plan, environment, result"),
                ("epochs", "key, epoch, metrics"),
                ("checkpoints", "key, epoch"),
            )
        }
        whole = database.execute("PRAGMA integrity_check").fetchall()
    finally:
        database.close()
    stored(folder)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        "rows": {name: [[timeless(value) for value in row] for row in found] for name, found in rows.items()},
        "integrity": whole,
        "state": (folder / STATE).read_bytes(),
        "files": [name for name in files if not name.startswith(f".{STATE}.")],
    }


def timeless(value: Any) -> Any:
    """A JSON object without its measured seconds."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    return {name: each for name, each in json.loads(value).items() if name != "seconds"}


def rows_of(path: Path) -> list[Any]:
    """The rows that a command wrote, without times."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in json.loads(path.read_text())]


def left_behind(folder: Path) -> int:
    """The number of temporary files that a killed process could not remove."""
    return len(list(folder.glob(f".{STATE}.*")))


def main_of_child(folder: Path, report: int, mark: Callable[[bytes], None] | None) -> int:
    """Does the work in a process whose reports go to a descriptor. Returns the exit code: 3 after an expected error."""

    def tell(name: str, epochs: int) -> None:
        words = f"{name} {epochs}".encode()
        os.write(report, words + b"\n")
        if mark is not None:
            mark(words)

    try:
        work(folder, tell)
    except (MpsimError, OSError) as error:
        os.write(report, f"error {type(error).__name__}: {error}\n".encode())
        return 3
    return 0
