"""``mpsim validate blocks``: which scale rule a block quantiser follows."""

from __future__ import annotations

from typing import Annotated

import typer

from mpsim.cli.validate.verdict import calls_subject, gives_verdict
from mpsim.validate.blocks import report as presentation
from mpsim.validate.blocks.validation import validate_blocks
from mpsim.validate.presentation import Presentation, Report
from mpsim.validate.subjects.opening import Calling


@gives_verdict("blocks")
@calls_subject(native=False)
def blocks(
    subject: Annotated[
        str,
        typer.Argument(
            help="package.module:function or file.py:function: float32 blocks (n, block size) in; dequantised values "
            "of the same shape out, or (element codes, scale codes)."
        ),
    ],
    calling: Calling,
    format: Annotated[str, typer.Option(help="Block format, as mxfp8_e4m3, mxfp4 or nvfp4.")],
    scale_rule: Annotated[
        str | None, typer.Option(help="Declared scale rule: floor, ceil, even, nearest or cover.")
    ] = None,
    scale_overflow: Annotated[
        str | None, typer.Option(help="Declared result of a scale beyond the largest: saturate or nan.")
    ] = None,
    tensor_scale: Annotated[
        float | None, typer.Option(help="For nvfp4: the tensor scale that the subject uses; default 1.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random elements.")] = 0,
    backend: Annotated[str, typer.Option(help="mpsim's backend; changes no bit.")] = "compiled",
) -> tuple[Report, Presentation]:
    """Compare a block quantiser with a declared scale rule, or say which rule it follows.

    Exit code 0: equal to the declared rule, or to some; 1: different; 2: could not tell.
    """

    report = validate_blocks(
        subject, format, scale_rule=scale_rule, scale_overflow=scale_overflow, tensor_scale=tensor_scale,
        seed=seed, backend=backend, calling=calling,
    )  # fmt: skip
    return report, presentation
