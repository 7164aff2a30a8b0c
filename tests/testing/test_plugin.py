"""The pytest plugin, and the profile of Hypothesis, on tests in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook
from hypothesis import settings

from mpsim_pytest import plugin, profile

pytest_plugins = ["pytester"]

TESTS = """
import numpy as np
from hypothesis import given
from mpsim.testing import assert_rounds_like, assert_same_bits, near_ties

def cast(x):  # wrong for one number, which is not in the corpus
    y = x.astype(np.float16).astype(np.float32)
    return np.where(x == np.float32(WRONG), np.float32(0), y)

def test_rounds():
    assert_rounds_like(cast, "float16", x=np.float32(X))

def test_bits():
    assert_same_bits(np.float32([1]), np.float32([1]))

@given(near_ties("float8_e4m3fn"))
def test_near(x):
    assert x < 1.0

def test_seed(mpsim_seed):
    assert mpsim_seed == SEED
"""


class Run(NamedTuple):
    code: int
    output: str


@pytest.fixture
def run(pytester: pytest.Pytester) -> Callable[..., Run]:
    """run(options, x=..., wrong=..., seed=...) -> the exit code and the output of pytest on TESTS."""

    def run_tests(*options: str, x: str = "[5.5, 1.25]", wrong: str = "1.25", seed: int = 0) -> Run:
        text = TESTS.replace("WRONG", wrong).replace("SEED", str(seed)).replace("X)", f"{x})")
        pytester.makepyfile(test_user=text)
        done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-q", *options)
        return Run(int(done.ret), "\n".join([*done.outlines, *done.errlines]))

    return run_tests


def test_a_counterexample_is_written_and_replayed(run: Callable[..., Run], pytester: pytest.Pytester) -> None:
    code, output = run("-k", "rounds or bits")
    assert code == 1 and "1 failed, 1 passed" in output and "mpsim counterexample" in output
    (kept,) = (pytester.path / "mpsim-counterexamples").iterdir()
    assert kept.name.startswith("test_user.py_test_rounds-") and str(kept) in output
    with np.load(kept) as file:
        assert file["inputs"].tolist() == [0x3FA00000]  # 1.25 in float32
        assert file["expected"].view(np.float64).tolist() == [1.25] and file["actual"].tolist() == [0]
    assert run("-k", "rounds", x="[5.5]").code == 1  # the test does not ask 1.25 any more; its file does
    assert run("-k", "rounds", x="[5.5]", wrong="-7777").code == 0 and kept.exists()
    kept.write_bytes(b"broken")
    assert run("-k", "rounds", x="[5.5]").code == 0


def test_the_seed(run: Callable[..., Run]) -> None:
    code, output = run("-k", "seed", "-vv", "--mpsim-seed", "0x10", seed=16)
    assert code == 0 and "mpsim: seed 16" in output
    assert "MPSIM_SEED" not in os.environ
    code, output = run("-k", "seed", "--mpsim-seed", "-1")
    assert code == 4 and "--mpsim-seed" in output


def test_the_profile_shows_codes(run: Callable[..., Run]) -> None:
    profile.register()  # as Hypothesis does by the entry point, unless an older installation is found first
    assert "float8_e4m3fn: " not in run("-k", "near").output
    before = settings.get_current_profile_name()
    try:
        code, output = run("-k", "near", "--hypothesis-profile=mpsim")
    finally:
        settings.load_profile(before)
    assert code == 1 and "float8_e4m3fn: 1.0624999 (0x3f87ffff) is between 0x38 and 0x39" in output


def test_modules_of_mpsim_are_not_rewritten() -> None:
    hook = AssertionRewritingHook(SimpleNamespace(getini=lambda name: [], stash={}))  # type: ignore[arg-type]
    hook.mark_rewrite("mpsim_pytest", "some_plugin")
    hook._must_rewrite |= {"mpsim", "reference_models"}  # not by mark_rewrite, which warns of what is imported
    plugin.leave_as_written(hook)
    assert hook._must_rewrite == {"mpsim_pytest", "some_plugin"}
    plugin.leave_as_written(object())


def test_the_entry_points_are_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]
    assert points["pytest11"] == {"mpsim": plugin.__name__}
    module, _, name = points["hypothesis"]["mpsim"].partition(":")
    assert getattr(sys.modules[module], name) is profile.register


def test_the_profile_needs_no_pytest() -> None:
    """Hypothesis loads it wherever mpsim is installed."""
    program = "import sys; sys.modules['pytest'] = None\nfrom mpsim_pytest.profile import register"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_costs_nothing_where_it_is_not_used() -> None:
    """It imports neither mpsim nor Hypothesis nor NumPy, and takes less than 20 ms, the best of several times."""
    program = (
        "import sys, time, pytest\n"
        "before = time.process_time()\n"
        "import mpsim_pytest.plugin\n"
        "print(time.process_time() - before, [n for n in ('mpsim', 'hypothesis', 'numpy') if n in sys.modules])\n"
    )
    best = 1.0
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        seconds, loaded = done.stdout.split(maxsplit=1)
        assert loaded.strip() == "[]"
        best = min(best, float(seconds))
        if best < 0.02:
            return
    pytest.fail(f"importing the plugin took {best:.3f} s")
