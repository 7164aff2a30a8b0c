"""Reads what others wrote as arrays in npz archives, as JSON lines and as hex words, and refuses other content."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mpsim.errors import UsageError
from mpsim.files.records import Fields

#: The most bits of a word.
MOST_BITS = 64


def npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns those of the named arrays that an npz archive has, in the machine's byte order.

    Raises:
        UsageError: It is not a complete npz archive, or such an array is not a plain one.
        OSError: The file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
        with np.load(path, allow_pickle=False) as file:
            found = {name: np.asarray(file[name]) for name in names if f"{name}.npy" in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise UsageError(f"not a complete npz archive of plain arrays, as numpy.savez writes it ({error})") from error
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in found.items()}


def objects(path: Path) -> list[Fields]:
    """Returns the objects of a file of JSON lines.

    Raises:
        UsageError: A line is not a JSON object.
        OSError: The file cannot be read.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"line {number} is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UsageError(f'line {number} is not a JSON object, such as {{"input": "3c00"}}')
        found.append(row)
    return found


def word(value: object) -> int:
    """Returns the number of a text of hex digits, or of a whole number of JSON.

    Raises:
        UsageError: It is something else, or has more than 64 bits or a sign.

    >>> word("3c00"), word(60)
    (15360, 60)
    """
    try:
        number = int(value, 16) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(f"expected words of hex digits, got {str(value)[:40]!r}")
    if number >> MOST_BITS:  # also of negative numbers
        raise UsageError(f"expected words of at most {MOST_BITS} bits without a sign, got {str(value)[:40]!r}")
    return number
