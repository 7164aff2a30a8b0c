"""Every number that a command takes, with values that no command can mean: one line that names the option, exit code 2.

The commands and their options are found by looking, so that a new one is tried too. A value that is fine is tried
with a job of a second at most.
"""

from __future__ import annotations

import re
import resource
import signal
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commands import ARGUMENTS, with_files

from mpsim.cli import main
from website.commands import hints, leaves

#: No option takes these; 0 and 2**63 some do.
REFUSED = {int: ["-1", str(10**20)], float: ["-1", "nan", "inf", "-inf", "1e308"]}
PERHAPS = {int: ["0", str(2**63)], float: ["0"]}
#: Options that hold numbers as text.
TEXTS = {"ratios": float, "widths": float}

#: What an option needs beside it to be looked at.
BESIDE = {
    "beta1": ["--optimizer", "adam"], "beta2": ["--optimizer", "adam"], "epsilon": ["--optimizer", "adam"],
    "ratio": ["--scheme", "largest_first"], "k": ["--scheme", "largest_k"],
    "plan_seed": ["--scheme", "random", "--ratio", "0.5"],
    "plan seed": ["--scheme", "random", "--ratio", "0.5"],
    "plan ratios": ["--scheme", "largest_first_in_steps"],
    "round random_bit_count": ["--mode", "stochastic", "--random-bits", "0"],
    "train random_bit_count": ["--rounding", "stochastic", "--scheme", "uniform_low"],
    "validate cast random_bit_count": ["--mode", "stochastic", "--format", "float8_e5m2"],
    "vectors cast random_bit_count": ["--mode", "stochastic"],
}  # fmt: skip


class Case(NamedTuple):
    command: str
    argument: str
    option: str
    value: str
    may_pass: bool


def kind_of(argument: str, hint: Any) -> type | None:
    """int or float for a number, one or several, that may be left out."""
    kinds = {hint, *typing.get_args(hint)} | {part for each in typing.get_args(hint) for part in typing.get_args(each)}
    return TEXTS.get(argument) or (float if float in kinds else int if int in kinds else None)


def cases() -> Iterator[Case]:
    for name, command in leaves():
        types = hints(command)
        for parameter in command.params:
            kind = kind_of(parameter.name, types.get(parameter.name))
            option = max(parameter.opts, key=len)
            if kind is not None and option.startswith("--"):
                for value in [*REFUSED[kind], *PERHAPS[kind]]:
                    yield Case(name, parameter.name, option, value, value in PERHAPS[kind])


CASES = list(cases())


def tried(case: Case) -> Any:
    """The case as a parameter."""
    name = f"{case.command} {case.option}={case.value}"
    return pytest.param(case, id=name)


def _too_long(*_: Any) -> None:
    raise AssertionError("a minute has passed")


@pytest.fixture
def limited() -> Iterator[None]:
    """A few GB more than now and a minute, so that a number taken as a size ends the test and not the machine."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(60)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 30), hard))
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small files that some commands read."""
    return with_files(tmp_path_factory.mktemp("files"))


@pytest.mark.skipif(sys.platform != "linux", reason="the guard against large arrays is Linux's")
@pytest.mark.parametrize("case", [tried(case) for case in CASES])
def test_a_number_is_taken_or_refused_by_name(
    case: Case, folder: Path, limited: None, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("{}", str(folder)) for word in ARGUMENTS[case.command]]
    beside = BESIDE.get(f"{case.command} {case.argument}", BESIDE.get(case.argument, []))
    with pytest.raises(SystemExit) as stopped:
        main([*case.command.split(), *given, *beside, case.option, case.value])
    output, errors = capsys.readouterr()
    if case.may_pass and stopped.value.code == 0:
        return
    assert stopped.value.code == 2, errors
    assert re.search(rf"{case.option}\b", errors) and "Traceback" not in errors + output, errors
    assert len(errors.strip().splitlines()) <= 6, errors


def test_numbers_are_found() -> None:
    """The introspection sees the options that it is there for."""
    found = {(case.command, case.option) for case in CASES}
    wanted = {("train", "--lr"), ("train", "--workers"), ("sweep", "--ratios"), ("figure", "--widths"), ("plan", "--k")}
    assert found >= wanted | {("round", "--random-bit-count"), ("trace-step", "--plan-seed")} and len(CASES) > 200
    assert {command for command, _ in found} <= set(ARGUMENTS)
