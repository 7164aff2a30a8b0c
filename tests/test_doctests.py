"""The examples in docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from functools import cache
from types import ModuleType

import pytest

import mpsim
import reference_models
from mpsim.kernels import HAS_EXTENSION

#: Modules that need a device, or the extension where it is not built.
ABSENT = ("mpsim.kernels.cuda", *(() if HAS_EXTENSION else ("mpsim.kernels.compiled",)))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> list[str]:
    """Every module of the packages that imports without a device, by name."""
    names = []
    for package in (mpsim, reference_models):
        names.append(package.__name__)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(ABSENT) and not found.name.endswith("__main__"):
                names.append(found.name)
    return names


@cache
def with_examples() -> list[str]:
    """The modules with an example that is not skipped."""
    names = []
    for name in modules():
        tests = doctest.DocTestFinder().find(importlib.import_module(name))
        if any(not example.options.get(doctest.SKIP) for test in tests for example in test.examples):
            names.append(name)
    return names


@pytest.mark.parametrize("name", with_examples())
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=FLAGS)
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("name", mpsim.__all__)
def test_every_public_name_has_a_running_example(name: str) -> None:
    """In its docstring, or, for a table, in that of its type."""
    value = getattr(mpsim, name)
    documented = value if isinstance(value, ModuleType) or hasattr(value, "__qualname__") else type(value)
    examples = doctest.DocTestParser().get_examples(documented.__doc__ or "")
    assert [example for example in examples if example.want], f"mpsim.{name} has no example"
    home = value.__name__ if isinstance(value, ModuleType) else documented.__module__
    assert home in with_examples()  # so that test_examples_run runs it


def test_there_are_at_most_twenty_five_public_names() -> None:
    assert len(mpsim.__all__) == len(set(mpsim.__all__)) <= 25


def test_importing_mpsim_imports_what_is_used_alone() -> None:
    """Starting takes a fifth of a second less. What is not imported before it is used still has its name."""
    program = """
import sys, mpsim
heavy = {"scipy", "numba", "PIL", "matplotlib", "rich", "typer", "sklearn", "mpsim.training.trainer", "mpsim.validate"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import mpsim.trace
assert callable(mpsim.trace) and mpsim.losses.CrossEntropy is not None and mpsim.__version__
assert all(getattr(mpsim, name) is not None for name in mpsim.__all__) and "Trainer" in dir(mpsim)
from mpsim import *
assert Trainer is mpsim.Trainer and "mpsim.training.trainer" in sys.modules
try:
    mpsim.nonsense
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "module 'mpsim' has no attribute 'nonsense'\n"), done.stderr
