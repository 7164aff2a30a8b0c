"""Plans compared and drawn."""

import json

import pytest

import reference_models
from mpsim.assignment import demote, uniform
from mpsim.assignment.comparison import compare
from mpsim.cli import main
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.experiments.drawing.plan_picture import bytes_by_group, draw_plan
from mpsim.trace import trace


@pytest.fixture(scope="module")
def small():
    return trace(reference_models.build("small_cnn", seed=None), batch=4)


def test_what_differs_is_listed(small):
    high, low = uniform(small, "high"), uniform(small, "low")
    assert compare(high, high).changed == {} and compare(high, high).changed_elements == 0
    found = compare(high, low)
    assert set(found.changed) == {id for id in high.formats if id.role != "parameter_gradient"}
    one = compare(low, low.with_formats({TensorId(2, "activation"): "bfloat16"}))
    assert one.to_dict()["changed"] == [
        {"op": 2, "role": "activation", "index": 0, "formats": ["fp_4_3_4", "bfloat16"]}
    ]
    assert one.changed_elements == low.elements[TensorId(2, "activation")]
    assert "bn1" in one.table() and "fp_4_3_4 -> bfloat16: activation" in one.table()


def test_plans_for_other_networks_are_refused(small):
    other = trace(reference_models.build("small_cnn", seed=None), batch=8)
    with pytest.raises(ValueError, match="batch is 4 and 8"):
        compare(uniform(small, "low"), uniform(other, "low"))


def test_bytes_by_group_add_up(small):
    plan = demote(small, 0.5)
    table = bytes_by_group(plan)
    assert sum(map(sum, table.values())) == plan.bits / 8
    full = bytes_by_group(uniform(small, "float32"))
    assert [sum(full[role][group] for role in ROLES) / 4 for group in range(len(small.groups))] == small.groups


@pytest.mark.parametrize("suffix,start", [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_picture_is_written(small, tmp_path, suffix, start):
    path = draw_plan(demote(small, 0.5), tmp_path / f"plan{suffix}")
    assert path.read_bytes().startswith(start)
    if suffix == ".svg":
        assert path.stat().st_size > 10_000


def test_the_command_compares_and_draws(tmp_path, capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["plan", "small_cnn", "--batch", "4", *map(str, arguments)])
        output = capsys.readouterr()
        return stopped.value.code, output.out, output.err

    other = tmp_path / "other.json"
    _, text, _ = call("--scheme", "uniform_high", "--json")
    other.write_text(text)
    code, text, _ = call("--scheme", "uniform_low", "--compare", other, "--plot", tmp_path / "plan.png")
    assert code == 0 and "fp_6_9_0 -> fp_4_3_4: activation" in text and (tmp_path / "plan.png").exists()
    code, text, _ = call("--scheme", "uniform_low", "--compare", other, "--json")
    assert code == 0 and len(json.loads(text)["comparison"]["changed"]) > 20
    code, _, errors = call("--scheme", "uniform_low", "--plot", tmp_path / "plan.gif")
    assert code == 2 and "plan.gif: the file's name should end in one of .png, .svg, .pdf" in errors
    code, _, errors = call("--scheme", "uniform_low", "--compare", tmp_path / "none.json")
    assert code == 1 and "none.json" in errors
