"""Writes a page for each command of ``mpsim``, from the command itself, with an example that a test runs."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main

import mpsim.cli
from website.documents import Section, all_sections
from website.tables import code, plain, slug, table


def leaves(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its name, such as "validate cast"."""
    group = typer.main.get_command(mpsim.cli.app) if group is None else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def hints(command: Any) -> dict[str, Any]:
    """The types of a command's parameters by name.

    They are those of its signature: from Python 3.14 on, a decorated function has no ``__annotations__`` that were set.
    """
    parameters = inspect.signature(command.callback, eval_str=True).parameters.values()
    found = {each.name: each.annotation for each in parameters}
    return {
        name: typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        for name, hint in found.items()
    }


def pages() -> dict[str, str]:
    """The Markdown of every page by its path, in the order of the navigation."""
    examples, commands = sessions(), dict(leaves())
    rows = [(f"[`mpsim {name}`]({slug(name)}.md)", plain(_summary(command))) for name, command in commands.items()]
    found = {
        "commands/index.md": f"# Commands\n\n{table(('command', 'what it does'), rows)}## Exit codes\n\n{_general()}\n"
    }
    for name, command in commands.items():
        found[f"commands/{slug(name)}.md"] = _page(name, command, examples[name])
    return found


def sessions() -> dict[str, tuple[Section, list[str]]]:
    """For each command that occurs in a session of a document: the section, and the sessions' blocks with it.

    A section of docs/commands.md comes before others.
    """
    found: dict[str, tuple[Section, list[str]]] = {}
    names = [name for name, _ in leaves()]
    for section in sorted(all_sections(), key=lambda each: each.document != "commands.md"):
        for block in section.blocks:
            called = [command for command, _ in block.commands] if block.language == "console" else []
            for name in names:
                if any(command.startswith(f"mpsim {name} ") or command == f"mpsim {name}" for command in called):
                    known, blocks = found.setdefault(name, (section, []))
                    if known == section:
                        blocks.append(block.text)
    return found


def _summary(command: Any) -> str:
    return " ".join(inspect.cleandoc(command.help).split("\n\n")[0].split())


def _general() -> str:
    """What every command's exit code means."""
    (text,) = re.findall(r"^Exit codes: (.*)$", mpsim.cli.__doc__ or "", re.MULTILINE)
    return text


def _page(name: str, command: Any, example: tuple[Section, list[str]]) -> str:
    paragraphs = [plain(" ".join(text.split())) for text in inspect.cleandoc(command.help).split("\n\n")]
    section, blocks = example
    kinds = {name: set(_types(hint)) for name, hint in hints(command).items()}
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    usage = " ".join([f"mpsim {name}", *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    own = [text for text in paragraphs if "Exit code" in text]
    parts = [
        f"# mpsim {name}\n\n" + "\n\n".join(text for text in paragraphs if text not in own) + "\n\n",
        code(usage, "text"),
        "## Example\n\n" + "".join(code(text) for text in blocks[:1]) + _context(section),
    ]
    if arguments:
        rows = [(f"`{_argument(each)}`", _help(each, kinds[each.name])) for each in arguments]
        parts.append("## Arguments\n\n" + table(("argument", "meaning"), rows))
    rows = [(_option(each, kinds[each.name]), _help(each, kinds[each.name])) for each in options]
    parts.append("## Options\n\n" + table(("option", "meaning"), rows))
    parts.append("## Exit codes\n\n" + "\n\n".join(own or [_general()]) + "\n")
    return "".join(parts)


def _context(section: Section) -> str:
    """Where the example comes from, with the files that it needs."""
    anchor = re.sub(r"[^\w\- ]", "", section.title).strip().lower().replace(" ", "-")
    link = f"../{section.document}{'#' if anchor else ''}{anchor}"
    what = section.title or "The tutorial"
    return f"[{plain(what)}]({link}) has the files of this example and what comes before. A test runs it.\n\n"


def _argument(parameter: Any) -> str:
    name = parameter.name.upper().replace("_", "-") + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _types(hint: Any) -> Iterator[type]:
    """The types that a parameter's values may have."""
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    for each in typing.get_args(hint):
        yield from _types(each)


def _option(parameter: Any, kinds: set[type]) -> str:
    """The option's name and what it takes."""
    name = max(parameter.opts, key=len)
    if parameter.is_flag:
        return f"`{name}`"
    words = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return f"`{name} {next((word for kind, word in words.items() if kind in kinds), 'TEXT')}`"


def _help(parameter: Any, kinds: set[type]) -> str:
    """The help text, then values, default, and whether it has to be given."""
    parts = [plain(parameter.help or "")]
    for kind in kinds:
        if issubclass(kind, Enum):
            parts.append("Values: " + ", ".join(f"`{each.value}`" for each in kind) + ".")
    if parameter.required:
        parts.append("Required.")
    elif parameter.default not in (None, "") and parameter.default is not False and not callable(parameter.default):
        default = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
        parts.append(f"Default: `{default}`.")
    return " ".join(parts)
