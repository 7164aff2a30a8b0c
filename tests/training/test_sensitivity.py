"""Sensitivities: measured by trial, estimated to first order, and what an optimal plan makes of them."""

import numpy as np
import pytest

import reference_models
from mpsim import nn, ops
from mpsim.assignment import PAPER_LEVELS, demoted, measure_sensitivity, optimal, uniform
from mpsim.data import digits
from mpsim.initialization import initialize
from mpsim.trace import trace
from mpsim.training.loss_scale import LossScale
from mpsim.training.optimizer import SGD
from mpsim.training.sensitivity import steps
from mpsim.training.trainer import Trainer

MILD = "float32:fp_8_9_127,fp_8_9_127"


@pytest.fixture(scope="module")
def data():
    some = digits("train")
    return [(some.images[start : start + 16], some.labels[start : start + 16]) for start in (0, 16)]


def measure(model, data, levels=PAPER_LEVELS, **settings):
    return measure_sensitivity(steps(model, data, threads=1, **settings), levels)


def build():
    return reference_models.build("small_cnn", width=0.25, seed=2)


def test_by_trial_is_what_a_trainer_finds(data):
    """A step of plain descent with learning rate 1 moves the masters by the gradients."""
    found = measure(build(), data[:1], backend="reference")
    traced = trace(build(), batch=16)

    def step(plan):
        model = build()
        before = model.state()
        descent = SGD(lr=1.0, momentum=0.0, weight_decay=0.0)
        settings = {"optimizer": descent, "loss_scale": LossScale.fixed(1024.0), "promotion": None}
        report = Trainer(model, plan, **settings, backend="reference", threads=1).step(*data[0])
        after = model.state()
        moves = [(before[name].astype(float) - after[name]).ravel() for name in model.parameters()]
        return report.loss, np.concatenate(moves)

    loss, gradient = step(uniform(traced, "high"))
    for group in range(len(traced.groups)):
        other_loss, other = step(demoted(traced, [group], "one"))
        assert found.loss[group] == abs(other_loss - loss)
        error = np.linalg.norm(other - gradient) / np.linalg.norm(gradient)
        assert found.gradient[group] == pytest.approx(error, rel=1e-3, abs=1e-6)


class Lines(nn.Module):
    """Two linear layers: group 1 rounds the first one's output and the second one's parameters, each alone."""

    input_shape = (1, 8, 8)

    def __init__(self):
        self.first, self.second = nn.Linear(64, 16), nn.Linear(16, 10)
        initialize(self, 5)

    def __call__(self, x):
        return self.second(self.first(ops.flatten(x)))


def test_first_order_foretells_the_loss_where_changes_are_small_and_apart(data):
    for batch in data:
        found = measure(Lines(), [batch], MILD)
        assert found.loss[1] > 1e-5, "above the last place of the loss"
        assert found.loss_first_order[1] == pytest.approx(found.loss[1], rel=0.02, abs=5e-7)


def test_first_order_tells_the_size_elsewhere(data):
    found = measure(build(), data)
    assert np.argmax(found.loss) == np.argmax(found.loss_first_order)
    assert max(found.loss_first_order) == pytest.approx(max(found.loss), rel=0.2)
    assert all(estimated > 0 for estimated in found.loss_first_order)


def test_the_model_is_as_before_and_backends_agree(data):
    model = build()
    before = {name: array.tobytes() for name, array in model.state().items()}
    compiled = measure(model, data)
    assert {name: array.tobytes() for name, array in model.state().items()} == before
    assert measure(build(), data, backend="reference") == compiled


def test_an_optimal_plan_takes_the_measured_groups(data):
    model = build()
    found = measure(model, data)
    traced = trace(model, batch=16)
    plan = optimal(traced, ratio=0.4, sensitivity=found.gradient)
    assert plan.reached >= 0.4
    assert Trainer(model, plan, threads=1).step(*data[0]).skipped is False


def test_overflow_is_infinitely_bad_and_no_batch_is_told(data):
    narrow = "float32:fp_4_3_4,fp_5_2_0"
    assert np.inf in measure(build(), data, narrow, loss_scale=2.0**24).gradient
    with pytest.raises(ValueError, match="lower loss_scale"):
        measure(build(), data, loss_scale=2.0**40)
    with pytest.raises(ValueError, match="at least one batch"):
        measure(build(), [])
