"""The sessions of docs/validating.md run: files are written, commands run, their output compared.

``...`` stands for anything; blank space is one space. Sections (##) have a folder each.
"""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpsim.cli import app

DOCUMENT = (Path(__file__).parents[2] / "docs" / "validating.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CHECKER = doctest.OutputChecker()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def sections() -> dict[str, str]:
    """The text under each heading of the second level, where it has a session."""
    parts = re.split(r"^## (.*)$", DOCUMENT, flags=re.MULTILINE)[1:]
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    return {title: text for title, text in found.items() if "```console" in text}


def commands(block: str) -> list[tuple[str, str]]:
    """(command, expected output) of a console block."""
    pieces = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def run(command: str) -> tuple[int, str]:
    words = shlex.split(command)
    if words[0] == "mpsim":
        result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        return result.exit_code, result.stdout
    if words[0] == "cc" and shutil.which("cc") is None:
        pytest.skip("no C compiler 'cc'")
    if words[0] == "python3":
        command = shlex.join([sys.executable, *words[1:]])
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("title", sections())
def test_sessions(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = 0
    for language, file, text in BLOCK.findall(sections()[title]):
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif language == "console":
            for command, expected in commands(text):
                if command == "echo $?":
                    assert expected.strip() == str(code)
                    continue
                code, output = run(command)
                right = CHECKER.check_output(expected.strip() + "\n", output.strip() + "\n", FLAGS)
                assert right, f"$ {command}\nexpected:\n{expected}\ngot:\n{output}"
