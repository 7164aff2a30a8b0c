"""Peak memory: against a network counted by hand, and against what a real step holds alive."""

import weakref

import numpy as np
import pytest

import reference_models
from mpsim import kernels, nn, ops
from mpsim.assignment import liveness, plan_report, uniform
from mpsim.assignment.liveness import Moment, best_recomputation, peak_memory
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import TensorId
from mpsim.ops import primitive_of
from mpsim.trace import trace


class Line(nn.Module):
    """Input(8) -> Linear(8, 16) -> ReLU -> Linear(16, 4), no bias."""

    input_shape = (8, 1, 1)

    def __init__(self):
        self.first = nn.Linear(8, 16, bias=False)
        self.relu = nn.ReLU()
        self.second = nn.Linear(16, 4, bias=False)

    def __call__(self, x):
        return self.second(self.relu(self.first(ops.flatten(x))))


def test_a_line_counted_by_hand():
    plan = uniform(trace(Line(), batch=1), "float32")
    # elements: input 8, first 16, relu 16 (+ 16 bits), second 4, log-softmax 4, loss 1; weights 128 and 64.
    # Backward of second: input, relu kept; gradients of second (4) and relu (16); weights; gradient of second's (64);
    # 16 bits of ReLU. Backward of first: input, gradient of first 16, weights, gradients of both weights.
    at_second = (8 + 16 + 4 + 16 + 192 + 64) * 32 + 16
    at_first = (8 + 16 + 192 + 192) * 32
    assert peak_memory(plan).bytes == max(at_second, at_first) // 8 == at_first // 8
    assert (peak_memory(plan).phase, peak_memory(plan).op_name) == ("backward", "first")
    roles = {"activation": 8 * 4, "activation_gradient": 16 * 4, "parameter": 192 * 4, "parameter_gradient": 192 * 4}
    assert peak_memory(plan).bytes_by_role == roles


def test_half_the_bits_are_half_the_bytes():
    traced = trace(Line(), batch=1)
    assert peak_memory(uniform(traced, "high")).bytes * 2 == peak_memory(uniform(traced, "float32")).bytes


@pytest.mark.parametrize("name", ["small_cnn", "squeezenet", "shufflenet_v2", "resnet18"])
def test_activations_alive_are_those_of_a_real_step(name):
    model = reference_models.build(name, 0.25 if name == "small_cnn" else 0.1, seed=0)
    bound = kernels.bind("compiled", 1)
    model.move(bound)
    made, alive = {}, {}

    def store(id, value):
        if id.role == "activation":
            made[id.op] = weakref.ref(value)
        elif id.role == "activation_gradient":
            alive[id.op] = {op for op, array in made.items() if array() is not None}
        return value

    tape = Tape(bound, store)
    images = np.random.default_rng(0).standard_normal((2, *model.input_shape)).astype(np.float32)

    def forward():
        return ops.cross_entropy(model(tape.input(images)), np.array([1, 2]))

    tape.backward(forward(), 1.0)
    step = liveness._Step(uniform(trace(model, batch=2), "float32"), 1)
    lives = [life for life in step.lives() if life.tensor.role == "activation"]
    assert len(alive) > len(made) // 2
    for op, found in alive.items():  # when an op's gradient is stored, its backward pass is next
        moment = step.at[Moment("backward", op)]
        expected = {life.tensor.op for life in lives if life.first <= moment <= life.last}
        loss = len(step.ops) - 1  # the caller holds it
        # a channel shuffle copies what it permutes: the copy lives in the place of the concatenation it was made from
        shuffled = {op for op in expected if step.ops[op].kind == "Cat"} if name == "shufflenet_v2" else set()
        assert found - {loss} - shuffled == expected - {loss} - shuffled, step.ops[op]


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet_v2", "resnet18"])
def test_every_use_of_an_activation_is_in_one_of_its_lives(name):
    plan = uniform(trace(reference_models.build(name, 0.1, seed=None), batch=2), "low")
    for segments in (1, 3, len(plan.network.groups)):
        step = liveness._Step(plan, segments)
        lives = [life for life in step.lives() if life.tensor.role == "activation"]
        alive = {(life.tensor.op, moment) for life in lives for moment in range(life.first, life.last + 1)}
        for number, (phase, op) in enumerate(step.moments):
            read = step.ops[op].producers if phase != "backward" else ()
            if phase == "backward" and primitive_of(step.ops[op].kind).reads_input_again:
                read = step.ops[op].producers
            assert all((producer, number) in alive for producer in read if producer >= 0), (segments, phase, op)


def test_recomputation_saves_memory_for_one_more_forward_pass_at_most():
    plan = uniform(trace(reference_models.build("resnet18", 0.1, seed=None)), "low")
    plain, best = peak_memory(plan), best_recomputation(plan)
    assert best.bytes < 0.6 * plain.bytes and best.segments > 1
    assert plain.recomputed_share == 0 and 0 < best.recomputed_share < 1
    assert best.bytes == min(peak_memory(plan, count).bytes for count in range(1, 23))
    assert peak_memory(plan, best.segments) == best
    with pytest.raises(ValueError, match="segments must be a whole number from 1 to 22"):
        peak_memory(plan, 23)


def test_the_report_has_both():
    traced = trace(Line(), batch=1)
    plan = uniform(traced, "float32")
    report = plan_report(traced, plan)
    assert report["peak"] == peak_memory(plan).to_dict()
    assert report["recomputation"] == best_recomputation(plan).to_dict()
    assert TensorId(0, "activation") in plan.elements and "kept" not in report["peak"]["bytes_by_role"]
