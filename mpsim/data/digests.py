"""Computes digests of data: SHA-256 over what determines images and labels, independent of the files' location."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

#: How many nanoseconds a file must have been unchanged before its digest is cached. A change within one tick of the
#: file system's clock (at most 2 s) leaves the same times and would not be noticed.
SETTLED = 2_000_000_000

#: Digests by the result of ``stat``.
_remembered: dict[tuple[int, ...], str] = {}


class Digestible(Protocol):
    def digest(self) -> str: ...


def file_digest(path: str | Path) -> str:
    """Computes the SHA-256 (hex) of a file's bytes as they are now. Raises OSError if it cannot be read.

    A process does not read a file again while its device, inode, size and times of change stay the same.
    """
    remembered = _remembered.get(_stat(os.stat(path)))
    if remembered is not None:
        return remembered
    with open(path, "rb") as file:
        began, before = time.time_ns(), os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if _stat(before) == _stat(after) and began - max(before.st_mtime_ns, before.st_ctime_ns) > SETTLED:
        _remembered[_stat(before)] = digest
    return digest


def _stat(found: os.stat_result) -> tuple[int, ...]:
    """Returns what identifies an unchanged file. It includes ctime, which programs cannot set back."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def digest_of_lines(lines: Iterable[str]) -> str:
    """Computes the SHA-256 (hex) of lines, none of which may contain a line break.

    >>> digest_of_lines(["a", "b"]) == hashlib.sha256(b"a\\nb\\n").hexdigest()
    True
    """
    sha = hashlib.sha256()
    for line in lines:
        sha.update(f"{line}\n".encode())
    return sha.hexdigest()


def digest_of_splits(train: Digestible, test: Digestible) -> str:
    """Returns the digest of a dataset from those of its two splits."""
    return digest_of_lines([train.digest(), test.digest()])
