"""Vector packs: what they hold is the definition's, every form says the same, the bytes never change."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim import FORMATS, Accumulator, Policy
from mpsim.cli import app
from mpsim.kernels import spec, spec_codes, spec_dot
from mpsim.kernels.philox import Stream, random_bits
from mpsim.policies import Mode, Overflow
from mpsim.validate.sources import SOURCES
from mpsim.validate.subjects import vectors_in
from mpsim.vectors import casts, forms, tables
from mpsim.vectors import pack as packs


def run(*words: str) -> Any:
    return CliRunner().invoke(app, [*words])


def float32(pattern: int) -> float:
    return struct.unpack("<f", struct.pack("<I", pattern))[0]


# -- what they hold -----------------------------------------------------------------------------------------


def test_every_format_mode_and_policy_has_the_results_of_the_definition() -> None:
    seen = set()
    for table in casts.cast_tables(size=24, seed=2):
        about, (inputs, _), (codes, bits) = table.about, table.columns["input"], table.columns["expected"]
        format = FORMATS[about["format"]]
        words = table.columns.get("random_bits", (np.zeros(inputs.size, np.uint32), 32))[0]
        policy = Policy(about["mode"], about["overflow"], about["random_bit_count"])
        seen.add((format.name, policy.mode, policy.overflow))
        assert bits == format.bits and inputs.size + about["left_out"] <= 24 + 2
        for pattern, code, word in zip(inputs.tolist(), codes.tolist(), words.tolist(), strict=True):
            result = spec.round_value(float32(pattern), "float32", format, policy, word)
            assert spec_codes.encode(result, format) == code, (table.name, hex(pattern))
    named = {name for name, format in FORMATS.items() if format.bits < 32}
    modes = [mode for mode in Mode if not mode.is_legacy]
    assert seen >= {(name, mode, overflow) for name in named for mode in modes for overflow in Overflow}
    legacy = {table.about["mode"] for table in casts.cast_tables(["fp_4_3_4"], size=8)}
    assert {"qpytorch_nearest", "qpytorch_stochastic"} <= legacy


@pytest.mark.parametrize("source", SOURCES)
def test_inputs_hold_what_decides(source: str) -> None:
    format, origin = FORMATS["float8_e4m3fn"], SOURCES[source]
    patterns = casts.cast_inputs(format, source, 900)
    values = origin.values(patterns)
    assert patterns.dtype == origin.unsigned and (patterns[1:] > patterns[:-1]).all()
    assert np.isnan(values).any() and np.isinf(values).any() and (values == 0).sum() == 2
    for point in (464.0, 448.0, 480.0, 2.0**-10, 3 * 2.0**-10, 2.0**-6):
        at = int(origin.patterns(np.array([point]))[0])
        assert {at - 1, at, at + 1} <= set(patterns.tolist()), point


def test_a_dot_pack_has_the_results_of_the_definition() -> None:
    for accumulator, inputs in (
        (Accumulator(chunk=8), "float8_e5m2"),
        (Accumulator(format="fp_6_9_0", chunk=None), "float16"),
        (Accumulator(kind="exact"), "float32"),
    ):
        table = tables.dot_table(accumulator, inputs, 20, size=12)
        a, b, expected = (table.columns[name][0] for name in ("a", "b", "expected"))
        finite = 0
        for left, right, code in zip(a.tolist(), b.tolist(), expected.tolist(), strict=True):
            x, y = ([spec_codes.decode(word, FORMATS[inputs]) for word in words] for words in (left, right))
            result = spec_dot.dot(x, y, accumulator)
            finite += math.isfinite(result)
            assert struct.pack("<f", result) == struct.pack("<I", code) or (math.isnan(result) and code == 0x7FC00000)
        assert finite >= 9 and np.unique(expected).size >= 9
    with pytest.raises(ValueError, match="promises no bits"):
        tables.dot_table(Accumulator(kind="blas"))


# -- forms --------------------------------------------------------------------------------------------------


def pack(tmp_path: Path, *words: str) -> Path:
    out = tmp_path / "pack"
    result = run("vectors", "cast", "--out", str(out), *words)
    assert result.exit_code == 0, result.output
    return out


CAST = ("--format", "float8_e4m3fn", "--mode", "nearest_even", "--overflow", "saturate", "--size", "300")
NAME = "cast_float32_to_float8_e4m3fn_nearest_even_saturate"


def test_every_form_says_the_same(tmp_path: Path) -> None:
    out = pack(tmp_path, *CAST)
    files = {path.suffix: path for path in out.iterdir() if path.name.startswith(f"{NAME}.")}
    found = {suffix: vectors_in.read(files[suffix]) for suffix in (".npz", ".jsonl", ".txt")}
    for suffix, each in found.items():
        assert np.array_equal(each.inputs, found[".npz"].inputs), suffix
        assert np.array_equal(each.results, found[".npz"].results), suffix
    assert found[".npz"].format == found[".jsonl"].format == FORMATS["float8_e4m3fn"]
    for column, values in (("input", found[".npz"].inputs), ("expected", found[".npz"].results)):
        lines = (out / f"{NAME}.{column}.mem").read_text().splitlines()
        assert [int(line, 16) for line in lines] == values.tolist()
        assert len({len(line) for line in lines}) == 1, "one width"
    header = files[".h"].read_text()
    assert f"#define MPSIM_{NAME.upper()}_COUNT {found['.npz'].inputs.size}" in header
    literals = [int(word, 16) for word in re.findall(r"0x([0-9a-f]+)u,", header)]
    assert literals == [*found[".npz"].inputs.tolist(), *found[".npz"].results.tolist()]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to read the header with")
def test_the_header_compiles(tmp_path: Path) -> None:
    out = tmp_path / "dots"
    packs.write_pack(out, [tables.dot_table(Accumulator(), "bfloat16", 3, size=2)], {}, ["h"])
    program = out / "main.c"
    program.write_text('#include "dot.h"\nint main(void) { return sizeof dot_a != 12 || dot_expected[1] == 1; }\n')
    subprocess.run(["cc", "-Wall", "-Wno-unused", "-Werror", str(program), "-o", str(out / "main")], check=True)
    subprocess.run([str(out / "main")], check=True)


@pytest.mark.parametrize("suffix", ["npz", "jsonl", "txt"])
def test_validate_reads_them_back(tmp_path: Path, suffix: str) -> None:
    out = pack(tmp_path, *CAST)
    file = out / f"{NAME}.{suffix}"
    declared = ("--format", "float8_e4m3fn", "--mode", "nearest_even", "--overflow")
    assert run("validate", "cast", str(file), *declared, "saturate").exit_code == 0
    assert run("validate", "cast", str(file), *declared, "infinity").exit_code == 1


def test_random_bits_come_last_in_text_and_are_the_streams(tmp_path: Path) -> None:
    (table,) = casts.cast_tables(["float8_e5m2"], modes=["stochastic"], overflows=["mark"], size=50)
    words = table.columns["random_bits"][0]
    lines = forms.table_files(table, ["txt"])[f"{table.name}.txt"].decode().splitlines()
    assert lines[0].startswith("// input expected random_bits; ")
    assert [int(line.split()[2], 16) for line in lines[1:]] == words.tolist()
    assert np.isin(words, random_bits(Stream(0, "rounding"), 50)).all()


# -- the same bytes -----------------------------------------------------------------------------------------


def digest(files: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def test_bytes_are_those_that_were_written_before(tmp_path: Path) -> None:
    made = casts.cast_tables(
        ["float8_e4m3fn", "fp_6_9_0", "p3109_k8p3"], "float64", ["up", "stochastic"], ["infinity"], size=200
    )
    dots = tables.dot_table(Accumulator(chunk=16), "float8_e4m3fn", 40, size=9)
    manifest = packs.write_pack(tmp_path, [*made, dots], {"kind": "test"})
    assert manifest["pack_version"] == 3, "a new version has new bytes: state their digest below"
    assert digest(manifest["files"]) == "425fe890b6af82db24143728b88d1e721c2cae144787814144b9b495b3e2c0a0"


def test_backends_write_the_same_bytes() -> None:
    made = [list(casts.cast_tables(["float8_e3m4"], size=60, backend=name)) for name in ("reference", "compiled")]
    assert [forms.table_files(t) for t in made[0]] == [forms.table_files(t) for t in made[1]]


def test_manifest_and_verify(tmp_path: Path) -> None:
    out = pack(tmp_path, *CAST)
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in out.iterdir()} - {"manifest.json"}
    assert manifest["arguments"]["mode"] == ["nearest_even"] and manifest["sets"][0]["name"] == NAME
    for name, entry in manifest["files"].items():
        content = (out / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["bytes"])
    assert run("vectors", "verify", str(out)).exit_code == 0
    (out / f"{NAME}.txt").write_bytes(b"00000000 00\n")
    (out / f"{NAME}.h").unlink()
    changed = run("vectors", "verify", str(out), "--json")
    assert changed.exit_code == 1
    problems = {problem["file"]: problem["what"] for problem in json.loads(changed.output)["problems"]}
    assert problems == {f"{NAME}.txt": "changed", f"{NAME}.h": "missing"}


def test_the_digest_is_that_of_any_version_of_mpsim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In packs of version 2 it covered the version, and they are verified as they were written."""
    made = []
    for version in ("1.0", "1.1"):
        monkeypatch.setattr(packs, "version", lambda _, version=version: version)
        made.append(packs.write_pack(tmp_path / version, casts.cast_tables(["float4_e2m1fn"], size=4), {}))
    assert [each["mpsim"] for each in made] == ["1.0", "1.1"] and made[0]["digest"] == made[1]["digest"]
    older = {**made[0], "pack_version": 2}
    covered = {name: value for name, value in older.items() if name not in ("digest", "semantics_version")}
    older["digest"] = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
    for mpsim, problems in (("1.0", []), ("1.1", ["manifest.json"])):
        (tmp_path / "1.0" / "manifest.json").write_text(json.dumps(older | {"mpsim": mpsim}))
        assert [problem.file for problem in packs.verify(tmp_path / "1.0")] == problems


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path: Path, call: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("mpsim.cli.vectors.cast_tables", None)
    (tmp_path / "file").write_text("")
    code, _, errors = call("vectors", "cast", "--size", "1", "--out", tmp_path / "file" / "new")
    place = tmp_path / "file"
    assert (code, errors) == (1, f"mpsim: --out {place}/new: {place} is not a folder; give another one\n")


