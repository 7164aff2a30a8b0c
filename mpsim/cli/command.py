"""Tracks the running command, so that an error can name the wrong option."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import typer
from typer.core import TyperCommand

_RUNNING: ContextVar[Any] = ContextVar("running", default=None)

#: Arguments of the library whose option has a different name.
_OPTIONS = {"batch_size": "batch"}


class Command(TyperCommand):
    """A command that records itself as running, for ``message``."""

    def invoke(self, ctx: Any) -> Any:
        _RUNNING.set(ctx)
        return super().invoke(ctx)


def use(app: typer.Typer) -> None:
    """Turns every command of ``app`` and of its groups into a ``Command``."""
    for registered in app.registered_commands:
        registered.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            use(group.typer_instance)


def options_given(*names: str) -> list[str]:
    """Returns which of these parameters were given on the command line, as options, e.g. ["--scheme"]."""
    running = _RUNNING.get()
    if running is None:
        return []
    options = {parameter.name: max(parameter.opts, key=len) for parameter in running.command.params}
    return [
        options[name]
        for name in names
        if (source := running.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    ]


def message(error: Exception) -> str:
    """Returns an error's message with the name of the option, e.g. "--width must be ..." for "width must be ...".

    An argument of one value may come from an option of several values, e.g. width from --widths.
    """
    text, argument, running = str(error), getattr(error, "argument", None), _RUNNING.get()
    if running is None or argument is None or not text.startswith(argument):
        return text or type(error).__name__
    name = argument.partition("[")[0]
    options = {parameter.name: max(parameter.opts, key=len) for parameter in running.command.params}
    for candidate in (name, f"{name}s", _OPTIONS.get(name)):
        if options.get(candidate, "").startswith("--"):
            return options[candidate] + text[len(name) :]
    return text
