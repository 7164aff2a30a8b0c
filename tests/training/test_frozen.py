"""Gradients that only frozen parameters need are not computed, and no other bit depends on that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference_models
from mpsim import nn, ops
from mpsim.assignment import assign
from mpsim.engine.tensor import Tensor
from mpsim.errors import UsageError
from mpsim.trace import trace
from mpsim.training.optimizer import AdamW
from mpsim.training.trainer import Trainer
from mpsim.validate import record_step

Batch = tuple[np.ndarray, np.ndarray]


class Mixed(nn.Module):
    """Ops whose derivative by a parameter can be left out: (N, 18) -> (N, 4)."""

    input_shape, classes = (18,), 4

    def __init__(self) -> None:
        self.row = nn.Conv1d(3, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 2, (2, 1))
        self.norm = nn.GroupNorm(2, 2)
        self.scale = nn.Parameter(np.linspace(0.5, 1.5, 24, dtype=np.float32))
        self.linear = nn.Linear(24, 4)
        stream = np.random.default_rng(0)
        for parameter in self.parameters().values():
            if parameter is not self.scale:
                parameter.replace(stream.normal(0, 0.5, parameter.shape).astype(np.float32))

    def __call__(self, x: Tensor) -> Tensor:
        y = self.row(ops.reshape(x, (-1, 3, 6)))
        y = self.norm(self.up(ops.reshape(y, (*y.shape[:2], 1, y.shape[2]))))
        return self.linear(ops.multiply(ops.flatten(y), self.scale, name="scale"))


def network(name: str) -> Any:
    if name == "mixed":
        return Mixed()
    return reference_models.build(name, 0.25, **({"input_shape": (8,)} if name == "gpt_tiny" else {}))


def batch_for(model: Any) -> Batch:
    random = np.random.default_rng(1)
    if isinstance(model, reference_models.GPTTiny):
        text = random.integers(0, 10, (6, 9))
        return text[:, :-1], text[:, 1:]
    return random.standard_normal((6, *model.input_shape), dtype=np.float32), random.integers(0, model.classes, 6)


def trainer_of(name: str, groups: str, **settings: Any) -> tuple[Trainer, Batch]:
    model = network(name)
    batch = batch_for(model)
    semantics = settings.get("semantics", "standard")
    plan = assign(trace(model, 6, semantics, model.input_shape), "uniform_low")
    return Trainer(model, plan, groups=groups, backend="reference", threads=1, **settings), batch


#: A network, what is frozen, and how many calls of which kernels a step has less: derivatives by the parameter, and the
#: rounding of its gradient. Below the first parameter that is trained there is no gradient of an activation either.
CASES: dict[str, tuple[str, str, dict[str, int]]] = {
    "first convolution": ("small_cnn", "conv1.*:frozen", {"conv2d_weight_gradient": 1, "round_array": 2}),
    "second weight": ("small_cnn", "conv2.weight:frozen", {"conv2d_weight_gradient": 1, "round_array": 1}),
    "tied": ("gpt_tiny", "embedding.*:frozen", {"take_gradient": 1, "matmul": 1, "add": 1, "round_array": 2}),
    "nine norms": (
        "gpt_tiny", "*norm*:frozen", {"batch_norm_inference": 9, "multiply": 9, "channel_sum": 18, "round_array": 18}
    ),
    "row": (
        "mixed", "row.*:frozen", {"conv2d_weight_gradient": 1, "channel_sum": 1, "conv2d": 1, "round_array": 3}
    ),
    "transposed": ("mixed", "up.*:frozen", {"conv2d_weight_gradient": 1, "channel_sum": 1, "round_array": 2}),
    "factor": ("mixed", "scale:frozen", {"multiply": 1, "channel_sum": 1, "round_array": 1}),
    "bias": ("mixed", "linear.bias:frozen", {"channel_sum": 1, "round_array": 1}),
}  # fmt: skip


def counted(trainer: Trainer, batch: Batch) -> Counter[str]:
    """Counts the calls of each kernel in a step."""
    calls = Counter[str]()

    def watched(name: str, kernel: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return kernel(*arguments, **options)

        return call

    for name, kernel in vars(trainer.kernels).items():
        if callable(kernel):
            setattr(trainer.kernels, name, watched(name, kernel))
    trainer.step(*batch)
    return calls


@pytest.mark.parametrize("case", CASES)
def test_kernels_of_frozen_parameters_are_not_called(case: str) -> None:
    name, groups, fewer = CASES[case]
    trainer, batch = trainer_of(name, groups)
    everything, _ = trainer_of(name, groups)
    everything._updater.frozen = frozenset()
    without, with_all = counted(trainer, batch), counted(everything, batch)
    assert trainer.digest() == everything.digest()
    assert with_all - without == fewer and not without - with_all


def test_nothing_is_differentiated_below_the_last_trained_parameter() -> None:
    trainer, batch = trainer_of("small_cnn", "[!l]*:frozen")
    assert list(trainer._updater.rules) == ["linear.weight", "linear.bias"]
    calls = counted(trainer, batch)
    assert not [
        name for name in calls if name.endswith("_gradient") and "log_softmax" not in name and "nll" not in name
    ]


@pytest.mark.parametrize(
    "settings",
    [{}, {"micro_batches": 3, "storage": "gradients=bfloat16/stochastic"}, {"clip": 0.1, "ema": 0.9},
     {"rounding": "stochastic", "random_bit_count": 8}, {"semantics": "lee2023"}, {"optimizer": AdamW()}],
    ids=str,
)  # fmt: skip
def test_every_other_bit_is_the_same(settings: dict[str, Any]) -> None:
    groups = "conv1.*:frozen;bn2.*:frozen;linear.bias:frozen"
    trainer, batch = trainer_of("small_cnn", groups, **settings)
    everything, _ = trainer_of("small_cnn", groups, **settings)
    everything._updater.frozen = frozenset()
    for _ in range(3):
        one, other = trainer.step(*batch), everything.step(*batch)
        assert (one.loss, one.gradient_norm, one.promoted) == (other.loss, other.gradient_norm, other.promoted)
        assert set(one.overflow) < set(other.overflow)
        assert all(other.overflow[id] == share for id, share in one.overflow.items())
    assert trainer.digest() == everything.digest()
    states, others = trainer._updater.to_numpy(), everything._updater.to_numpy()
    assert all(
        np.array_equal(array, others[kind][name]) for kind, found in states.items() for name, array in found.items()
    )


def test_a_recorded_step_has_every_gradient() -> None:
    trainer, batch = trainer_of("small_cnn", "conv1.*:frozen")
    alone, _ = trainer_of("small_cnn", "conv1.*:frozen")
    recorded = record_step(trainer, *batch)
    alone.step(*batch)
    assert trainer.digest() == alone.digest()
    assert "GP/1/0" in recorded.tensors


def test_parameters_that_are_not_trained_are_frozen_groups(tmp_path: Path) -> None:
    """As frozen parameters of PyTorch's modules (requires_grad=False) are imported."""
    one, batch = trainer_of("mixed", "row.*:frozen;scale:rate=0.5")
    model = network("mixed")
    for name in ("row.weight", "row.bias"):
        model.parameters()[name].trained = False
    other = Trainer(model, one.plan, groups="scale:rate=0.5", backend="reference", threads=1)
    for trainer in (one, other):
        trainer.step(*batch)
    assert other.digest() == one.digest() and list(other.states["velocity"]) == list(one.states["velocity"])
    other.save(tmp_path / "checkpoint")
    again = Trainer.load(tmp_path / "checkpoint", model=model)
    assert again.recipe.groups == other.recipe.groups and len(again.recipe.groups) == 3
    for trainer in (one, again):
        trainer.step(*batch)
    assert again.digest() == one.digest()
    for parameter in model.parameters().values():
        parameter.trained = False
    with pytest.raises(UsageError, match="every parameter is frozen"):
        Trainer(model, backend="reference")