def test_the_summary_counts(tmp_path: Path) -> None:
    one = ["--format", "float4_e2m1fn", "--mode", "up", "--overflow", "infinity", "--size", "4", "--form", "txt"]
    assert ": 1 set, 4 vectors, 1 file, 0.0 MB" in run("vectors", "cast", "--out", str(tmp_path), *one).output


def test_verify_sees_what_the_manifest_lost(tmp_path: Path) -> None:
    """A manifest from which an entry went, with its file or without, is not that of the pack."""
    out = pack(tmp_path, *CAST)
    path = out / "manifest.json"
    whole = json.loads(path.read_text())
    for keep_in_set in (True, False):
        manifest = json.loads(json.dumps(whole))
        del manifest["files"][f"{NAME}.h"]
        if not keep_in_set:
            manifest["sets"][0]["files"].remove(f"{NAME}.h")
        path.write_text(json.dumps(manifest))
        found = {problem.file: problem.what for problem in packs.verify(out)}
        assert found == {"manifest.json": "changed", f"{NAME}.h": "no longer listed" if keep_in_set else "not listed"}
    (out / f"{NAME}.h").unlink()
    assert [problem.file for problem in packs.verify(out)] == ["manifest.json"]
    path.write_text(json.dumps(whole, indent=1) + "\n")
    (out / "more.txt").write_text("")
    found = {problem.file: problem.what for problem in packs.verify(out)}
    assert found == {f"{NAME}.h": "missing", "more.txt": "not listed"}


