"""The site: every public name, command and declaration has a page with an example that runs, and links hold.

``nox -s docs`` builds the site itself, strictly. What is checked here is cheap.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import mpsim
from mpsim.blocks.quantizers.presets import PRESETS as QUANTISERS
from mpsim.formats import FORMATS, SOURCES
from mpsim.policies import Mode, Overflow
from mpsim.products.presets import PRESETS as PRODUCTS
from mpsim.validate.cast.presets import PRESETS as CASTS
from website import api, check, commands, documents, formats, policies, presets, site, tables

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


# -- examples -----------------------------------------------------------------------------------------------------
def test_every_command_has_an_example_that_runs() -> None:
    """In a session of a document, which test_sessions.py runs: a new command needs a section in docs/commands.md."""
    shown, known = commands.sessions(), dict(commands.leaves())
    assert len(known) >= 18
    assert not set(known) - set(shown), "add a session to docs/commands.md"
    assert {section.document for section, _ in shown.values()} <= set(documents.documents())


def test_the_page_of_a_command_is_the_command() -> None:
    pages = commands.pages()
    assert set(pages) == {"commands/index.md", *(f"commands/{tables.slug(name)}.md" for name, _ in commands.leaves())}
    page = pages["commands/validate-op.md"]
    assert "| `--operation TEXT` |" in page and "$ mpsim validate op" in page and "Exit code 0: equal" in page
    assert "Default: `0`" in pages["commands/validate-cast.md"]  # of --seed


def public_names() -> list[tuple[str, str]]:
    """(module, name) of every public name."""
    return [(path, name) for path, module in api.modules().items() for name in api.names_of(module)]


def test_every_public_name_has_an_example_that_runs() -> None:
    """In a docstring, which test_doctests.py runs, or in the document that its module names."""
    lacking = [f"{path}.{name}" for path, name in public_names() if not has_example(api.modules()[path], name)]
    whole = [module for path, module in api.modules().items() if not api.FURTHER.get(path)]
    lacking += [module.__name__ for module in whole if not examples(module.__doc__)]
    assert len(public_names()) > 230 and not lacking


def has_example(module: ModuleType, name: str) -> bool:
    """Whether a docstring has an example of a name: its own, for a table the module's or that of its type."""
    value = getattr(module, name)
    if not callable(value):
        own = examples(type(value).__doc__) if type(value).__module__.startswith("mpsim.") else []
        return bool(own) or any(re.search(rf"\b{name}\b", line) for line in examples(module.__doc__))
    if document := api.EXAMPLES.get(module.__name__):
        return bool(examples(value.__doc__)) or bool(re.search(rf"\b{name}\(", python_of(DOCS / document)))
    return bool(examples(value.__doc__))


def examples(docstring: str | None) -> list[str]:
    """The examples that are not skipped."""
    found = doctest.DocTestParser().get_examples(docstring or "")
    return [example.source for example in found if not example.options.get(doctest.SKIP)]


