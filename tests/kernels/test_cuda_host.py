"""What the cuda backend does on the host, without a device: launches, compiled kernels on disk, memory.

A stub of the driver (driver_stub.c) takes the calls, and cuda_host_side.py runs with it in a separate process. The
simulator leaves all of this out, and the stub leaves out what kernels compute.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from simulator import run_apart

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install -e '.[test-cuda]'")
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


def run(stub: Path, cache: Path, test: str, **settings: str) -> None:
    """One test of cuda_host_side.py."""
    folders = {"LD_LIBRARY_PATH": str(stub), "NUMBA_CACHE_DIR": str(cache)}
    run_apart("cuda_host_side.py", "-k", test, **folders, **settings)


@pytest.fixture(scope="module")
def compiled(stub: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of compiled kernels that a process left; it took training steps and checked how it launched them."""
    folder = tmp_path_factory.mktemp("cubins")
    run(stub, folder, "steps")
    return folder


def test_another_process_compiles_nothing(stub: Path, compiled: Path) -> None:
    assert len(list(compiled.glob("*.cubin"))) > 20
    run(stub, compiled, "steps", MPSIM_TEST_COMPILED="1")


def test_other_words_broken_and_old_files_and_memory_in_cycles(stub: Path, tmp_path: Path) -> None:
    """In one process, which imports everything once."""
    run(stub, tmp_path, "other_words or broken_file or old_files or in_a_cycle")


def test_a_device_that_is_full(stub: Path, tmp_path: Path) -> None:
    run(stub, tmp_path, "full", STUB_MEMORY=str(64 << 20))
