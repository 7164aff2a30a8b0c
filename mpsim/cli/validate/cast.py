"""``mpsim validate cast``: which policy a cast follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mpsim.cli import command
from mpsim.cli.options import Command, Result, made_of, option
from mpsim.cli.output import console
from mpsim.cli.validate.verdict import calls_subject, check_writable, gives_verdict
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.integers import IntegerOverflow, as_integer, is_integer_name
from mpsim.integers.types import SPECIAL
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.cast import nans
from mpsim.validate.cast import report as presentation
from mpsim.validate.cast.exhaustive import Sweep
from mpsim.validate.cast.integers import report as integer_presentation
from mpsim.validate.cast.integers.stochastic import validate_stochastic_integers
from mpsim.validate.cast.integers.validation import IntegerReport, declared_integer_policy, validate_integer_cast
from mpsim.validate.cast.policy.declaration import Declaration
from mpsim.validate.cast.policy.treatments import FIELDS
from mpsim.validate.cast.stochastic import StochasticReport, validate_given_bits, validate_own_bits
from mpsim.validate.cast.stochastic.presets import STOCHASTIC_PRESETS, stochastic_rule
from mpsim.validate.cast.stochastic.result import ALL_BITS
from mpsim.validate.cast.validation import sweep_all, target_format, validate_cast
from mpsim.validate.operations import report as conversions
from mpsim.validate.operations.validation import validate_operation
from mpsim.validate.presentation import Presentation, Report
from mpsim.validate.sources import as_float_source, as_source
from mpsim.validate.subjects.casts import Subject, open_subject
from mpsim.validate.subjects.opening import Calling


def declares_policy() -> Callable[[Command[Result]], Command[Result]]:
    """A command whose function takes ``declared``, a Declaration made of options."""
    integers = "for integer types"
    options = (
        option("mode", Mode | None, "Declared rounding mode.", None),
        option(
            "overflow", str | None, f"Declared overflow policy: {', '.join(Overflow)}; {integers} "
            f"{', '.join(IntegerOverflow)}.", None,
        ),
        option("infinity", str | None, f"What infinity becomes: {_values('infinity')}; {integers} {_SPECIAL}.", None),
        option(
            "nan", str | None, "Declared codes of NaN: any (the default), canonical, payload (kept and quieted), one "
            "code as 0x7fff, or those of NaN and -NaN as 0x7f,0xff; or what it becomes: "
            f"{', '.join(list(FIELDS['nan'])[1:])}; {integers} {_SPECIAL}.", None,
        ),
        option("zero", str | None, f"What zeros become: {_values('zero')}.", None),
        option("underflow", str | None, f"What numbers that round to zero become: {_values('underflow')}.", None),
        option("subnormal_inputs", str | None, f"Subnormal inputs: {_values('subnormal_inputs')}.", None),
        option(
            "subnormal_results", str | None, f"Subnormal results: {_values('subnormal_results')} (flush: by the "
            "rounded result; flush_before: by the input; flush_tiny: by the result with an unlimited exponent).", None,
        ),
        option("preset", str | None, "Declared policy by the name of a system, as ml_dtypes.", None),
    )  # fmt: skip
    return made_of("declared", options, Declaration)


_SPECIAL = f"{', '.join(SPECIAL)} or a number"


def _values(field: str) -> str:
    first, *others = FIELDS[field]
    return f"{first} (the default), {', '.join(others)}"


@gives_verdict("cast")
@calls_subject()
@declares_policy()
def cast(
    subject: Annotated[
        str,
        typer.Argument(
            help="package.module:function, file.py:function, a dtype (ml_dtypes.float8_e4m3fn, torch.float8_e5m2), "
            "library.so:name, 'command:PROGRAM ARGUMENTS', or a file of vectors (.txt, .hex, .mem, .jsonl, .npz)."
        ),
    ],
    calling: Calling,
    declared: Declaration,
    format: Annotated[
        str | None, typer.Option(help="Target: a format or an integer type; default: that of a dtype.")
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            help="float16, bfloat16, float32, float64, an integer type (int8, uint4, int64, ...); or another format, "
            "whose codes are decoded."
        ),
    ] = "float32",
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
    backend: Annotated[str, typer.Option(help="mpsim's backend; changes no bit.")] = DEFAULT_BACKEND,
) -> tuple[Report, Presentation]:
    """Compare a cast with a declared policy (--mode, --overflow, --nan, ... or --preset), or find its policy.

    Exit code 0: equal to the declared policy; or, where none is declared, to some preset or to one rounding by some
    policy. 1: different. 2: could not tell.
    """

    if _is_beyond_float64(source, format):
        return _conversion(subject, format, source, declared, seed, calling)
    _check_options(declared.mode, declared.preset, exhaustive, resume, given_bits, random_bit_count)
    opened = open_subject(subject, calling, random_bits=given_bits)
    is_random = declared.mode is not None and Mode(declared.mode).takes_bit_count
    if is_integer_name(format) or (format is None and opened.integer is not None):
        if is_random:
            return _random_integers(opened, format, source, declared, random_bit_count, given_bits, seed), presentation
        return _integers(opened, format, source, declared, seed), integer_presentation
    if is_random or declared.preset in STOCHASTIC_PRESETS:
        return _stochastic(opened, format, source, declared, random_bit_count, given_bits, seed), presentation
    report = validate_cast(opened, format, source, seed=seed, backend=backend, **vars(declared))
    if exhaustive:
        with _Progress() as progress:
            report = sweep_all(report, resume=resume, on_progress=progress.update, backend=backend)
    return report, presentation


def _integers(subject: Subject, type: str | None, source: str, declared: Declaration, seed: int) -> IntegerReport:
    """A cast to an integer type."""
    _refuse("casts to integer types", "exhaustive", "resume", "random_bit_count", "given_bits", "backend", *_OF_FLOATS)
    given = {name: getattr(declared, name) for name in declared.names}
    return validate_integer_cast(subject, type, source, seed=seed, **given)


def _random_integers(
    subject: Subject, type: str | None, source: str, declared: Declaration, count: int | None, given: bool, seed: int
) -> StochasticReport:
    """A cast to an integer type that rounds at random."""
    _refuse("stochastic casts to integer types", "exhaustive", "plot", "backend", "preset", *_OF_FLOATS)
    target = subject.integer if type is None else as_integer(type)
    assert target is not None
    policy, any_nan = declared_integer_policy(
        target, declared.mode, declared.overflow, declared.nan, declared.infinity, count or ALL_BITS
    )
    return validate_stochastic_integers(
        subject, target, as_source(source), policy, given_bits=given, any_nan=any_nan, count=count, seed=seed
    )


#: Options that only casts to formats have.
_OF_FLOATS = ("zero", "underflow", "subnormal_inputs", "subnormal_results")


def _refuse(what: str, *names: str) -> None:
    """UsageError if one of these options is given."""
    if refused := command.options_given(*names):
        raise UsageError(f"{' and '.join(refused)} cannot be used with {what}")


def _is_beyond_float64(source: str, format: str | None) -> bool:
    """Whether float64 does not hold the numbers of the source or the target. Such casts are tested as the operation
    ``convert``, whose definition is exact. It has no options of a policy besides mode and overflow."""
    found = as_source(source)
    named = () if format is None or is_integer_name(format) else (as_format(format),)
    codes = () if found.integer is not None or found.is_float else (found.format,)
    return not all(each.fits_float64 for each in (*named, *codes))


def _conversion(
    subject: str, format: str | None, source: str, declared: Declaration, seed: int, calling: Calling
) -> tuple[Report, Presentation]:
    """A cast of numbers that float64 does not hold: the operation ``convert``."""
    _refuse(
        "formats beyond float64", "exhaustive", "resume", "random_bit_count", "given_bits", "backend", "nan",
        "infinity", "preset", *_OF_FLOATS,
    )  # fmt: skip
    if format is None:
        raise UsageError(f"--source {source} needs --format: the format of the results")
    report = validate_operation(
        subject, "convert", source, result=format, mode=declared.mode, overflow=declared.overflow, seed=seed,
        calling=calling,
    )  # fmt: skip
    return report, conversions


def _check_options(
    mode: str | None, preset: str | None, exhaustive: bool, resume: Path | None, given_bits: bool,
    random_bit_count: int | None,
) -> None:  # fmt: skip
    """UsageError for options that do not go together."""
    check_writable(resume, "--resume")
    if resume is not None and not exhaustive:
        raise UsageError("--resume goes with --exhaustive")
    is_stochastic = mode is not None and Mode(mode).takes_bit_count
    if mode is not None and Mode(mode).needs_random_bits and not is_stochastic:
        raise UsageError(f"--mode {mode} takes random bits in a way that is not tested here; use stochastic")
    is_stochastic_preset = preset in STOCHASTIC_PRESETS
    if not (is_stochastic or is_stochastic_preset) and (given_bits or random_bit_count is not None):
        raise UsageError("--given-bits and --random-bit-count go with --mode stochastic and its variants")
    if mode in (Mode.STOCHASTIC_B, Mode.STOCHASTIC_C) and random_bit_count is None:
        raise UsageError(f"--mode {mode} needs --random-bit-count: the variants differ in what few bits do")
    if is_stochastic and given_bits and random_bit_count is None:
        raise UsageError("--given-bits needs --random-bit-count: how many bits of each word decide")
    if is_stochastic:
        _refuse(f"--mode {mode}, whose results are random", "preset", "exhaustive", "plot")


def _stochastic(
    subject: Subject, format: str | None, source: str, declared: Declaration, count: int | None, given: bool, seed: int
) -> StochasticReport:
    target, read = target_format(subject, format), as_float_source(source)
    if declared.preset is not None:
        _refuse(f"--preset {declared.preset}, which is stochastic", "random_bit_count", "exhaustive", "plot")
        rule = stochastic_rule(declared.preset, target, read)
        count = rule.policy.random_bit_count
    else:
        found, _ = replace(declared, mode=None, nan=declared.nan or nans.ANY).rule(target, read)
        assert found is not None
        bits = ALL_BITS if count is None else count
        rule = found.with_(policy=Policy(Mode(str(declared.mode)), found.policy.overflow, bits))
    if rule.subnormal_results == "flush_tiny":
        raise UsageError("--subnormal-results flush_tiny cannot be used with a stochastic mode; give flush_before")
    if given:
        return validate_given_bits(subject, rule, read, seed=seed)
    return validate_own_bits(subject, rule, read, count, seed=seed)


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
