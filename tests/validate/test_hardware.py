"""What hardware was recorded to do is what mpsim gives by the fitted policy or accumulator; and the recorder."""

from __future__ import annotations

import json
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hardware_stand_ins import HOPPER

from bench.hardware import alike, library, packs, record, subjects, torch_subjects
from mpsim.formats import FORMATS
from mpsim.validate.cast.validation import validate_cast
from mpsim.validate.dot.inputs.edges import edge_rows
from mpsim.validate.dot.vectors import validate_dot_vectors
from mpsim.vectors.pack import file_entry

DEVICES = sorted(path for path in library.SOURCE.parent.iterdir() if path.is_dir() and path.name != "__pycache__")
MANIFESTS = [path / "manifest.json" for path in DEVICES]
ENTRIES = [
    pytest.param(path.parent, entry, id=f"{path.parent.name}-{entry['name']}")
    for path in MANIFESTS
    for entry in json.loads(path.read_text())["subjects"]
]
STAND_INS = "hardware_stand_ins:SUBJECTS"


def check(folder: Path, entry: dict[str, Any]) -> None:
    """Files as the manifest has them; as many vectors differ from mpsim's as it says, none where it says equal."""
    assert entry["files"] == {name: file_entry((folder / name).read_bytes()) for name in entry["files"]}
    if "fitted" not in entry:  # what failed has its error in place of vectors
        assert entry["error"] and set(entry["files"]) <= {f"{entry['name']}.json"}
        return
    edges = {f"{entry['name']}_edges.npz"} if "edge_mismatches" in entry else set()
    assert {f"{entry['name']}.npz", f"{entry['name']}.json", *edges} == set(entry["files"])
    if edges:
        assert packs.edge_mismatches(entry, folder) == entry["edge_mismatches"]
        assert not entry["equal"] or entry["edge_mismatches"] == 0
    assert packs.pack_mismatches(entry, folder) == entry["pack_mismatches"]
    assert not entry["equal"] or entry["pack_mismatches"] == 0


@pytest.mark.parametrize("folder,entry", ENTRIES)
def test_recorded_vectors_are_what_mpsim_gives(folder: Path, entry: dict[str, Any]) -> None:
    check(folder, entry)


@pytest.mark.parametrize("folder", DEVICES, ids=lambda folder: folder.name)
def test_every_recorded_file_is_in_the_manifest(folder: Path) -> None:
    rows = json.loads((folder / "manifest.json").read_text())["subjects"]
    found = {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert rows and {name for row in rows for name in row["files"]} == found


@pytest.mark.parametrize(
    "name,preset",
    [
        ("cvt_rn_satfinite_e4m3x2_f32", "ptx_satfinite"), ("cvt_rn_satfinite_e5m2x2_f32", "ptx_satfinite"),
        ("cvt_rn_satfinite_bf16_f32", "ptx_satfinite"), ("cvt_rn_satfinite_f16_f32", "ptx_satfinite"),
        ("cvt_rn_bf16_f32", "ptx"), ("cvt_rn_f16_f32", "ptx"), ("cvt_rn_tf32_f32", "ptx"),
        ("torch_to_float8_e4m3fn", "torch<2.12"), ("torch_to_float8_e5m2", "torch<2.12"),
    ],
)  # fmt: skip
def test_presets_are_what_the_device_does(name: str, preset: str) -> None:
    path = library.SOURCE.parent / "h200" / f"{name}.npz"
    assert validate_cast(str(path), str(np.load(path)["format"]), preset=preset).equal


@pytest.mark.parametrize("folder", DEVICES, ids=lambda folder: folder.name)
def test_the_page_says_what_the_packs_cannot_tell_apart(folder: Path) -> None:
    page = (library.SOURCE.parents[2] / "docs" / "hardware.md").read_text(encoding="utf-8")
    assert "\n".join(["", *alike.table(folder), ""]) in page


def test_neighbours_of_float8_to_float16() -> None:
    """A pack that separates the fraction bits, and one that does not."""
    folder = library.SOURCE.parent / "h200"
    rows = {row["name"]: row for row in json.loads((folder / "manifest.json").read_text())["subjects"]}
    for name, bits in (("wgmma_e4m3_to_f16", (13,)), ("wgmma_e5m2_to_f16", tuple(range(10, 46)))):
        found = {each.field: each for each in alike.alike(rows[name], folder)}
        assert found["fraction_bits"].values == bits


def test_ranges_in_words() -> None:
    among = (None, *range(-3, 4))
    assert alike.ranges([3, None, -3, -2, 0], among) == "none to −2, 0, 3"
    assert alike.ranges([1, 2], among) == "1, 2" and alike.ranges([], among) == ""


# -- the recorder, without a GPU --------------------------------------------------------------------------------


def needs_extension() -> None:
    pytest.importorskip("mpsim._kernels", reason="the stand-ins compute by the backend 'compiled'")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_extension()
    folder = tmp_path_factory.mktemp("stand_ins")
    said: list[str] = []
    tar = folder.with_suffix(".tar")
    record.record(folder, STAND_INS, seconds=0, jobs=0, tar=tar, say=said.append)
    assert len(said) == 9
    with tarfile.open(tar) as archive:
        assert sorted(archive.getnames()) == sorted(path.name for path in folder.iterdir())
    return folder


def entries(folder: Path) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads((folder / "manifest.json").read_text())["subjects"]}


