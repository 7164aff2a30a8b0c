"""How ``mpsim validate`` calls its subjects and ends: 0 equal, 1 different, 2 could not tell."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, NamedTuple, NoReturn

import typer

from mpsim.cli import command
from mpsim.cli.options import Command, Result, made_of, option
from mpsim.cli.output import complain, is_failure, print_json
from mpsim.files.whole import write_whole
from mpsim.plugins import check_extra
from mpsim.validate.presentation import PICTURES, Presentation, Report, junit, junit_error, picture
from mpsim.validate.subjects.opening import Calling

#: How a subject is called, as options.
_OF_PYTHON = (
    option("arguments", str, "Arrays a Python function is given: numpy or torch.", "numpy"),
    option("timeout", float, "Seconds that the subject has for one answer.", 120.0),
    option(
        "in_process", bool, "Call the subject in mpsim's own process: a crash or a hang is then mpsim's too.", False,
        "--in-process",
    ),
)  # fmt: skip
_OF_C = (
    option(
        "signature", str | None, "For a library: the C prototype, as 'void f(const float *, uint8_t *, size_t)'.", None
    ),
    option("header", Path | None, "For a library: a file that declares the function.", None),
    option(
        "argument", list[str] | None,
        "For a C function: NAME=NUMBER for a parameter that is neither array nor count.", None, "--argument",
    ),
)  # fmt: skip
_OUTPUTS = (
    option("junit", Path | None, "Also write JUnit XML to this file.", None),
    option("plot", Path | None, "Also draw a picture to this file (png, svg, pdf).", None),
    option("json", bool, "Print JSON instead of a table.", False, "--json"),
)


def calls_subject() -> Callable[[Command[Result]], Command[Result]]:
    """A command whose function takes ``calling``, a Calling made of options."""
    return made_of("calling", [*_OF_PYTHON, *_OF_C], _calling)


def _calling(argument: list[str] | None = None, **given: Any) -> Calling:
    numbers = {}
    for text in argument or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{text!r} should be NAME=NUMBER, as scale=1.0", param_hint="--argument")
        if name in numbers:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--argument")
        numbers[name] = value
    return Calling(given=numbers, **given)


def gives_verdict(
    name: str, group: str = "validate"
) -> Callable[[Command[tuple[Report, Presentation]]], Command[None]]:
    """The command ``mpsim GROUP NAME`` of a function that gives a report and the module that presents it.

    Its first parameter is the subject. The command has the options of where the verdict goes, and ends with it.
    """

    def decorated(function: Command[tuple[Report, Presentation]]) -> Command[None]:
        subject = next(iter(inspect.signature(function).parameters))

        @wraps(function)
        def command(outputs: Outputs, **given: object) -> None:
            told = outputs._replace(command=f"{group} {name}", subject=str(given[subject]))
            with comparison(told):
                answer(*function(**given), told)

        own = inspect.signature(function, eval_str=True)
        last = inspect.Parameter("outputs", inspect.Parameter.KEYWORD_ONLY)
        command.__signature__ = own.replace(parameters=[*own.parameters.values(), last])  # type: ignore[attr-defined]
        return made_of("outputs", _OUTPUTS, Outputs)(command)

    return decorated


class Outputs(NamedTuple):
    """Where a verdict goes: ``command`` and ``subject`` name it in JUnit XML."""

    json: bool
    junit: Path | None = None
    plot: Path | None = None
    command: str = ""
    subject: str = ""

    @property
    def suite(self) -> str:
        return f"mpsim {self.command} {self.subject}"


@contextmanager
def comparison(outputs: Outputs) -> Iterator[None]:
    """Ends the command with exit code 2 where arguments are refused, or anything fails: then nothing was compared.

    A usage error, before any work, where a file cannot be written, is no picture's, or is asked for twice."""

    if outputs.plot is not None and outputs.plot.suffix.lower() not in PICTURES:
        wanted = f"the name of {outputs.plot} should end in one of {', '.join(PICTURES)}"
        raise typer.BadParameter(wanted, param_hint="--plot")
    if outputs.plot is not None and outputs.junit is not None and outputs.plot.resolve() == outputs.junit.resolve():
        raise typer.BadParameter(f"{outputs.plot} is the file of --junit too", param_hint="--plot")
    if outputs.plot is not None:
        check_extra("matplotlib", "--plot")
    check_writable(outputs.junit, "--junit")
    check_writable(outputs.plot, "--plot")
    try:
        yield
    except (typer.Exit, typer.BadParameter):
        raise
    except Exception as error:
        message = command.message(error)
        if not is_failure(error):
            traceback.print_exc()
            message = f"a defect of mpsim: {type(error).__name__}: {message}. Nothing can be said about the subject"
        complain(message)
        with suppress(OSError):  # it may be what failed
            if outputs.junit is not None:
                write_whole(outputs.junit, junit_error(outputs.suite, outputs.subject, message).encode())
        raise typer.Exit(2) from None


def check_writable(path: Path | None, option: str) -> None:
    """A usage error that names the option if the file cannot be written."""
    if path is None:
        return
    there = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}", param_hint=option) from None
    if not there:
        path.unlink()


@contextmanager
def _writing(path: Path, option: str) -> Iterator[None]:
    """An OSError on the way names option and file."""
    try:
        yield
    except OSError as error:
        raise type(error)(f"{option}: {path} cannot be written: {error.strerror}") from error


def answer(report: Report, presentation: Presentation, outputs: Outputs) -> NoReturn:
    """Writes what is asked for, prints the report as JSON or text, and ends with its verdict; with exit code 2 where it
    cannot be printed."""

    if outputs.junit is not None:
        xml = junit(outputs.suite, outputs.subject, presentation.cases(report))
        with _writing(outputs.junit, "--junit"):
            write_whole(outputs.junit, xml.encode())
    if outputs.plot is not None:
        with _writing(outputs.plot, "--plot"):
            picture(presentation, report, outputs.plot)
    try:
        if outputs.json:
            print_json(report.to_dict())
        else:
            typer.echo(presentation.text(report, get_terminal_size().columns if sys.stdout.isatty() else 110))
        sys.stdout.flush()
    except OSError as error:
        complain(f"the report cannot be printed: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer is lost without another error
        raise typer.Exit(2) from None
    raise typer.Exit(report.verdict.value)
