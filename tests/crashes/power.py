"""What a loss of power may leave of the calls in a trace of faults.c.

The model is that of POSIX: only fsync makes anything last. Of a file's writes since its last fsync each sector of 512
bytes is there or not. Of a folder's changes (names that were created, renamed or removed) since the folder's last fsync
the first few are there. A file whose name is not there is lost with its content.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512


@dataclass(frozen=True)
class Call:
    """One call of a trace."""

    what: str
    path: str
    to: str
    offset: int
    data: bytes


@dataclass
class File:
    """The bytes that last, and the changes since."""

    content: bytearray = field(default_factory=bytearray)
    waiting: list[Call] = field(default_factory=list)


@dataclass
class Folder:
    """The names that last, and those that there are now; changes are (name, file or None)."""

    lasting: dict[str, File] = field(default_factory=dict)
    now: dict[str, File] = field(default_factory=dict)
    waiting: list[dict[str, File | None]] = field(default_factory=list)

    def change(self, names: dict[str, File | None]) -> None:
        self.waiting.append(names)
        apply(self.now, names)


def apply(names: dict[str, File], change: dict[str, File | None]) -> None:
    for name, file in change.items():
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def read_trace(content: bytes) -> list[Call]:
    """The calls of a trace."""
    found, at = [], 0
    while at < len(content):
        end = content.index(b"\n", at)
        what, path, to, offset, size = content[at:end].decode().split("\t")
        at = end + 1 + int(size)
        found.append(Call(what, path, to, int(offset), content[end + 1 : at]))
    return found


class Disk:
    """Files below a folder, after some of the calls of a trace."""

    def __init__(self, top: str) -> None:
        self.top = top
        self.folders = {top: Folder()}
        self.made: set[str] = set()  # folders whose own names last

    def run(self, call: Call) -> None:
        parent, _, name = call.path.rpartition("/")
        folder = self.folders.get(parent)
        if call.what == "mkdir":
            self.folders[call.path] = Folder()
        elif call.what == "sync" and call.path in self.folders:
            self._sync_folder(call.path)
        elif folder is None or call.what == "mark":
            return
        elif call.what == "create":
            folder.change({name: File()})
        elif call.what in ("write", "truncate") and name in folder.now:
            folder.now[name].waiting.append(call)
        elif call.what == "sync" and name in folder.now:
            file = folder.now[name]
            for change in file.waiting:
                write(file.content, change)
            file.waiting.clear()
        elif call.what == "unlink":
            folder.change({name: None})
        elif call.what == "rename":
            assert call.to.rpartition("/")[0] == parent
            folder.change({name: None, call.to.rpartition("/")[2]: folder.now[name]})

    def _sync_folder(self, path: str) -> None:
        folder = self.folders[path]
        for change in folder.waiting:
            apply(folder.lasting, change)
        folder.waiting.clear()
        self.made |= {each for each in self.folders if each.rpartition("/")[0] == path}

    def leave(self, target: Path, chance: random.Random) -> None:
        """Writes what a loss of power at this moment may leave."""
        lost = {path for path in self.folders if path not in self.made | {self.top} and chance.random() < 0.5}
        for path, folder in self.folders.items():
            if any(f"{path}/".startswith(f"{each}/") for each in lost):
                continue
            place = target / path.removeprefix(self.top).lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            names = dict(folder.lasting)
            for change in folder.waiting[
                : chance.choice([0, chance.randint(0, len(folder.waiting)), len(folder.waiting)])
            ]:
                apply(names, change)
            share = chance.choice([0.0, 0.5, 1.0])
            for name, file in names.items():
                (place / name).write_bytes(remains(file, share, chance))


def write(content: bytearray, call: Call) -> None:
    """Applies a write or a change of size."""
    if call.what == "truncate":
        del content[call.offset :]
        content.extend(bytes(call.offset - len(content)))
        return
    content.extend(bytes(max(0, call.offset - len(content))))
    content[call.offset : call.offset + len(call.data)] = call.data


def remains(file: File, share: float, chance: random.Random) -> bytes:
    """The content of a file of which a share of the sectors since the last fsync was written."""
    content = bytearray(file.content)
    for call in file.waiting:
        if call.what == "truncate":
            if chance.random() < share:
                write(content, call)
            continue
        first, end = call.offset, call.offset + len(call.data)
        while first < end:
            stop = min(end, (first // SECTOR + 1) * SECTOR)
            if chance.random() < share:
                part = call.data[first - call.offset : stop - call.offset]
                write(content, Call("write", call.path, "", first, part))
            first = stop
    return bytes(content)
