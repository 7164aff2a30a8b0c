"""docs/dot_products.md: its sessions give what it says; ``...`` stands for anything."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpsim.cli import app

PATH = Path(__file__).parents[2] / "docs" / "dot_products.md"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
pytest.importorskip("ml_dtypes", reason="the test extra is not installed")


def test_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, ran = 0, 0
    for language, file, text in BLOCK.findall(PATH.read_text(encoding="utf-8")):
        if file:
            Path(file).write_text(text, encoding="utf-8")
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            assert language == "console"
            ran += 1
            if command == "echo $?":
                assert expected.strip() == str(code)
                continue
            result = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
            code = result.exit_code
            assert doctest.OutputChecker().check_output(expected, result.stdout, FLAGS), result.stdout
    assert ran == 15


def test_python_examples() -> None:
    found = doctest.testfile(str(PATH), module_relative=False)
    assert found.attempted and not found.failed
