"""What the cuda backend does on the host, without a device: launches, compiled kernels on disk, memory.

A stub of the driver (driver_stub.c) takes the calls, and cuda_host_side.py runs with it in a process of its own. The
simulator leaves all of this out, and the stub leaves out what kernels compute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from simulator import ROOT

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install -e '.[test]'")
if sys.platform != "linux":
    pytest.skip("the stub takes the place of libcuda.so.1, which is Linux's", allow_module_level=True)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stub."""
    folder = tmp_path_factory.mktemp("stub")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    source = str(Path(__file__).with_name("driver_stub.c"))
    subprocess.run(
        [*compiler, "-shared", "-fPIC", "-O1", "-o", str(folder / "libcuda.so.1"), source, "-ldl"], check=True
    )
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of compiled kernels, which the tests of this file share in their order."""
    return tmp_path_factory.mktemp("cubins")


def run(stub: Path, cache: Path, test: str, **settings: str) -> None:
    """One test of cuda_host_side.py."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:xdist",
        "tests/kernels/cuda_host_side.py",
        "-k",
        test,
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(stub), "NUMBA_CACHE_DIR": str(cache), **settings}
    for name in ("NUMBA_ENABLE_CUDASIM", "CUDA_VISIBLE_DEVICES"):
        environment.pop(name, None)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_steps_are_launched_past_numba_and_take_no_new_memory(stub: Path, cache: Path) -> None:
    run(stub, cache, "steps")
    assert len(list(cache.glob("*.cubin"))) > 20


def test_another_process_compiles_nothing(stub: Path, cache: Path) -> None:
    run(stub, cache, "steps", MPSIM_TEST_COMPILED="1")


def test_numba_launches_what_it_would_hand_other_words(stub: Path, cache: Path, tmp_path: Path) -> None:
    run(stub, tmp_path, "other_words")


def test_a_broken_file_is_compiled_again(stub: Path, cache: Path) -> None:
    run(stub, cache, "broken_file")


def test_a_device_that_is_full(stub: Path, cache: Path) -> None:
    run(stub, cache, "full", STUB_MEMORY=str(64 << 20))
