"""The settings of a run as options of a command: names, types, defaults and help are those of RunSettings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from mpsim.experiments.settings import RunSettings

_FIELDS = {field.name: field for field in fields(RunSettings)}
_TYPES = get_type_hints(RunSettings)


def help_of(name: str) -> str:
    """What the command line says of a setting, for a command that takes it without being a run."""
    return str(_FIELDS[name].metadata["help"])


def takes_settings(names: Sequence[str], argument: str | None = None) -> Callable[[Callable[..., None]], Any]:
    """A command whose function takes ``settings``, a RunSettings: each of ``names`` is an option of the command, and
    ``argument`` its argument."""

    def decorated(function: Callable[..., None]) -> Any:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(function, eval_str=True).parameters.values()
            if parameter.name != "settings"
        ]
        further = [_parameter(name, name == argument) for name in names]

        @wraps(function)
        def command(**given: Any) -> None:
            chosen = {name: _FIELDS[name].metadata.get("read", lambda value: value)(given.pop(name)) for name in names}
            function(settings=RunSettings(**chosen), **given)

        parameters = sorted([*further, *own], key=lambda each: each.name != argument)
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorated


def _parameter(name: str, is_argument: bool) -> inspect.Parameter:
    field = _FIELDS[name]
    told = dict(field.metadata)
    options = told.get("options", ())
    info = typer.Argument(help=told["help"]) if is_argument else typer.Option(*options, help=told["help"])
    kind = told.get("type", _TYPES[name])
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=field.default, annotation=Annotated[kind, info])
