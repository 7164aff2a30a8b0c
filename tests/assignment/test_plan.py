import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from mpsim.assignment import SCHEMES, Plan, assign, demote, plan_report, promote, uniform
from mpsim.engine.tensor import TensorId
from mpsim.formats import FORMATS, Format

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "plan.schema.json").read_text())
OPTIONS = {"ratio": 0.5, "seed": 7, "k": 3, "ratios": (0.5,)}
ISSUE_KEYS = {
    "model", "width", "classes", "batch", "scheme", "ratio", "semantics", "ops", "groups", "chosen_groups", "reached",
    "low_share", "total_elements", "tensors",
}  # fmt: skip


def plan_of(trace: Any, scheme: str) -> Plan:
    return assign(trace, scheme, **{name: OPTIONS[name] for name in SCHEMES[scheme].options})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_json_follows_the_schema_and_comes_back_equal(resnet: Any, scheme: str) -> None:
    plan = plan_of(resnet, scheme)
    assert plan.scheme == scheme
    record = json.loads(plan.to_json())
    jsonschema.Draft202012Validator(SCHEMA).validate(record)
    report = plan_report(resnet, plan)
    assert record == plan.to_dict() == {name: report[name] for name in record}
    assert set(report) - set(record) == {"peak", "recomputation"}
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert set(record) >= ISSUE_KEYS
    assert len(record["tensors"]) == len(resnet.tensors) and record["total_elements"] == 543364500
    back = Plan.from_json(plan.to_json())
    assert back == plan
    assert list(back.formats) == list(plan.formats)
    assert (back.bits, back.low_share, back.reached) == (plan.bits, plan.low_share, plan.reached)
    back.check(resnet)


def test_a_promoted_plan_and_one_with_a_format_of_its_own_come_back_equal(resnet: Any, tmp_path: Path) -> None:
    plan, _ = promote(uniform(resnet, "low"), {TensorId(3, "activation", 0): 1.0})
    odd = Format("mine", exponent_bits=3, mantissa_bits=1, bias=2, specials="none")
    plan = plan.with_formats({TensorId(6, "activation", 0): odd, TensorId(7, "activation", 0): "bfloat16"})
    path = tmp_path / "plan.json"
    plan.to_json(path)
    back = Plan.from_json(path.read_text())
    assert back == plan and back.formats[TensorId(6, "activation", 0)] == odd
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)


@pytest.mark.parametrize("levels", ["paper", "fp8_ocp", "six_bit", "float32:bfloat16,float16"])
@pytest.mark.parametrize("scheme", ["operator_based", "largest_first", "uniform_low", "uniform_high"])
def test_low_share_is_the_papers_form_for_any_one_pair_of_widths(resnet: Any, levels: str, scheme: str) -> None:
    plan = assign(resnet, scheme, levels=levels, **{name: OPTIONS[name] for name in SCHEMES[scheme].options})
    high = plan.levels.high["activation"].bits
    low = plan.levels.low["activation"].bits
    saved = Fraction(plan.bits_all_high - plan.bits, plan.bits_all_high)
    assert plan.low_share == float(saved * Fraction(high, high - low))
    assert plan.bytes == plan.bits // 8 + (plan.bits % 8 > 0)


def test_float32_holds_nothing_low_and_costs_more_than_high(resnet: Any) -> None:
    plan = uniform(resnet, "float32")
    assert plan.low_share == 0 and plan.bits == 32 * resnet.total_elements == 2 * plan.bits_all_high


def test_repr_and_table_say_what_it_is(resnet: Any) -> None:
    plan = demote(resnet, 0.3)
    assert repr(plan) == (
        "Plan(resnet18 width 1, 10 classes, batch 128: largest_first ratio=0.3, levels paper, 34.0% low, "
        "3 of 22 groups, 902,023,592 bytes)"
    )
    assert "activation           fp_4_3_4             92,274,688     92,274,688  16.98%" in plan.table().splitlines()


def changed(trace: Any, **fields: Any) -> Any:
    return SimpleNamespace(**{**vars(trace), **fields})


def test_check_says_what_differs(resnet: Any, trace_of: Callable[[str], Any]) -> None:
    plan = demote(resnet, 0.3)
    plan.check(resnet)
    other = [*resnet.ops]
    other[5] = SimpleNamespace(**{**vars(other[5]), "kind": "ReLU"})
    tensors = [SimpleNamespace(**vars(tensor)) for tensor in resnet.tensors]
    tensors[3].elements += 1
    for trace, said in [
        (trace_of("sqz/1.0/10"), "model is 'resnet18' in the plan and 'squeezenet' here"),
        (changed(resnet, width=0.5), "width is 1.0 in the plan and 0.5 here"),
        (changed(resnet, classes=100), "classes is 10 in the plan and 100 here"),
        (changed(resnet, batch=64), "batch is 128 in the plan and 64 here"),
        (changed(resnet, semantics="standard"), "semantics is 'lee2023' in the plan and 'standard' here"),
        (changed(resnet, ops=other), "op 5 is .*BatchNorm2d.*ReLU"),
        (changed(resnet, ops=resnet.ops[:-1]), "number of ops is 70 in the plan and 69 here"),
        (changed(resnet, tensors=tensors), "elements of TensorId.op=1, .*is 8388608 .* 8388609 here"),
        (changed(resnet, tensors=resnet.tensors[:-1]), "elements of .*None here"),
    ]:
        with pytest.raises(ValueError, match=said):
            plan.check(trace)
        with pytest.raises(ValueError, match=said):
            plan_report(trace, plan)


