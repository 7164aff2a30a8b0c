"""Runs sessions of documents: files are written, commands run, their output compared.

``...`` stands for anything; blank space is one space.
"""

from __future__ import annotations

import doctest
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpsim.cli import app
from website.documents import Block

CHECKER = doctest.OutputChecker()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(command: str) -> tuple[int, str]:
    """Exit code and output of a command. ``mpsim`` runs in this process."""
    words = shlex.split(command)
    if words[0] == "mpsim":
        result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        return result.exit_code, result.stdout
    if words[0] == "cc" and shutil.which("cc") is None:
        pytest.skip("no C compiler 'cc'")
    if words[0] in ("python", "python3"):
        command = shlex.join([sys.executable, *words[1:]])
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def run_blocks(blocks: Iterable[Block], languages: Iterable[str] = ("console",)) -> int:
    """Writes the files and runs the commands in the current folder. Returns the number of commands."""
    code, ran = 0, 0
    for block in blocks:
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language in languages:
            for command, expected in block.commands:
                ran += 1
                if command == "echo $?":
                    assert expected.strip() == str(code)
                    continue
                code, output = run(command)
                right = CHECKER.check_output(expected.strip() + "\n", output.strip() + "\n", FLAGS)
                assert right, f"$ {command}\nexpected:\n{expected}\ngot:\n{output}"
    return ran
