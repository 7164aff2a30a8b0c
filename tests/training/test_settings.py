"""Semantics, schedules, the optimizer's rule and the loss scale."""

import json

import numpy as np
import pytest

from mpsim import kernels
from mpsim.policies import Mode, Overflow
from mpsim.training import schedule as schedules
from mpsim.training.loss_scale import LARGEST, SMALLEST, LossScale
from mpsim.training.optimizer import SGD, Adam, AdamW, Lion, from_dict, to_dict
from mpsim.training.optimizer.base import Update
from mpsim.training.schedule import Constant, Cosine, Step
from mpsim.training.semantics import SEMANTICS, as_semantics


def test_semantics_are_those_of_the_table():
    standard, lee = SEMANTICS["standard"], SEMANTICS["lee2023"]
    assert (standard.nearest, lee.nearest) == (Mode.NEAREST_EVEN, Mode.QPYTORCH_NEAREST)
    assert (standard.store_each_contribution, lee.store_each_contribution) == (False, True)
    assert (standard.evaluation_rounds_parameters, lee.evaluation_rounds_parameters) == (True, False)
    for row in SEMANTICS.values():
        assert row.policy("activation").overflow is row.policy("parameter").overflow is Overflow.SATURATE
        assert row.policy("activation_gradient").overflow is row.policy("parameter_gradient").overflow is Overflow.MARK


def test_stochastic_rounding_needs_its_number_of_bits():
    assert SEMANTICS["standard"].policy("activation", "stochastic", 8).random_bit_count == 8
    assert SEMANTICS["lee2023"].policy("activation", "stochastic").mode is Mode.QPYTORCH_STOCHASTIC
    with pytest.raises(ValueError, match="random_bit_count"):
        SEMANTICS["standard"].policy("activation", "stochastic")
    with pytest.raises(ValueError, match="unknown rounding 'up'"):
        SEMANTICS["standard"].policy("activation", "up")


def test_an_unknown_semantics_lists_the_near_one():
    with pytest.raises(ValueError, match="did you mean lee2023"):
        as_semantics("lee2032")


def test_numbers_of_numpy_become_pythons():
    """So that they can be written to a checkpoint, and a half stays a half."""
    optimizer = SGD(np.float32(0.5), np.float64(0.25), np.float16(0), Step((np.int64(3),), np.float32(0.5)))
    scale = LossScale(np.float32(8), np.int64(2), np.float64(0.5), np.int8(2))
    stored_optimizer, stored_scale = json.loads(json.dumps([to_dict(optimizer), scale.to_dict()]))
    assert from_dict(stored_optimizer) == SGD(0.5, 0.25, 0.0, Step((3,), 0.5))
    assert LossScale(**stored_scale) == LossScale(8.0, 2, 0.5, 2)


def test_cosine_is_by_epoch_and_ends_at_zero():
    factors = [Cosine(200).factor(epoch) for epoch in range(201)]
    assert factors[0] == 1 and factors[100] == pytest.approx(0.5) and factors[200] == 0
    assert all(a > b for a, b in zip(factors, factors[1:], strict=False))


@pytest.mark.parametrize("schedule", [Constant(), Cosine(7), Step((3, 5), 0.2)])
def test_schedules_and_optimizers_come_back_from_json(schedule):
    assert schedules.from_dict(schedules.to_dict(schedule)) == schedule
    plain = SGD(0.25, 0.5, 0.125, schedule)
    assert to_dict(plain).keys() == {"lr", "momentum", "weight_decay", "schedule"}  # as in older checkpoints
    for optimizer in (
        plain, SGD(0.25, 0.5, 0.125, schedule, nesterov=True), SGD(dampening=0.5, schedule=schedule),
        Adam(0.25, 0.5, schedule, 0.5, 0.75, 0.125), AdamW(schedule=schedule), Lion(0.5, 0.25, schedule, 0.5, 0.75),
    ):  # fmt: skip
        assert from_dict(json.loads(json.dumps(to_dict(optimizer)))) == optimizer


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": float("nan")}, {"weight_decay": float("inf")}])
def test_the_optimizer_refuses_numbers_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SGD(**wrong)


def test_sgd_is_the_written_order(backend):
    """Against a loop over NumPy scalars, one rounding per operation."""
    random = np.random.default_rng(1)
    master, gradient, velocity = (random.standard_normal(257).astype(np.float32) for _ in range(3))
    gradient *= np.float32(65536)
    f = np.float32
    rate, momentum, decay, inverse = f(SGD(0.1, schedule=Cosine(10)).learning_rate(3)), f(0.9), f(5e-4), f(1 / 65536)
    expected_master, expected_velocity = master.copy(), velocity.copy()
    for i in range(master.size):
        g = f(f(gradient[i] * inverse) + f(decay * master[i]))
        expected_velocity[i] = f(f(momentum * velocity[i]) + g)
        expected_master[i] = f(master[i] - f(rate * expected_velocity[i]))
    bound = kernels.bind(backend)
    arrays = [bound.from_numpy(array.copy()) for array in (master, gradient, velocity)]
    optimizer = SGD(0.1, schedule=Cosine(10))
    update = Update(optimizer.learning_rate(3), 1, 1 / 65536.0)
    optimizer.update(bound, *arrays[:2], {"velocity": arrays[2]}, update)
    assert bound.to_numpy(arrays[0]).tobytes() == expected_master.tobytes()
    assert bound.to_numpy(arrays[2]).tobytes() == expected_velocity.tobytes()


def test_the_loss_scale_halves_on_overflow_and_doubles_after_an_interval():
    state = LossScale(growth_interval=3).state()
    scales = []
    for overflowed in (True, False, False, True, False, False, False, False):
        state = state.after_step(overflowed)
        scales.append(state.scale)
    assert scales == [32768, 32768, 32768, 16384, 16384, 16384, 32768, 32768]


def test_the_loss_scale_stays_where_its_inverse_is_a_normal_number():
    state = LossScale().state()
    for _ in range(400):
        state = state.after_step(True)
    assert state.scale == SMALLEST and 1 / np.float32(state.scale) == np.float32(2.0**126)
    state = LossScale(growth_interval=1).state()
    for _ in range(400):
        state = state.after_step(False)
    assert state.scale == LARGEST


@pytest.mark.parametrize("wrong", [{"initial": 0.0}, {"growth_interval": 0}, {"backoff": 2.0}, {"growth": 0.5}])
def test_loss_scale_settings_that_make_no_sense(wrong):
    with pytest.raises(ValueError):
        LossScale(**wrong)
