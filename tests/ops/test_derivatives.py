"""Every op's derivative against a difference quotient, and the check itself against wrong derivatives."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest
from networks import Branching, batch

from mpsim import kernels, nn, ops
from mpsim.engine.primitive import Primitive, Sample
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Parameter
from mpsim.ops import PRIMITIVES
from mpsim.testing.gradients import check_gradients, check_primitive

SAMPLES = [(kind, i) for kind, primitive in PRIMITIVES.items() for i in range(len(primitive.samples))]


def test_the_table_holds_every_primitive_that_the_ops_define() -> None:
    defined = {}
    for found in pkgutil.iter_modules(ops.__path__):
        module = importlib.import_module(f"mpsim.ops.{found.name}")
        defined |= {id(value): value for value in vars(module).values() if isinstance(value, Primitive)}
    table = {kind: primitive for kind, primitive in PRIMITIVES.items() if kind != "Input"}
    assert {id(primitive) for primitive in table.values()} == set(defined)
    assert all(kind == primitive.kind for kind, primitive in PRIMITIVES.items())


def test_every_primitive_but_the_input_has_a_sample() -> None:
    assert [kind for kind, primitive in PRIMITIVES.items() if not primitive.samples] == ["Input"]


@pytest.mark.parametrize("kind,i", SAMPLES)
@pytest.mark.parametrize("seed", [0, 1])
def test_derivative(kind: str, i: int, seed: int) -> None:
    check_primitive(PRIMITIVES[kind], PRIMITIVES[kind].samples[i], seed)


@pytest.mark.parametrize("kind,i", SAMPLES)
def test_a_derivative_that_is_slightly_wrong_is_noticed(kind: str, i: int) -> None:
    right = PRIMITIVES[kind]

    def backward(*arguments: Any) -> tuple:
        input_gradients, parameter_gradients = right.backward(*arguments)
        changed = [*input_gradients, *parameter_gradients]
        last = max(place for place, each in enumerate(changed) if each is not None)  # None: by the labels
        changed[last] = changed[last] * (1 + 1e-5)
        return tuple(changed[: len(input_gradients)]), tuple(changed[len(input_gradients) :])

    with pytest.raises(AssertionError, match="disagree for (input|parameter)"):
        check_primitive(dataclasses.replace(right, backward=backward), right.samples[i])


@pytest.mark.parametrize("kind,i", SAMPLES)
def test_gradients_that_are_not_needed_are_none(kind: str, i: int) -> None:
    bound = kernels.bind("reference")
    primitive, sample = PRIMITIVES[kind], PRIMITIVES[kind].samples[i]
    random = np.random.default_rng(0)
    inputs = tuple(random.standard_normal(s) if isinstance(s, tuple) else s for s in sample.inputs)
    parameters = tuple(random.standard_normal(shape) for shape in sample.parameters)
    output, saved = primitive.forward(bound, inputs, parameters, **sample.attributes)
    saved = (*saved, output) if primitive.saves_output else saved
    nothing = (False,) * len(inputs)
    input_gradients, parameter_gradients = primitive.backward(bound, np.ones_like(output), saved, nothing)
    if kind != "BatchNorm2d":  # one kernel gives all three of its gradients
        assert input_gradients == (None,) * len(inputs)
    assert [g.shape for g in parameter_gradients] == [p.shape for p in parameters]


def test_views_are_differentiated() -> None:
    random = np.random.default_rng(3)
    x = random.standard_normal((2, 6, 3, 4))
    check_gradients(lambda x: ops.reshape(x, (4, -1)), [x])
    check_gradients(lambda x: ops.permute(x, (2, 0, 3, 1)), [x])
    check_gradients(lambda x: ops.channel_shuffle(x, 3), [x])
    check_gradients(lambda x: ops.relu(ops.flatten(ops.channel_shuffle(ops.permute(x, (3, 1, 0, 2)), 2))), [x])


def test_fan_out_split_cat_and_shuffle_are_differentiated() -> None:
    def function(x: Any) -> Any:
        first, second = ops.split_half(x)
        y = ops.channel_shuffle(ops.cat([second, ops.relu(first), second]), 3)
        return ops.add(ops.add(y, y), ops.cat([x, ops.split_half(x)[1]]))

    check_gradients(function, [np.random.default_rng(4).standard_normal((2, 4, 3, 3))])


def test_a_whole_network_is_differentiated() -> None:
    model, (images, labels) = Branching(), batch()
    masters = {name: parameter.master.copy() for name, parameter in model.parameters().items()}

    def function(x: Any) -> Any:
        return ops.cross_entropy(model(x), labels)

    check_gradients(function, [images], model.parameters().values(), tolerance=1e-6)
    for name, parameter in model.parameters().items():
        assert parameter.value is parameter.master and parameter.master.tobytes() == masters[name].tobytes()


def test_the_check_names_the_arguments_that_are_wrong() -> None:
    wrong = dataclasses.replace(
        PRIMITIVES["Linear"],
        backward=lambda k, g, s, n: ((k.matmul(g, s[1]),), (k.matmul(g, s[0], transpose_a=True) * 2,)),
    )
    with pytest.raises(AssertionError, match="disagree for parameter 0$"):
        check_primitive(wrong, Sample(((3, 2),), ((4, 2),)))


def test_a_missing_gradient_is_noticed() -> None:
    x, weight = np.random.default_rng(0).standard_normal((2, 3)), Parameter(np.ones((4, 3)), "weight")

    def function(x: Any) -> Any:
        detached = x.tape.input(x.value)
        return ops.linear(detached, weight)

    with pytest.raises(AssertionError, match="disagree for input 0$"):
        check_gradients(function, [x], [weight])


@pytest.mark.parametrize("layer", [nn.LayerNorm(3), nn.LayerNorm((2, 3)), nn.GroupNorm(1, 3)])
def test_the_bias_of_one_row_has_the_gradient_that_arrives(layer: nn.Module, backend: str) -> None:
    """Nothing is added up, and the gradient must not be the one that is multiplied by the weight."""
    weight, bias = layer.parameters().values()
    weight.replace(np.full(weight.shape, 3, np.float32))
    shape = (1, *bias.shape) if len(bias.shape) > 1 or isinstance(layer, nn.LayerNorm) else (1, 3, 1, 1)
    arriving = np.arange(1, 1 + bias.master.size, dtype=np.float32).reshape(shape) / 8
    tape = Tape(kernels.bind(backend))
    scale = Parameter(np.ones((1,) * len(shape), np.float32), "scale")  # so that the layer's input has a gradient
    x = tape.input(np.float32([0.5, 3, -1, 2, 4, 7])[: weight.master.size].reshape(shape))
    y = layer(tape.bind(PRIMITIVES["Multiply"], (x,), (scale,), "scale"))
    gradients = tape.backward(ops.sum(ops.multiply(y, tape.input(arriving))))
    assert np.asarray(gradients[bias]).tobytes() == arriving.tobytes()
