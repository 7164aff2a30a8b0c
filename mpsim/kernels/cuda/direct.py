"""Launches a compiled kernel through the driver, with less Python than numba's own launch.

A training step launches over a thousand kernels, and numba takes some 70 microseconds for each, most of them to type
the arguments and wrap each in an object: more than the device needs. Here an array's words are made once and kept with
the array, and all words of a launch are packed by one ``struct`` call. The words are those that numba gives
(an array: two zeros, size, item size, address, shape, strides; a tuple: its elements'). That is compared when a kernel
is compiled, and numba launches it where it is not so.
"""

from __future__ import annotations

import ctypes
from struct import Struct
from threading import Lock
from typing import Any

import numpy as np
from cuda.bindings import driver as bindings

from mpsim.kernels.cuda import cubins
from mpsim.kernels.cuda.arrays import DeviceNDArray, device

#: Of a scalar: how a word of eight bytes holds it.
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
#: Words of records (NamedTuples) met so far, by identity; each stands beside its record, which so keeps its identity.
_records: dict[int, tuple[Any, list[Any], list[Any]]] = {}
RECORDS = 4096


def words_of(arguments: Any, kinds: list[Any], words: list[Any]) -> None:
    """Appends what arguments are (dtype and dimensions of an array, type of a scalar), and their words."""
    for x in arguments:
        kind: Any = type(x)
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


def of_record(record: Any, kinds: list[Any], words: list[Any]) -> None:
    """The same of a NamedTuple: there are few, made once for a format, a shape or an accumulator."""
    known = _records.get(id(record))
    if known is None:
        known = record, [], []
        words_of(tuple(record), known[1], known[2])
        if len(_records) < RECORDS:
            _records[id(record)] = known
    kinds += known[1]
    words += known[2]


def of_array(array: Any) -> tuple[tuple[str, int], tuple[int, ...]]:
    """((dtype, dimensions), words) of a device array."""
    address = int(array.gpu_data.device_pointer)
    words = (0, 0, array.size, array.dtype.itemsize, address, *array.shape, *array.strides)
    return (array.dtype.char, array.ndim), words


class Entry:
    """A kernel compiled for arguments of certain kinds, on one device."""

    def __init__(self, handle: int, kinds: list[Any]) -> None:
        codes = [SCALARS[kind] if isinstance(kind, type) else "q" * (5 + 2 * kind[1]) for kind in kinds]
        layout = Struct("<" + "".join(codes))
        self.handle, self.pack, self.lock = handle, layout.pack_into, Lock()
        self.buffer = ctypes.create_string_buffer(layout.size)
        start = ctypes.addressof(self.buffer)
        self.places = (ctypes.c_void_p * (layout.size // 8))(*range(start, start + layout.size, 8))
        self.address = ctypes.addressof(self.places)

    def launch(self, grid: tuple[int, int, int], block: tuple[int, int, int], stream: int, words: list[Any]) -> None:
        """Puts the launch in the stream. Raises RuntimeError with the driver's word for what it refuses."""
        with self.lock:
            self.pack(self.buffer, 0, *words)
            (error,) = bindings.cuLaunchKernel(self.handle, *grid, *block, 0, stream, self.address, 0)
        if error:
            raise RuntimeError(f"the driver refused a launch: {error.name}")


def open_kernel(kernel: Any, arguments: tuple[Any, ...], kinds: list[Any], words: list[Any]) -> Entry | None:
    """The kernel for such arguments, from the disk or compiled; None where numba's words are others than these."""
    name = cubins.name_of(kernel.name, repr(kinds), device().compute_capability, kernel.registers)
    found = cubins.find(name)
    if found is None:
        compiled = kernel.compiled.compile(tuple(kernel.compiled.typeof_pyval(x) for x in arguments))
        if words_of_numba(compiled, arguments) != words:
            return None
        library = compiled._codelibrary
        found = library._entry_name.encode(), bytes(library.get_cubin().code)
        cubins.keep(name, *found)
    return Entry(load(*found), kinds)


def words_of_numba(compiled: Any, arguments: tuple[Any, ...]) -> list[Any]:
    """What numba hands to the driver."""
    prepared: list[Any] = []
    for numba_type, x in zip(compiled.argument_types, arguments, strict=True):
        compiled._prepare_args(numba_type, x, 0, [], prepared)
    return [getattr(word, "value", word) for word in prepared]


def load(entry: bytes, cubin: bytes) -> int:
    """Loads machine code on the device in use, for as long as the process lives: the handle of its function."""
    error, library = bindings.cuLibraryLoadData(cubin, [], [], 0, [], [], 0)
    if not error:
        error, function = bindings.cuLibraryGetKernel(library, entry)
    if error:
        raise RuntimeError(f"the driver refused {entry.decode()}: {error.name}")
    return int(function)
