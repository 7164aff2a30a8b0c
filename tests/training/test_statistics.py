"""Running statistics of batch norm: cumulative averages, skipped steps, and runs that are no longer finite."""

import numpy as np
import pytest

import reference_models
from mpsim import kernels, nn
from mpsim.engine.tape import Tape
from mpsim.training.loss_scale import LossScale
from mpsim.training.trainer import Trainer

f = np.float32


def two_valued(mean, deviation):
    """Eight images of one pixel whose mean and variance are exact: (8, 1, 1, 1)."""
    return (mean + deviation * np.float32([1, -1] * 4)).astype(f).reshape(8, 1, 1, 1)


def test_without_momentum_the_statistics_are_averages_over_all_batches(backend):
    """Batch n enters with float32(1/n), in the kernel's written order: (1 - m) * running + m * (batch * correction)."""
    bound = kernels.bind(backend)
    layer = nn.BatchNorm2d(1, momentum=None)
    layer.move(bound)
    mean, variance = f(0), f(1)
    for number, (batch_mean, deviation) in enumerate([(4.0, 2.0), (2.0, 1.0), (0.25, 0.5), (-3.0, 4.0)], start=1):
        layer(Tape(bound).input(two_valued(batch_mean, deviation)))
        m = f(1 / number)
        mean = f(f(f(1) - m) * mean) + f(m * f(batch_mean))
        variance = f(f(f(1) - m) * variance) + f(m * f(f(deviation**2) * f(8 / 7)))
        state = layer.state()
        assert state["running_mean"].tobytes() == f([mean]).tobytes()
        assert state["running_var"].tobytes() == f([variance]).tobytes()
        assert state["num_batches_tracked"] == number
    assert mean == pytest.approx((4 + 2 + 0.25 - 3) / 4, rel=1e-6)
    assert variance == pytest.approx((4 + 1 + 0.25 + 16) / 4 * 8 / 7, rel=1e-6)


def test_the_first_batch_replaces_what_the_statistics_were_built_with():
    bound = kernels.bind("reference")
    layer = nn.BatchNorm2d(1, momentum=None)
    layer(Tape(bound, training=False).input(two_valued(9.0, 1.0)))
    assert layer.state()["num_batches_tracked"] == 0
    layer(Tape(bound).input(two_valued(4.0, 2.0)))
    assert (layer.running_mean[0], layer.running_var[0]) == (4.0, f(f(4) * f(8 / 7)))


class Averaging(nn.Module):
    name, width, classes, input_shape = "averaging", 1.0, 10, (1, 8, 8)

    def __init__(self):
        self.body = nn.ModuleList([nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2, momentum=None)])
        self.pool, self.flatten, self.head = nn.AvgPool2d(4), nn.Flatten(), nn.Linear(8, 10)
        self.body[0].weight.master[:] = np.linspace(-1, 1, 18, dtype=f).reshape(2, 1, 3, 3)

    def __call__(self, x):
        for layer in self.body:
            x = layer(x)
        return self.head(self.flatten(self.pool(x)))


def test_averages_go_on_from_a_checkpoint(tmp_path, backend, batches):
    whole = Trainer(Averaging(), backend=backend, threads=1)
    for batch in batches[:2]:
        whole.step(*batch)
    whole.save(tmp_path / "state")
    loaded = Trainer.load(tmp_path / "state", model=Averaging(), threads=1)
    for trainer in (whole, loaded):
        for batch in batches[2:4]:
            trainer.step(*batch)
    states = [{name: array.tobytes() for name, array in t.model.state().items()} for t in (whole, loaded)]
    assert states[0] == states[1]
    assert loaded.model.state()["body.1.num_batches_tracked"] == 4


def state_of(trainer):
    return {name: array.tobytes() for name, array in trainer.model.state().items()}


def test_a_skipped_step_may_leave_the_statistics_as_they_were(backend, make, batches):
    """The first step overflows under a loss scale of 2**100; the steps after it are those of a run that began there."""
    settings = {"backend": backend, "promotion": None, "skipped_statistics": "kept"}
    trainer = make("uniform_low", loss_scale=LossScale(initial=2.0**100, backoff=2.0**-84), **settings)
    before = state_of(trainer)
    assert trainer.step(*batches[0]).skipped
    assert state_of(trainer) == before
    twin = make("uniform_low", loss_scale=LossScale(initial=2.0**16), **settings)
    for batch in batches[1:3]:
        assert trainer.step(*batch).loss == twin.step(*batch).loss
    assert state_of(trainer) == state_of(twin) != before


def test_a_step_that_is_not_skipped_is_the_same_either_way(make, batches):
    states = []
    for choice in ("kept", "updated"):
        trainer = make("uniform_low", skipped_statistics=choice)
        assert not any(trainer.step(*batch).skipped for batch in batches[:2])
        states.append(state_of(trainer))
    assert states[0] == states[1]


def test_the_choice_is_stored_in_checkpoints(tmp_path, make, batches):
    trainer = make("uniform_low", loss_scale=LossScale(initial=2.0**100), skipped_statistics="kept")
    trainer.save(tmp_path / "state")
    loaded = Trainer.load(tmp_path / "state")
    before = state_of(loaded)
    assert loaded.recipe.skipped_statistics == "kept" and loaded.step(*batches[0]).skipped
    assert state_of(loaded) == before


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
@pytest.mark.parametrize("buffer", ["running_mean", "running_var"])
def test_a_run_whose_statistics_are_not_finite_is_not_finite(backend, buffer, wrong):
    trainer = Trainer(reference_models.build("small_cnn", width=0.25), backend=backend, threads=1)
    assert trainer.is_finite()
    state = trainer.model.state()
    state[f"bn2.{buffer}"][1] = wrong
    trainer.model.load_state(state)
    assert not trainer.is_finite()
