from typing import Any

import pytest

from mpsim.assignment import promote, uniform
from mpsim.engine.tensor import TensorId

ACTIVATION, PARAMETER = TensorId(3, "activation", 0), TensorId(2, "parameter", 1)
GRADIENTS = [TensorId(3, "activation_gradient", 0), TensorId(2, "parameter_gradient", 1)]


def test_overflowing_activations_and_parameters_go_high_and_gradients_never(resnet: Any) -> None:
    plan = uniform(resnet, "low")
    ratios = {ACTIVATION: 0.01, PARAMETER: 1.0, TensorId(5, "activation", 0): 0.0099} | dict.fromkeys(GRADIENTS, 1.0)
    after, promoted = promote(plan, ratios)
    assert promoted == after.promoted == (ACTIVATION, PARAMETER)
    changed = {tensor for tensor in plan.formats if plan.formats[tensor] != after.formats[tensor]}
    assert changed == {ACTIVATION, PARAMETER}
    assert after.formats[ACTIVATION].name == "fp_6_9_0"
    lost = plan.elements[ACTIVATION] + plan.elements[PARAMETER]
    assert after.low_share == (plan.low_share * plan.total_elements - lost) / plan.total_elements
    assert after.bits == plan.bits + 8 * lost
    assert list(after.formats) == list(plan.formats)


def test_promotion_is_once_and_cascades_by_step(resnet: Any) -> None:
    first, _ = promote(uniform(resnet, "low"), {ACTIVATION: 0.5})
    again, promoted = promote(first, {ACTIVATION: 0.5})
    assert again is first and promoted == ()
    second, promoted = promote(first, {ACTIVATION: 0.5, PARAMETER: 0.2}, threshold=0.2)
    assert promoted == (PARAMETER,) and second.promoted == (ACTIVATION, PARAMETER)


def test_float32_and_high_plans_are_never_promoted(resnet: Any) -> None:
    for level in ("high", "float32"):
        plan = uniform(resnet, level)
        assert promote(plan, {ACTIVATION: 1.0}) == (plan, ())


@pytest.mark.parametrize(
    ("ratios", "threshold", "said"),
    [
        ({ACTIVATION: 1.5}, 0.01, "must be a share from 0 to 1"),
        ({ACTIVATION: -0.1}, 0.01, "must be a share from 0 to 1"),
        ({ACTIVATION: float("nan")}, 0.01, "must be a share from 0 to 1"),
        ({TensorId(999, "activation", 0): 0.5}, 0.01, "is not a tensor of"),
        ({ACTIVATION: 0.5}, 0, "threshold"),
        ({ACTIVATION: 0.5}, 1.5, "threshold"),
    ],
)
def test_bad_ratios(resnet: Any, ratios: dict, threshold: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        promote(uniform(resnet, "low"), ratios, threshold)
