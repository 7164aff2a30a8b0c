"""Reads what others wrote as arrays in npz archives, as JSON lines and as hex words, and refuses other content."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mpsim.errors import UsageError
from mpsim.files import json_text
from mpsim.files.npz import Archive
from mpsim.files.records import Fields

#: The most bits of a word.
MOST_BITS = 64


def npz(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns those of the named arrays that an npz archive has, in the machine's byte order.

    Raises:
        UsageError: It is not a complete npz archive, or such an array is not a plain one.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        try:
            archive = Archive(file)
            return {name: archive[name] for name in names if name in archive}
        except UsageError as error:
            raise UsageError(f"not a complete npz archive of plain arrays, as numpy.savez writes: {error}") from error


def text(path: Path) -> str:
    """Returns the content of a file of text.

    Raises:
        UsageError: It is not UTF-8.
        OSError: The file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8 ({error})") from error


def objects(path: Path) -> list[Fields]:
    """Returns the objects of a file of JSON lines.

    Raises:
        UsageError: A line is not a JSON object.
        OSError: The file cannot be read.
    """
    found = []
    for number, line in enumerate(text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json_text.decoded(line)
        except UsageError as error:
            raise UsageError(f"line {number}: {error}") from None
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
