"""Defines the command line. Its terms are those of the Python interface.

Exit codes: 0 success, 1 failure (e.g. a file cannot be read or written), 2 wrong usage or a missing extra, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from mpsim.cli import arithmetic, command, figures, plans, runs, steps, validate, vectors
from mpsim.cli.output import complain, drop_output, is_failure, is_usage_error
from mpsim.cli.validate import conformance
from mpsim.files.semantics import OlderSemantics

app = typer.Typer(
    name="mpsim",
    help="Golden reference for mixed-precision floating-point training. Start with 'mpsim sweep'.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (arithmetic, plans, runs, figures, steps):
    for name, function in module.COMMANDS.items():
        numbers_below_zero = {"ignore_unknown_options": True} if name == "round" else None
        app.command(name, context_settings=numbers_below_zero)(function)
app.add_typer(validate.app, name="validate")
app.add_typer(conformance.app, name="conformance")
app.add_typer(vectors.app, name="vectors")
command.use(app)
#: Built once. Typer would read every signature again for each call of main.
command_line = typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits. It prints one line for a user's mistake and a traceback for a defect."""
    try:
        with _notes_on_older_files():
            command_line(args=arguments)
    except KeyboardInterrupt:
        complain("stopped")
        sys.exit(130)
    except SystemExit as end:  # Typer ends without a word where a command did not say that it was stopped
        if end.code == 130 and end.__context__ is not None and isinstance(end.__context__.__cause__, KeyboardInterrupt):
            complain("stopped")
        raise
    except Exception as error:
        if is_usage_error(error):
            complain(command.message(error))
            sys.exit(2)
        if is_failure(error):
            complain(command.message(error))
            drop_output()
            sys.exit(1)
        raise


@contextmanager
def _notes_on_older_files() -> Iterator[None]:
    """Prints each warning about a file of an older definition once, in one line without a place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", OlderSemantics)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, OlderSemantics):
                complain(f"note: {message}")
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = note
        yield
