"""The trace of a step: against the artifact's published op lists, and against what a real step stores."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import Branching, batch, loss_of

import reference_models
from mpsim import kernels, nn, ops
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Tensor, TensorId
from mpsim.losses import BCE, MSE, CrossEntropy, Custom
from mpsim.trace import LOSS_COUNTS_BATCH, Trace, trace
from mpsim.training.semantics import SEMANTICS

EXAMPLE = json.loads((Path(__file__).parent / "data" / "assignments_example.json").read_text())["cases"]
NETWORKS = {"sqz": "squeezenet", "res18": "resnet18"}


def rows(traced: Trace) -> list[list[Any]]:
    """In the example's form: name, kind, group, producers, sizes of X, P, Y, GY, GP."""
    elements = {tensor.id: tensor.elements for tensor in traced.tensors}

    def sizes(op: int, role: str) -> list[int]:
        return [size for id, size in sorted(elements.items()) if id.op == op and id.role == role]

    roles = ("parameter", "activation", "activation_gradient", "parameter_gradient")
    return [
        [
            op.name,
            op.kind,
            op.group,
            list(op.producers),
            list(op.input_sizes),
            *(sizes(op.index, role) for role in roles),
        ]
        for op in traced.ops
    ]


@pytest.mark.parametrize("case", EXAMPLE)
def test_ops_and_groups_are_the_artifact_s(case: str) -> None:
    name, width, classes = case.split("/")
    model = reference_models.build(NETWORKS[name], width=float(width), classes=int(classes), seed=None)
    traced = trace(model, batch=128, semantics="lee2023")
    assert rows(traced) == EXAMPLE[case]["ops"]
    assert traced.groups == EXAMPLE[case]["groups"]
    assert traced.total_elements == EXAMPLE[case]["total"]
    assert (traced.model, traced.width, traced.classes) == (NETWORKS[name], float(width), int(classes))


@pytest.mark.parametrize(
    "name,ops,groups,elements",
    [  # PAPER section 5: at width 1.0, 10 classes, batch 128
        ("squeezenet", 83, 27, 356_459_284),
        ("shufflenet_v2", 196, 58, 520_922_844),
        ("mobilenet_v2", 169, 59, 1_313_287_604),
        ("resnet18", 70, 22, 543_364_500),
    ],
)
def test_counts_of_the_paper_s_networks(name: str, ops: int, groups: int, elements: int) -> None:
    traced = trace(reference_models.build(name, seed=None), semantics="lee2023")
    assert (len(traced.ops), len(traced.groups), traced.total_elements) == (ops, groups, elements)


def test_the_loss_is_one_element_but_in_the_artifact() -> None:
    standard, artifact = (trace(Branching(), batch=16, semantics=semantics) for semantics in ("standard", "lee2023"))
    assert artifact.total_elements - standard.total_elements == 2 * 15
    assert artifact.groups[-1] - standard.groups[-1] == 2 * 15 and artifact.groups[:-1] == standard.groups[:-1]


@pytest.mark.parametrize("semantics", LOSS_COUNTS_BATCH)
def test_every_semantics_of_training_says_how_the_loss_counts(semantics: str) -> None:
    assert set(LOSS_COUNTS_BATCH) == set(SEMANTICS)
    assert trace(Branching(), semantics=semantics).semantics == semantics


def test_the_trace_lists_what_a_step_stores_and_counts_its_elements() -> None:
    model, (images, labels) = Branching(), batch(4)
    traced = trace(model, batch=4)
    stored: dict[TensorId, int] = {}

    def store(id: TensorId, value: np.ndarray) -> np.ndarray:
        stored[id] = value.size
        return value

    tape = Tape(kernels.bind("reference"), store)
    tape.backward(loss_of(tape, model, images, labels))
    for name, id in traced.parameter_ids.items():
        stored[id] = prod(model.parameters()[name].shape)
    last = len(tape.ops) - 1
    never = {TensorId(0, "activation_gradient"): images.size, TensorId(last, "activation_gradient"): 1}
    assert {tensor.id: tensor.elements for tensor in traced.tensors} == stored | never
    assert [(op.name, op.kind, op.producers) for op in traced.ops] == [(o.name, o.kind, o.producers) for o in tape.ops]
    names = {tensor.id: tensor.parameter for tensor in traced.tensors if tensor.parameter}
    assert names == {
        TensorId(op.index, role, i): parameter.name
        for op in tape.ops
        for i, parameter in enumerate(op.parameters)
        for role in ("parameter", "parameter_gradient")
    }


