"""Every record of results has the version of the definition; older ones are read with a note, newer ones refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import reference_models
from mpsim import Trainer
from mpsim.experiments.results import Results, ResultsError
from mpsim.files import checkpoint
from mpsim.files.checkpoint import CheckpointError
from mpsim.files.semantics import FIELD, SEMANTICS, OlderSemantics, check
from mpsim.files.tensors import TensorFile
from mpsim.recording.steps import network_of, record_step
from mpsim.vectors import casts
from mpsim.vectors import pack as packs
from reference_models import golden

Call = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent
OLDER, NEWER = "semantics 1 and this mpsim has 2", "semantics 3, which is newer than this mpsim's semantics 2"


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(reference_models.build("small_cnn", 0.0625), None, backend="reference")


def test_the_page_states_the_number() -> None:
    assert SEMANTICS == 2
    page = (ROOT / "docs" / "semantics.md").read_text()
    assert re.findall(r"This page defines \*\*semantics (\d+)\*\*", page) == [str(SEMANTICS)]


@pytest.mark.parametrize("wrong", ["2", 2.0, True, 0, -1])
def test_only_whole_numbers_are_versions(wrong: object) -> None:
    with pytest.raises(ValueError, match="semantics_version must be a whole number of at least 1"):
        check(wrong, "the file")


def test_golden_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    for recorded, told in ((1, OLDER), (3, NEWER)):
        (tmp_path / "small_cnn.json").write_text(json.dumps({FIELD: recorded}))
        with pytest.raises((OlderSemantics, ValueError), match=told):
            golden.stored("small_cnn")


def test_packs(tmp_path: Path, call: Call) -> None:
    manifest = packs.write_pack(tmp_path, [*casts.cast_tables(["float4_e2m1fn"], modes=["up"], size=4)], {})
    assert manifest["semantics_version"] == SEMANTICS
    assert call("vectors", "verify", tmp_path)[0] == 0
    for recorded, code, told in ((None, 0, OLDER), (3, 2, NEWER)):
        manifest.pop("semantics_version", None)
        if recorded is not None:
            manifest["semantics_version"] = recorded
        manifest["digest"] = packs._digest(manifest)
        (tmp_path / packs.MANIFEST).write_text(json.dumps(manifest))
        found, output, errors = call("vectors", "verify", tmp_path)
        assert found == code and told in errors and len(errors.splitlines()) == 1
        assert ("every file matches" in output) == (code == 0)


def test_checkpoints(trainer: Trainer, tmp_path: Path) -> None:
    trainer.save(tmp_path / "state")
    header, arrays = checkpoint.read(tmp_path / "state")
    assert header[FIELD] == SEMANTICS
    (tmp_path / "older").write_bytes(checkpoint.pack(header | {FIELD: 1}, arrays))
    with pytest.warns(OlderSemantics, match=OLDER):
        loaded = Trainer.load(tmp_path / "older")
    assert loaded.digest() == trainer.digest()
    (tmp_path / "newer").write_bytes(checkpoint.pack(header | {FIELD: 3}, arrays))
    with pytest.raises(CheckpointError, match=NEWER):
        Trainer.load(tmp_path / "newer")


def test_results_of_runs(tmp_path: Path) -> None:
    with Results.in_folder(tmp_path) as results:
        for recorded in (1, 2, 3):
            results.start(str(recorded), {"seed": recorded}, plan="{}", environment={})
            results.finish(str(recorded), {FIELD: recorded}, final_plan="{}")
        assert results.result("2") == {FIELD: 2}
        with pytest.warns(OlderSemantics, match=OLDER):
            assert results.result("1") == {FIELD: 1}
        with pytest.raises(ResultsError, match=NEWER):
            results.result("3")


def test_a_run_records_it(call: Call, tmp_path: Path) -> None:
    tiny = ["small_cnn", "--width", "0.0625", "--epochs", "1", "--batch", "479", "--data", "digits"]
    code, output, errors = call("train", *tiny, "--results", tmp_path, "--json")
    assert code == 0, errors
    assert json.loads(output)[FIELD] == SEMANTICS


def test_steps(trainer: Trainer) -> None:
    images, labels = np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1])
    record = record_step(trainer, images, labels)
    assert record.index[FIELD] == SEMANTICS
    older = TensorFile(record.tensors, {**record.index, FIELD: 1})
    with pytest.warns(OlderSemantics, match=OLDER):
        network_of(older)
    with pytest.raises(ValueError, match=NEWER):
        network_of(TensorFile(record.tensors, {**record.index, FIELD: 3}))
