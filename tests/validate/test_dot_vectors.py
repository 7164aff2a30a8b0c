"""Files of dot products are read back, and their accumulator is found."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim.cli import app
from mpsim.products.accumulators import Accumulator
from mpsim.products.tensor_cores import TENSOR_CORES, described
from mpsim.validate import SubjectError
from mpsim.validate.dot.vectors import validate_dot_vectors
from mpsim.vectors.forms import table_files
from mpsim.vectors.step import step_files
from mpsim.vectors.tables import dot_table


def written(folder: Path, accumulator: Accumulator, inputs: str = "float16", form: str = "npz") -> Path:
    table = dot_table(accumulator, inputs, 300, size=40)
    ((name, content),) = table_files(table, [form]).items()
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("form", ["npz", "jsonl"])
@pytest.mark.parametrize("name", ["hopper_float16", "volta_float16"])
def test_the_accumulator_of_a_pack_is_found(tmp_path: Path, name: str, form: str) -> None:
    accumulator = TENSOR_CORES[name].accumulator
    report = validate_dot_vectors(written(tmp_path, accumulator, form=form))
    assert accumulator in report.matches and report.equal
    assert Accumulator(kind="exact") not in report.matches


def test_one_wrong_bit_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, Accumulator())
    assert CliRunner().invoke(app, ["validate", "dot", str(path), "--accumulator", "chunk=256"]).exit_code == 0
    with np.load(path) as arrays:
        content = dict(arrays)
    content["expected"][7] ^= 1
    np.savez(path, **content)
    result = CliRunner().invoke(app, ["validate", "dot", str(path), "--accumulator", "chunk=256", "--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["different"][described(Accumulator())] == 1 and report["matches"] == []


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(SubjectError, match="no file of dot products"):
        validate_dot_vectors(tmp_path / "a.jsonl")
    assert CliRunner().invoke(app, ["validate", "dot", str(tmp_path / "missing.npz")]).exit_code == 2


def test_a_step_in_every_form(tmp_path: Path) -> None:
    tensors = {"Y/1/0": np.float32([[1, -0.0]]), "labels": np.int64([3])}
    files = step_files(tensors, {"ops": []})
    rows = [json.loads(line) for line in files["step.jsonl"].splitlines()]
    assert rows[0] == {"name": "Y/1/0", "dtype": "float32", "shape": [1, 2], "words": ["3f800000", "80000000"]}
    (tmp_path / "step.h").write_bytes(files["step.h"])
    (tmp_path / "use.c").write_text(
        '#include "step.h"\nint main(void) { return !(step_Y_1_0[1] == 0x80000000u && step_labels[0] == 3); }\n'
    )
    subprocess.run(["cc", "-o", tmp_path / "use", tmp_path / "use.c"], check=True)
    assert subprocess.run([tmp_path / "use"]).returncode == 0
