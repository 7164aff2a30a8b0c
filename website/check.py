"""Checks a built site: links and anchors hold, nothing is loaded from another host, addresses are well formed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser loads without a click.
_LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
_ADDRESS = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/[^\s<>\"]*)?(#\S*)?", re.IGNORECASE)


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        for name in ("href", "src"):
            value = given.get(name)
            if value is None:
                continue
            canonical = tag == "link" and (given.get("rel") or "") in ("canonical", "next", "prev", "alternate")
            if (tag, name) in _LOADED and not canonical:
                self.loads.add(value)
            self.links.add(value)


def problems(folder: str | Path) -> Iterator[str]:
    """One sentence for each link that does not hold and each file of another host."""
    root = Path(folder).resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in root.rglob("*.html")}
    for path, page in pages.items():
        name = path.relative_to(root).as_posix()
        yield from (f"{name} loads {each}" for each in sorted(page.loads) if urlsplit(each).netloc)
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme in ("http", "https"):
                if not _ADDRESS.fullmatch(link):
                    yield f"{name}: {link} is not an address"
            elif not parts.scheme and (why := _broken(parts.path, parts.fragment, path, pages)):
                yield f"{name}: {link} {why}"


def _broken(link: str, fragment: str, path: Path, pages: dict[Path, Page]) -> str:
    """Why a link within the site does not hold, or ""."""
    if link.startswith("/"):
        return "" if path.name == "404.html" else "is absolute"
    target = (path.parent / unquote(link)).resolve() if link else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "does not exist"
    page = pages.get(target)
    if fragment and page is not None and unquote(fragment) not in page.anchors:
        return "has no such anchor"
    return ""


def count(folder: str | Path) -> int:
    """The number of pages."""
    return len(list(Path(folder).rglob("*.html")))
