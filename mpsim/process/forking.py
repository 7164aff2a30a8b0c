"""Makes every backend work in a process that was forked after its threads had started.

GNU OpenMP keeps its threads for the next loop. A forked process inherits the record of them but not the threads, so its
first loop would wait forever. The threads are therefore released before a fork, and both processes start new ones.
Other OpenMP libraries do so themselves.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

#: omp_pause_hard of OpenMP 5.0: releases everything, so that the next loop starts anew.
HARD = 2


def _pause() -> list[Callable[[int], int]]:
    """Returns omp_pause_resource_all of each GNU OpenMP library that this process has loaded."""
    found: list[Callable[[int], int]] = []
    for library in ("libgomp.so.1", _extension()):
        try:
            found.append(ctypes.CDLL(library, mode=os.RTLD_NOLOAD).omp_pause_resource_all)
        except (OSError, AttributeError, TypeError):
            continue  # not loaded, another OpenMP, or older than OpenMP 5.0
    return found


def _extension() -> str | None:
    module = sys.modules.get("mpsim._kernels")
    return getattr(module, "__file__", None)


def release_threads() -> None:
    """Ends the idle threads that OpenMP keeps for loops of this thread. The next loop starts new ones."""
    for pause in _pause():
        pause(HARD)


def _in_child() -> None:
    """Tells Numba's OpenMP layer that this process started its own threads: otherwise it ends the process."""
    layer = sys.modules.get("numba.np.ufunc.omppool")
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    if layer is not None and parallel is not None and getattr(parallel, "_is_initialized", False):
        ctypes.CFUNCTYPE(None, ctypes.c_int)(layer.launch_threads)(parallel.get_thread_count())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=release_threads, after_in_child=_in_child)
