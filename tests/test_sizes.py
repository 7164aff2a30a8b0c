"""Limits on the sizes of files, functions and folders, which keep them readable."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_FILES = 350, 60, 12
#: Written by Cython.
GENERATED = "ext/kernels.c"


def long_functions(source: str, most: int = MOST_LINES_OF_A_FUNCTION) -> list[str]:
    """Names of functions with more lines than that, signature and docstring among them."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > most]


def too_large() -> Iterator[str]:
    """What is too large."""
    rooms: Counter[str] = Counter()
    python = (ROOT / "mpsim").rglob("*.py")
    c = [path for suffix in "ch" for path in (ROOT / "ext").rglob(f"*.{suffix}")]
    for path in sorted([*python, *c]):
        name = path.relative_to(ROOT).as_posix()
        folder = path.parent.relative_to(ROOT).as_posix()
        if name == GENERATED:
            continue
        source = path.read_text(encoding="utf-8")
        if (lines := source.count("\n")) > MOST_LINES:
            yield f"{name} has {lines} lines"
        rooms[folder] += path.name != "__init__.py"
        if path.suffix == ".py":
            yield from (f"{name}: {function} is too long" for function in long_functions(source))
    yield from (f"{folder} has {count} files" for folder, count in rooms.items() if count > MOST_FILES)


def test_nothing_is_too_large() -> None:
    found = list(too_large())
    assert not found, "\n".join(found)


def test_a_long_function_is_noticed() -> None:
    source = "def short():\n    pass\nclass A:\n    def long(self):\n        x = 1\n        y = 2\n        return x + y"
    assert long_functions(source, most=3) == ["long"]
