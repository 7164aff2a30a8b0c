"""Allocates arrays of the compiled backend. Large arrays reuse memory (ext/common/buffers.h)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from mpsim import _kernels

#: The size in bytes from which memory of arrays is reused. malloc reuses smaller blocks well enough.
LARGE = 1 << 16


def empty(shape: int | Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
    """Returns an uninitialized array, like ``np.empty``. Raises MemoryError if there is not enough memory.

    >>> empty((2, 3)).shape
    (2, 3)
    """
    size = np.dtype(dtype).itemsize * (shape if isinstance(shape, int) else prod(shape))
    if size < LARGE:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, _kernels.Block(size))  # the array and its views reference the block


def release() -> None:
    """Returns unused memory to the system.

    Otherwise mpsim keeps, between steps, as much memory as its arrays used at their peak.

    >>> release()
    """
    _kernels.release_blocks()
