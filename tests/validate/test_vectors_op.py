"""Vectors of operations: against NumPy's float16, and read back as answers."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim.cli import app
from mpsim.errors import UsageError
from mpsim.formats import FORMATS
from mpsim.validate.operations.validation import validate_operation
from mpsim.validate.subjects import testfloat
from mpsim.vectors.operations import op_tables, operand_codes


def written(out: Path, *arguments: str) -> dict:
    found = CliRunner().invoke(app, ["vectors", "op", "--out", str(out), "--json", *arguments], catch_exceptions=False)
    assert found.exit_code == 0
    return json.loads(found.stdout)


def test_float16_against_numpy(tmp_path: Path) -> None:
    """Sums and products of float16 are exact in float64, which says what is inexact; the lines are TestFloat's."""
    operations = ["--operation", "add", "--operation", "multiply", "--form", "testfloat", "--size", "3000"]
    manifest = written(tmp_path, *operations, "--formats", "float16")
    assert [each["tininess"] for each in manifest["sets"]] == ["after", "after"]
    for name, ufunc in (("add", np.add), ("multiply", np.multiply)):
        text = (tmp_path / f"{name}_float16_to_float16_nearest_even_infinity.tv").read_text()
        rows = [line.split() for line in text.splitlines()]
        assert {tuple(map(len, row)) for row in rows} == {(4, 4, 4, 2)} and text == text.upper() and len(rows) == 3000
        x, y, z, flags = np.array([[int(word, 16) for word in row] for row in rows], np.uint16).T
        x, y, z = (np.ascontiguousarray(each).view(np.float16) for each in (x, y, z))
        with np.errstate(all="ignore"):
            expected, exact = ufunc(x, y), ufunc(x.astype(float), y.astype(float))
        assert (
            np.array_equal(z, expected, equal_nan=True)
            and (z.view(np.uint16)[z == 0] >> 15 == np.signbit(expected[z == 0])).all()
        )
        assert np.array_equal(flags & 1 != 0, ~np.isnan(exact) & (exact != z))
        assert np.array_equal(flags & 4 != 0, np.isinf(z) & np.isfinite(exact))
        assert {0, 1, 5, 16} <= set(flags.tolist()) and (name == "add") == (3 not in set(flags.tolist()))


def test_every_form_and_p3109(tmp_path: Path) -> None:
    """All pairs of Binary4p2se: no flags, as P3109 has none; a word of random bits before the result."""
    command = ["--operation", "divide", "--formats", "p3109_k4p2", "--size", "0", "--mode", "stochastic_b"]
    manifest = written(tmp_path, *command, "--random-bit-count", "4")
    stem = "divide_p3109_k4p2_to_p3109_k4p2_stochastic_b_infinity"
    columns = {f"{stem}.{name}.mem" for name in ("a", "b", "word", "expected")}
    assert set(manifest["files"]) == columns | {f"{stem}.{end}" for end in ("npz", "jsonl", "txt", "h", "tv")}
    with np.load(tmp_path / f"{stem}.npz") as arrays:
        assert sorted(zip(arrays["a"].tolist(), arrays["b"].tolist(), strict=True)) == [
            (x, y) for x in range(16) for y in range(16)
        ]
    assert len((tmp_path / f"{stem}.tv").read_text().splitlines()[0].split()) == 4
    assert CliRunner().invoke(app, ["vectors", "verify", str(tmp_path)]).exit_code == 0


def test_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    """The digest of a pack's list of files, as it was when packs of operations were first written."""
    command = "--operation fma --formats float16,bfloat16,float32 --result bfloat16 --mode to_odd --size 200"
    files = json.dumps(written(tmp_path, *command.split())["files"], sort_keys=True)
    assert sha256(files.encode()).hexdigest() == "af7168b7f7052eff73703dd68edc3ec097c88db549755196dbf30be64258d653"


def test_read_as_answers(tmp_path: Path) -> None:
    """A pack is equal to its rule, and to the choice of tininess that it was written with."""
    for tininess in ("after", "before"):
        command = ["--operation", "multiply", "--formats", "float8_e5m2", "--size", "0", "--tininess", tininess]
        written(tmp_path / tininess, *command, "--form", "testfloat")
        path = tmp_path / tininess / "multiply_float8_e5m2_to_float8_e5m2_nearest_even_infinity.tv"
        report = validate_operation(str(path), "multiply", "float8_e5m2", mode="nearest_even")
        assert report.equal and report.exhaustive and report.flags is not None and report.flags.tininess == (tininess,)
        assert [rule.words for rule in report.equal_to] == ["nearest_even, overflow infinity"]
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.endswith(" 01"))
    operands = [int(word, 16) for word in lines[first].split()[:2]]
    lines[first] = lines[first][:-1] + "3"
    path.write_text("\n".join(lines))
    report = validate_operation(str(path), "multiply", "float8_e5m2", mode="nearest_even")
    assert not report.equal and report.wrong == 0 and report.flags is not None
    assert (report.flags.wrong, list(report.flags.operands), report.flags.tininess) == (1, operands, ("before",))
    found = CliRunner().invoke(
        app, ["validate", "op", str(path), "--operation", "multiply", "--formats", "float8_e5m2"]
    )
    assert found.exit_code == 1 and "expected inexact, got inexact and underflow" in found.stdout
    path.write_text("3C 3C 3C\n3C 3C 3D\n")  # 1 * 1, answered twice
    report = validate_operation(str(path), "multiply", "float8_e5m2", mode="nearest_even")
    assert report.wrong == 1 and report.flags is None and not report.exhaustive
    path.write_text("3C 3C 13C\n")
    found = CliRunner().invoke(
        app, ["validate", "op", str(path), "--operation", "multiply", "--formats", "float8_e5m2"]
    )
    assert found.exit_code == 2 and "has 0x13c; codes of float8_e5m2 are 0 to 0xff" in found.stderr


def test_operands() -> None:
    """Edges meet, and random codes follow; too many for all are refused."""
    rows = operand_codes([FORMATS["float16"]] * 2, 4000, 0)
    pairs = set(zip(*map(np.ndarray.tolist, rows), strict=True))
    assert {(0, 0x7C00), (0x8000, 0x7BFF), (0x7E00, 0x3C00)} <= pairs and len(pairs) > 3900
    with pytest.raises(UsageError, match="at most 65,536"):
        operand_codes([FORMATS["float16"]] * 2, 0, 0)
    with pytest.raises(UsageError, match="did you mean before"):
        list(op_tables(["add"], "float16", tininess="befor"))
    (table,) = op_tables(["divide"], "float4_e2m1fn", size=0)
    assert table.about["left_out"] == 4 and table.size == 252


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("# comment\n0x3C 3c 3C // all\n\n3C 3C 3D\n")
    lines = testfloat.read(path, 2)
    assert lines.results.tolist() == [0x3C, 0x3D] and lines.flags is None
    path.write_text("3C 3C 3C 01\n3C 3C 3D\n")
    with pytest.raises(UsageError, match="line 2 has 3 words"):
        testfloat.read(path, 2)
