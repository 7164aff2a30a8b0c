"""Dropout: its mask is Philox's, by seed, step and op; evaluation copies; and tied weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mpsim import Trainer, kernels, nn, ops
from mpsim.engine.tape import Tape
from mpsim.errors import UsageError
from mpsim.kernels.philox import Stream, random_bits

X = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)


def dropped(backend: str, **options: Any) -> np.ndarray:
    tape = Tape(kernels.bind(backend), seed=7, step=3)
    return ops.dropout(tape.input(X), 0.3, **options).value


def test_the_mask_is_of_seed_step_and_op(backend: str) -> None:
    words = random_bits(Stream(7, "dropout", tensor=1, step=3), X.size).reshape(X.shape)
    expected = np.where(words >= round(0.3 * 2**32), X * np.float32(1 / 0.7), np.float32(0))
    assert np.array_equal(dropped(backend), expected) and 0 < (expected == 0).sum() < X.size


@pytest.mark.parametrize("leading", [1, 2])
def test_samples_and_channels_are_dropped_as_one(backend: str, leading: int) -> None:
    shape = X.shape[:leading]
    words = random_bits(Stream(7, "dropout", tensor=1, step=3), int(np.prod(shape))).reshape(shape)
    kept = (words >= round(0.3 * 2**32)).reshape(*shape, *[1] * (3 - leading))
    assert np.array_equal(dropped(backend, leading=leading), np.where(kept, X * np.float32(1 / 0.7), np.float32(0)))


def test_evaluation_copies_and_no_share_keeps_all() -> None:
    evaluation = Tape(kernels.bind("compiled"), training=False)
    x = evaluation.input(X)
    y = ops.dropout(x, 0.9)
    assert np.array_equal(y.value, X) and len(evaluation.ops) == 2  # ops have the same indices as in training
    assert np.array_equal(ops.dropout(Tape(kernels.bind("compiled")).input(X), 0).value, X)
    with pytest.raises(UsageError, match="share must be"):
        nn.Dropout(1.0)


class Tied(nn.Module):
    """Two layers with one weight."""

    classes, input_shape = 4, (1, 2, 2)

    def __init__(self) -> None:
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.first.weight.replace(np.arange(16, dtype=np.float32).reshape(4, 4) / 16)

    def __call__(self, x: Any) -> Any:
        return self.second(ops.tanh(self.first(ops.flatten(x))))


def test_a_tied_weight_is_one_parameter_under_its_first_name() -> None:
    network = Tied()
    assert list(network.parameters()) == ["first.weight", "second.bias"]
    assert network.first.weight.name == "first.weight"
    assert list(network.state()) == ["first.weight", "second.weight", "second.bias"]
    state = network.state()
    network.load_state(state)
    state["second.weight"] = state["second.weight"] + 1
    with pytest.raises(UsageError, match=r"first\.weight and second\.weight are one parameter"):
        network.load_state(state)
    images, labels = np.ones((2, 1, 2, 2), np.float32), np.array([0, 3])
    trainer = Trainer(network, threads=1)
    trainer.step(images, labels)
    assert network.second.weight is network.first.weight
    assert not np.array_equal(network.first.weight.master, Tied().first.weight.master)
