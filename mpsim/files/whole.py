"""Writes files atomically, and reads arguments that are either text or the name of a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mpsim.errors import UsageError


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes ``content`` to ``path`` atomically. On failure it raises OSError and leaves an existing file untouched."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def text_or_file(given: str) -> str:
    """Returns the content of the file that ``given`` names if it ends in ``.json``, otherwise ``given`` itself.

    Raises:
        UsageError: The file cannot be read as text.

    >>> text_or_file("hopper_float16")
    'hopper_float16'
    """
    if not given.endswith(".json"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{given} cannot be read as a JSON file ({error}); pass the name of one, or text") from error
