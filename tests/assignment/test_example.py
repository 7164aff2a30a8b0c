"""Every scheme of the artifact's example, tensor by tensor, for ResNet-18 and SqueezeNet."""

from collections.abc import Callable
from typing import Any

import pytest

import reference_models
from mpsim.assignment import Plan, demote, demote_k, operator_based, uniform
from mpsim.engine.tensor import TensorId
from mpsim.trace import trace

CASES = ["sqz/1.0/10", "res18/1.0/10"]
LETTERS = {"F": "float32", "H": "fp_6_9_0", "L": "fp_4_3_4", "B": "fp_5_2_0"}


def make(trace: Any, scheme: str) -> Plan:
    kind, _, number = scheme.partition(":")
    return {
        "FP32": lambda: uniform(trace, "float32"),
        "std": lambda: operator_based(trace),
        "topr_dec": lambda: demote(trace, float(number)),
        "topr_inc": lambda: demote(trace, float(number), "smallest_first"),
        "topk_dec": lambda: demote_k(trace, int(number)),
    }[kind]()


def letters(plan: Plan, op: Any, count: int) -> str:
    """The example's "X|P|Y|GX|GP|GY" of one op with ``count`` parameters; what has no producer is I."""
    names = {name: letter for letter, name in LETTERS.items()}

    def of(index: int, role: str, position: int = 0) -> str:
        return "I" if index < 0 else names[plan.formats[TensorId(index, role, position)].name]

    parts = [
        [of(producer, "activation") for producer in op.producers],
        [of(op.index, "parameter", position) for position in range(count)],
        [of(op.index, "activation")],
        [of(producer, "activation_gradient") for producer in op.producers],
        [of(op.index, "parameter_gradient", position) for position in range(count)],
        [of(op.index, "activation_gradient")],
    ]
    return "|".join("".join(part) for part in parts)


def check_schemes(trace: Any, record: dict[str, Any]) -> None:
    for scheme, expected in record["schemes"].items():
        plan = make(trace, scheme)
        assert expected["chosen"] == (None if plan.chosen_groups is None else list(plan.chosen_groups)), scheme
        # The artifact adds up shares, each rounded; ours is rounded once.
        assert plan.reached == (None if expected["reached"] is None else pytest.approx(expected["reached"], rel=1e-14))
        assert plan.low_share / 2 * 200 == expected["low_percent"], scheme
        found = [
            letters(plan, op, len(row[5])) for op, row in zip(trace.ops, record["ops"], strict=True)
        ]  # row[5]: parameters
        assert found == expected["formats"], scheme


@pytest.mark.parametrize("case", CASES)
def test_schemes_on_a_trace_made_from_the_example(
    case: str, example: dict[str, Any], trace_of: Callable[[str], Any]
) -> None:
    record, handmade = example[case], trace_of(case)
    assert handmade.groups == record["groups"]
    assert handmade.total_elements == record["total"]
    check_schemes(handmade, record)


@pytest.mark.parametrize("case", CASES)
def test_schemes_on_the_trace_of_the_model(case: str, example: dict[str, Any], trace_of: Callable[[str], Any]) -> None:
    record, handmade = example[case], trace_of(case)
    model = reference_models.build(handmade.model, width=handmade.width, classes=handmade.classes, seed=None)
    real = trace(model, batch=128, semantics="lee2023")
    rows = [[op.name, op.kind, op.group, list(op.producers)] for op in real.ops]
    assert rows == [row[:4] for row in record["ops"]]
    assert {t.id: (t.elements, t.group) for t in real.tensors} == {
        t.id: (t.elements, t.group) for t in handmade.tensors
    }
    assert list(real.groups) == record["groups"]
    check_schemes(real, record)
