"""``mpsim validate cast``: which policy a cast follows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpsim.cli import command
from mpsim.cli.output import console
from mpsim.cli.validate.verdict import calls_subject, check_writable, gives_verdict
from mpsim.errors import UsageError
from mpsim.files.records import Fields
from mpsim.integers import is_integer_name
from mpsim.policies import Mode, Overflow
from mpsim.validate.cast import nans
from mpsim.validate.cast import report as presentation
from mpsim.validate.cast.exhaustive import Sweep
from mpsim.validate.cast.integers import report as integer_presentation
from mpsim.validate.cast.integers.validation import IntegerReport, validate_integer_cast
from mpsim.validate.cast.stochastic import StochasticReport, validate_given_bits, validate_own_bits
from mpsim.validate.cast.validation import sweep_all, target_format, validate_cast
from mpsim.validate.operations import report as conversions
from mpsim.validate.operations.validation import validate_operation
from mpsim.validate.presentation import Presentation, Report
from mpsim.validate.sources import as_float_source, as_source
from mpsim.validate.subjects.casts import Subject, open_subject
from mpsim.validate.subjects.opening import Calling


@gives_verdict("cast")
@calls_subject()
def cast(
    subject: Annotated[
        str,
        typer.Argument(
            help="package.module:function, file.py:function, a dtype (ml_dtypes.float8_e4m3fn, torch.float8_e5m2), "
            "library.so:name, 'command:PROGRAM ARGUMENTS', or a file of vectors (.txt, .hex, .mem, .jsonl, .npz)."
        ),
    ],
    calling: Calling,
    format: Annotated[str | None, typer.Option(help="Target format; default: that of a dtype.")] = None,
    source: Annotated[
        str,
        typer.Option(
            help="float16, bfloat16, float32, float64, an integer type (int8, uint4, int64, ...); or another format, "
            "whose codes are decoded."
        ),
    ] = "float32",
    mode: Annotated[Mode | None, typer.Option(help="Declared rounding mode.")] = None,
    overflow: Annotated[
        str | None,
        typer.Option(
            help="Declared overflow policy: infinity, saturate, saturate_propagate, mark; for integer types saturate, "
            "wrap (modulo 2**bits), indefinite (x86)."
        ),
    ] = None,
    nan: Annotated[
        str | None,
        typer.Option(
            help="Declared codes of NaN: any (the default), canonical, payload (kept and quieted), one code as 0x7fff, "
            "or those of NaN and -NaN as 0x7f,0xff; for integer types zero, least, most, indefinite or a number."
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Declared policy by the name of a system, as ml_dtypes.")] = None,
    exhaustive: Annotated[bool, typer.Option("--exhaustive", help="Also try all 2^32 float32 inputs.")] = False,
    resume: Annotated[
        Path | None, typer.Option(help="For --exhaustive: a file for the state; an interrupted sweep goes on from it.")
    ] = None,
    random_bit_count: Annotated[
        int | None, typer.Option(help="For --mode stochastic: how many random bits decide, 1 to 32.")
    ] = None,
    given_bits: Annotated[
        bool, typer.Option("--given-bits", help="For --mode stochastic: the subject takes (numbers, uint32 words).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random patterns in the corpus.")] = 0,
    backend: Annotated[str, typer.Option(help="mpsim's backend; changes no bit.")] = "compiled",
) -> tuple[Report, Presentation]:
    """Compare a cast with a declared policy (--mode, --overflow, --nan or --preset), or say what policy it follows.

    Exit code 0: equal to the declared policy; or, where none is declared, to some preset or to one rounding by some
    policy. 1: different. 2: could not tell.
    """

    if is_integer_name(format):
        return _integers(subject, format, source, mode, overflow, nan, preset, seed, calling), integer_presentation
    if _is_decoded(source):
        return _conversion(subject, format, source, mode, overflow, seed, calling)
    _check_options(mode, exhaustive, resume, given_bits, random_bit_count)
    opened = open_subject(subject, calling, random_bits=given_bits)
    if format is None and opened.integer is not None:
        return _integers(opened, None, source, mode, overflow, nan, preset, seed, calling), integer_presentation
    if mode is Mode.STOCHASTIC:
        found = _stochastic(opened, format, source, overflow, nan, random_bit_count, given_bits, seed)
        return found, presentation
    report = validate_cast(
        opened, format, source, mode=mode, overflow=overflow, nan=nan, preset=preset, seed=seed, backend=backend
    )
    if exhaustive:
        with _Progress() as progress:
            report = sweep_all(report, resume=resume, on_progress=progress.update, backend=backend)
    return report, presentation


def _integers(
    subject: str | Subject, type: str | None, source: str, mode: Mode | None, overflow: str | None, nan: str | None,
    preset: str | None, seed: int, calling: Calling,
) -> IntegerReport:  # fmt: skip
    """A cast to an integer type."""
    if refused := command.options_given("exhaustive", "resume", "random_bit_count", "given_bits", "backend"):
        raise UsageError(f"{' and '.join(refused)} cannot be used with casts to integer types")
    opened = open_subject(subject, calling) if isinstance(subject, str) else subject
    return validate_integer_cast(opened, type, source, mode=mode, overflow=overflow, nan=nan, preset=preset, seed=seed)


def _is_decoded(source: str) -> bool:
    """Whether a subject is given all codes of the source, which is a format of at most 16 bits."""
    found = as_source(source)
    return not found.is_float and found.integer is None


def _conversion(
    subject: str, format: str | None, source: str, mode: Mode | None, overflow: str | None, seed: int,
    calling: Calling,
) -> tuple[Report, Presentation]:  # fmt: skip
    """A decoder, or a conversion between two formats: the operation ``convert``."""
    if refused := command.options_given(
        "nan", "preset", "exhaustive", "resume", "random_bit_count", "given_bits", "backend"
    ):
        raise UsageError(f"{' and '.join(refused)} cannot be used with --source {source}, all of whose codes are asked")
    if format is None:
        raise UsageError(f"--source {source} needs --format: the format of the results")
    report = validate_operation(
        subject, "convert", source, result=format, mode=mode, overflow=overflow, seed=seed, calling=calling
    )
    return report, conversions


def _check_options(
    mode: Mode | None, exhaustive: bool, resume: Path | None, given_bits: bool, random_bit_count: int | None
) -> None:
    """UsageError for options that do not go together."""
    check_writable(resume, "--resume")
    if resume is not None and not exhaustive:
        raise UsageError("--resume goes with --exhaustive")
    is_stochastic = mode is Mode.STOCHASTIC
    if mode is not None and mode.needs_random_bits and not is_stochastic:
        raise UsageError(f"--mode {mode.value} takes random bits in a way that is not tested here; use stochastic")
    if not is_stochastic and (given_bits or random_bit_count is not None):
        raise UsageError("--given-bits and --random-bit-count go with --mode stochastic")
    if is_stochastic and (refused := command.options_given("preset", "exhaustive", "plot")):
        raise UsageError(f"{' and '.join(refused)} cannot be used with --mode stochastic, whose results are random")


def _stochastic(
    subject: Subject, format: str | None, source: str, overflow: str | None, nan: str | None, count: int | None,
    given: bool, seed: int,
) -> StochasticReport:  # fmt: skip

    target, read = target_format(subject, format), as_float_source(source)
    options: Fields = {"overflow": overflow or Overflow.INFINITY, "seed": seed}
    options["nan_codes"] = nans.parse(nan or nans.ANY, target)
    if given and count is None:
        raise UsageError("--given-bits needs --random-bit-count: how many bits of each word decide")
    if given and count is not None:
        return validate_given_bits(subject, target, read, count, **options)
    return validate_own_bits(subject, target, read, random_bit_count=count, **options)


class _Progress:
    """A bar on standard error for a sweep."""

    def __enter__(self) -> _Progress:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("2^32 inputs", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[mismatches]:,} mismatches", markup=False), console=console(stderr=True),
        )  # fmt: skip
        self._task = self._bar.add_task("sweep", total=1 << 32, mismatches=0)
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, state: Sweep) -> None:
        """Shows how far the sweep is."""
        self._bar.update(self._task, completed=state.inputs, mismatches=state.mismatches)
