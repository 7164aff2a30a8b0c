"""mpsim vectors blocks: packs of quantisers, which mpsim validate blocks reads back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim.blocks import quantizer_of
from mpsim.blocks.definition.groups import quantize_group, second_scale
from mpsim.blocks.definition.values import SecondScale
from mpsim.errors import UsageError
from mpsim.rounding import decode
from mpsim.validate.blocks.validation import validate_blocks
from mpsim.vectors.blocks import block_tables
from mpsim.vectors.forms import Table

Call = Callable[..., tuple[int, str, str]]
#: A group of each kind, with what follows from the blocks, is given, or has random words.
NAMES = (
    "mxfp4", "te_nvfp4", "te_nvfp4_rows", "te_nvfp4_stochastic", "int8_affine_row", "int4_affine_group32",
    "te_float8_e4m3_current", "fp8_column",
)  # fmt: skip


def first_set(name: str) -> str:
    return f"blocks_{name}{'_tensor0' * name.startswith('te_nvfp4')}"


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mpsim.cli import main

    folder = tmp_path_factory.mktemp("blocks")
    formats = [word for name in NAMES for word in ("--format", name)]
    forms = [word for form in ("npz", "jsonl", "txt") for word in ("--form", form)]
    with pytest.raises(SystemExit) as stopped:
        main(["vectors", "blocks", "--out", str(folder), *formats, *forms, "--size", "70"])
    assert stopped.value.code == 0
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_form_is_read_back(pack: Path, name: str) -> None:
    for form in ("npz", "jsonl", "txt"):
        report = validate_blocks(
            str(pack / f"{first_set(name)}.{form}"), name, given_bits=name.endswith("stochastic"),
            scale_rule="floor" if name == "mxfp4" else None,
        )  # fmt: skip
        assert report.equal and report.blocks >= 64, (form, report.rules[0])


def test_a_changed_code_is_found(pack: Path) -> None:
    lines = (pack / "blocks_mxfp4.jsonl").read_text().splitlines()
    row = json.loads(lines[20])
    place = next(i for i, word in enumerate(row["expected"]) if int(word, 16) & 7 == 5)
    row["expected"][place] = f"{int(row['expected'][place], 16) ^ 3:x}"
    spoilt = pack.parent / "spoilt.jsonl"
    spoilt.write_text("\n".join([*lines[:20], json.dumps(row), *lines[21:]]), encoding="utf-8")
    report = validate_blocks(str(spoilt), "mxfp4", scale_rule="floor")
    assert (report.rules[0].blocks, report.rules[0].elements) == (1, 1)


def only(tables: Any) -> Table:
    (table,) = tables
    return table


def test_tables_are_those_of_the_definition() -> None:
    """Fractions, one block at a time; of a tensor with the scale of all its blocks."""
    for name in ("mxfp6_e2m3_even", "te_nvfp4"):
        quantizer = quantizer_of(name)
        columns = only(block_tables([name], size=64)).columns
        blocks = columns["input"][0].view(np.float32)
        with np.errstate(invalid="ignore"):
            blocks = blocks.astype(np.float64)
        second = second_scale(blocks.reshape(-1).tolist(), quantizer) if quantizer.second else SecondScale()
        for row in range(0, len(blocks), 7):
            found = quantize_group(blocks[row].tolist(), quantizer, second)
            codes, scale = columns["expected"][0][row].astype(np.uint8), columns["scale"][0][row].astype(np.uint8)
            numbers = decode(codes, quantizer.element.format, np.float64)
            assert numbers.tolist() == found.elements or np.isnan(found.scale)
            assert np.array_equal(decode(scale, quantizer.scale.format, np.float64), [found.scale], equal_nan=True)


def test_a_later_pack_replaces_an_earlier_one(tmp_path: Path, call: Call) -> None:
    common = ("vectors", "blocks", "--out", tmp_path, "--form", "txt", "--size", "3", "--format")
    assert call(*common, "mxfp4")[0] == 0
    (tmp_path / "notes.md").write_text("mine")
    assert call(*common, "mxfp8_e5m2", "--format", "mxint8")[0] == 0
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"manifest.json", "notes.md", "blocks_mxfp8_e5m2.txt", "blocks_mxint8.txt"}
    (tmp_path / "blocks_mxint8.txt").write_text("changed since")
    assert call(*common, "mxfp4")[0] == 0
    assert (tmp_path / "blocks_mxint8.txt").exists() and not (tmp_path / "blocks_mxfp8_e5m2.txt").exists()


def test_what_is_missing_is_said(tmp_path: Path, call: Call) -> None:
    code, _, errors = call("vectors", "blocks", "--out", tmp_path, "--format", "te_float8_e4m3_delayed")
    assert code == 2 and "--statistic is given: pass statistic" in " ".join(errors.split())


def test_what_no_quantiser_takes_is_refused() -> None:
    with pytest.raises(UsageError, match="second scale"):
        list(block_tables(["mxfp4"], size=2, tensor_scale=2.0))
    with pytest.raises(UsageError, match="given its statistic"):
        list(block_tables(["mxfp4", "fp8_1x128"], size=2, statistic=2.0))
    assert [table.size for table in block_tables(["mxfp4", "nvfp4"], size=2, tensor_scale=2.0)] == [2, 2]
