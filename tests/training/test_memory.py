"""What a trainer says when a device's memory is too small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reference_models
from mpsim import Trainer
from mpsim.kernels import DeviceMemoryError
from mpsim.training.batches import fitting_batch


def test_more_memory_holds_a_larger_batch() -> None:
    model = reference_models.build("small_cnn", width=0.25)
    batches = [fitting_batch(model, megabytes << 20) for megabytes in (0, 1, 10, 100, 1000)]
    assert batches == sorted(batches) and batches[0] == 0 < batches[-1]
    assert 90 < batches[-1] / batches[2] < 130  # nearly in proportion: the parameters are few


def test_a_step_says_which_batch_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = reference_models.build("small_cnn", width=0.25)
    trainer = Trainer(model, backend="reference", threads=1)
    before = trainer.digest()

    def short(*arguments: Any, **options: Any) -> Any:
        raise DeviceMemoryError("cannot allocate 9.0 MiB on the device", asked=9 << 20, used=0, total=4 << 20)

    monkeypatch.setattr(trainer.kernels, "matmul", short)
    images = np.zeros((64, *model.input_shape), np.float32)
    with pytest.raises(DeviceMemoryError, match=r"batch 64 needed 9437184 more bytes: .* of about \d+ would fit"):
        trainer.step(images, np.zeros(64, np.int64))
    assert trainer.digest() == before and trainer.steps == 0
