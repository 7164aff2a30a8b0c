"""Reads the members of tar archives into memory. Nothing is unpacked to the disk, and no size is trusted."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mpsim.errors import MpsimError, UsageError

#: The most bytes of one member, and of all members together. The largest file of CIFAR has 155 MB.
MOST_MEMBER, MOST_TOTAL = 192 << 20, 1 << 30


class _Member(tarfile.TarInfo):
    """A header whose size is checked before anything reads that many bytes, such as an extended header."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Called for every header before what follows it is read. Recent versions of Python do not call ``frombuf``."""
        if not 0 <= self.size <= MOST_MEMBER:
            raise UsageError(f"a member has {self.size:,} bytes; at most {MOST_MEMBER:,} are read")
        return super()._proc_member(archive)  # type: ignore[misc]


def tar_members(path: Path, wanted: Callable[[str], bool], advice: str = "") -> Iterator[tuple[str, bytes]]:
    """Yields the names and contents of the wanted members that are regular files, and not links, devices or folders.

    Args:
        path: The archive, compressed or not.
        wanted: Whether the member of a name is read.
        advice: The end of error messages.

    Raises:
        UsageError: The file is not a tar archive, is broken, or its members are too large.
        OSError: The file cannot be read.
    """
    try:
        total = 0
        with tarfile.open(path, tarinfo=_Member) as archive:
            for member in archive:
                total += member.size
                if total > MOST_TOTAL:
                    raise UsageError(f"its members have more than {MOST_TOTAL:,} bytes")
                if member.isreg() and wanted(member.name) and (stream := archive.extractfile(member)):
                    yield member.name, stream.read()
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except MpsimError as error:
        raise type(error)(f"{path}: {error}. {advice}") from error
    except Exception as error:  # a broken archive raises almost anything
        raise UsageError(f"{path}: not a readable .tar.gz ({type(error).__name__}: {error}). {advice}") from error
