"""Collects the pages that are written at build time, and those of files outside docs/."""

from __future__ import annotations

import html
import re
from pathlib import Path

from website import api, commands, formats, pictures, policies, presets

ROOT = Path(__file__).parent.parent
#: Files of the project that are pages: path in the site -> path in the project.
OUTSIDE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md", "security.md": "SECURITY.md"}


def generated() -> dict[str, str]:
    """Every page that is derived from declarations, by its path, in the order of the navigation."""
    found = {}
    for module in (api, commands, formats, policies, presets):
        found |= module.pages()
    return found


def outside() -> dict[str, str]:
    """The pages of files outside docs/, with links for the site."""
    return {
        page: re.sub(r"\]\(docs/", "](", (ROOT / path).read_text(encoding="utf-8")) for page, path in OUTSIDE.items()
    }


def for_site(markdown: str, path: str) -> str:
    """A document's Markdown as the site reads it: names of files as titles of blocks, links to pages, the picture."""
    up = "../" * path.count("/")
    text = re.sub(r"^```(\w+) file=(\S+)$", r'```\1 title="\2"', markdown, flags=re.MULTILINE)
    text = re.sub(r"^```torch$", "```console", text, flags=re.MULTILINE)
    for page, file in OUTSIDE.items():
        text = text.replace(f"](../{up}{file})", f"]({up}{page})")
    return indented(text).replace("<!-- picture: rounded once -->", pictures.rounded_once())


def indented(markdown: str) -> str:
    """Lists as Python-Markdown reads them, outside blocks of code.

    It needs four spaces before what belongs to an item, and an empty line before an item that follows one of several
    paragraphs. CommonMark, and GitHub, need fewer.

    >>> indented("1. one\\n\\n   more\\n2. two")
    '1. one\\n\\n    more\\n\\n2. two'
    """
    lines, fence, loose = [], False, False
    for line in markdown.split("\n"):
        fence ^= line.lstrip().startswith("```")
        if not fence and re.match(r"(\d+\.|-) ", line):
            if loose and lines[-1].startswith(" "):
                lines.append("")
            loose = False
        loose |= not line
        lines.append(line if fence else re.sub(r"^ {1,3}(?=\S)", "    ", line))
    return "\n".join(lines)


def title(markdown: str) -> str:
    """The title of a page: that of its first line, or of its metadata."""
    if found := re.match(r"---\ntitle: (.*)\n", markdown):
        return found[1]
    return html.unescape(re.sub(r"[\\`]", "", markdown.partition("\n")[0].removeprefix("# ")))
