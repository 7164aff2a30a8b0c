"""Initial weights: the stated distributions, drawn by the parameter's place alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from networks import Branching

from mpsim import initialization, nn
from mpsim.kernels.philox import Stream, normal, uniform


@pytest.mark.parametrize(
    "rule,shape,kind,spread",
    [
        (initialization.uniform_fan_in, (8, 4, 2, 2), "uniform", 1 / 4),
        (initialization.uniform_fan_in, (5, 25), "uniform", 1 / 5),
        (initialization.normal_fan_in, (7, 8, 1, 1), "normal", 1 / 2),
        (initialization.normal_fan_out, (8, 3, 1, 1), "normal", 1 / 2),
        (initialization.normal_fan_out, (2, 1, 5, 5), "normal", 1 / 5),  # depthwise
        (initialization.normal_with(0.01), (3, 3), "normal", 0.01),
        (initialization.zeros, (3, 3), "zeros", 0.0),
    ],
)
def test_rules(rule: initialization.Rule, shape: tuple, kind: str, spread: float) -> None:
    distribution = rule(shape)
    assert distribution.kind == kind and distribution.spread == pytest.approx(spread, rel=1e-15)


def test_each_parameter_is_drawn_from_the_stream_of_its_place() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3))
    initialization.initialize(model, 5, convolution=initialization.normal_fan_out)
    state = model.state()
    deviation, bound = (2 / 36) ** 0.5, 1 / 18**0.5
    expected = {
        "0.weight": normal(Stream(5, "initial_weights", tensor=0), 72, deviation),
        "0.bias": uniform(Stream(5, "initial_weights", tensor=1), 4, -bound, bound),
        "2.weight": uniform(Stream(5, "initial_weights", tensor=4), 12, -0.5, 0.5),
        "2.bias": uniform(Stream(5, "initial_weights", tensor=5), 3, -0.5, 0.5),
        "1.weight": np.ones(4, np.float32),
        "1.bias": np.zeros(4, np.float32),
    }
    for name, values in expected.items():
        assert state[name].tobytes() == values.tobytes(), name
        assert state[name].dtype == np.float32


def test_spread_of_many_draws() -> None:
    layer = nn.Linear(400, 500)
    initialization.initialize(layer, 0)
    weight = layer.weight.master
    assert abs(weight).max() <= 0.05 and abs(weight.std() - 0.05 / 3**0.5) < 2e-4
    initialization.initialize(layer, 0, linear=initialization.normal_with(0.01), bias=initialization.zeros)
    assert abs(layer.weight.master.std() - 0.01) < 1e-4 and abs(layer.weight.master.mean()) < 1e-4
    assert not layer.bias.master.any()


def digest(seed: int) -> str:
    return hashlib.sha256(b"".join(p.master.tobytes() for p in Branching(seed).parameters().values())).hexdigest()


def test_seeds_give_their_own_weights_again() -> None:
    assert digest(1) == digest(1) != digest(2)
