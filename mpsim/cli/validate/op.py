"""``mpsim validate op``: is an operation on codes right."""

from __future__ import annotations

from typing import Annotated

import typer

from mpsim.arithmetic import ARITHMETIC
from mpsim.cli.validate.verdict import calls_subject, gives_verdict
from mpsim.validate.operations import report as presentation
from mpsim.validate.operations.validation import validate_operation
from mpsim.validate.presentation import Presentation, Report
from mpsim.validate.subjects.opening import Calling


@gives_verdict("op")
@calls_subject()
def op(
    subject: Annotated[
        str,
        typer.Argument(
            help="package.module:function or file.py:function, which takes one array of codes for each operand and "
            "returns the codes of the results; or library.so:name, a C function of the operands."
        ),
    ],
    calling: Calling,
    operation: Annotated[str, typer.Option("--operation", help=f"One of {', '.join(ARITHMETIC)}.")],
    formats: Annotated[
        str, typer.Option(help="Format of all operands, or one for each, with commas: p3109_k8p3,p3109_k8p4.")
    ],
    result: Annotated[str | None, typer.Option(help="Format of the result; default: the first operand's.")] = None,
    mode: Annotated[str | None, typer.Option(help="Declared rounding mode, as nearest_even.")] = None,
    overflow: Annotated[
        str | None, typer.Option(help="Declared overflow policy: infinity, saturate or saturate_propagate.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="p3109: the projection that IEEE P3109 requires, nearest_even and overflow infinity."),
    ] = None,
    given: Annotated[
        str,
        typer.Option(help="What a Python function gets: codes (integers), or numbers (arrays of the formats' types)."),
    ] = "codes",
    seed: Annotated[int, typer.Option(help="Of the random operands.")] = 0,
) -> tuple[Report, Presentation]:
    """Compare an operation with its definition in every bit, or say which rounding it follows.

    All combinations of codes are asked where there are at most 65,536. Exit code 0: equal to the declared rule, or to
    some; 1: different; 2: could not tell.
    """
    several = formats.split(",")
    report = validate_operation(
        subject, operation, several[0] if len(several) == 1 else several, result=result, mode=mode, overflow=overflow,
        preset=preset, given=given, seed=seed, calling=calling,
    )  # fmt: skip
    return report, presentation
