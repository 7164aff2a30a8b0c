"""How ``mpsim validate`` ends: 0 equal, 1 different, 2 could not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from mpsim.cli.output import complain, is_failure, is_usage_error, print_json


@contextmanager
def comparison(on_failure: Callable[[str], None] = lambda message: None) -> Iterator[None]:
    """Ends the command with exit code 2 where arguments are refused, or the subject or something outside fails."""
    from mpsim.validate.subjects.adapters import SubjectError

    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if not isinstance(error, SubjectError) and not is_usage_error(error) and not is_failure(error):
            raise
        on_failure(str(error))
        complain(str(error))
        raise typer.Exit(2) from None


def answer(report: Any, equal: bool, text: Callable[[Any], str], json: bool) -> NoReturn:
    """Prints the report, as JSON or text, and ends with what it says."""
    if json:
        print_json(report.as_json())
    else:
        typer.echo(text(report))
    raise typer.Exit(0 if equal else 1)