def set_field(record: dict, path: list, value: Any) -> None:
    for step in path[:-1]:
        record = record[step]
    if value is None:
        del record[path[-1]]
    else:
        record[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["mpsim_plan"], None, "field 'mpsim_plan' is missing"),
        (["mpsim_plan"], 2, "is 2; this mpsim reads 1"),
        (["model"], 3, "field 'model' should be a text, got 3"),
        (["width"], "1", "field 'width' should be a number, got '1'"),
        (["batch"], True, "field 'batch' should be an integer, got True"),
        (["ratio"], 1.5, r"field 'ratio' should be in \[0, 1\], got 1.5"),
        (["scheme"], None, "field 'scheme' is missing"),
        (["batch"], 10**20, r"field 'batch' must be a whole number from 1 to 2\*\*24"),
        (["width"], float("nan"), "field 'width' must be a finite number above 0"),
        (["groups"], [1, "x"], r"field 'groups\[1\]' should be an integer"),
        (["groups", 0], 1, "field 'groups' adds up to"),
        (["chosen_groups"], [1, 1], "field 'chosen_groups' should have different ids below 22"),
        (["chosen_groups"], [22], "field 'chosen_groups' should have different ids below 22"),
        (["levels", "high", "parameter"], None, "field 'levels.high.parameter' is missing"),
        (["levels", "low", "activation"], "fp8", "field 'levels.low.activation': unknown format 'fp8'"),
        (["formats", "fp_4_3_4", "mantissa_bits"], "3", "field 'formats.fp_4_3_4.mantissa_bits' should be an integer"),
        (["formats", "fp_4_3_4", "specials"], "iee", "unknown specials of format 'fp_4_3_4': 'iee'; did you mean ieee"),
        (["ops", 2, "index"], 3, r"field 'ops\[2\].index' should be 2"),
        (["ops", 2, "producers"], None, r"field 'ops\[2\].producers' is missing"),
        (["tensors", 4, "op"], 70, r"field 'tensors\[4\].op' is 70, but there are 70 ops"),
        (["tensors", 4, "role"], "weight", r"field 'tensors\[4\].role' is 'weight'. Known: activation"),
        (["tensors", 4, "format"], "float8_e4m3f", r"field 'tensors\[4\].format': .*it may mean float8_e4m3fn"),
        (["tensors", 4], [1, 2], r"tensors\[4\] should be an object, got \[1, 2\]"),
        (["tensors", 4], None, "tensors are missing"),
    ],
)
def test_a_broken_json_is_refused_by_field(resnet: Any, path: list, value: Any, said: str) -> None:
    record = json.loads(demote(resnet, 0.3).to_json())
    set_field(record, path, value)
    with pytest.raises(ValueError, match=said):
        Plan.from_json(json.dumps(record))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"mpsim_plan": 1'])
def test_what_is_not_a_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="^plan: "):
        Plan.from_json(text)


def test_a_tensor_twice_is_refused(resnet: Any) -> None:
    record = demote(resnet, 0.3).to_dict()
    record["tensors"].append(record["tensors"][0])
    with pytest.raises(ValueError, match="repeats"):
        Plan.from_json(record)


def test_formats_of_tensors_the_plan_does_not_have(resnet: Any) -> None:
    plan = uniform(resnet, "low")
    for change in (lambda: plan.raised([TensorId(999, "activation", 0)]),
                   lambda: plan.with_formats({TensorId(999, "activation", 0): FORMATS["float16"]})):  # fmt: skip
        with pytest.raises(ValueError, match="has no tensor"):
            change()


@pytest.mark.parametrize(
    ("scheme", "options", "said"),
    [
        ("largest_fist", {"ratio": 0.5}, "did you mean largest_first"),
        ("largest_first", {}, "needs ratio"),
        ("random", {"ratio": 0.5}, "needs seed"),
        ("largest_k", {}, "needs k"),
        ("operator_based", {"ratio": 0.5}, "has no option ratio"),
        ("largest_first", {"ratio": 0.5, "seed": 1}, "has no option seed .schemes with it: random, random_in_steps."),
    ],
)
def test_scheme_options(resnet: Any, scheme: str, options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        assign(resnet, scheme, **options)
