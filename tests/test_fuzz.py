"""The fuzz session itself: targets pass, notice a planted defect, and a crash or a hang is a failure."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import fuzz
from tests.fuzz import layers, mutants, rounding, session, sums
from tests.fuzz.examples import search_examples

assert fuzz.__file__
CHECKS = {
    "rounding": rounding.rounding, "codes": rounding.codes, "streams": rounding.streams, "layers": layers.layers,
    "products": sums.products, "contractions": sums.contractions, "blocks": sums.blocks,
}  # fmt: skip


@pytest.fixture(autouse=True)
def reference_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba would compile for minutes."""
    for module in (rounding, layers, sums):
        monkeypatch.setattr(module, "backends", lambda: ("reference",))


def found_by(name: str, folder: Path, seconds: float, most: int) -> list[str]:
    reports: list[str] = []
    search_examples(CHECKS[name], seconds, folder, reports.append, shrink=False, most=most)
    return reports


@pytest.mark.parametrize("name", CHECKS)
def test_right_kernels_pass(name: str, tmp_path: Path) -> None:
    assert found_by(name, tmp_path, 20, most=5) == []


def test_a_wrong_kernel_is_found_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One element in 64 of a rounded array has another last bit."""
    right = rounding.round_to

    def wrong(x: np.ndarray, *arguments: Any, **options: Any) -> Any:
        result, counts = right(x, *arguments, **options)
        result[::64] = np.nextafter(result[::64], result.dtype.type(1))
        return result, counts

    monkeypatch.setattr(rounding, "round_to", wrong)
    (report,) = found_by("rounding", tmp_path, 60, most=200)
    assert "differ" in report and "policies" in report
    assert any(path.is_file() for path in tmp_path.rglob("*")), "Hypothesis keeps the example"


def test_the_session_reports_failures_crashes_and_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that say what a target found, that die, and that do not end."""
    programs = {
        "found": "print('FOUND \"seven\"', flush=True); print('ENDED 5')",
        "dies": "import os; os.kill(os.getpid(), 11)",
        "hangs": "import time; time.sleep(60)",
        "passes": "print('ENDED 7')",
    }

    def start(command: list[str], **options: Any) -> Any:
        return popen([command[0], "-c", programs[command[command.index("--one") + 1]]], **options)

    popen = subprocess.Popen
    monkeypatch.setattr(session.subprocess, "Popen", start)
    monkeypatch.setattr(session, "GRACE", 0.5)
    plan = session.Plan(tmp_path, 4.0, 4, 0, list(programs))
    failures, examples = session.search(plan)
    assert {failure.target for failure in failures} == {"found", "dies", "hangs"} and examples["passes"] >= 7
    texts = {failure.target: failure.text for failure in failures}
    assert texts["found"] == "seven" and "exit code -11" in texts["dies"] and "it hangs" in texts["hangs"]


def test_every_mutant_has_its_place() -> None:
    for mutant in mutants.MUTANTS.values():
        source = (session.ROOT / mutant.file).read_text(encoding="utf-8")
        assert mutants.planted(mutant, source) != source
    assert len(mutants.MUTANTS) >= 12


def test_every_kernel_with_a_definition_has_arguments() -> None:
    import layer_definitions
    from kernel_cases import CASES

    named = {name for name in CASES if hasattr(layer_definitions, name)} | layers.DEFINED.keys()
    assert named == layers.ARGUMENTS.keys()


@pytest.mark.slow
def test_the_session_finds_the_mutants(tmp_path: Path) -> None:
    plan = session.Plan(tmp_path, 600.0, 2, 0, list(session.TARGETS), first=True)
    assert mutants.run(plan, []) == 0
