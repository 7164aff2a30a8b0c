"""Whole training steps: one digest on every instruction set and for any threads, and it is the reference's."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import reference_models
from mpsim import Trainer, assignment, trace

_kernels = pytest.importorskip("mpsim._kernels", reason="the extension is not built")

#: network, width, images, batch.
STEPS = (
    ("small_cnn", 0.5, (1, 8, 8), 33),
    ("shufflenet_v2", 0.1, (3, 32, 32), 2),
    ("mobilenet_v2", 0.1, (3, 32, 32), 1),
    ("resnet18", 0.1, (3, 32, 32), 2),
)
NAMES = [step[0] for step in STEPS]


@functools.cache
def digest(name: str, backend: str, threads: int, variant: str) -> str:
    """After three steps with most tensors low."""
    _, width, shape, batch = STEPS[NAMES.index(name)]
    random = np.random.default_rng(0)
    model = reference_models.build(name, width)
    semantics = "lee2023" if name == "resnet18" else "standard"
    plan = assignment.demote(trace(model, batch=batch, semantics=semantics), ratio=0.7)
    trainer = Trainer(model, plan, semantics=semantics, backend=backend, threads=threads)
    for _ in range(3):
        images = random.standard_normal((batch, *shape), dtype=np.float32)
        trainer.step(images, random.integers(0, 10, batch))
    return trainer.digest()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_digest_is_the_references(variant: str, threads: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpsim.kernels.compiled.contraction.WORTH_THREADS", 0)  # else one thread would do all
    assert digest(name, "compiled", threads, variant) == digest(name, "reference", 1, "")
