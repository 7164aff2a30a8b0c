"""The command that is running: what it knows of its options, so that an error can name the one that is wrong."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import typer
from typer.core import TyperCommand

_RUNNING: ContextVar[Any] = ContextVar("running", default=None)

#: Arguments of the library whose option has another name.
_OPTIONS = {"batch_size": "batch"}


class Command(TyperCommand):
    """A command that notes that it runs, for ``message``."""

    def invoke(self, ctx: Any) -> Any:
        _RUNNING.set(ctx)
        return super().invoke(ctx)


def use(app: typer.Typer) -> None:
    """Makes every command of ``app`` and of the groups in it a ``Command``."""
    for registered in app.registered_commands:
        registered.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            use(group.typer_instance)


def options_given(*names: str) -> list[str]:
    """Those of the running command's parameters that stand on the command line, as options: ["--scheme"]."""
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
    """What an error says, its argument under the name of the option: "--width must be ..." for "width must be ...".

    An argument of one value may come from an option that takes several, as width from --widths.
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
