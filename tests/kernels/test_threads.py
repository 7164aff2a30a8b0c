"""Any number of threads works or is refused, also where OpenMP's threads have small stacks."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import reference_models
from mpsim import Trainer, matmul, round_to
from mpsim.kernels import HAS_EXTENSION, bind
from mpsim.kernels.errors import BackendUnavailable

X = np.linspace(-3, 3, 70_000, dtype=np.float32)
KERNELS = Path(__file__).parent
SCRIPT = """
import numpy as np
from kernel_cases import CASES
from mpsim import matmul
from mpsim.kernels import load
for threads in (2, 1024):
    for name, cases in CASES.items():
        case = max(cases, key=lambda case: sum(each.size for each in case if isinstance(each, np.ndarray)))
        getattr(load("compiled"), name)(*case, threads=threads)
    for accumulator in ("", "exact", "chunk=8,fma=false", "hopper_float16", "numpy_sum_float32"):
        options = {"accumulator": accumulator} if accumulator else {}
        matmul(np.ones((130, 90), np.float32), np.ones((90, 300), np.float32), threads=threads, **options)
print("done")
"""


@pytest.mark.parametrize("threads", [1, 3, 1024, 0, -1, 1025, 10_000, 2**64])
def test_a_number_of_threads_works_or_is_refused(backend: str, threads: int) -> None:
    wanted = round_to(X, "float8_e4m3fn", backend=backend, threads=1)
    a = X[:6000].reshape(60, 100)
    calls = {
        "round_to": lambda: round_to(X, "float8_e4m3fn", backend=backend, threads=threads),
        "matmul": lambda: matmul(a, a.T, backend=backend, threads=threads),
        "bind": lambda: bind(backend, threads),
        "Trainer": lambda: Trainer(reference_models.build("small_cnn", 0.0625), backend=backend, threads=threads),
    }
    for name, call in calls.items():
        if 1 <= threads <= 1024:
            found = call()
            assert name != "round_to" or found.tobytes() == wanted.tobytes()
        else:
            with pytest.raises(ValueError, match="threads must be a whole number from 1 to 1024"):
                call()


def run(stack: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(KERNELS), "OMP_STACKSIZE": stack, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=KERNELS.parents[1])


@pytest.mark.skipif(not HAS_EXTENSION, reason="the C extension is not built")
def test_threads_with_small_stacks() -> None:
    done = run("64K")
    assert done.stdout == "done\n" and done.returncode == 0, done.stderr
    refused = run("16K")
    assert refused.stdout == "" and refused.returncode == 1
    words = "'compiled': OMP_STACKSIZE=16K is too small for its threads. Unset it, or set at least 64K"
    assert refused.stderr.splitlines()[-1].endswith(words)


@pytest.fixture
def check_stack_size() -> Callable[[dict[str, str]], None]:
    pytest.importorskip("mpsim._kernels")
    return importlib.import_module("mpsim.kernels.compiled.stack").check_stack_size


@pytest.mark.parametrize("given", ["63", " 16 k ", "65535B", "0", "1K"])
def test_sizes_of_stacks_that_are_too_small(check_stack_size: Callable[[dict[str, str]], None], given: str) -> None:
    with pytest.raises(BackendUnavailable, match="is too small"):
        check_stack_size({"GOMP_STACKSIZE": given})


@pytest.mark.parametrize("given", ["64", "64k", "1M", "2G", "", "many", "65536 b", "9" * 5000])
def test_other_sizes_are_left_to_openmp(check_stack_size: Callable[[dict[str, str]], None], given: str) -> None:
    check_stack_size({"OMP_STACKSIZE": given})


WORKQUEUE = """
import threading
import numba, numpy as np
from mpsim.kernels import load
x, sums, same = np.linspace(-1, 1, 200_000, dtype=np.float32), load("numba"), []
def work():
    for _ in range(20):
        same.append(sums.add(x, x, threads=2).tobytes() == (x + x).tobytes())
threads = [threading.Thread(target=work) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(numba.threading_layer(), len(same), all(same))
"""
FORKS = """
import os, threading, time
import numpy as np
from mpsim import matmul
a = np.ones((9, 9), np.float32)
matmul(a, a, backend="numba")
threading.Thread(target=matmul, args=(a, a, "exact"), kwargs={"backend": "numba"}).start()
for _ in range(4):
    time.sleep(0.1)
    child = os.fork()
    if not child:
        os._exit(int(matmul(a, a, "fma=false", backend="numba", threads=2)[0, 0] != 9))
    print(os.waitpid(child, 0)[1])
"""


def printed_by(code: str, **environment: str) -> str:
    """What a program prints. It and the processes that it forks are ended after a minute."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            return process.communicate(timeout=60)[0]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no groups of processes")
def test_threads_may_call_numba_with_its_workqueue_layer() -> None:
    """Which Numba uses where it finds neither OpenMP nor TBB. Alone it ends a process of two threads that call it."""
    assert printed_by(WORKQUEUE, NUMBA_THREADING_LAYER="workqueue") == "workqueue 80 True\n"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_may_fork_while_numba_compiles(tmp_path: Path) -> None:
    """In another thread. The child would wait for the lock of Numba's compiler forever."""
    assert printed_by(FORKS, NUMBA_CACHE_DIR=str(tmp_path)) == "0\n" * 4
