"""The verdict matrix: every stand-in gets the verdict, the exit code and the cause that are due, and no false word."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verdicts.rows import DIFFERENT, EQUAL, ROWS, UNDECIDED, UNEXPLAINED, Row
from verdicts.steps import PLAIN_STEPS, STEPS

from mpsim.cli import main

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
pytest.importorskip("ml_dtypes", reason="the test extra is not installed")

HERE = Path(__file__).parent / "verdicts"
#: What a report on products says of sums whose order it knows.
OF_KNOWN_ORDERS = ("sum bits:", "alignment bits:", "rounding:", "fma:", "terms:", "chunk:", "least alignment:")
#: How a report on a step begins to say what would explain a tensor.
CAUSES_IN_STEPS = re.compile(
    r"explained by (?!another order)|not rounded|times what it should be|not updated|the master is rounded|without "
    r"|the sign of the update|it starts from|it takes the gradient|not divided|divided twice|Nesterov|damped|decoupled"
    r"|the learning rate is|updated although|elements on which they differ follow"
)
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Gives the folder that a row names; libraries are compiled, and steps recorded, for the first that asks."""
    made: dict[str, str] = {"here": str(HERE), "python": sys.executable}

    def place(name: str) -> str:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            {"built": _compile, "steps": _record}[name](folder)
            made[name] = str(folder)
        return made[name]

    return place


def _compile(folder: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler 'cc'")
    for name in ("native", "flushing"):
        flags = ["-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o", str(folder / f"{name}.so")]
        subprocess.run(["cc", *flags, str(HERE / f"{name}.c")], check=True)


def _record(folder: Path) -> None:
    """mpsim's records of the third step of network.py, and the files of programs that took the same steps."""
    levels = ["--levels", "bfloat16:float8_e4m3fn,float8_e5m2"]
    for record, plan, programs in (("ours", levels, STEPS), ("plain", ["--scheme", "float32"], PLAIN_STEPS)):
        words = [
            "trace-step",
            f"{HERE / 'network.py'}:build",
            "--data",
            "digits",
            "--batch",
            "4",
            "--steps",
            "2",
            *plan,
        ]
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--threads", "1", "--out", str(folder / f"{record}.npz")])
        assert stopped.value.code == 0
        with np.load(folder / f"{record}.npz") as file:
            ours = {name: file[name] for name in file.files if not name.endswith(".json")}
        for name, program in programs.items():
            np.savez(folder / f"{name}.npz", **program(dict(ours)))
    whole = (folder / "same.npz").read_bytes()
    (folder / "broken.npz").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdict(row: Row, places: Callable[[str], str], call: Call) -> None:
    named = {name: places(name) for name in re.findall(r"{(\w+)}", row.command)}
    command = shlex.split(row.command.format(**named))
    group = () if command[0] == "conformance" else ("validate",)
    code, output, errors = call(*group, *command)
    said = " ".join(f"{output}\n{errors}".split())
    assert code == row.verdict.value, said
    assert "Traceback" not in errors or "interrupts" in row.name or "closes_files" in row.name, errors
    assert "a defect of mpsim" not in errors
    assert [words for words in row.prints if words not in said] == [], said
    assert [words for words in row.never if words in said] == [], said
    CHECKS[row.command.split()[0]](row, said)


def _check_likely_causes(row: Row, said: str) -> None:
    """Exactly the causes that are due are called likely, each at least once; the rest is unexplained."""
    due = [cause for cause in row.causes if cause != UNEXPLAINED]
    for cause in due:
        assert f"likely cause: {cause}" in said, said
    assert said.count("likely cause:") == sum(said.count(f"likely cause: {cause}") for cause in due), said
    assert (UNEXPLAINED in said) == (UNEXPLAINED in row.causes), said


def _check_products(row: Row, said: str) -> None:
    """Of sums that no accumulator gives, no width, rounding or order is printed."""
    assert ("equal to no accumulator that was tried" in said) >= (UNEXPLAINED in row.causes), said
    if UNEXPLAINED in row.causes:
        assert [words for words in OF_KNOWN_ORDERS if words in said] == [], said


def _check_step_causes(row: Row, said: str) -> None:
    """Every cause that is due is named, and nothing else that would explain a tensor."""
    due = [cause for cause in row.causes if cause != UNEXPLAINED]
    assert [cause for cause in due if cause not in said] == [], said
    rest = said
    for cause in due:
        rest = rest.replace(cause, "")
    assert CAUSES_IN_STEPS.findall(rest) == [], said


def _check_operation_cause(row: Row, said: str) -> None:
    """The cause that is due is named, or the report says that there is none."""
    due = [cause for cause in row.causes if cause != UNEXPLAINED]
    assert [cause for cause in due if f"cause: {cause}; this gives every answer" not in said] == [], said
    assert ("cause:" in said) == bool(due) and (UNEXPLAINED in said) == (UNEXPLAINED in row.causes), said


CHECKS: dict[str, Callable[[Row, str], Any]] = {
    "cast": _check_likely_causes,
    "dot": _check_products,
    "blocks": _check_likely_causes,
    "op": _check_operation_cause,
    "conformance": lambda row, said: None,
    "step": _check_step_causes,
}


def test_the_matrix_is_whole() -> None:
    """Every kind has right stand-ins, wrong ones, and ones of which nothing can be said; names are unique."""
    assert len({row.name for row in ROWS}) == len(ROWS) >= 75
    counts = Counter((row.command.split()[0], row.verdict) for row in ROWS)
    for kind, least in (("cast", 28), ("dot", 20), ("blocks", 12), ("step", 12)):
        assert sum(counts[kind, verdict] for verdict in (EQUAL, DIFFERENT, UNDECIDED)) >= least
        assert all(counts[kind, verdict] >= 5 for verdict in (EQUAL, DIFFERENT, UNDECIDED)), kind
    assert {row.name for row in ROWS if row.verdict is DIFFERENT and not (row.causes or row.prints)} == set()
