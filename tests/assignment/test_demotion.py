from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpsim.assignment import demote, demote_k, group_order, operator_based, operator_based_extended, uniform
from mpsim.engine.tensor import TensorId
from mpsim.errors import MpsimError

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=30)


@given(SIZES, st.integers(0, 2**64 - 1))
def test_orders_are_permutations_and_ties_go_by_rising_id(sizes: list[int], seed: int) -> None:
    largest = group_order(sizes, "largest_first")
    smallest = group_order(sizes, "smallest_first")
    for order in (largest, smallest, group_order(sizes, "random", seed)):
        assert sorted(order) == list(range(len(sizes)))
    for a, b in zip(largest, largest[1:], strict=False):
        assert (-sizes[a], a) < (-sizes[b], b)
    for a, b in zip(smallest, smallest[1:], strict=False):
        assert (sizes[a], a) < (sizes[b], b)


def test_random_order_is_fixed_by_the_seed() -> None:
    orders = [group_order([1] * 22, "random", seed) for seed in (0, 1, 2)]
    assert orders[0] == group_order([9] * 22, "random", 0)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    # Written down: changing the stream changes every published random plan.
    assert orders[0][:6] == [14, 4, 21, 1, 12, 20]


@pytest.mark.parametrize("order", ["largest_first", "smallest_first", "random"])
def test_demotion_stops_with_the_first_group_that_reaches_the_ratio(resnet: Any, order: str) -> None:
    seed = 3 if order == "random" else None
    ranked = group_order(resnet.groups, order, seed)
    shares = []
    for ratio in [0.0, 0.05, 0.3, 0.31, 0.5, 0.75, 0.99, 1.0]:
        plan = demote(resnet, ratio, order, seed)
        chosen = list(plan.chosen_groups)
        assert chosen == ranked[: len(chosen)]
        assert plan.reached >= ratio
        if chosen and ratio < 1:
            assert sum(resnet.groups[group] for group in chosen[:-1]) < ratio * resnet.total_elements
        shares.append(plan.low_share)
    assert shares == sorted(shares)
    assert demote(resnet, 1.0, order, seed).formats == uniform(resnet, "low").formats
    assert demote(resnet, 0.0, order, seed).formats == uniform(resnet, "high").formats


def test_parameters_go_with_what_their_op_reads(resnet: Any) -> None:
    plan = demote(resnet, 1e-9)  # group 5 alone: layer1.1.conv2 (op 14) to layer1.1.relu3 (op 17)
    assert plan.chosen_groups == (5,)
    assert not plan.is_low(TensorId(14, "parameter", 0))  # fed by group 4
    assert plan.is_low(TensorId(14, "activation", 0))
    assert plan.is_low(TensorId(15, "parameter", 1))
    assert plan.is_low(TensorId(18, "parameter", 0)) and plan.is_low(TensorId(23, "parameter", 0))  # fed by group 5


def test_parameters_of_an_op_with_two_inputs_wait_for_both() -> None:
    """No op of the networks has parameters and two inputs, so by hand: op 3 reads groups 1 (large) and 2."""
    kinds, producers = ["Input", "Conv2d", "Conv2d", "Linear"], [(-1,), (0,), (0,), (1, 2)]
    ops = [
        SimpleNamespace(index=i, name=f"op{i}", kind=kind, group=i, producers=reads)
        for i, (kind, reads) in enumerate(zip(kinds, producers, strict=True))
    ]
    sizes = [4, 100, 50, 2]
    tensors = [
        SimpleNamespace(id=TensorId(i, role, 0), elements=size, group=i)
        for i, size in enumerate(sizes)
        for role in ("activation", "activation_gradient")
    ]
    tensors.append(SimpleNamespace(id=TensorId(3, "parameter", 0), elements=1, group=1))
    tensors.append(SimpleNamespace(id=TensorId(3, "parameter_gradient", 0), elements=1, group=1))
    facts = {"model": "hand", "width": 1.0, "classes": 2, "batch": 1, "semantics": "standard"}
    trace = SimpleNamespace(**facts, ops=ops, tensors=tensors, groups=[8, 202, 100, 4], total_elements=314)
    for k, low in [(1, False), (2, True)]:
        plan = demote_k(trace, k, "float16:fp_3_2_0,fp_4_1_0,fp_5_2_0")
        assert plan.is_low(TensorId(3, "parameter", 0)) == plan.is_low(TensorId(3, "parameter_gradient", 0)) == low


@pytest.mark.parametrize(
    ("scheme", "option", "said"),
    [
        (demote, {"ratio": 1.1}, "ratio must be a share from 0 to 1, got 1.1"),
        (demote, {"ratio": float("nan")}, "got nan"),
        (demote, {"ratio": "half"}, "'half'"),
        (demote, {"ratio": 0.5, "order": "largest"}, "did you mean largest_first"),
        (demote, {"ratio": 0.5, "order": "random"}, "needs a seed"),
        (demote, {"ratio": 0.5, "seed": 1}, "for order 'random'"),
        (demote_k, {"k": 23}, "0 to 22"),
        (demote_k, {"k": -1}, "0 to 22"),
        (demote_k, {"k": 2.0}, "0 to 22"),
        (uniform, {"level": "lower"}, "Known: low, high, float32"),
    ],
)
def test_bad_options(resnet: Any, scheme: Any, option: dict, said: str) -> None:
    with pytest.raises(MpsimError, match=said):
        scheme(resnet, **option)


def test_operator_based_extended_adds_outputs_of_products_and_gradients_of_their_inputs(resnet: Any) -> None:
    base, extended = operator_based(resnet), operator_based_extended(resnet)
    added = {tensor for tensor in base.formats if extended.is_low(tensor) and not base.is_low(tensor)}
    lost = {tensor for tensor in base.formats if base.is_low(tensor) and not extended.is_low(tensor)}
    by_name = {op.name: op.index for op in resnet.ops}
    assert not lost
    assert TensorId(by_name["layer1.0.conv1"], "activation", 0) in added
    assert TensorId(by_name["relu1"], "activation_gradient", 0) in added
    kinds = {op.index: op.kind for op in resnet.ops}
    read = {producer for op in resnet.ops if op.kind in ("Conv2d", "Linear") for producer in op.producers}
    for tensor in added:
        expected = kinds[tensor.op] == "Conv2d" if tensor.role == "activation" else tensor.op in read
        assert expected and tensor.role.startswith("activation")
    for name in ("input", "conv1", "avgpool2d", "linear", "criterion.nllloss"):  # first and last layers
        assert not any(tensor.op == by_name[name] and extended.is_low(tensor) for tensor in extended.formats)


def test_parameter_gradients_stay_high_under_operator_based_whatever_the_levels(resnet: Any) -> None:
    plan = operator_based(resnet, "float16:fp_3_2_0,fp_4_1_0,fp_5_2_0")
    assert {plan.formats[t].name for t in plan.formats if t.role == "parameter_gradient"} == {"float16"}
    assert {plan.formats[t].name for t in plan.formats if t.role == "activation"} == {"float16", "fp_3_2_0"}
