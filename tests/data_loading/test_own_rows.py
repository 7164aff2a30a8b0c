"""Rows of numbers, i.e. tables, as a user's own data, and networks that read them."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import pictures

from mpsim import Trainer, nn
from mpsim.data import Augmentation, as_parts
from mpsim.data.own.preparation import split
from mpsim.initialization import initialize

IMAGES, LABELS = pictures()


@pytest.mark.parametrize("form", ["arrays", "names", "items"])
def test_rows_of_numbers(form: str) -> None:
    rows = IMAGES.reshape(40, 30).astype(np.float64)
    given = {
        "arrays": (rows, LABELS), "names": {"x": rows, "y": LABELS},
        "items": [(row, int(label)) for row, label in zip(rows, LABELS, strict=True)],
    }[form]  # fmt: skip
    training, test = as_parts(given)
    assert training.image_shape == test.image_shape == (30,) and len(training) == 32
    assert repr(training) == "Dataset('the data': 32 rows of 30 numbers, 4 classes)"
    chosen, _ = split(40, None)
    own = rows[chosen].astype(np.float32)
    for column in range(30):
        numbers = [float(number) for number in own[:, column]]
        mean = sum_in_order(numbers) / 32
        spread = math.sqrt(sum_in_order([(number - mean) ** 2 for number in numbers]) / 32)
        by = np.float32(spread if np.float32(spread) > 0 else 1)
        assert training.images[:, column].tobytes() == ((own[:, column] - np.float32(mean)) / by).tobytes()


def sum_in_order(numbers: list[float]) -> float:
    """The builtin sum compensates from Python 3.12 on."""
    total = 0.0
    for number in numbers:
        total += number
    return total


def test_rows_train_a_network_of_rows_only() -> None:
    training, _ = as_parts((IMAGES.reshape(40, 30), LABELS))
    network = nn.Sequential(nn.Linear(30, 4))
    network.input_shape = (30,)
    initialize(network, 0)
    losses = []
    for backend in ("compiled", "reference"):
        trainer = Trainer(copy.deepcopy(network), backend=backend, threads=1)
        losses.append([trainer.step(training.images, training.labels).loss for _ in range(3)])
    assert losses[0] == losses[1] and losses[0][2] < losses[0][0]
    with pytest.raises(ValueError, match=r"images must have shape \(N, 30\) with N >= 1, got \(40, 1, 5, 6\)"):
        trainer.step(np.zeros((40, 1, 5, 6), np.float32), LABELS)
    with pytest.raises(ValueError, match="has no images to augment"):
        training.load(np.arange(2), Augmentation(), np.zeros((2, 3), np.uint32))


NETWORK = """
from mpsim import nn


def build(input_shape=(30,), classes=4):
    return nn.Sequential(nn.Linear(*input_shape, 8), nn.ReLU(), nn.Linear(8, classes))
"""


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, call_json: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    np.savez("table.npz", x=IMAGES.reshape(40, 30), y=LABELS)
    common = ["net.py:build", "--data", "table.npz"]
    run = call_json("train", *common, "--batch", "8", "--epochs", "1", "--scheme", "largest_first", "--ratio", "0.5")
    assert run["steps"] == 4 and np.isfinite(run["train_loss"])
    assert call("plan", *common, "--ratio", "0.5")[0] == 0
    assert call("trace-step", *common, "--out", "step.npz")[0] == 0
    checked = ["step.npz", "--against", "step.npz", "--teacher-forced", "--model", "net.py:build"]
    assert call("validate", "step", *checked)[0] == 0
    code, _, errors = call("train", "small_cnn", *common[1:], "--batch", "8")
    assert code == 2 and "input_shape must be (channels, height, width)" in errors
    code, _, errors = call("train", "gpt_tiny", *common[1:], "--batch", "8")
    assert code == 2 and "gpt_tiny needs tokens of (30,), but table.npz has rows of (30,)" in errors
