"""Step files whose tensors have other names: by a table, or found by shape and value, and never by a guess."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from foreign_transformer import Engine, start_of
from step_samples import clean
from typer.testing import CliRunner

import reference_models
from mpsim import Trainer
from mpsim.cli import app
from mpsim.errors import UsageError
from mpsim.files.tensors import TensorFile
from mpsim.recording import record_step
from mpsim.validate.step.comparison import compare_steps
from mpsim.validate.step.naming import matched, named_by

Tensors = dict[str, np.ndarray]


def stranger(tensors: Tensors) -> tuple[Tensors, dict[str, str]]:
    """The tensors that a step makes, under names that say nothing, in another order, and what each one is."""
    made = [name for name in tensors if name.split("/")[0] in ("P", "Y", "G", "GP", "next_master")]
    random = np.random.default_rng(3)
    truth = {f"tensor.{i}": made[j] for i, j in enumerate(random.permutation(len(made)))}
    return {other: tensors[name] for other, name in truth.items()}, truth


def check_right(names: dict[str, str], truth: dict[str, str], ours: Tensors) -> None:
    """A name is the right one, or that of a tensor of ours that is equal in every bit."""
    for other, name in names.items():
        assert name == truth[other] or ours[name].tobytes() == ours[truth[other]].tobytes(), (other, name, truth[other])


def test_a_table_gives_names(tmp_path: Path) -> None:
    step = clean("small_cnn", "standard")
    theirs, truth = stranger(dict(step.tensors))
    np.savez(tmp_path / "theirs.npz", **theirs)
    step.write(tmp_path / "ours.npz")
    (tmp_path / "table.json").write_text(json.dumps(truth))
    paths = [str(tmp_path / name) for name in ("theirs.npz", "ours.npz", "table.json")]
    command = ["validate", "step", paths[0], "--against", paths[1], "--names", paths[2]]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["names"] == truth
    swapped = {**truth, **dict(zip(list(truth)[:2], list(truth.values())[1::-1], strict=True))}
    (tmp_path / "table.json").write_text(json.dumps(swapped))
    assert CliRunner().invoke(app, command).exit_code in (1, 2)  # other values, or other shapes
    for content in ("[1]", "{oops", '{"tensor.0": 3}', '{"nothing": "Y/1/0"}', '{"tensor.0": "weights"}'):
        (tmp_path / "table.json").write_text(content)
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2 and result.output.startswith("mpsim: "), result.output


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1], "a table of names is a JSON object of texts"),
        ({"x": 1}, "a table of names is a JSON object of texts"),
        ({"z": "Y/1/0"}, "the file has no tensor 'z'"),
        ({"x": "output"}, "'output' is not the name of a tensor of a step"),
        ({"x": "Y/1/0", "y": "Y/1/0"}, "two tensors of the file would be 'Y/1/0'"),
        ({"x": "P/1/0"}, "two tensors of the file would be 'P/1/0'"),
    ],
)
def test_a_table_of_something_else_is_refused(table: object, message: str) -> None:
    file = TensorFile(dict.fromkeys(("x", "y", "P/1/0"), np.zeros(2, np.float32)))
    with pytest.raises(UsageError, match=message):
        named_by(file, table)


@pytest.mark.parametrize("model", ["small_cnn", "resnet18"])
def test_equal_tensors_are_found(model: str) -> None:
    step = clean(model, "standard")
    ours = TensorFile(step.tensors, step.index)
    theirs, truth = stranger(dict(step.tensors))
    named = matched(TensorFile(theirs), ours)
    assert set(named.names) == set(truth)
    check_right(dict(named.names), truth, dict(step.tensors))
    report = compare_steps(named.file, ours)
    assert report.verdict.name == "EQUAL" and not report.not_compared
    assert f"{len(truth)} of {len(truth)} tensors with other names were matched" in named.notes[0]


@pytest.mark.parametrize("defect", ["", "wrong gradient scale", "dropout on", "transposed weight"])
def test_tensors_of_another_engine_are_found_and_none_is_guessed(defect: str) -> None:
    model, labels = reference_models.build("vit_tiny", width=0.25), np.array([3, 1])
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    step = record_step(Trainer(model, threads=1), images, labels)
    found, truth = stranger(Engine(start_of(step.tensors), defect).step(step.index["optimizer"]))
    named = matched(TensorFile(found), TensorFile(step.tensors, step.index))
    check_right(dict(named.names), truth, dict(step.tensors))
    assert len(named.names) > (0.9 if not defect else 0.4) * len(truth)
    unnamed = [name for name in found if name not in named.names]
    assert all(name in named.file.tensors for name in unnamed)  # kept under their own names
    assert len(unnamed) == 0 or "was not matched" in " ".join(named.notes)


def test_what_may_be_several_is_said_and_not_guessed() -> None:
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 40)).astype(np.float32)
    near = a + np.float32(1e-3) * b
    ours = TensorFile({"Y/1/0": a, "Y/2/0": near, "Y/3/0": b, "Y/4/0": np.zeros(7, np.float32)})
    between = matched(TensorFile({"x": (a + near) / 2}), ours)
    assert not between.names and "x was not matched: it may be Y/1/0 or Y/2/0" in between.notes[1]
    unlike = matched(TensorFile({"x": random.standard_normal(40).astype(np.float32)}), ours)
    assert not unlike.names and "no tensor of its shape (40,) is near it" in unlike.notes[1]
    other = matched(TensorFile({"x": np.zeros((3, 5), np.float32)}), ours)
    assert not other.names and "no tensor has shape (3, 5)" in other.notes[1]
    two = matched(TensorFile({"x": b * np.float32(1.001), "y": b * np.float32(0.999)}), ours)
    assert not two.names  # both are near one of ours
    assert dict(matched(TensorFile({"x": b * np.float32(1.001)}), ours).names) == {"x": "Y/3/0"}
    twins = TensorFile({"GP/1/0": a, "GP/2/0": a, "Y/3/0": b})
    assert not matched(TensorFile({"x": a}), twins).names  # one tensor for two names
    assert set(matched(TensorFile({"x": a, "y": a}), twins).names.values()) == {"GP/1/0", "GP/2/0"}


def test_numbers_beyond_the_range_are_no_obstacle() -> None:
    ours = TensorFile({"Y/1/0": np.float32([np.inf, np.nan, 3e38] * 10), "Y/2/0": np.zeros(30, np.float32)})
    named = matched(TensorFile({"x": ours.tensors["Y/1/0"], "y": np.full(30, np.nan, np.float32)}), ours)
    assert dict(named.names) == {"x": "Y/1/0"}
    assert not matched(TensorFile({"x": np.zeros(0, np.float32)}), ours).names


def test_matrices_of_the_other_layout_are_transposed() -> None:
    random = np.random.default_rng(1)
    a, b = random.standard_normal((2, 6, 10)).astype(np.float32)
    square = random.standard_normal((8, 8)).astype(np.float32)
    ours = TensorFile({"P/1/0": a, "GP/1/0": b, "P/2/0": square})
    near = np.ascontiguousarray(b.T) * np.float32(1.001)
    theirs = TensorFile({"weight": np.ascontiguousarray(a.T), "grad": near, "square": np.ascontiguousarray(square.T)})
    named = matched(theirs, ours)
    assert dict(named.names) == {"weight": "P/1/0.T", "grad": "GP/1/0.T"}  # a square one may be a defect
    assert named.file.tensors["P/1/0"].tobytes() == a.tobytes()
    assert "2 of 3 tensors with other names were matched by shape and value, 1 of them equal" in named.notes[0]
    assert any("square was not matched" in note for note in named.notes)
    assert not any("weight was not matched" in note for note in named.notes)
    by_table = named_by(theirs, dict(named.names))
    assert {name: array.tobytes() for name, array in by_table.file.tensors.items()} == {
        name: array.tobytes() for name, array in named.file.tensors.items()
    }
    # Ours are taken by tensors of the same layout first, and only one tensor gets a name.
    both = matched(TensorFile({"x": a, "y": np.ascontiguousarray(a.T)}), ours)
    assert dict(both.names) == {"x": "P/1/0"}
    unlike = matched(TensorFile({"x": random.standard_normal((10, 6)).astype(np.float32)}), ours)
    assert not unlike.names
    with pytest.raises(UsageError, match="only matrices can be transposed, but 'x' has shape"):
        named_by(TensorFile({"x": np.zeros(3, np.float32)}), {"x": "Y/1/0.T"})
