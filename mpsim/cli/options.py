"""Defines groups of options that several commands share. A command's function receives one object for each group.

The settings of a run are such a group. Its names, types, defaults and help texts are those of RunSettings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from mpsim.experiments.settings import RunSettings

Result = TypeVar("Result")
Command = Callable[..., Result]

_FIELDS = {field.name: field for field in fields(RunSettings)}
_TYPES = get_type_hints(RunSettings)


def made_of(
    name: str, options: Sequence[inspect.Parameter], make: Callable[..., object]
) -> Callable[[Command[Result]], Command[Result]]:
    """Decorates a function with parameter ``name``, which becomes ``options`` of the command, combined by ``make``."""

    def decorated(function: Command[Result]) -> Command[Result]:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(function, eval_str=True).parameters.values()
            if parameter.name != name
        ]

        @wraps(function)
        def command(**given: object) -> Result:
            made = make(**{option.name: given.pop(option.name) for option in options})
            return function(**{name: made}, **given)

        signature = inspect.Signature([*own, *options])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
        return command

    return decorated


def takes(name: str, group: type) -> Callable[[Command[Result]], Command[Result]]:
    """Decorates a function with parameter ``name``, an object of the dataclass ``group``.

    Each field of the dataclass becomes an option of the command. It is annotated like a parameter of a command.
    """
    hints = get_type_hints(group, include_extras=True)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
    return made_of(name, options, group)


def option(name: str, kind: object, help: str, default: object, *flags: str) -> inspect.Parameter:
    """Returns an option of a group."""
    annotation = Annotated[kind, typer.Option(*flags, help=help)]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


# -- the settings of a run --------------------------------------------------------------------------------------
def help_of(name: str) -> str:
    """Returns the help text of a setting, for a command that has this option but is not a run."""
    return str(_FIELDS[name].metadata["help"])


def takes_settings(names: Sequence[str], argument: str | None = None) -> Callable[[Command[Result]], Command[Result]]:
    """Decorates a function with parameter ``settings``, a RunSettings.

    Each of ``names`` becomes an option of the command, and ``argument`` its positional argument.
    """

    def settings(**given: Any) -> RunSettings:
        for name, value in given.items():
            if (read := _FIELDS[name].metadata.get("read")) is not None:
                given[name] = read(value)
        return RunSettings(**given)

    return made_of("settings", [_of_setting(name, name == argument) for name in names], settings)


def _of_setting(name: str, is_argument: bool) -> inspect.Parameter:
    field = _FIELDS[name]
    about = field.metadata
    kind = about.get("type", _TYPES[name])
    found = option(name, kind, about["help"], field.default, *about.get("options", ()))
    return found.replace(annotation=Annotated[kind, typer.Argument(help=about["help"])]) if is_argument else found
