"""Hooks of MkDocs: add the generated pages and their navigation, and check what was built."""

from __future__ import annotations

import logging
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website import check, site

#: Lines of the navigation such as "generated: formats" stand for all pages in that folder.
_MARK = "generated: "
_LOG = logging.getLogger("mkdocs.hooks.website")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages, and replaces the marks in the navigation."""
    pages = site.generated()
    for path, text in {**pages, **site.outside()}.items():
        files.append(File.generated(config, path, content=text))
    config.nav = _expanded(config.nav, pages)
    return files


def _expanded(nav: Any, pages: dict[str, str]) -> Any:
    if isinstance(nav, dict):
        return {key: _expanded(value, pages) for key, value in nav.items()}
    if not isinstance(nav, list):
        return nav
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and entry.startswith(_MARK):
            folder = entry.removeprefix(_MARK) + "/"
            inside = {path: text for path, text in pages.items() if path.startswith(folder)}
            found += [{site.title(text): path} for path, text in inside.items() if path != f"{folder}index.md"]
        else:
            found.append(_expanded(entry, pages))
    return found


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    return site.for_site(markdown, page.file.src_uri)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Reports what a reader would stumble over as warnings, which end a strict build."""
    for problem in check.problems(config.site_dir):
        _LOG.warning(problem)
    _LOG.info(f"{check.count(config.site_dir)} pages")
