"""The examples of docs/testing.md and docs/block_formats.md run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


def example(name: str) -> str:
    """All blocks of code of a document, one after the other."""
    return "".join(re.findall(r"^```python\n(.*?)^```$", (DOCS / name).read_text(), re.DOTALL | re.MULTILINE))


def test_the_tests_of_testing_md_run() -> None:
    names: dict[str, Any] = {}
    exec(compile(example("testing.md"), "testing.md", "exec"), names)
    tests = [name for name in names if name.startswith("test_")]
    assert len(tests) == 6
    for name in tests:
        names[name]()


def test_the_block_formats_are_as_block_formats_md_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(example("block_formats.md"), "block_formats.md", "exec"), names)
    assert np.array_equal(names["round_to_blocks"](names["x"], "mxfp4"), [6, -0.5, 0])
    assert names["dot"](names["blocks"], names["blocks"]) == 36.25
    assert names["quantized"].codes.shape == (2, 32) and "tile of 128 x 128" in names["sentence_of"](names["own"])
