"""Defines the command line. Its terms are those of the Python interface.

Exit codes: 0 success, 1 failure (e.g. a file cannot be read or written), 2 wrong usage or a missing extra, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

import typer

from mpsim.cli import command
from mpsim.cli.output import complain, drop_output, is_failure, is_usage_error
from mpsim.files.semantics import OlderSemantics

#: Command -> its module and function, in the order of the help. To run one no other module is imported.
COMMANDS = {
    "formats": "arithmetic:formats", "round": "arithmetic:round_values", "backends": "arithmetic:backends",
    "plan": "plans:plan", "sweep": "runs:sweep", "train": "runs:train", "figure": "figures:figure",
    "trace-step": "steps:trace_step",
}  # fmt: skip
GROUPS = {"validate": "validate:app", "conformance": "validate.conformance:app", "vectors": "vectors:app"}


@cache
def app_with(*names: str) -> typer.Typer:
    """Returns the application with these commands and groups alone.

    >>> [each.name for each in app_with("round", "plan").registered_commands]
    ['round', 'plan']
    """
    app = typer.Typer(
        name="mpsim",
        help="Golden reference for mixed-precision floating-point training. Start with 'mpsim sweep'.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(lambda: None)  # without it one command alone would have no name
    for name in names:
        module, _, attribute = (COMMANDS | GROUPS)[name].partition(":")
        found = getattr(import_module(f"mpsim.cli.{module}"), attribute)
        if name in GROUPS:
            app.add_typer(found, name=name)
        else:
            numbers_below_zero = {"ignore_unknown_options": True} if name == "round" else None
            app.command(name, context_settings=numbers_below_zero)(found)
    command.use(app)
    return app


@cache
def command_line(*names: str) -> Any:
    """Returns what runs these commands. It is built once: Typer would read every signature again for each call."""
    return typer.main.get_command(app_with(*names))


def __getattr__(name: str) -> Any:
    """Returns ``app``, which has every command."""
    if name == "app":
        return app_with(*COMMANDS, *GROUPS)
    raise AttributeError(f"module 'mpsim.cli' has no attribute {name!r}")


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits. It prints one line for a user's mistake and a traceback for a defect."""
    first = (sys.argv[1:] if arguments is None else arguments)[:1]
    known = first if first and first[0] in {*COMMANDS, *GROUPS} else [*COMMANDS, *GROUPS]
    try:
        with _notes_on_older_files():
            command_line(*known)(args=arguments)
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
