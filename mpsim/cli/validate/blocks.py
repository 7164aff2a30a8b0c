"""``mpsim validate blocks``: which scale rule a block quantiser follows, or whether it is as a description says."""

from __future__ import annotations

from typing import Annotated

import typer

from mpsim.cli import command
from mpsim.cli.validate.verdict import calls_subject, gives_verdict
from mpsim.errors import UsageError
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.validate.blocks import decoding
from mpsim.validate.blocks import report as presentation
from mpsim.validate.blocks.decoding import validate_dequantizer
from mpsim.validate.blocks.validation import validate_blocks
from mpsim.validate.presentation import Presentation, Report
from mpsim.validate.subjects.opening import Calling


@gives_verdict("blocks")
@calls_subject()
def blocks(
    subject: Annotated[
        str,
        typer.Argument(
            help="package.module:function or file.py:function: float32 blocks (n, block size) in; dequantised values "
            "of the same shape out, or (element codes, scale codes). Or library.so:name, 'command:PROGRAM ARGUMENTS', "
            "or a file of blocks with answers (.npz, .jsonl, .txt)."
        ),
    ],
    calling: Calling,
    format: Annotated[
        str,
        typer.Option(
            help="Block format, such as mxfp8_e4m3, mxfp4 or nvfp4; or a preset, such as te_nvfp4 or fp8_1x128; or a "
            "description, such as 'quantizer(scale=scale(arithmetic=float32))' (docs/block_formats.md)."
        ),
    ],
    scale_rule: Annotated[
        str | None, typer.Option(help="Declared scale rule: floor, ceil, even, nearest or cover.")
    ] = None,
    scale_overflow: Annotated[
        str | None, typer.Option(help="Declared result of a scale beyond the largest: saturate or nan.")
    ] = None,
    tensor_scale: Annotated[
        float | None,
        typer.Option(
            help="The second scale that the subject uses, or the largest magnitude that its multiplier follows from. "
            "By default the input's, or none."
        ),
    ] = None,
    statistic: Annotated[
        float | None, typer.Option(help="The largest magnitude that the subject uses, where it is given one.")
    ] = None,
    given_bits: Annotated[
        bool,
        typer.Option(
            "--given-bits", help="For formats that round at random: the subject takes (numbers, uint32 words)."
        ),
    ] = False,
    decode: Annotated[
        bool, typer.Option("--decode", help="The subject is a dequantiser: codes and scales in, numbers out.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random elements.")] = 0,
    backend: Annotated[str, typer.Option(help="mpsim's backend; changes no bit.")] = DEFAULT_BACKEND,
) -> tuple[Report, Presentation]:
    """Compare a block quantiser with a preset, a description or a scale rule, or say which rule it follows.

    Exit code 0: equal to the declared rule, or to some; 1: different; 2: could not tell.
    """
    if decode:
        for name in command.options_given("scale_rule", "scale_overflow", "statistic", "given_bits"):
            raise UsageError(f"{name} is for quantisers; leave it out with --decode")
        decoded = validate_dequantizer(subject, format, tensor_scale=tensor_scale, backend=backend, calling=calling)
        return decoded, decoding
    report = validate_blocks(
        subject, format, scale_rule=scale_rule, scale_overflow=scale_overflow, tensor_scale=tensor_scale,
        statistic=statistic, given_bits=given_bits, seed=seed, backend=backend, calling=calling,
    )  # fmt: skip
    return report, presentation
