"""Compiles functions with Numba and keeps the code on disk, in files that are compared with a checksum when read.

Numba reads its index and its code with pickle and loads the code as it is. A damaged file would end the process, or
compute other bits. Here it is the same as a missing one: the function is compiled and stored again.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile

DIGEST = 32  # bytes at the start of a file: the SHA-256 of the rest


class CacheFile(IndexDataCacheFile):
    """The index of a function's compiled variants and their code. Several processes may write them at once.

    Numba numbers the files of the variants by an index that each process reads and writes as a whole. Two processes
    that compile different variants at the same time choose the same number, and one variant then runs in place of the
    other. Here the name of a file is a hash of what it was compiled from. At most an entry of the index is lost, and
    the variant is compiled again.
    """

    def save(self, key: object, data: object) -> None:
        """Stores a variant: its code first, so that the index names no missing file. A full disk is not an error."""
        content = hashlib.sha256(self._dump((self._source_stamp, key))).hexdigest()
        name = f"{self._index_name.removesuffix('.nbi')}.{content[:24]}.nbc"
        with suppress(OSError):
            self._save_data(name, data)
            self._save_index({**self._load_index(), key: name})

    def load(self, key: object) -> object:
        """Returns a variant, or None if there is none that is intact."""
        name = self._load_index().get(key)
        return None if name is None else self._load_data(name)

    def _load_index(self) -> dict[object, str]:
        version, stamp, variants = self._read(self._index_path) or (None, None, {})
        return variants if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[object, str]) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, overloads))

    def _load_data(self, name: str) -> object:
        return self._read(self._data_path(name))

    def _save_data(self, name: str, data: object) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> Any:
        with suppress(OSError):
            content = Path(path).read_bytes()
            if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
                return pickle.loads(content[DIGEST:])
        return None

    def _write(self, path: str, value: object) -> None:
        content = self._dump(value)
        with self._open_for_write(path) as file:
            file.write(hashlib.sha256(content).digest() + content)


def cached(function: Callable[..., Any], sources: str = "", **options: Any) -> Any:
    """Returns ``numba.njit(cache=True, **options)(function)`` with a ``CacheFile``, or, where no folder for it can be
    written, without a cache. ``sources`` is a digest of all that the code depends on besides the function's own file.
    """
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return numba.njit(**options)(function)
    file = dispatcher._cache._cache_file
    base = file._index_name.removesuffix(".nbi")
    dispatcher._cache._cache_file = CacheFile(file._cache_path, base, (file._source_stamp, sources))
    return dispatcher
