"""Reads images and labels from .npz files of NumPy, without trusting their sizes."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from gzip import GzipFile
from pathlib import Path
from typing import IO

import numpy as np

from mpsim import checks
from mpsim.data.own.names import CLASSES, slot_of
from mpsim.errors import MpsimError, UsageError

Array = np.ndarray

#: The largest factor by which deflate compresses (RFC 1951: 258 bytes in 2 bits), and a margin for short members.
MOST_RATIO, MARGIN = 1032, 1 << 10
#: The number of bytes that are read together.
PIECE = 1 << 20


class Archive(Mapping[str, Array]):
    """The arrays of an open .npz file by name. An array is read when it is requested.

    >>> import io
    >>> content = io.BytesIO()
    >>> np.savez(content, images=np.zeros((2, 4, 4), np.uint8), notes=np.array(["a"]))
    >>> archive = Archive(content)
    >>> list(archive), archive["images"].shape
    (['images', 'notes'], (2, 4, 4))
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file)
        self._members = {
            info.filename.removesuffix(".npy"): info
            for info in self._zip.infolist()
            if info.filename.endswith(".npy") and not info.is_dir()
        }

    def __getitem__(self, name: str) -> Array:
        try:
            return self._read(self._members[name])
        except MpsimError as error:
            raise type(error)(f"array {name!r}: {error}") from error

    def _read(self, info: zipfile.ZipInfo) -> Array:
        """Returns an array. Its type and its size are checked before memory is allocated for it."""
        if info.compress_type == zipfile.ZIP_DEFLATED and info.file_size > MOST_RATIO * info.compress_size + MARGIN:
            raise UsageError(
                f"its {info.compress_size} compressed bytes cannot hold the {info.file_size} that it names"
            )
        with self._zip.open(info) as member:
            shape, in_columns, dtype = _header(member)
            if dtype.kind not in "biuf":
                raise UsageError(f"must be numbers, got an array of {dtype}")
            size = math.prod(shape) * dtype.itemsize
            if size != info.file_size - member.tell():
                raise UsageError(f"{dtype} {shape} needs {size} bytes, but {info.file_size - member.tell()} follow")
            checks.fits_memory("it needs", size, "store fewer images")
            flat = read_exactly(member, size)
            member.read(1)  # the end, at which zipfile compares the checksum
        array = flat.view(dtype).reshape(shape, order="F" if in_columns else "C")
        return array.astype(dtype.newbyteorder("="), copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def read_exactly(file: IO[bytes] | GzipFile, size: int) -> Array:
    """Reads that many bytes in pieces, uint8 (size,). Raises UsageError if the file ends before."""
    bytes_read = np.empty(size, np.uint8)
    place = 0
    while place < size:
        piece = file.read(min(PIECE, size - place))
        if not piece:
            raise UsageError(f"ends after {place} of the {size} bytes that its header names")
        bytes_read[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    return bytes_read


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns the shape, whether the order is Fortran's, and the type of the .npy data that follow."""
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise UsageError(f"has version {version} of NumPy's format; expected 1.0 or 2.0")
    shape, in_columns, dtype = read(member)
    if any(length < 0 for length in shape):
        raise UsageError(f"has a negative length: {shape}")
    return shape, in_columns, dtype


def read_npz(path: Path) -> dict[str, Array]:
    """Returns the arrays of an .npz file that have names of images, labels or classes (``names.slot_of``).

    Arrays of Python objects are never read. Of arrays with other names the name is kept, for messages, and an empty
    array.

    Raises:
        UsageError: The file is not a complete .npz file, an array is not of numbers, or it does not fit into memory.
        OSError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            archive = Archive(file)
            wanted = [name for name in archive if slot_of(name) is not None or name == CLASSES]
            return {name: archive[name] if name in wanted else np.empty(0) for name in archive}
    except MpsimError as error:
        raise type(error)(f"{path}: {error}") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # a broken archive raises almost anything
        raise UsageError(f"{path} is not a complete .npz file ({type(error).__name__}: {error})") from error
