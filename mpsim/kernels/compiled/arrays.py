"""New arrays of the compiled backend. Large ones use memory again (ext/common/buffers.h); what they hold is unset."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from mpsim import _kernels

#: Bytes from which an array lives in a block that is kept; malloc reuses smaller ones well enough.
LARGE = 1 << 16


def empty(shape: int | Sequence[int], dtype: DTypeLike = np.float32) -> np.ndarray:
    """An array whose elements are not set, like ``np.empty``; MemoryError if there is no room.

    >>> empty((2, 3)).shape
    (2, 3)
    """
    dtype = np.dtype(dtype)
    size = dtype.itemsize * (prod(shape) if isinstance(shape, Sequence) else shape)
    if size < LARGE:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, _kernels.Block(size))  # the array holds the block, and its views do


def release() -> None:
    """Gives the memory that no array uses back to the system.

    Without it mpsim keeps, between steps, up to what its arrays once took at the same time.

    >>> release()
    """
    _kernels.release_blocks()
