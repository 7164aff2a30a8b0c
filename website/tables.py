"""Markdown: tables, cells, code blocks and file names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, as Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(map(cell, line))} |\n" for line in lines) + "\n"


def cell(value: object) -> str:
    """A value as the text of a cell."""
    return " ".join(str(value).replace("|", "\\|").split())


def code(text: str, language: str = "console") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n\n"


def plain(text: str) -> str:
    """Text in which no character has a meaning in Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]])", r"\\\1", text.replace("<", "&lt;").replace(">", "&gt;"))


def prose(docstring: str) -> str:
    """A docstring's text as Markdown: only its code has a meaning.

    >>> prose("Rounds x_1 as ``round_to`` does.")
    'Rounds x\\\\_1 as `round_to` does.'
    """
    parts = re.split(r"``(.+?)``", docstring)
    return "".join(f"`{part}`" if i % 2 else plain(part) for i, part in enumerate(parts))


def literal(docstring: str) -> str:
    """A docstring with its stars as characters and not as emphasis, outside of code and examples.

    >>> print(literal("From i*H to 2**(k*n), ``a*b``.\\n* one"))
    From i\\*H to 2\\*\\*(k\\*n), ``a*b``.
    * one
    """
    parts = re.split(r"(``.+?``|`[^`]+`|^ *>>> (?:.+\n?)+)", docstring, flags=re.MULTILINE | re.DOTALL)
    stars = re.compile(r"^( *\**)|\*", re.MULTILINE)  # one that begins a line begins a list or an argument
    return "".join(part if i % 2 else stars.sub(_escaped, part) for i, part in enumerate(parts))


def _escaped(found: re.Match[str]) -> str:
    return "\\*" if found[1] is None else found[1]


def slug(name: str) -> str:
    """A file name for a name, such as torch-before-2.12 for torch<2.12.

    >>> slug("torch>=2.12"), slug("validate cast")
    ('torch-from-2.12', 'validate-cast')
    """
    return name.replace(">=", "-from-").replace("<", "-before-").replace(" ", "-")