def test_documents_use_public_names() -> None:
    """Every name that a document imports from mpsim has a page."""
    public = {id(getattr(api.modules()[path], name)) for path, name in public_names()} | {id(mpsim)}
    public |= {id(getattr(mpsim, name)) for name in mpsim.__all__} | {id(each) for each in api.modules().values()}
    imported = {
        (node.module, alias.name)
        for document in [*DOCS.rglob("*.md"), ROOT / "README.md"]
        for node in ast.walk(ast.parse(python_of(document)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mpsim")
        for alias in node.names
    }
    unknown = [each for each in imported if id(value_of(*each)) not in public]
    assert len(imported) > 20 and not unknown


def value_of(module: str, name: str) -> object:
    """What ``from module import name`` gives."""
    value = getattr(importlib.import_module(module), name, None)
    return importlib.import_module(f"{module}.{name}") if value is None else value


def test_a_missing_example_is_noticed() -> None:
    module = ModuleType("some")
    module.__doc__ = "A table.\n\n>>> SHOWN[0]\n1\n"
    module.SHOWN = module.NOT_SHOWN = {}  # type: ignore[attr-defined]
    module.skipped = lambda: None  # type: ignore[attr-defined]
    module.skipped.__doc__ = ">>> skipped()  # doctest: +SKIP"
    module.undocumented = type("undocumented", (), {})  # type: ignore[attr-defined]
    assert [name for name in vars(module) if name[0] != "_" and not has_example(module, name)] == [
        "NOT_SHOWN", "skipped", "undocumented",
    ]  # fmt: skip


def python_of(document: Path) -> str:
    """The Python code of a document, without prompts and outputs."""
    blocks = documents.blocks_of(document.read_text(encoding="utf-8"))
    texts = [block.text for block in blocks if block.language == "python"]
    return "".join("".join(examples(text)) if ">>>" in text else text for text in texts)


def test_every_public_name_has_a_page() -> None:
    pages = api.pages()
    everything = "".join(pages.values())
    assert {f"api/mpsim.{name}.md" for name in api.names_of(mpsim)} <= set(pages)
    own = {id(getattr(mpsim, name)) for name in api.names_of(mpsim)}
    for path, module in api.modules().items():
        for name in api.names_of(module):
            entries = [f"::: {path}.{name}\n", f"::: {path}.{name}.{name}\n"]  # the latter where a module has that name
            assert id(getattr(module, name)) in own or any(each in everything for each in entries), (path, name)
    assert "::: mpsim.formats.FormatTable\n" in pages["api/mpsim.FORMATS.md"]  # has the examples of a table
    assert "::: mpsim.ops.linear.linear\n" in everything and "::: mpsim.ops.conv2d\n" in everything


# -- pages of declarations ----------------------------------------------------------------------------------------
def test_every_declaration_has_a_page_with_its_source() -> None:
    pages = formats.pages() | policies.pages() | presets.pages()
    wanted = {f"formats/{name}.md": source for name, source in SOURCES.items()}
    wanted |= {f"presets/casts/{tables.slug(name)}.md": row.source for name, row in CASTS.items()}
    wanted |= {f"presets/products/{name}.md": row.source for name, row in PRODUCTS.items()}
    wanted |= {f"presets/quantisers/{name}.md": row.source for name, row in QUANTISERS.items()}
    assert set(SOURCES) == set(FORMATS)
    for path, source in wanted.items():
        assert f"Source: {tables.plain(source)}." in pages[path], path
    assert {f"modes/{mode}.md" for mode in Mode} | {f"overflow/{each}.md" for each in Overflow} <= set(pages)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float6_e3m2fn", "float4_e2m1fn"])
def test_the_table_of_values_is_that_of_ml_dtypes(name: str) -> None:
    dtypes = pytest.importorskip("ml_dtypes")
    page = formats.page(FORMATS[name], SOURCES[name])
    table = page[page.index("## Values") : page.index("## Example")]
    cells = [cell for row in re.findall(r"^\| \*\*0x.*\|$", table, re.MULTILINE) for cell in row.split(" | ")[1:]]
    values = np.arange(len(cells), dtype=np.uint8).view(getattr(dtypes, name)).astype(np.float64)
    assert len(cells) == 1 << (FORMATS[name].bits - 1)
    np.testing.assert_array_equal([number(cell.strip(" |")) for cell in cells], values)


def number(cell: str) -> float:
    """The number of a cell: decimal digits, or n·2<sup>e</sup>."""
    if found := re.fullmatch(r"(?:(\d+)·)?2<sup>(−?\d+)</sup>", cell):
        return int(found[1] or 1) * 2.0 ** int(found[2].replace("−", "-"))
    return float(cell)


# -- links and navigation -----------------------------------------------------------------------------------------
def test_the_navigation_has_every_document() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    in_navigation = set(re.findall(r"[\w/-]+\.md", config[config.index("\nnav:") :]))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert written <= in_navigation
    assert in_navigation - written == {
        "contributing.md", "changelog.md", "security.md", "formats/index.md", "modes/index.md", "overflow/index.md",
        "presets/index.md", "presets/casts/index.md", "presets/products/index.md", "presets/quantisers/index.md",
        "commands/index.md", "api/index.md",
    }  # fmt: skip


def test_links_of_documents_hold() -> None:
    """Of those that are committed: to files, to headings, and to pages that are written at build time."""
    generated = {DOCS / f"{folder}/index.md" for folder in ("formats", "api", "commands", "presets")}
    generated |= {DOCS / f"presets/{folder}/index.md" for folder in ("casts", "products", "quantisers")}
    broken = []
    for path in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?://[\w-]+(\.[\w-]+)+", link):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            if target in generated:
                continue
            if not target.is_file() or (anchor and anchor not in anchors(target)):
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert not broken


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_the_check_of_a_built_site_notices(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1> <a href="b.html#there">ok</a> <a href="#top">ok</a> <a href="https://example.org/x">ok</a>'
        '<a href="missing.html">1</a> <a href="b.html#not-there">2</a> <a href="http://nowhere">3</a>'
        '<script src="https://cdn.example.org/x.js"></script> <img src="data:image/png;base64,AA==">'
    )
    (tmp_path / "b.html").write_text('<p id="there">B</p>')
    assert sorted(check.problems(tmp_path)) == [
        "a.html loads https://cdn.example.org/x.js",
        "a.html: b.html#not-there has no such anchor",
        "a.html: http://nowhere is not an address",
        "a.html: missing.html does not exist",
    ]


@pytest.mark.parametrize("module", [site, tables])
def test_examples_of_the_sites_own_functions(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted and not found.failed