def test_groups_open_at_input_conv_and_linear_and_parameters_follow_the_first_input() -> None:
    traced = trace(Branching(), batch=2)
    groups = {op.name: op.group for op in traced.ops}
    assert [groups[name] for name in ("input", "conv1", "relu1", "pool1", "split.second")] == [0, 1, 1, 1, 1]
    assert [groups[name] for name in ("branch.0", "cat", "conv2", "relu2", "avgpool")] == [2, 2, 3, 3, 3]
    assert groups["linear"] == groups["criterion.nllloss"] == 4
    homes = {tensor.parameter: tensor.group for tensor in traced.tensors if tensor.id.role == "parameter"}
    assert homes["conv1.weight"] == 0 and homes["bn1.weight"] == homes["branch.0.weight"] == 1
    assert homes["branch.1.bias"] == homes["conv2.weight"] == 2 and homes["linear.bias"] == 3
    assert sum(traced.groups) == traced.total_elements


def test_consumers_are_the_readers() -> None:
    traced = trace(Branching(), batch=2)
    index = {op.name: op.index for op in traced.ops}
    assert traced.ops[index["pool1"]].consumers == (index["split.first"], index["split.second"], index["add"])
    assert traced.ops[-1].consumers == ()


def test_counts_scale_with_the_batch_but_parameters_do_not() -> None:
    small, large = trace(Branching(), batch=1), trace(Branching(), batch=1000)
    for one, many in zip(small.tensors, large.tensors, strict=True):
        loss = one.id.op == len(small.ops) - 1
        assert many.elements == one.elements * (1 if one.parameter or loss else 1000)


def test_a_model_without_a_description_is_traced_by_its_input_shape() -> None:
    traced = trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), batch=3, input_shape=(3, 2, 2))
    assert (traced.model, traced.width, traced.classes) == ("Sequential", 1.0, 5)
    assert repr(traced) == "Trace(Sequential, width=1, classes=5, batch=3: 4 ops, 2 groups, 264 elements)"


@pytest.mark.parametrize(
    "options,message",
    [
        ({"batch": 0}, r"batch must be a whole number from 1 to 2\*\*24, got 0"),
        ({"semantics": "lee"}, "unknown semantics 'lee'; did you mean lee2023\\? Known: standard, lee2023"),
        ({"input_shape": (3, 8)}, r"\(channels, height, width\) or \(features,\), whole .* got \(3, 8\)"),
        ({"input_shape": (1, 8, 8)}, "Conv2d 'conv1': input has 1 channels, weight expects 3"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_words(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trace(Branching(), **options)


def test_a_model_without_an_input_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="got None"):
        trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)))


class OneNumber(nn.Module):
    """Returns (N,), as a module of PyTorch that ends in squeeze(1)."""

    def __init__(self) -> None:
        self.linear = nn.Linear(3, 1)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.reshape(self.linear(x), (-1,))


def test_outputs_without_an_axis_of_classes_are_refused_in_words() -> None:
    for loss in (CrossEntropy(), MSE(), BCE()):
        with pytest.raises(ValueError, match=r"the network returns \(4,\) for a batch of 4; losses need an axis of"):
            trace(OneNumber(), batch=4, input_shape=(3,), loss=loss)
    own = Custom(lambda outputs, labels: ops.mean(ops.multiply(outputs, outputs)), "squares", values=True)
    assert trace(OneNumber(), batch=4, input_shape=(3,), loss=own).ops[-1].kind == "Mean"
