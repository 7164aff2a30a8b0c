"""New arrays of the numba backend. Large ones use memory again, as fresh pages cost more than most kernels do."""

from __future__ import annotations

import mmap
import weakref
from collections import defaultdict
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

#: Bytes from which an array's memory is kept; malloc reuses smaller pieces well enough.
LARGE = 1 << 16

_free: defaultdict[int, list[mmap.mmap]] = defaultdict(list)


def empty(shape: int | Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """An array whose elements are not set, like ``np.empty``.

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
    # Views of the array hold the array, since its memory is no array: when it goes, nothing uses the block.
    weakref.finalize(array, _free[size].append, block).atexit = False
    return array


def release() -> None:
    """Gives the memory that no array uses back to the system. Without it sizes once used stay.

    >>> release()
    """
    for blocks in list(_free.values()):
        blocks.clear()
