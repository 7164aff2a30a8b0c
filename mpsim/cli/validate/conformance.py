"""``mpsim conformance``: a report that can be attached to a claim of conformance with a standard."""

from __future__ import annotations

from typing import Annotated

import typer

from mpsim.cli.validate.verdict import calls_subject, gives_verdict
from mpsim.errors import UsageError
from mpsim.validate.conformance import report as presentation
from mpsim.validate.conformance.names import MODES, SATURATIONS, format_of, operation_of, projection_of
from mpsim.validate.conformance.specializations import OPERATIONS, chosen
from mpsim.validate.conformance.validation import check_p3109
from mpsim.validate.presentation import Presentation, Report
from mpsim.validate.subjects.opening import Calling

app = typer.Typer(
    help="Compare an implementation with a standard, and report what was compared with what.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def group() -> None:
    """Compare an implementation with a standard, and report what was compared with what."""


@gives_verdict("p3109", group="conformance")
@calls_subject()
def p3109(
    subject: Annotated[
        str,
        typer.Argument(
            help="file.py:function, which returns the function of an operation; file.py:{operation}_{formats} or "
            "library.so:{operation}_{formats}_{mode}, functions with such names; or answers/{operation}_{formats}.txt, "
            "files of operands and results in hex."
        ),
    ],
    calling: Calling,
    formats: Annotated[
        str | None,
        typer.Option(help="Formats with commas, as Binary8p3se,Binary8p4se. Default: the list that §4.5 requires."),
    ] = None,
    operations: Annotated[
        str | None, typer.Option(help="Operations with commas, as Add,FMA. Default: all that mpsim defines.")
    ] = None,
    results: Annotated[
        str | None, typer.Option(help="Formats of the results with commas. Default: the operands' format.")
    ] = None,
    modes: Annotated[
        str, typer.Option(help=f"Rounding modes with commas: {', '.join(MODES.values())} with a number of bits.")
    ] = "NearestTiesToEven",
    saturations: Annotated[
        str, typer.Option(help=f"Saturation modes with commas: {', '.join(SATURATIONS.values())}.")
    ] = "SatNone",
    external: Annotated[
        str, typer.Option(help="Formats of other standards that the subject supports, with commas.")
    ] = "binary32",
    partial: Annotated[
        bool, typer.Option("--partial", help="Operations that the subject does not have leave the exit code as it is.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of random operands, where not all are asked.")] = 0,
) -> tuple[Report, Presentation]:
    """Compare an implementation of IEEE P3109 (Interim Report v4.0) with its definition, in every bit.

    Without --formats the specializations of §4.5 are compared, which every implementation has to provide. Exit code 0:
    every answer is equal; 1: some are different; 2: operations are missing, or could not be asked.
    """
    others = [format_of(name) for name in _split(external)]
    if formats is None:
        if operations or results or modes != "NearestTiesToEven" or saturations != "SatNone":
            raise UsageError(
                "--operations, --results, --modes and --saturations need --formats: §4.5 lists these itself"
            )
        wanted = None
    else:
        projections = [projection_of(mode, each) for mode in _split(modes) for each in _split(saturations)]
        names = list(OPERATIONS) if operations is None else [operation_of(name) for name in _split(operations)]
        operands = [format_of(name) for name in _split(formats)]
        wanted = list(chosen(names, operands, [format_of(name) for name in _split(results or "")], projections))
    return check_p3109(subject, wanted, external=others, partial=partial, seed=seed, calling=calling), presentation


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


app.command("p3109")(p3109)
