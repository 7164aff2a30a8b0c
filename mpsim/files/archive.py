"""Packs arrays and texts into zip archives without dates, so that equal content gives equal bytes.

The bytes are those that zipfile writes. No object of zipfile is created: if Ctrl-C interrupts the constructor of one,
Python prints a traceback when it deletes the object, and no code can catch that.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np

#: Sizes and places up to this are in fields of 32 bits, larger ones in further fields of 64 bits ("zip64").
LIMIT = (1 << 31) - 1
MOST_MEMBERS = (1 << 16) - 1
_IN_64_BITS = 0xFFFFFFFF
#: The versions of the format, times 10, that a reader needs.
_PLAIN, _ZIP64 = 20, 45
_STORED, _DEFLATED = 0, 8
_NAME_IN_UTF8 = 1 << 11
#: Midnight of 1 January 1980.
_TIME, _DATE = 0, 1 << 5 | 1
#: Unix, and there a file that its owner writes and all read.
_SYSTEM, _MODE = 3, 0o644 << 16


def pack(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str] | None = None, *, deflate: bool = False) -> bytes:
    """Packs an archive that ``numpy.load`` reads.

    Args:
        arrays: Arrays by name. Each becomes a .npy file, little-endian in C order.
        texts: Texts by the name of their member.
        deflate: Whether to compress. The compressed bytes depend on the version of zlib.

    Returns:
        The bytes of the archive.

    Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.

    >>> import io
    >>> float(np.load(io.BytesIO(pack({"x": np.float32([0.5])})))["x"][0])
    0.5
    """
    members = {name: text.encode() for name, text in (texts or {}).items()}
    for name, array in arrays.items():
        members[f"{name}.npy"] = _npy(array)
    parts, entries, place = [], [], 0
    for name, content in members.items():
        header, stored, entry = _member(name, content, place, deflate)
        parts += [header, stored]
        entries.append(entry)
        place += len(header) + len(stored)
    directory = b"".join(entries)
    return b"".join([*parts, directory, _end(len(entries), len(directory), place)])


def _member(name: str, content: bytes, place: int, deflate: bool) -> tuple[bytes, bytes, bytes]:
    """Returns the header of a member at ``place``, its content as stored, and its entry in the directory."""
    stored, encoded = content, name.encode()
    if deflate:
        compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)
        stored = compressor.compress(content) + compressor.flush()
    method, flags = _DEFLATED if deflate else _STORED, 0 if name.isascii() else _NAME_IN_UTF8
    about = struct.pack("<HHHHI", flags, method, _TIME, _DATE, zlib.crc32(content))

    # zipfile writes the header before it compresses, and reserves the longer fields where the result may need them.
    in_header = [len(content), len(stored)] if len(content) * 1.05 > LIMIT else []
    header = struct.pack("<4sH", b"PK\3\4", _version(in_header)) + about + _sizes(stored, content, in_header)
    header += struct.pack("<HH", len(encoded), len(_zip64(in_header))) + encoded + _zip64(in_header)

    sizes = [len(content), len(stored)] if max(len(content), len(stored)) > LIMIT else []
    further = [*sizes, place] if place > LIMIT else sizes
    version = _version(in_header or further)
    entry = struct.pack("<4sBBH", b"PK\1\2", version, _SYSTEM, version) + about + _sizes(stored, content, sizes)
    entry += struct.pack("<HHHHHI", len(encoded), len(_zip64(further)), 0, 0, 0, _MODE)
    entry += struct.pack("<I", _IN_64_BITS if place > LIMIT else place) + encoded + _zip64(further)
    return header, stored, entry


def _version(in_64_bits: list[int]) -> int:
    return _ZIP64 if in_64_bits else _PLAIN


def _sizes(stored: bytes, content: bytes, in_64_bits: list[int]) -> bytes:
    """Returns the two fields of 32 bits. They only point to the longer ones where there are such."""
    return struct.pack("<II", *([_IN_64_BITS] * 2 if in_64_bits else [len(stored), len(content)]))


def _zip64(numbers: list[int]) -> bytes:
    """Returns the extra field for numbers of 64 bits, empty where there are none."""
    return struct.pack(f"<HH{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""


def _end(count: int, size: int, place: int) -> bytes:
    """Returns what follows the directory of ``count`` members, which has ``size`` bytes at ``place``."""
    longer = b""
    if count > MOST_MEMBERS or max(size, place) > LIMIT:
        longer = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, _ZIP64, _ZIP64, 0, 0, count, count, size, place)
        longer += struct.pack("<4sIQI", b"PK\6\7", 0, place + size, 1)
    count, size, place = min(count, MOST_MEMBERS), min(size, _IN_64_BITS), min(place, _IN_64_BITS)
    return longer + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, place, 0)


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    plain = np.asarray(array, order="C")
    plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    np.lib.format.write_array(content, plain, version=(1, 0), allow_pickle=False)
    return content.getvalue()
