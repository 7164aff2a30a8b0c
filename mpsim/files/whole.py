"""Writes files atomically, and reads arguments that are either text or the name of a file."""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from mpsim.errors import UsageError


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes ``content`` to ``path`` atomically. On failure it raises OSError and leaves an existing file untouched.

    A link is followed and stays a link. An existing file keeps its permissions. What cannot be replaced is written to:
    a device, a pipe, a terminal, and the file that is standard output or standard error.
    """
    status = _status(path)
    output = None if status is None else _output(status)
    if status is not None and (output is not None or not stat.S_ISREG(status.st_mode)):
        sys.stdout.flush()
        where = path if output is None else output  # a folder raises IsADirectoryError
        with open(where, "wb", buffering=0, closefd=output is None) as device:
            _write_all(device, content)
        return
    path = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            _write_all(file, content)
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644 if status is None else stat.S_IMODE(status.st_mode))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def make_folder(path: str | Path) -> None:
    """Creates a folder, and those above it, unless they exist. Their names survive a power loss.

    Raises:
        OSError: A folder cannot be created.
    """
    path = Path(path)
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_folder(each.parent)


def _status(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _output(status: os.stat_result) -> int | None:
    """Returns the descriptor of standard output or standard error if that is the file, otherwise None.

    A second way into that file would write over what the others write.
    """
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(status, os.fstat(descriptor)):
                return descriptor
    return None


def _write_all(file: io.FileIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _sync_folder(folder: Path) -> None:
    """Makes a new name in the folder survive a power loss, where the system can open folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
