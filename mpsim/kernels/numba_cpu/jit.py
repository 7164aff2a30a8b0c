"""``njit`` for this backend: numba's, with an on-disk cache that several processes may fill at once.

Numba numbers the files of a function's compiled variants (of its signatures, and of what it closes over) by an index
that each process reads and writes as a whole. Two processes that compile different variants at the same time take the
same number, and one variant then runs in place of the other. Here a file is named by what it holds; the most that is
lost is an entry of the index, and the variant is compiled again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import MethodType
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As ``numba.njit(**options)``."""

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if options.get("cache"):
            file = dispatcher._cache._cache_file
            file.save = MethodType(save_by_content, file)
        return dispatcher

    return compiled


def save_by_content(file: Any, key: Any, data: Any) -> None:
    """In place of numba's ``IndexDataCacheFile.save``; the data first, so that the index names nothing else."""
    content = hashlib.sha256(file._dump((file._source_stamp, key))).hexdigest()
    name = f"{file._index_name.removesuffix('.nbi')}.{content[:24]}.nbc"
    file._save_data(name, data)
    file._save_index({**file._load_index(), key: name})
