"""Runs commands of mpsim and returns what they print."""

from __future__ import annotations

import shlex

from typer.testing import CliRunner

from mpsim.cli import app


def session(*words: str) -> str:
    """A command with its output, as in a terminal. Raises RuntimeError if it fails."""
    done = CliRunner().invoke(app, list(words))
    if done.exit_code:
        raise RuntimeError(f"mpsim {shlex.join(words)} ends with {done.exit_code}: {done.output}")
    return f"$ mpsim {shlex.join(words)}\n{done.stdout}"
