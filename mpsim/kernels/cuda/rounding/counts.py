"""Computes the five counts of a rounding on the device, stores them, and copies them to the host.

The counts of a call are a row of a slab, so that the counts of all calls of a training step are cleared, and copied to
the host, together.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpsim.kernels.cuda.device.arrays import Array, cleared, empty, part, to_numpy
from mpsim.kernels.cuda.device.devices import device
from mpsim.kernels.cuda.device.launch import device_function

COUNTS = 5
#: Rows of a slab, enough for the roundings of a step of the reference networks.
ROWS = 1024
NONE_YET = (np.uint32(0),) * COUNTS


@dataclass
class Slab:
    """An int64 array of ROWS rows, initially 0. The first ``used`` rows belong to one call each."""

    device: int
    rows: Array
    used: int = 0


_slabs = threading.local()


def new_row() -> Array:
    """Returns five int64 zeros on the current device."""
    slab = getattr(_slabs, "slab", None)
    if slab is None or slab.device != device().number or slab.used == ROWS:
        slab = _slabs.slab = Slab(device().number, cleared(empty(ROWS * COUNTS, np.int64)))
    row = part(slab.rows, COUNTS * slab.used, COUNTS)
    row.place = slab, slab.used
    slab.used += 1
    return row


def stack_counts(counts: Sequence[Array], *, threads: int = 1) -> np.ndarray:
    """Returns the counts of several calls of ``round_array``, one row each: int64 (n, 5). Copies each slab once."""
    slabs: dict[int, np.ndarray] = {}
    stacked = np.empty((len(counts), COUNTS), np.int64)
    for number, row in enumerate(counts):
        slab, place = getattr(row, "place", (None, 0))
        if slab is None:
            stacked[number] = to_numpy(row)
            continue
        if id(slab) not in slabs:
            slabs[id(slab)] = to_numpy(slab.rows).reshape(ROWS, COUNTS)
        stacked[number] = slabs[id(slab)][place]
    return stacked


@device_function
def counted(tally, a, r, numbers, infinite):
    """Adds a magnitude ``a`` that was rounded to ``r`` to the five counts."""
    overflowed, underflowed, nan, inexact, subnormal = tally
    return (
        np.uint32(overflowed + (a >= numbers.overflow_from)),
        np.uint32(underflowed + (a != 0 and a <= numbers.underflow_to)),
        np.uint32(nan + (a > infinite)),
        np.uint32(inexact + (a <= infinite and r != a)),
        np.uint32(subnormal + (r != 0 and r < numbers.smallest_normal)),
    )
