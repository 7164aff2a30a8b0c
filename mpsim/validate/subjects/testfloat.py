"""TestFloat's text: one operation per line, its operands and its result in hex, and the exceptions' flags.

Source: J. Hauser, Berkeley TestFloat, testfloat_ver: operands, result and flags are separated by spaces. The flags are
a hex number, the sum of 1 for inexact, 2 for underflow, 4 for overflow, 8 for division by zero and 16 for invalid.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpsim.errors import UsageError
from mpsim.files.columns import text
from mpsim.kernels.contract import Array

SUFFIXES = (".txt", ".hex", ".tv")


class Lines(NamedTuple):
    """The columns of a file: an array of uint64 for each operand, the results, and the flags if every line has some."""

    operands: list[Array]
    results: Array
    flags: Array | None


def read(path: Path, operands: int) -> Lines:
    """Read a file of lines ``OPERAND … RESULT [FLAGS]``. Text after ``//`` or ``#`` is a comment.

    Args:
        path: The file.
        operands: The number of operands on each line.

    Returns:
        The columns.

    Raises:
        UsageError: A line has another number of words, a word is not hex, or there are no lines.
        OSError: The file cannot be read.
    """
    rows: list[list[int]] = []
    width = 0
    for number, line in enumerate(text(path).splitlines(), 1):
        words = line.split("//")[0].split("#")[0].split()
        if not words:
            continue
        width = width or len(words)
        if len(words) != width or width not in (operands + 1, operands + 2):
            raise UsageError(
                f"{path}, line {number} has {len(words)} words; expected {operands} operands and a result in hex, and "
                f"perhaps flags, on every line"
            )
        try:
            rows.append([int(word, 16) for word in words])
        except ValueError:
            raise UsageError(f"{path}, line {number}: {line.strip()!r} has words that are not hex digits") from None
        if max(rows[-1]) >> 64 or min(rows[-1]) < 0:
            raise UsageError(f"{path}, line {number}: a word has more than 64 bits")
    if not rows:
        raise UsageError(f"{path} has no lines of operands and results")
    columns = [np.array(column, np.uint64) for column in zip(*rows, strict=True)]
    flags = columns[operands + 1] if width == operands + 2 else None
    return Lines(columns[:operands], columns[operands], flags)
