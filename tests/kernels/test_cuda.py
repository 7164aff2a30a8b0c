"""The cuda backend without a device: its kernels in the CUDA simulator, against the reference, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from simulator import ROOT, run_in_simulator

#: Of cuda_simulated.py, by words in the names of its tests.
PARTS = ("kernel_equals", "not kernel_equals")


@pytest.mark.parametrize("part", PARTS)
def test_in_the_simulator(part: str) -> None:
    run_in_simulator("cuda_simulated.py", "-k", part)


def output_of(*arguments: str) -> tuple[int, str]:
    """Exit status and output of Python where no device can be seen."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    environment.pop("NUMBA_ENABLE_CUDASIM", None)
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["mpsim.kernels.cuda_check", "bench gpu"])
def test_without_a_device_it_says_so(command: str) -> None:
    if command.startswith("bench"):
        pytest.importorskip("rich")
    status, said = output_of("-m", *command.split())
    assert status == 2
    assert said.startswith("'cuda': ") and 'backend="compiled"' in said


def test_without_numba_cuda_it_says_what_to_install() -> None:
    absent = "import sys; sys.modules['numba.cuda'] = None; from mpsim.kernels import load; load('cuda')"
    status, said = output_of("-c", absent)
    assert status == 1 and "BackendNotInstalled: 'cuda': " in said and "Run: pip install 'mpsim[cuda]'" in said


def test_the_check_needs_numpy_and_numba_only() -> None:
    """It is meant for machines where little is installed."""
    others = ("scipy", "sklearn", "typer", "rich", "matplotlib", "safetensors", "ml_dtypes", "hypothesis", "torch")
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in others)
    run = "from mpsim.kernels.cuda_check import __main__, rounding; from reference_models import golden; "
    run += "import mpsim.training.trainer; "
    status, said = output_of("-c", f"import sys; {blocked}{run}print(len(rounding.combinations()))")
    assert (status, said.isspace()) == (0, False), said