@pytest.mark.parametrize(
    "text", [None, "no JSON", "[]", '{"files": {}}', '{"pack_version": 1, "files": [], "sets": []}']
)
def test_what_is_no_pack_ends_with_2(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    result = run("vectors", "verify", str(tmp_path))
    assert result.exit_code == 2 and "manifest.json" in result.output and "Traceback" not in result.output


def test_a_step_pack_holds_the_recorded_tensors(tmp_path: Path) -> None:
    for name in ("one", "two"):
        result = run("vectors", "step", "--out", str(tmp_path / name), "--seed", "3", "--json")
        assert result.exit_code == 0, result.output
    one, two = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("one", "two"))
    assert one == two and not packs.verify(tmp_path / "one")
    with np.load(tmp_path / "one" / "step.npz", allow_pickle=False) as arrays:
        name = next(name for name in arrays.files if name.startswith("Y/"))
        words = [int(line, 16) for line in (tmp_path / "one" / f"{name.replace('/', '.')}.mem").read_text().split()]
        assert words == arrays[name].reshape(-1).view(np.uint32).tolist()
        assert len(arrays.files) > 20
    files = [str(tmp_path / name / "step.npz") for name in ("one", "two")]
    assert json.loads((tmp_path / "one" / "step.json").read_text())["ops"]
    again = run("validate", "step", files[0], "--against", files[1])
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    "words,message",
    [
        (("cast", "--format", "float64"), "not narrower than the source"),
        (("cast", "--format", "float8_e5m2", "--form", "xml"), "unknown form 'xml'"),
        (("cast", "--format", "float8_e5m2", "--mode", "qpytorch_nearest"), "qpytorch_nearest"),
        (("dot", "--accumulator", "blas"), ""),
    ],
)
def test_mistakes_are_told(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = run("vectors", words[0], "--out", str(tmp_path / "x"), *words[1:])
    assert result.exit_code != 0
    assert message in str(result.exception) + result.output