def test_what_is_equal_and_what_is_not(recorded: Path) -> None:
    found = entries(recorded)
    assert {name: row.get("equal") for name, row in found.items()} == {
        "hopper": True, "pairs": True, "falling": True, "by_size": False, "to_e4m3": True, "truncated": True,
        "half_to_e5m2": True, "limited": False, "broken": None,
    }  # fmt: skip
    assert found["broken"]["error"] == "RuntimeError: no device"
    assert found["hopper"]["names"] == ["hopper_float8_e4m3fn"]
    assert found["pairs"]["fitted"].startswith("aligned,terms=16,fraction_bits=25")
    assert found["pairs"]["order"] != found["hopper"]["order"] == "rising k"
    assert found["by_size"]["mismatches"] > 0 and found["by_size"]["observed"]
    assert "torch<2.12" in found["to_e4m3"]["presets"]
    assert found["truncated"]["fitted"] == "toward_zero, overflow infinity; NaN codes 0x7fff and 0x7fff"
    assert found["half_to_e5m2"]["exhaustive"] and not found["truncated"]["exhaustive"]
    for row in found.values():
        check(recorded, row)


def test_a_changed_vector_is_noticed(recorded: Path, tmp_path: Path) -> None:
    found = entries(recorded)
    for name in ("hopper", "truncated"):
        with np.load(recorded / f"{name}.npz") as arrays:
            changed = dict(arrays)
        changed["expected"][3] ^= 1
        np.savez(tmp_path / f"{name}.npz", **changed)
        for file in {*found[name]["files"]} - {f"{name}.npz"}:
            shutil.copy(recorded / file, tmp_path)
        assert packs.pack_mismatches(found[name], tmp_path) == 1
        with pytest.raises(AssertionError):
            check(tmp_path, found[name])


def test_what_only_the_edges_show_is_not_called_equal(recorded: Path) -> None:
    """Sums that saturate: no random product and no probe is as large."""
    found = entries(recorded)["limited"]
    assert found["mismatches"] == found["probes_differ"] == found["pack_mismatches"] == 0
    assert found["edge_mismatches"] > 0 and not found["equal"]


#: One of each kind of sums. The others run with --slow.
ALWAYS = (
    "hopper_float16",
    "hopper_float8_e4m3fn",
    "hopper_float8_e4m3fn_promoted_128",
    "hopper_float8_e5m2_to_float16",
)


def row_of(name: str) -> Any:
    return pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow)


@pytest.mark.parametrize("name", [row_of(row.name) for row in HOPPER])
def test_edges_leave_nothing_that_some_input_separates(name: str, tmp_path: Path) -> None:
    """Recorded from a stand-in, a pack fits one value of each field, and those that no input distinguishes from it."""
    needs_extension()
    record.work(record.Task("hardware_stand_ins:HOPPER", name, tmp_path, None, 0.0))
    entry = json.loads((tmp_path / f"{name}.json").read_text())
    assert entry["equal"] and entry["edge_mismatches"] == 0 and name in entry["names"]
    found = alike.alike(entry | {"files": [path.name for path in tmp_path.iterdir()]}, tmp_path)
    assert [each.field for each in found] == list(alike.VALUES)
    assert {each.field: each.missed for each in found} == dict.fromkeys(alike.VALUES, ())
    assert all(each.fitted in each.proved for each in found)


def test_the_row_that_decides_is_recorded() -> None:
    """docs/hardware.md: its terms are -2**-47 and -2**-25."""
    a, b = edge_rows(FORMATS["float16"], 130)
    with np.errstate(invalid="ignore"):
        products = a.astype(float) * b
    assert (np.sort(products, axis=1)[:, :3] == [-(2.0**-25), -(2.0**-47), 0]).all(axis=1).any()


def test_the_files_are_read_by_validate(recorded: Path) -> None:
    report = validate_cast(str(recorded / "to_e4m3.npz"), None, preset="ml_dtypes<0.7")
    assert report.equal and report.inputs == packs.CASTS
    found = validate_dot_vectors(recorded / "hopper.npz", "hopper_float8_e4m3fn")
    assert found.equal and found.vectors == packs.DOTS and len(found.matches) == 1


def test_processes_of_their_own(tmp_path: Path) -> None:
    manifest = record.record(tmp_path, STAND_INS, only=["broken", "by_size"], seconds=0, jobs=2, say=lambda text: None)
    by_size, broken = manifest["subjects"]
    assert not by_size["equal"] and broken["error"] == "RuntimeError: no device"
    check(tmp_path, by_size)


def test_a_sweep_ends_where_its_time_does() -> None:
    row = record.subjects(STAND_INS)["to_e4m3"]
    report = validate_cast(row.open(None), row.format, preset="ml_dtypes<0.7")  # type: ignore[union-attr]
    sweep = record.swept(report, time.time()).sweep
    assert sweep is not None and sweep.done == 16 and sweep.mismatches == 0


def test_names_of_subjects_are_of_functions_that_there_are() -> None:
    source = library.SOURCE.read_text()
    rows = [row for row in subjects.SUBJECTS if not row.name.startswith("torch")]
    assert len({row.name for row in subjects.SUBJECTS}) == len(subjects.SUBJECTS)
    assert all(f"({row.name}, " in source for row in rows)


def test_without_a_library_it_says_what_to_do() -> None:
    row = record.subjects(record.TABLE)["wgmma_f16"]
    with pytest.raises(library.HardwareError, match="--library"):
        row.open(None)


def test_torch_casts_give_codes() -> None:
    pytest.importorskip("torch")
    x = np.array([1.0, -2.0, np.inf], np.float32)
    assert torch_subjects.torch_cast("bfloat16", "cpu")(None)(x).tolist() == [0x3F80, 0xC000, 0x7F80]
    assert torch_subjects.torch_cast("float8_e5m2", "cpu")(None)(x).tolist() == [0x3C, 0xC0, 0x7C]
