"""The sessions of docs/validating.md with PyTorch: it agrees op by op, and what they plant is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from document_sessions import run_blocks

from website.documents import sections

pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

DOCS = Path(__file__).parents[2] / "docs"


def test_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DOCS / "examples/torch_step.py", tmp_path)
    (section,) = (each for each in sections("validating.md") if each.title == "You maintain a training framework")
    last = max(index for index, block in enumerate(section.blocks) if block.language == "torch")
    ran = run_blocks(section.blocks[: last + 1], ("console", "torch"))
    assert ran == 9
