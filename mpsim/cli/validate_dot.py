"""``mpsim validate dot``: which accumulator a dot or matrix product is equal to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mpsim.cli.output import JsonFlag
from mpsim.cli.verdict import (
    Arguments,
    Given,
    Header,
    InProcess,
    Junit,
    Outputs,
    Plot,
    Signature,
    Timeout,
    answer,
    calling,
    comparison,
)
from mpsim.tensor_cores import accumulator_of
from mpsim.validate.dot.validation import validate_dot


def dot(
    subject: Annotated[
        str,
        typer.Argument(
            help="package.module:function or file.py:function (arrays (M, K) and (K, N) in, (M, N) out), "
            "library.so:name, a file of 'mpsim vectors dot' (.npz, .jsonl), or 'accumulator:...' for one of mpsim's."
        ),
    ],
    accumulator: Annotated[
        str | None,
        typer.Option(help="Declared accumulator: 'exact', 'chunk=64,fma=false', or a tensor core, as hopper_float16."),
    ] = None,
    inputs: Annotated[str, typer.Option(help="Format of the operands, as float16 or float8_e4m3fn.")] = "float32",
    length: Annotated[int, typer.Option(help="k of the probes; a chunk as long cannot be seen.")] = 520,
    side: Annotated[int, typer.Option(help="Rows and columns of the matrices: the order may depend on them.")] = 16,
    form: Annotated[str, typer.Option(help="What a Python function takes: matmul or dot (two vectors).")] = "matmul",
    arguments: Arguments = "numpy",
    signature: Signature = None,
    header: Header = None,
    argument: Given = None,
    timeout: Timeout = 120.0,
    in_process: InProcess = False,
    seed: Annotated[int, typer.Option(help="Of the random matrices.")] = 0,
    backend: Annotated[str, typer.Option(help="mpsim's backend; changes no bit.")] = "compiled",
    junit: Junit = None,
    plot: Plot = None,
    json: JsonFlag = False,
) -> None:
    """Find the accumulator that a dot or matrix product is equal to in every bit, or measure how it differs.

    Exit code 0: equal to the declared accumulator, or to some; 1: different; 2: could not tell.
    """
    from mpsim.validate.dot import report as presentation
    from mpsim.validate.dot.vectors import FORMS, validate_dot_vectors

    own = subject.startswith("accumulator:")
    report: Any
    outputs = Outputs("dot", subject, json, junit, plot)
    with comparison(outputs):
        if subject.endswith(FORMS):
            report = validate_dot_vectors(subject, accumulator, backend=backend)
        else:
            report = validate_dot(
                accumulator_of(subject.removeprefix("accumulator:")) if own else subject, accumulator, inputs=inputs,
                length=length, side=side, form=form, seed=seed, backend=backend,
                calling=calling(arguments, signature, header, argument, timeout, in_process),
            )  # fmt: skip
        answer(report, presentation, outputs)
