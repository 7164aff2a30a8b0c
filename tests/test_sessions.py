"""The sessions of the documents print what the documents say.

Sections (##) have a folder each, with the files of the sections before; a tutorial is one section.
"""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import pytest
from document_sessions import run_blocks

from website.documents import DOCS, Section, all_sections, documents

SECTIONS = list(all_sections())
pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
pytest.importorskip("ml_dtypes", reason="the test extra is not installed")


def copy_project(folder: Path) -> None:
    """Copies what a contributor has cloned, with what was compiled."""
    for name in ("mpsim", "tests", "reference_models"):
        shutil.copytree(DOCS.parent / name, folder / name)
    shutil.copy(DOCS.parent / "pyproject.toml", folder)


@pytest.mark.parametrize("section", [pytest.param(each, id=f"{each.document} {each.title}") for each in SECTIONS])
def test_sessions(section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if section.document == "tutorials/contributor.md":
        copy_project(tmp_path)
    for name, text in section.files.items():
        Path(name).write_text(text, encoding="utf-8")
    assert run_blocks(section.blocks)


def test_sessions_are_found() -> None:
    assert {"validating.md", "dot_products.md"} <= set(documents())
    assert sum(block.language == "console" for section in SECTIONS for block in section.blocks) > 20


@pytest.mark.parametrize("document", ["dot_products.md", "optimizers.md"])
def test_python_examples(document: str) -> None:
    found = doctest.testfile(str(DOCS / document), module_relative=False)
    assert found.attempted and not found.failed
