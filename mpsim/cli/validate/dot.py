"""``mpsim validate dot``: which accumulator a dot or matrix product is equal to."""

from __future__ import annotations

from typing import Annotated

import typer

from mpsim.cli.validate.verdict import calls_subject, gives_verdict
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.products.tensor_cores import accumulator_of
from mpsim.validate.dot import report as presentation
from mpsim.validate.dot.validation import validate_dot
from mpsim.validate.dot.vectors import FORMS, validate_dot_vectors
from mpsim.validate.presentation import Presentation, Report
from mpsim.validate.subjects.opening import Calling


@gives_verdict("dot")
@calls_subject()
def dot(
    subject: Annotated[
        str,
        typer.Argument(
            help="package.module:function or file.py:function (arrays (M, K) and (K, N) in, (M, N) out; "
            "also c, alpha, beta, bias, left_scale, right_scale, by these names), "
            "library.so:name, a file of 'mpsim vectors dot' (.npz, .jsonl), or 'accumulator:...' for one of mpsim's."
        ),
    ],
    calling: Calling,
    accumulator: Annotated[
        str | None,
        typer.Option(help="Declared accumulator: 'exact', 'chunk=64,fma=false', or a tensor core, as hopper_float16."),
    ] = None,
    inputs: Annotated[str, typer.Option(help="Format of the operands, as float16 or float8_e4m3fn.")] = "float32",
    length: Annotated[int, typer.Option(help="k of the probes; a chunk as long cannot be seen.")] = 520,
    side: Annotated[int, typer.Option(help="Rows and columns of the matrices: the order may depend on them.")] = 16,
    form: Annotated[str, typer.Option(help="What a Python function takes: matmul or dot (two vectors).")] = "matmul",
    seed: Annotated[int, typer.Option(help="Of the random matrices.")] = 0,
    backend: Annotated[str, typer.Option(help="mpsim's backend; changes no bit.")] = DEFAULT_BACKEND,
) -> tuple[Report, Presentation]:
    """Find the accumulator that a dot or matrix product is equal to in every bit, or measure how it differs.

    Exit code 0: equal to the declared accumulator, or to some; 1: different; 2: could not tell.
    """

    if subject.endswith(FORMS):
        return validate_dot_vectors(subject, accumulator, backend=backend), presentation
    own = subject.startswith("accumulator:")
    report = validate_dot(
        accumulator_of(subject.removeprefix("accumulator:")) if own else subject, accumulator, inputs=inputs,
        length=length, side=side, form=form, seed=seed, backend=backend, calling=calling,
    )  # fmt: skip
    return report, presentation
