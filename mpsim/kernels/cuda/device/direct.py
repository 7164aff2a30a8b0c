"""Launches a compiled kernel through the driver, with less Python than Numba's own launch.

A training step launches over a thousand kernels. Numba takes some 70 microseconds for each, mostly to type the
arguments and to wrap each in an object, which is longer than the device takes. Here an array's machine words are
computed once and stored with the array, and one ``struct`` call packs all words of a launch. They are the words that
Numba passes (an array: two zeros, size, item size, address, shape, strides; a tuple: those of its elements). They are
compared with Numba's when a kernel is compiled. If they differ, Numba launches the kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from struct import Struct
from threading import Lock
from typing import Any

import numpy as np
from cuda.bindings import driver as bindings

from mpsim.kernels.cuda.device.arrays import DeviceNDArray

#: The kind of an argument: the type of a scalar, or (dtype, dimensions) of an array.
Kind = type | tuple[str, int]
Word = bool | int | float | np.generic
#: The shape of a grid or a block.
Shape = tuple[int, int, int]

#: The ``struct`` format of each scalar type in a word of eight bytes.
SCALARS: dict[type, str] = {
    bool: "?7x",
    int: "q",
    float: "d",
    np.bool_: "?7x",
    np.int32: "i4x",
    np.uint32: "I4x",
    np.int64: "q",
    np.uint64: "Q",
    np.float32: "f4x",
    np.float64: "d",
}
#: Kinds and words of records (NamedTuples) passed so far, by identity. Each entry references its record, so that no
#: other object can have the same identity.
_records: dict[int, tuple[Any, list[Kind], list[Word]]] = {}
RECORDS = 4096


def words_of(arguments: Iterable[Any], kinds: list[Kind], words: list[Word]) -> None:
    """Appends the kinds and the words of arguments."""
    for x in arguments:
        kind = type(x)
        if kind is DeviceNDArray:
            known = x.__dict__.get("launch_words")
            if known is None:
                known = x.launch_words = of_array(x)
            kinds.append(known[0])
            words += known[1]
        elif kind in SCALARS:
            kinds.append(kind)
            words.append(x)
        elif kind is tuple:
            words_of(x, kinds, words)
        else:
            of_record(x, kinds, words)


def of_record(record: Any, kinds: list[Kind], words: list[Word]) -> None:
    """Appends the kinds and the words of a NamedTuple. There are few: one per format, shape or accumulator."""
    known = _records.get(id(record))
    if known is None:
        known = record, [], []
        words_of(tuple(record), known[1], known[2])
        if len(_records) < RECORDS:
            _records[id(record)] = known
    kinds += known[1]
    words += known[2]


def of_array(array: Any) -> tuple[Kind, tuple[int, ...]]:
    """Returns the (kind, words) of a device array."""
    address = int(array.gpu_data.device_pointer)
    words = (0, 0, array.size, array.dtype.itemsize, address, *array.shape, *array.strides)
    return (array.dtype.char, array.ndim), words


class Entry:
    """A kernel compiled for arguments of certain kinds, on one device."""

    def __init__(self, handle: int, kinds: list[Kind]) -> None:
        codes = [SCALARS[kind] if isinstance(kind, type) else "q" * (5 + 2 * kind[1]) for kind in kinds]
        layout = Struct("<" + "".join(codes))
        self.handle, self.pack, self.lock = handle, layout.pack_into, Lock()
        self.buffer = ctypes.create_string_buffer(layout.size)
        start = ctypes.addressof(self.buffer)
        self.places = (ctypes.c_void_p * (layout.size // 8))(*range(start, start + layout.size, 8))
        self.address = ctypes.addressof(self.places)

    def launch(self, grid: Shape, block: Shape, stream: int, words: list[Word]) -> None:
        """Launches the kernel in the stream. Raises RuntimeError with the driver's name of the error."""
        with self.lock:
            self.pack(self.buffer, 0, *words)
            (error,) = bindings.cuLaunchKernel(self.handle, *grid, *block, 0, stream, self.address, 0)
        if error:
            raise RuntimeError(f"kernel launch failed: {error.name}")


def words_of_numba(compiled: Any, arguments: tuple[Any, ...]) -> list[Word]:
    """Returns the words that Numba passes to the driver."""
    prepared: list[Any] = []
    for numba_type, x in zip(compiled.argument_types, arguments, strict=True):
        compiled._prepare_args(numba_type, x, 0, [], prepared)
    return [getattr(word, "value", word) for word in prepared]


def load(entry: bytes, cubin: bytes) -> int:
    """Loads machine code on the current device until the process ends, and returns its function's handle."""
    error, library = bindings.cuLibraryLoadData(cubin, [], [], 0, [], [], 0)
    if not error:
        error, function = bindings.cuLibraryGetKernel(library, entry)
    if error:
        raise RuntimeError(f"the driver cannot load {entry.decode()}: {error.name}")
    return int(function)
