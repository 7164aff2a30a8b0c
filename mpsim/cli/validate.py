"""``mpsim validate``: other implementations against the definition.

Exit codes: 0 equal, 1 different, 2 could not run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mpsim.cli.output import JsonFlag, complain, is_failure, is_usage_error, print_json
from mpsim.policies import Mode, Overflow

app = typer.Typer(
    help="Say whether another implementation is right, and if not, where and why.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def cast(
    subject: Annotated[
        str,
        typer.Argument(
            help="package.module:function, file.py:function, a dtype (ml_dtypes.float8_e4m3fn, torch.float8_e5m2), "
            "library.so:name, 'command:PROGRAM ARGUMENTS', or a file of vectors (.txt, .hex, .jsonl, .npz)."
        ),
    ],
    format: Annotated[str | None, typer.Option(help="Target format; default: that of a dtype.")] = None,
    source: Annotated[str, typer.Option(help="float16, bfloat16, float32 or float64.")] = "float32",
    mode: Annotated[Mode | None, typer.Option(help="Declared rounding mode.")] = None,
    overflow: Annotated[Overflow | None, typer.Option(help="Declared overflow policy.")] = None,
    preset: Annotated[str | None, typer.Option(help="Declared policy by the name of a system, as ml_dtypes.")] = None,
    signature: Annotated[
        str | None, typer.Option(help="For a library: the C prototype, as 'void f(const float *, uint8_t *, size_t)'.")
    ] = None,
    header: Annotated[Path | None, typer.Option(help="For a library: a file that declares the function.")] = None,
    arguments: Annotated[str, typer.Option(help="Arrays a Python function is given: numpy or torch.")] = "numpy",
    seed: Annotated[int, typer.Option(help="Of the random patterns in the corpus.")] = 0,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw error against input to this file (png, svg).")] = None,
    backend: Annotated[str, typer.Option(help="mpsim's backend; changes no bit.")] = "compiled",
    json: JsonFlag = False,
) -> None:
    """Compare a cast with a declared policy (--mode, --overflow or --preset), or say what policy it follows.

    Exit code 0: equal to the declared policy, or to some preset; 1: different; 2: could not run.
    """
    from mpsim.validate import report as reports
    from mpsim.validate.adapters import SubjectError, open_subject
    from mpsim.validate.cast import validate_cast

    try:
        opened = open_subject(subject, signature=signature, header=header, arguments=arguments)
        report = validate_cast(
            opened, format, source, mode=mode, overflow=overflow, preset=preset, seed=seed, backend=backend
        )
        if junit is not None:
            junit.write_text(reports.junit(report), encoding="utf-8")
        if plot is not None:
            reports.plot(report, plot)
    except Exception as error:
        if not isinstance(error, SubjectError) and not is_usage_error(error) and not is_failure(error):
            raise
        if junit is not None:
            junit.write_text(reports.junit_error(subject, str(error)), encoding="utf-8")
        could_not_run(str(error))
    if json:
        print_json(report.as_json())
    else:
        from rich.console import Console

        reports.print_report(report, Console(width=None if sys.stdout.isatty() else 110))
    raise typer.Exit(0 if report.equal else 1)


def could_not_run(message: str) -> None:
    """Ends the command with exit code 2."""
    complain(message)
    raise typer.Exit(2)


COMMANDS: tuple[tuple[Any, str, dict[str, Any]], ...] = ((cast, "cast", {}),)
for function, name, settings in COMMANDS:
    app.command(name, **settings)(function)
