"""Three levels and more: which group goes where, by a rule written anew; two levels are ``demote``, bit for bit."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_models
from mpsim.assignment import Levels, Plan, assign, demote, demote_in_steps, group_order, parse_levels, promote, uniform
from mpsim.cli import main
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.errors import MpsimError
from mpsim.formats import FORMATS
from mpsim.trace import trace
from mpsim.training.trainer import Trainer

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "plan.schema.json").read_text())
THREE = "float16:fp_5_6_0,fp_6_5_0:fp_4_3_4,fp_5_2_0"
FOUR = "float16:fp_5_7_0:fp_5_6_0:fp_4_3_4,fp_5_2_0,fp_5_4_0"


@st.composite
def traces(draw: st.DrawFn) -> Any:
    """A network of one op per group, each reading one or two earlier ones (the first: the images)."""
    count = draw(st.integers(1, 8))
    ops, tensors = [], []
    for index in range(count):
        reads = draw(st.lists(st.integers(0, index - 1), min_size=1, max_size=2)) if index else [-1]
        ops.append(
            SimpleNamespace(index=index, name=f"op{index}", kind="Conv2d", group=index, producers=(*reads, -1)[:2])
        )
        for role in ROLES if index else ROLES[::2]:
            home = index if role.startswith("activation") else reads[0]
            size = draw(st.integers(1, 6))
            tensors.append(SimpleNamespace(id=TensorId(index, role, 0), elements=size, group=home))
    groups = [sum(tensor.elements for tensor in tensors if tensor.group == group) for group in range(count)]
    facts = {"model": "drawn", "width": 1.0, "classes": 2, "batch": 1, "semantics": "standard"}
    return SimpleNamespace(**facts, ops=ops, tensors=tensors, groups=groups, total_elements=sum(groups))


def test_roles_are_as_the_strategy_takes_them() -> None:
    assert ROLES[::2] == ("activation", "activation_gradient")


SHARES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]))


def levels_by_hand(sizes: list[int], order: list[int], ratios: list[float]) -> tuple[dict[int, int], list[int]]:
    """Group -> how many levels below the high one; groups taken at each step."""
    depth, counts, done = {}, [], 0
    for step, ratio in enumerate(ratios):
        counts.append(0)
        for group in order:
            share = done / sum(sizes)
            if group in depth or (share >= ratio and ratio != 1):
                continue
            depth[group] = len(ratios) - step
            done += sizes[group]
            counts[-1] += 1
    return depth, counts


@given(traces(), st.lists(SHARES, min_size=3, max_size=3).map(sorted), st.sampled_from(["largest_first", "random"]))
def test_every_tensor_is_where_the_rule_says(network: Any, ratios: list[float], order: str) -> None:
    seed, levels = 5 if order == "random" else None, parse_levels(FOUR)
    plan = demote_in_steps(network, ratios, order, seed, levels)
    depth, counts = levels_by_hand(network.groups, group_order(network.groups, order, seed), ratios)
    assert plan.chosen_groups == tuple(depth) and plan.groups_per_step == tuple(counts)
    assert plan.ratios == tuple(ratios) and plan.scheme == f"{order}_in_steps"
    steps = [levels.high, *levels.between, levels.low]
    for tensor in network.tensors:
        op, role = network.ops[tensor.id.op], tensor.id.role
        if role.startswith("activation"):
            place = depth.get(op.group, 0)
        else:
            place = min(depth.get(producer, 0) for producer in op.producers if producer >= 0)
        assert plan.formats[tensor.id] == steps[place][role]
    for ratio, taken in zip(ratios, np.cumsum(counts), strict=True):
        assert sum(network.groups[group] for group in plan.chosen_groups[:taken]) / network.total_elements >= ratio


@given(traces(), SHARES, st.sampled_from(["largest_first", "smallest_first", "random"]))
def test_with_two_levels_it_is_demote(network: Any, ratio: float, order: str) -> None:
    seed = 3 if order == "random" else None
    for levels in ("paper", "float16:fp_3_2_0,fp_4_1_0,fp_5_2_0"):
        one, other = demote_in_steps(network, [ratio], order, seed, levels), demote(network, ratio, order, seed, levels)
        assert one.formats == other.formats and one.chosen_groups == other.chosen_groups
        assert (one.low_share, one.bits, one.reached) == (other.low_share, other.bits, other.reached)


@given(traces(), SHARES)
def test_steps_that_take_nothing_leave_the_others(network: Any, ratio: float) -> None:
    """Middle empty: high and low alone. Low empty: high and middle alone."""
    three = parse_levels(THREE)
    low, middle = Levels(three.high, three.low), Levels(three.high, three.between[0])
    assert demote_in_steps(network, [ratio, ratio], levels=three).formats == demote(network, ratio, levels=low).formats
    assert demote_in_steps(network, [0, ratio], levels=three).formats == demote(network, ratio, levels=middle).formats
    assert demote(network, ratio, levels=three).formats == demote(network, ratio, levels=low).formats


@pytest.mark.parametrize("case", ["res18/1.0/10", "sqz/1.0/10"])
def test_the_papers_networks(trace_of: Any, case: str) -> None:
    network = trace_of(case)
    plan = demote_in_steps(network, (0.3, 0.7), levels=THREE)
    assert plan.chosen_groups[: plan.groups_per_step[0]] == demote(network, 0.3).chosen_groups
    assert plan.chosen_groups == demote(network, 0.7).chosen_groups
    assert plan.low_share == demote(network, 0.7).low_share  # held below the high level
    assert (
        demote_in_steps(network, (0.3, 0.3), levels=THREE).bits < demote_in_steps(network, (0, 0.3), levels=THREE).bits
    )
    assert demote_in_steps(network, (1, 1), levels=THREE).formats == uniform(network, "low", THREE).formats
    assert demote_in_steps(network, (0, 0), levels=THREE).formats == uniform(network, "high", THREE).formats
    bits = sum(count * plan.formats[id].bits for id, count in plan.elements.items())
    assert plan.bits == bits < plan.bits_all_high
    assert "largest_first_in_steps ratios=0.3,0.7, levels float16:fp_5_6_0,fp_6_5_0:fp_4_3_4,fp_5_2_0" in repr(plan)


def test_json_round_trip(resnet: Any) -> None:
    for levels, ratios in ((THREE, (0.3, 0.7)), (FOUR, (0.1, 0.2, 0.4)), ("paper", (0.4,))):
        plan = demote_in_steps(resnet, ratios, "random", 1, levels)
        record = json.loads(plan.to_json())
        jsonschema.Draft202012Validator(SCHEMA).validate(record)
        assert record["ratios"] == list(ratios) and sum(record["groups_per_step"]) == len(plan.chosen_groups)
        assert Plan.from_json(plan.to_json()) == plan
        assert len(record["levels"].get("between", [])) == len(ratios) - 1
        assert all(
            name in record["formats"] for level in record["levels"].get("between", []) for name in level.values()
        )
    assert not {"ratios", "groups_per_step"} & demote(resnet, 0.5).to_dict().keys()  # as other plans were before
    assert "between" not in demote(resnet, 0.5).to_dict()["levels"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["ratios"], [0.7, 0.3], "field 'ratios' should be rising numbers"),
        (["ratios"], [0.3, 1.5], "field 'ratios' should be rising numbers"),
        (["ratios"], [0.3, "x"], "field 'ratios' should be rising numbers"),
        (["ratios"], 0.3, "field 'ratios' should be a list"),
        (["groups_per_step"], [1, 1], "field 'groups_per_step' should add up to the"),
        (["groups_per_step"], [-1, 8], "field 'groups_per_step' should add up to the"),
        (["groups_per_step"], [1.5], r"field 'groups_per_step\[0\]' should be an integer"),
        (["levels", "between"], [{}], r"field 'levels.between\[0\].activation' is missing"),
        (["levels", "between", 0, "parameter"], "fp8", r"field 'levels.between\[0\].parameter': unknown format"),
    ],
)
def test_a_broken_json_is_refused_by_field(resnet: Any, path: list, value: Any, said: str) -> None:
    record: Any = json.loads(demote_in_steps(resnet, (0.3, 0.7), levels=THREE).to_json())
    place = record
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=said):
        Plan.from_json(json.dumps(record))


def test_promotion_goes_up_level_by_level(resnet: Any) -> None:
    plan = uniform(resnet, "low", FOUR)
    activation, parameter = TensorId(3, "activation", 0), TensorId(2, "parameter", 1)
    names = []
    for _ in range(4):
        plan, promoted = promote(plan, {activation: 1.0, parameter: 0.0})
        names.append(plan.formats[activation].name)
    assert names == ["fp_5_6_0", "fp_5_7_0", "float16", "float16"] and promoted == ()
    assert plan.promoted == (activation,) * 3
    assert Plan.from_json(plan.to_json()) == plan
    jsonschema.validate(plan.to_dict(), SCHEMA)
    assert plan.formats[parameter].name == "fp_4_3_4"
    edited = uniform(resnet, "low", FOUR).with_formats({activation: "fp_3_2_0"})  # of no level
    assert promote(edited, {activation: 1.0})[0].formats[activation].name == "float16"


def test_levels_that_share_a_format() -> None:
    """Where a role has the same format in two levels, it is raised past both; the high format is never low."""
    levels = Levels.in_steps("float16", ["fp_5_6_0"], ["fp_4_3_4", "fp_5_6_0"])
    assert levels.raised("activation_gradient", FORMATS["fp_5_6_0"]).name == "float16"
    assert levels.raised("activation", FORMATS["fp_4_3_4"]).name == "fp_5_6_0"
    assert levels.raised("activation", FORMATS["float16"]).name == "float16"
    assert not levels.holds_low("parameter_gradient", FORMATS["float16"])
    as_wide = Levels.in_steps("float16", ["bfloat16"], ["fp_4_3_4"])
    assert as_wide.holds_low("activation", FORMATS["bfloat16"]) and not as_wide.holds_low(
        "activation", FORMATS["float16"]
    )


@pytest.mark.parametrize("text", [THREE, FOUR, "float16:float16:fp_4_3_4,fp_5_2_0"])
def test_levels_as_text(text: str) -> None:
    levels = parse_levels(text)
    assert len(levels.steps) == text.count(":") + 1
    assert parse_levels(str(levels)) == levels != Levels(levels.high, levels.low)
    assert [level["activation"].name for level in levels.steps] == [part.split(",")[0] for part in text.split(":")]
    assert parse_levels(FOUR).low["parameter_gradient"].name == "fp_5_4_0"
    assert parse_levels(FOUR).between[0]["parameter_gradient"].name == "float16"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda t: demote_in_steps(t, (0.3,), levels=THREE), "ratios must be 2 for these levels"),
        (lambda t: demote_in_steps(t, 0.3), "ratios must be 1 for these levels"),
        (lambda t: demote_in_steps(t, (0.7, 0.3), levels=THREE), "ratios must rise"),
        (lambda t: demote_in_steps(t, (0.3, 1.1), levels=THREE), r"ratios\[1\] must be a share from 0 to 1, got 1.1"),
        (
            lambda t: demote_in_steps(t, (float("nan"), 1), levels=THREE),
            r"ratios\[0\] must be a share from 0 to 1, got nan",
        ),
        (lambda t: demote_in_steps(t, ("a", 1), levels=THREE), r"ratios\[0\] must be a share from 0 to 1, got 'a'"),
        (lambda t: demote_in_steps(t, (0.3,), "random"), "needs a seed"),
        (lambda t: assign(t, "largest_first_in_steps", ratio=0.5), "needs ratios"),
        (lambda t: assign(t, "largest_first", ratio=0.5, ratios=(0.5,)), "has no option ratios"),
        (lambda t: Levels.in_steps("float16"), "at least one below"),
        (lambda t: parse_levels("float16::fp_4_3_4"), "plus :FORWARD,BACKWARD for lower levels"),
        (lambda t: Levels(*parse_levels(THREE).steps[::2], between=({"activation": "float16"},)), "'between' needs"),
    ],
)
def test_bad_requests(resnet: Any, make: Any, said: str) -> None:
    with pytest.raises(MpsimError, match=said):
        make(resnet)


def test_command_line(capsys: pytest.CaptureFixture) -> None:
    arguments = ["plan", "small_cnn", "--scheme", "largest_first_in_steps", "--levels", THREE, "--ratios"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "0.3,0.7", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert stopped.value.code == 0 and record["scheme"] == "largest_first_in_steps" and record["ratios"] == [0.3, 0.7]
    jsonschema.validate(record, SCHEMA)
    expected = demote_in_steps(trace(reference_models.build("small_cnn"), batch=128), (0.3, 0.7), levels=THREE)
    assert Plan.from_json({name: value for name, value in record.items() if name != "peak"}).formats == expected.formats
    for text, said in (("0.3;0.7", "numbers with commas"), ("0.3", "--ratios must be 2 for these levels")):
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, text])
        assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_training_under_three_levels() -> None:
    """The same bits on both backends; what overflows climbs a level a step."""
    images = 200 * np.random.default_rng(0).standard_normal((8, 1, 8, 8)).astype(np.float32)
    labels, digests = np.arange(8) % 10, []
    for backend in ("reference", "compiled"):
        model = reference_models.build("small_cnn", width=0.125)
        plan = demote_in_steps(trace(model, batch=8), (0.9, 1.0), levels="float16:fp_3_4_2:fp_3_2_2,fp_5_2_0")
        trainer = Trainer(model, plan, backend=backend, threads=1)
        reports = [trainer.step(images, labels) for _ in range(3)]
        digests.append(trainer.digest())
    first, second = reports[0].promoted, reports[1].promoted
    assert first and set(first) & set(second)  # low to middle, then to high
    tensor = next(iter(set(first) & set(second)))
    assert trainer.plan is not None and trainer.plan.formats[tensor].name == "float16"
    assert digests[0] == digests[1]
