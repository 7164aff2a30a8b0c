"""Interrupted work goes on with the same bits: a few trials of each kind (`nox -s crash` runs hundreds)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

HARNESS = Path(__file__).parent / "harness.py"
needs_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="needs LD_PRELOAD and a C compiler"
)
FEW = {"moments": 1, "kills": 1, "torn": 1, "power": 3, "errors": 1, "full": 1, "read-only": 1, "commands": 0}
MORE = {"moments": 3, "kills": 6, "torn": 6, "power": 12, "errors": 6, "full": 2, "read-only": 2, "commands": 1}


def trials(counts: dict[str, int], *arguments: str) -> subprocess.CompletedProcess[str]:
    options = [f"--{name}={count}" for name, count in counts.items()]
    command = [sys.executable, str(HARNESS), *options, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@needs_linux
@pytest.mark.parametrize("counts", [FEW, pytest.param(MORE, marks=pytest.mark.slow)], ids=["few", "more"])
def test_interrupted_work_goes_on_with_the_same_bits(counts: dict[str, int]) -> None:
    done = trials(counts)
    assert done.returncode == 0, done.stdout
    assert re.search(rf"^{sum(counts.values())} trials, 0 failures$", done.stdout, re.MULTILINE), done.stdout
    assert f"a call: killed: {counts['kills']}" in done.stdout and "full disk" in done.stdout, done.stdout


@needs_linux
@pytest.mark.slow
def test_lost_epochs_are_noticed() -> None:
    """On a disk that ignores fsync, a loss of power loses epochs that were reported as stored."""
    done = trials({**dict.fromkeys(FEW, 0), "power": 12}, "--without-sync")
    assert done.returncode == 1 and "Failed: lost: " in done.stdout, done.stdout
