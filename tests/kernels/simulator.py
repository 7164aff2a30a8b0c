"""Runs a file of tests in a separate process, because numba reads its settings when it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run_apart(file: str, *options: str, **settings: str) -> None:
    """Runs pytest on ``file`` in tests/kernels, whose name a plain run does not collect. The environment has these
    settings and no others for CUDA. A failure shows pytest's report."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install -e '.[test-cuda]'")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", f"tests/kernels/{file}", *options]
    others = {name: x for name, x in os.environ.items() if name not in ("NUMBA_ENABLE_CUDASIM", "CUDA_VISIBLE_DEVICES")}
    done = subprocess.run(command, cwd=ROOT, env={**others, **settings}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def run_in_simulator(file: str, *options: str) -> None:
    """The same in the CUDA simulator."""
    run_apart(file, *options, NUMBA_ENABLE_CUDASIM="1")
