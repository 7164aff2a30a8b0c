"""Files written whole, and texts that may be given as a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mpsim.errors import UsageError


def write_whole(path: str | Path, content: bytes) -> None:
    """Puts the bytes at ``path`` in one piece: a file that was there stays whole if anything goes wrong (OSError)."""
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
    """The text, or the content of the file that it names, if it ends in ``.json``.

    Raises UsageError for a file that cannot be read as text.

    >>> text_or_file("hopper_float16")
    'hopper_float16'
    """
    if not given.endswith(".json"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{given} cannot be read as a JSON file ({error}); give the name of one, or a text") from error
