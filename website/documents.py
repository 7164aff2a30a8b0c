"""Reads the documents with sessions: files to write, commands to run, and the output that they print.

A block with ``file=NAME`` after its language is the content of a file. A block of language ``console`` has commands
after ``$`` and their output, in which ``...`` stands for anything. ``tests/test_sessions.py`` runs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block. ``file``: the file whose content it is, or ""."""

    language: str
    file: str
    text: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """(command, expected output) of a block of language console."""
        pieces = re.split(r"^\$ (.*)\n", self.text, flags=re.MULTILINE)[1:]
        return list(zip(pieces[::2], pieces[1::2], strict=True))


class Section(NamedTuple):
    """The text below a heading of the second level, which is run in a separate folder."""

    document: str
    title: str
    text: str
    before: str = ""  # the text of the document above it, whose files it may use

    @property
    def blocks(self) -> list[Block]:
        return blocks_of(self.text)

    @property
    def files(self) -> dict[str, str]:
        """The files of the document before this section, by name."""
        return {block.file: block.text for block in blocks_of(self.before) if block.file}


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a text."""
    return [Block(*found) for found in _BLOCK.findall(text)]


def documents() -> list[str]:
    """The documents with a session, relative to docs/."""
    paths = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    return [path for path in paths if "\n```console\n" in (DOCS / path).read_text(encoding="utf-8")]


def sections(document: str) -> list[Section]:
    """The sections of a document that have a session; a tutorial is one section."""
    text = (DOCS / document).read_text(encoding="utf-8")
    if document.startswith("tutorials/"):
        return [Section(document, "", text)]
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    found = [Section(document, *parts[i : i + 2], "".join(parts[:i])) for i in range(1, len(parts), 2)]
    return [section for section in found if "\n```console\n" in section.text]


def all_sections() -> Iterator[Section]:
    for document in documents():
        yield from sections(document)
