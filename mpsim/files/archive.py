"""Packs arrays and texts into zip archives without dates, so that equal content gives equal bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

_DATE = (1980, 1, 1, 0, 0, 0)


class _InMemory(zipfile.ZipFile):
    """An archive that is dropped if Ctrl-C interrupts it. ZipFile would try to complete it, and print a traceback."""

    __del__ = staticmethod(bool)  # type: ignore[assignment]  # does nothing, and in C, where Ctrl-C is not noticed


def pack(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str] | None = None, *, deflate: bool = False) -> bytes:
    """Packs an archive that ``numpy.load`` reads.

    Args:
        arrays: Arrays by name. Each becomes a .npy file, little-endian in C order.
        texts: Texts by the name of their member.
        deflate: Whether to compress. The compressed bytes depend on the version of zlib.

    Returns:
        The bytes of the archive.

    >>> import io
    >>> float(np.load(io.BytesIO(pack({"x": np.float32([0.5])})))["x"][0])
    0.5
    """
    members = {name: text.encode() for name, text in (texts or {}).items()}
    for name, array in arrays.items():
        members[f"{name}.npy"] = _npy(array)
    buffer = io.BytesIO()
    archive = _InMemory(buffer, "w", zipfile.ZIP_STORED)
    for name, content in members.items():
        entry = zipfile.ZipInfo(name, _DATE)
        entry.create_system = 3
        entry.external_attr = 0o644 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
        archive.writestr(entry, content)
    archive.close()
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    plain = np.asarray(array, order="C")
    plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    np.lib.format.write_array(content, plain, version=(1, 0), allow_pickle=False)
    return content.getvalue()
