"""Reads zip archives of arrays and texts (.npz files, checkpoints) without trusting what they say of themselves.

A member's type, shape and size are checked before memory is allocated for it, and arrays of Python objects are never
read. docs/security.md lists the limits.
"""

from __future__ import annotations

import ast
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from mpsim import checks
from mpsim.errors import MpsimError, UsageError

Array = np.ndarray

#: The largest factor by which deflate compresses (RFC 1951: 258 bytes in 2 bits), and a margin for short members.
MOST_RATIO, MARGIN = 1032, 1 << 10
#: By how many bytes the members of a small archive may exceed the archive's own size, unless the caller says more.
MOST_ABOVE = 192 << 20
#: The longest header of an array and the longest text, in bytes.
MOST_HEADER, MOST_TEXT = 10_000, 64 << 20
#: The number of bytes that are read together.
PIECE = 1 << 20
#: The number of packed bytes that are read together.
PACKED = 1 << 16
#: What numpy.lib.format writes for an array of numbers or of texts of fixed length.
_HEADER = re.compile(r"[A-Za-z0-9_'\"<>|=?:,(){}\s]*")
_TYPE = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248]|f16|[SU]\d{1,9})")
_SUFFIX = ".npy"


class Reading(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes: ...

    def tell(self) -> int: ...


class _Zip(zipfile.ZipFile):
    """Python's class without its destructor, which prints a traceback if Ctrl-C interrupted it or the constructor."""

    def __del__(self) -> None:
        """Closes nothing: the file is the caller's."""


class _Member:
    """The content of a member, unpacked while it is read. Its checksum is compared at the end.

    zipfile's own class is not used, because its destructor prints a traceback if Ctrl-C interrupted the constructor.
    """

    def __init__(self, file: IO[bytes], info: zipfile.ZipInfo) -> None:
        file.seek(info.header_offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise zipfile.BadZipFile(f"Bad magic number for file header of {info.filename!r}")
        name, extra = struct.unpack("<HH", header[26:])
        if file.read(name) != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
            raise zipfile.BadZipFile(f"File name in directory {info.filename!r} and header differ")
        self._file, self._info, self._place, self._packed = file, info, file.tell() + extra, info.compress_size
        self._unpacker = zlib.decompressobj(-15) if info.compress_type == zipfile.ZIP_DEFLATED else None
        self._sum = self._done = 0

    def tell(self) -> int:
        """Returns the number of bytes that were read."""
        return self._done

    def read(self, size: int, /) -> bytes:
        """Returns at most that many bytes, and none at the end."""
        piece = self._next(size) if self._unpacker is None else self._unpacked(size, self._unpacker)
        self._sum, self._done = zlib.crc32(piece, self._sum), self._done + len(piece)
        if self._done > self._info.file_size or (not piece and size and self._done < self._info.file_size):
            raise EOFError(f"{self._info.filename!r} has other than {self._info.file_size} bytes")
        if not piece and size and self._sum != self._info.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {self._info.filename!r}")
        return piece

    def _unpacked(self, size: int, unpacker: Any) -> bytes:
        piece = b""
        while size and not piece and not unpacker.eof:
            packed = unpacker.unconsumed_tail or self._next(PACKED)
            piece = unpacker.decompress(packed, size)
            if not packed:  # what zlib still had was the last
                break
        return piece

    def _next(self, size: int) -> bytes:
        """Returns at most that many packed bytes, and none at the end."""
        self._file.seek(self._place)
        piece = self._file.read(min(size, self._packed))
        if not piece and min(size, self._packed):
            raise EOFError(f"{self._info.filename!r} ends early")
        self._place, self._packed = self._place + len(piece), self._packed - len(piece)
        return piece


class Archive(Mapping[str, Array]):
    """The arrays of an open archive by name, without the suffix .npy. An array is read when it is requested.

    Args:
        file: The open archive.
        most: The number of bytes that all members may have together. The default is the archive's size and 192 MiB
            more.

    Raises:
        UsageError: The archive is incomplete, encrypted, compressed by another method than deflate, has two members of
            one name, or is larger than ``most``.

    >>> content = io.BytesIO()
    >>> np.savez(content, images=np.zeros((2, 4, 4), np.uint8), notes=np.array(["a"]))
    >>> archive = Archive(content)
    >>> list(archive), archive["images"].shape
    (['images', 'notes'], (2, 4, 4))
    """

    def __init__(self, file: IO[bytes], most: float | None = None) -> None:
        self._file = file
        with broken_archive():
            infos = _Zip(file).infolist()
        for info in infos:
            self._check(info)
        size = file.seek(0, io.SEEK_END)
        total = sum(info.file_size for info in infos)
        if total > (size + MOST_ABOVE if most is None else most):
            raise UsageError(f"its {size:,} bytes expand to {total:,}; save it without compression (numpy.savez)")
        files = [info for info in infos if not info.filename.endswith("/")]
        self._members = {info.filename: info for info in files}
        if len(self._members) < len(files):
            raise UsageError("it has two members of one name")

    @staticmethod
    def _check(info: zipfile.ZipInfo) -> None:
        name = info.filename
        if info.flag_bits & 1:
            raise UsageError(f"its member {name!r} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UsageError(f"its member {name!r} is compressed by method {info.compress_type}; expected deflate")
        ratio = MOST_RATIO if info.compress_type == zipfile.ZIP_DEFLATED else 1
        if info.file_size > ratio * info.compress_size + MARGIN:
            raise UsageError(
                f"the {info.compress_size} compressed bytes of {name!r} cannot hold the {info.file_size} that it names"
            )

    def __getitem__(self, name: str) -> Array:
        info = self._members[name + _SUFFIX]
        try:
            with broken_archive():
                member = _Member(self._file, info)
                array = read_npy(member, info.file_size)
                member.read(1)  # the end, at which the checksum is compared
        except MpsimError as error:
            raise type(error)(f"array {name!r}: {error}") from error
        return array

    def text(self, member: str) -> bytes:
        """Returns the content of a member that is not an array. Raises KeyError if there is none of this name."""
        info = self._members[member]
        if info.file_size > MOST_TEXT:
            raise UsageError(f"its member {member!r} has {info.file_size:,} bytes; at most {MOST_TEXT:,} are read")
        with broken_archive():
            content = read_exactly(unpacked := _Member(self._file, info), info.file_size).tobytes()
            unpacked.read(1)
        return content

    @property
    def texts(self) -> list[str]:
        """The names of the members that are not arrays."""
        return [name for name in self._members if not name.endswith(_SUFFIX)]

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(_SUFFIX) for name in self._members if name.endswith(_SUFFIX))

    def __len__(self) -> int:
        return len(self._members) - len(self.texts)


def read_npy(file: Reading, size: int) -> Array:
    """Reads an array of numbers, bools or texts, in the machine's byte order, from ``size`` bytes in NumPy's format.

    Raises:
        UsageError: They are not an array's, or more or fewer than its header names.
    """
    shape, in_columns, dtype = _header(file)
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needed != there:
        raise UsageError(f"{dtype} {checks.shown(shape)} needs {needed} bytes, but {there} follow its header")
    checks.fits_memory("it needs", needed, "store less in it")
    flat = read_exactly(file, needed)
    array = (
        flat.view(dtype).reshape(shape, order="F" if in_columns else "C") if dtype.itemsize else np.empty(shape, dtype)
    )
    if dtype.kind == "U" and (flat.view(dtype.str[0] + "u4") > 0x10FFFF).any():
        raise UsageError("it has characters that Unicode does not have")
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_exactly(file: Reading, size: int) -> Array:
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


def _header(file: Reading) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns the shape, whether the order is Fortran's, and the type of the data that follow."""
    start = file.read(8)
    widths = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}
    if start not in widths:
        raise UsageError("it is not in version 1.0 or 2.0 of NumPy's format")
    length = int.from_bytes(file.read(widths[start]), "little")
    text = file.read(min(length, MOST_HEADER)).decode("latin1")
    if strange := re.search(r"'descr': '[<>|=]?(V\d{1,9}|c\d{1,2})'", text[:80]):
        raise UsageError(f"it has elements of type {strange[1]}; write float32, or safetensors")
    try:
        if length > MOST_HEADER or not _HEADER.fullmatch(text) or text.count("(") > 1 or text.count("{") > 1:
            raise ValueError
        fields = ast.literal_eval(text.strip())
        kind, in_columns, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        if len(fields) != 3 or type(in_columns) is not bool or not _TYPE.fullmatch(kind):
            raise ValueError
        if len(shape) > 32 or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
            raise ValueError
    except (ValueError, SyntaxError, TypeError, KeyError):
        raise UsageError(
            f"its header does not describe an array of numbers: {checks.shown(text[:80].strip())}"
        ) from None
    if math.prod(n for n in shape if n) >= 1 << 62:
        raise UsageError(f"no array has shape {checks.shown(shape)}")
    return shape, in_columns, np.dtype(kind)


@contextmanager
def broken_archive() -> Iterator[None]:
    """Raises UsageError for what a broken archive raises in zipfile, which is almost anything.

    Sizes are checked before memory is allocated, so that a lack of memory is the machine's.
    """
    try:
        yield
    except (MpsimError, FileNotFoundError, IsADirectoryError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"it is incomplete or broken ({type(error).__name__}: {error})") from error


@contextmanager
def opened(path: str | Path, most: float | None = None) -> Iterator[Archive]:
    """Opens the archive at ``path``. What is wrong with it raises UsageError with the file's name.

    Raises:
        UsageError: As for ``Archive``.
        OSError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            yield Archive(file, most)
    except MpsimError as error:
        raise UsageError(f"{path} is not a complete npz archive of plain arrays ({error})") from error
