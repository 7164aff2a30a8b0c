"""Prints the results of commands, as tables or JSON, and one line for a mistake."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpsim.errors import MissingExtra, MpsimError
from mpsim.files.whole import write_whole

if TYPE_CHECKING:
    from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(value: object) -> None:
    """Prints one JSON value. Infinities and NaN, for which JSON has no number, become strings."""
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
    """Prints a table with right-aligned numbers. Text that looks like rich's markup is printed unchanged."""
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
    """Returns a rich console that prints text unchanged, without markup, emoji codes or highlighting."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **settings)


def complain(message: str) -> None:
    """Prints a mistake or failure to standard error."""
    typer.echo(f"mpsim: {message}", err=True)


def drop_output() -> None:
    """Drops what standard output does not take. Python would fail on it once more at its end, with exit code 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file atomically."""
    text = json.dumps(_plain(value), indent=1, allow_nan=False)
    write_whole(path, text.encode())


def is_usage_error(error: Exception) -> bool:
    """Returns whether arguments were wrong, i.e. names, numbers or shapes that the library refuses.

    A package that is not installed but that the arguments need counts too.
    """
    return isinstance(error, MpsimError) and isinstance(error, ValueError | TypeError | MissingExtra)


def is_failure(error: Exception) -> bool:
    """Returns whether the arguments were right but something external failed."""
    return isinstance(error, MpsimError | OSError | MemoryError | UnicodeError)


def check_writable(path: Path) -> None:
    """OSError now rather than after the work, if the file's folder is not there."""
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} does not exist; make it first")


def parse_numbers(text: str | None, option: str) -> list[float] | None:
    """Parses numbers separated by commas. A usage error names the option."""
    try:
        return None if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"'{text}' should be numbers with commas, e.g. 0,0.5,1", param_hint=option) from None
