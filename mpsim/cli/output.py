"""How commands answer: tables for people, JSON for programs, one line for a mistake."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpsim.errors import MpsimError
from mpsim.files.whole import write_whole

if TYPE_CHECKING:
    from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(value: object) -> None:
    """One JSON value on standard output; infinities and NaN as the words JSON lacks a number for."""
    typer.echo(json.dumps(_plain(value), indent=1, allow_nan=False))


def _plain(value: object) -> object:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """A table on standard output, numbers to the right; every text as it is, also where it looks like rich's markup."""
    from rich.table import Table

    rows = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        numeric = any(isinstance(row[number], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console(width=None if sys.stdout.isatty() else 160).print(table)


def console(**settings: Any) -> Console:
    """A rich console that prints texts as they are: no markup, no emoji codes, no colours of its own choice."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **settings)


def complain(message: str) -> None:
    """A mistake or failure, on standard error."""
    typer.echo(f"mpsim: {message}", err=True)


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file in one piece."""
    text = json.dumps(_plain(value), indent=1, allow_nan=False)
    write_whole(path, text.encode())


def is_usage_error(error: Exception) -> bool:
    """Whether the arguments were wrong: names, numbers and shapes that the library refuses."""
    return isinstance(error, MpsimError) and isinstance(error, ValueError | TypeError)


def is_failure(error: Exception) -> bool:
    """Whether the arguments were right, but something outside failed."""
    return isinstance(error, MpsimError | OSError | MemoryError | UnicodeError)


def check_writable(path: Path) -> None:
    """OSError now rather than after the work, if the file's folder is not there."""
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} does not exist; make it first")


def parse_numbers(text: str | None, option: str) -> list[float] | None:
    """Numbers with commas between them; a usage error that names the option if they are none."""
    try:
        return None if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"'{text}' should be numbers with commas, as 0,0.5,1", param_hint=option) from None
