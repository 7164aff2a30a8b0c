"""The artifact's assignments (tests/data/assignments_example.json), and traces made by hand from its op lists."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpsim.engine.tensor import TensorId

MODELS = {"sqz": "squeezenet", "res18": "resnet18"}
EXAMPLE = json.loads((Path(__file__).parent.parent / "data" / "assignments_example.json").read_text())


def handmade_trace(case: str) -> Any:
    """What mpsim.trace.trace gives for a case of the example, built from the example alone."""
    model, width, classes = case.split("/")
    record = EXAMPLE["cases"][case]
    ops, tensors = [], []
    for index, (name, kind, group, producers, _, parameters, output, gradient, gradients) in enumerate(record["ops"]):
        ops.append(SimpleNamespace(index=index, name=name, kind=kind, group=group, producers=tuple(producers)))
        rows = [("activation", output, group), ("activation_gradient", gradient, group)]
        if producers[0] >= 0:
            feeding = record["ops"][producers[0]][2]
            rows += [("parameter", parameters, feeding), ("parameter_gradient", gradients, feeding)]
        for role, sizes, home in rows:
            for position, size in enumerate(sizes):
                tensors.append(SimpleNamespace(id=TensorId(index, role, position), elements=size, group=home))
    groups = [sum(tensor.elements for tensor in tensors if tensor.group == g) for g in range(len(record["groups"]))]
    return SimpleNamespace(
        model=MODELS[model],
        width=float(width),
        classes=int(classes),
        batch=128,
        semantics="lee2023",
        ops=ops,
        tensors=tensors,
        groups=groups,
        total_elements=sum(groups),
    )


@pytest.fixture(scope="session")
def example() -> dict[str, Any]:
    return EXAMPLE["cases"]


@pytest.fixture(scope="session")
def trace_of() -> Callable[[str], Any]:
    traces: dict[str, Any] = {}

    def get(case: str) -> Any:
        return traces.setdefault(case, handmade_trace(case))

    return get


@pytest.fixture
def resnet(trace_of: Callable[[str], Any]) -> Any:
    return trace_of("res18/1.0/10")
