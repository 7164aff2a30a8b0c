"""Reads mpsim's docstrings for mkdocstrings: examples become blocks of code, and comments document constants."""

from __future__ import annotations

import re
from typing import Any

import griffe

from website.tables import literal


class Docstrings(griffe.Extension):
    """Wraps examples in fences, so that ``>>>`` is not a quotation, and reads the comments above constants."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(literal(obj.docstring.value))

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.lineno is not None and (text := comment_above(attr)):
            attr.docstring = griffe.Docstring(text, parent=attr)


def fenced(text: str) -> str:
    """The docstring with each example, which ends at an empty line, in a fence.

    >>> print(fenced("Adds.\\n\\n>>> 1 + 1\\n2"))
    Adds.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    return re.sub(r"^( *)>>> (?:.+\n?)+", _fence, text, flags=re.MULTILINE)


def _fence(found: re.Match[str]) -> str:
    indent, example = found[1], found[0].rstrip("\n")
    end = "\n" if found[0].endswith("\n") else ""
    return f"{indent}```pycon\n{example}\n{indent}```{end}"


def comment_above(attribute: griffe.Attribute) -> str:
    """The lines ``#: ...`` above an assignment."""
    lines, row, found = attribute.lines_collection[attribute.filepath], attribute.lineno or 0, []
    while row > 1 and lines[row - 2].strip().startswith("#:"):
        found.append(lines[row - 2].strip().removeprefix("#:").strip())
        row -= 1
    return " ".join(reversed(found))
