"""Runs a file of tests in the CUDA simulator, which is chosen before numba is imported: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run_in_simulator(file: str, *options: str) -> None:
    """pytest on ``file`` (in tests/kernels, named so that a plain run does not collect it); its report if it fails."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install -e '.[test]'")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", f"tests/kernels/{file}", *options]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
