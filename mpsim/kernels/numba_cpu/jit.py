"""Compiles this backend's loops, limits their threads, and allocates their results."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import prod
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.compiler_lock import global_compiler_lock
from numpy.typing import DTypeLike

from mpsim.process.numba_cache import cached

MOST_THREADS: int = vars(numba.config)["NUMBA_NUM_THREADS"]


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit(**options)`` with a cache on disk that several processes may fill at once, and that is never stale.

    Numba takes a compiled function from its cache if the function's own file is unchanged, whatever the files of the
    functions that it calls. Here every source of this backend counts.
    """
    in_cache = options.pop("cache", False)

    def compiled(function: Callable[..., Any]) -> Any:
        return cached(function, SOURCES, **options) if in_cache else numba.njit(**options)(function)

    return compiled


def digest_of(paths: Sequence[Path]) -> str:
    """Computes the SHA-256 of the names and contents of files."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


_FOLDER = Path(__file__).parent
#: A digest of everything that compiled code depends on, including numbers from other packages.
SOURCES = digest_of(
    [
        *_FOLDER.rglob("*.py"), *(_FOLDER.parent / "elementary").glob("*.py"), _FOLDER.parent / "parameters.py",
        *(_FOLDER.parent / "contractions").rglob("*.py"), *(_FOLDER.parents[1] / "formats").rglob("*.py"),
        _FOLDER.parent / "philox.py", _FOLDER.parents[1] / "policies.py",
    ]
)  # fmt: skip


#: Numba's workqueue layer, used where it finds neither OpenMP nor TBB, ends the process if two threads call it.
_alone = threading.RLock()


def _before_fork() -> None:
    """Waits until no other thread runs such loops or compiles: the child would wait for it forever."""
    _alone.acquire()
    global_compiler_lock.acquire()


def _after_fork() -> None:
    global_compiler_lock.release()
    _alone.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


@contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Limits the loops inside to ``threads`` of Numba's threads, and restores the caller's limit afterwards.

    With Numba's workqueue layer other Python threads wait for them.
    """
    before = numba.get_num_threads()  # starts the layer
    with _alone if numba.threading_layer() == "workqueue" else nullcontext():
        numba.set_num_threads(min(threads, MOST_THREADS))
        try:
            yield
        finally:
            numba.set_num_threads(before)


#: The size in bytes from which memory of arrays is reused. malloc reuses smaller blocks well enough.
LARGE = 1 << 16

_free: defaultdict[int, list[mmap.mmap]] = defaultdict(list)


def empty(shape: int | Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
    """Returns a new array whose elements are not set, like ``np.empty``.

    Large arrays reuse the memory of earlier arrays of their size, because new pages cost more than most kernels.

    >>> empty((2, 3)).shape
    (2, 3)
    """
    dtype = np.dtype(dtype)
    size = dtype.itemsize * (prod(shape) if isinstance(shape, Sequence) else shape)
    if size < LARGE:
        return np.empty(shape, dtype)
    try:
        block = _free[size].pop()
    except IndexError:
        block = mmap.mmap(-1, size)
    array: np.ndarray = np.ndarray(shape, dtype, block)
    # Views of the array reference the array, since its memory is not an array. After its deletion the block is unused.
    weakref.finalize(array, _free[size].append, block).atexit = False
    return array
