"""Reads a text file as rows of characters, each of which has the next one as its label."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mpsim import checks
from mpsim.data.dataset import Dataset, LabelledImages, check_split
from mpsim.data.digests import file_digest
from mpsim.data.own import remembered
from mpsim.data.own.preparation import TEST_SHARE
from mpsim.data.own.remembered import Parts
from mpsim.errors import UsageError

Array = np.ndarray

#: The default number of characters of a row, and the largest.
CONTEXT, MOST_CONTEXT = 64, 1 << 20
#: Bytes of memory for a byte of text: code points, their places in the alphabet, tokens and labels.
BYTES_PER_CHARACTER = 48


def read_text(
    path: str | Path, split: str = "train", *, context: int | None = None, test_share: float | None = None
) -> LabelledImages:
    """Returns a part of a text. Its tokens are the places of the characters in the sorted alphabet of the whole text.

    Row i has the characters context * i .. context * (i + 1) - 1 and, as labels, those after them. The last
    round(test_share * rows) rows, at least one, are the test part. What does not fill a row is left out.

    Args:
        path: A file of UTF-8 text. Its line breaks are kept.
        split: "train" or "test".
        context: The number of characters of a row; the default is 64.
        test_share: The share of the rows for the test part; the default is 0.2.

    Returns:
        Tokens int64 (N, context) with labels int64 (N, context).

    Raises:
        UsageError: The file is not UTF-8 text, has fewer than two rows, or does not fit into memory.
        OSError: The file cannot be read.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "tiny.txt")
    >>> _ = path.write_text("abracadabra")
    >>> rows = read_text(path, context=3)
    >>> rows, rows.images.tolist(), rows.labels.tolist()
    (Dataset('tiny.txt': 2 rows of 3 tokens, 5 classes), [[0, 1, 4], [0, 2, 0]], [[1, 4, 0], [2, 0, 3]])
    """
    check_split(split)
    key = _key(path, context, test_share)
    return remembered.parts(key, partial(_unchanged, Path(path), key, context, test_share))[split == "test"]


def text_digest(path: str | Path, *, context: int | None = None, test_share: float | None = None) -> str:
    """Computes the digest of both parts of a text.

    Raises:
        UsageError, OSError: As for ``read_text``.
    """
    key = _key(path, context, test_share)
    return remembered.digest(key, partial(_unchanged, Path(path), key, context, test_share))


def _key(path: str | Path, context: int | None, test_share: float | None) -> remembered.Key:
    if not Path(path).is_file():
        what = "is not a file" if Path(path).exists() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; expected a file of UTF-8 text")
    return "text", str(Path(path).absolute()), file_digest(path), context, test_share


def _unchanged(path: Path, key: remembered.Key, context: int | None, test_share: float | None) -> Parts:
    """Returns the parts of the file that has the key. Raises UsageError if it changed meanwhile."""
    parts = _read(path, context, test_share)
    if _key(path, context, test_share) != key:
        raise UsageError(f"{path} changed while it was read; restart the command")
    return parts


def _read(path: Path, context: int | None, test_share: float | None) -> Parts:
    length = checks.whole("context", CONTEXT if context is None else context, least=1, most=MOST_CONTEXT)
    share = checks.share("test_share", TEST_SHARE if test_share is None else test_share, zero=False)
    size = path.stat().st_size
    checks.fits_memory(f"{path}: its {size} bytes need", BYTES_PER_CHARACTER * size, "use a part of the text")
    content = path.read_bytes()
    try:
        points = np.frombuffer(content.decode("utf-8").encode("utf-32-le"), "<u4")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: byte {error.start} is {content[error.start]:#04x}") from error
    rows = (len(points) - 1) // length
    test = max(1, round(share * rows))
    if rows - test < 1:
        raise UsageError(
            f"{path} has {len(points)} characters, i.e. {max(0, rows)} rows of {length}, of which {test} are for the "
            f"test; use a longer text, a smaller context or a smaller test_share"
        )
    alphabet, tokens = np.unique(points, return_inverse=True)
    tokens = tokens.astype(np.int64).reshape(-1)
    images, labels = (tokens[first : first + rows * length].reshape(rows, length) for first in (0, 1))
    checks.classes("alphabet", len(alphabet))
    return (
        _part(images[: rows - test], labels[: rows - test], len(alphabet), path.name),
        _part(images[rows - test :], labels[rows - test :], len(alphabet), path.name),
    )


def _part(tokens: Array, labels: Array, vocabulary: int, name: str) -> Dataset:
    tokens.flags.writeable = False
    return Dataset(tokens, labels, vocabulary, name, vocabulary=vocabulary)
