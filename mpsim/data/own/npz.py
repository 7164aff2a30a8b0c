"""Reads images and labels from .npz files of NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mpsim.checks import machine_memory
from mpsim.data.own.names import CLASSES, slot_of
from mpsim.errors import UsageError
from mpsim.files import npz

Array = np.ndarray


def read_npz(path: Path) -> dict[str, Array]:
    """Returns the arrays of an .npz file that have names of images, labels or classes (``names.slot_of``).

    Arrays of Python objects are never read. Of arrays with other names the name is kept, for messages, and an empty
    array.

    Raises:
        UsageError: The file is not a complete .npz file, an array is not of numbers, or it does not fit into memory.
        OSError: The file cannot be read.
    """
    with npz.opened(path, most=machine_memory()) as archive:
        wanted = {name for name in archive if slot_of(name) is not None or name == CLASSES}
        found = {name: archive[name] if name in wanted else np.empty(0) for name in archive}
    for name, array in found.items():
        if name == CLASSES and array.dtype.kind in "SU":
            found[name] = np.empty(0)  # the names of the classes
        elif array.dtype.kind not in "biuf":
            raise UsageError(f"{path}: array {name!r}: must be numbers, got an array of {array.dtype}")
    return found
