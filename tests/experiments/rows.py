"""Results made by hand, as runs return them."""

from __future__ import annotations

from typing import Any

from mpsim.experiments.labels import GIVEN, promotes

TRAINED: dict[str, Any] = {
    "model": "small_cnn", "model_sha256": None, "width": 1.0, "data": "digits", "data_sha256": None,
    "train_images": None, "epochs": 15, "batch": 128, "lr": 0.1, "schedule": "cosine", "momentum": 0.9,
    "weight_decay": 5e-4, "semantics": "standard", "rounding": "nearest", "random_bit_count": None,
    "evaluate_every": 1, "skipped_statistics": "updated",
    "accumulator": "sequential,format=float32,chunk=256,fma=true", "own_settings": None, "definition": 1,
}  # fmt: skip


def row(scheme: str, share: float, accuracy: float, **settings: Any) -> dict[str, Any]:
    """A result of that share and accuracy; ``settings`` take the place of the usual ones."""
    usual = {
        "scheme": scheme, "ratio": None, "k": None, "plan_seed": None, "given_plan": None, "plan_sha256": None,
        "levels": None if scheme == "float32" else "paper", "promotion": 0.01 if promotes(scheme) else None,
        "seed": 0, **TRAINED,
    }  # fmt: skip
    assert set(settings) <= {*usual, "diverged"}
    return usual | {"low_share": share, "test_accuracy": accuracy, "diverged": False} | settings


def given(share: float, accuracy: float, words: str, sha256: str, **settings: Any) -> dict[str, Any]:
    """A result under a plan from a file."""
    return row(GIVEN, share, accuracy, given_plan=words, plan_sha256=sha256, **settings)
