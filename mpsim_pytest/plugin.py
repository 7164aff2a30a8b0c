"""The pytest plugin of mpsim: a seed, and files with the counterexamples of failed tests.

pytest loads it by its entry point. It imports neither mpsim nor Hypothesis, so that runs which do not use mpsim pay
nothing. docs/testing.md describes it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Environment variables that mpsim.testing reads: the seed, and the file of the running test.
SEED, FILE = "MPSIM_SEED", "MPSIM_COUNTEREXAMPLE"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Adds the options."""
    leave_as_written(pluginmanager.rewrite_hook)
    group = parser.getgroup("mpsim")
    group.addoption(
        "--mpsim-seed", type=_seed, metavar="N", help="Seed of the fixture mpsim_seed and of large arrays (default 0)."
    )
    group.addoption(
        "--mpsim-counterexamples",
        default="mpsim-counterexamples",
        metavar="DIR",
        help="Folder of counterexamples, relative to the root. A test tries those in its file first.",
    )


def leave_as_written(hook: object) -> None:
    """Removes mpsim from the packages whose assertions pytest rewrites, where its hook has such a set.

    pytest adds every package of a distribution that has a plugin. Importing some 400 rewritten modules takes a second
    longer, and Numba would compile rewritten code.
    """
    marked = getattr(hook, "_must_rewrite", None)
    if isinstance(marked, set):
        marked -= {"mpsim", "reference_models"}


def _seed(text: str) -> int:
    """Parses a whole number of 32 bits. A ValueError is a usage error of pytest."""
    number = int(text, 0)
    if not 0 <= number < 1 << 32:
        raise ValueError(f"the seed must be from 0 to 2**32 - 1, got {number}")
    return number


def pytest_configure(config: pytest.Config) -> None:
    """Passes the seed to mpsim.testing, also in the processes of pytest-xdist."""
    seed = config.getoption("--mpsim-seed")
    if seed is not None:
        before = os.environ.get(SEED)
        os.environ[SEED] = str(seed)
        config.add_cleanup(lambda: _restore(SEED, before))


def _restore(name: str, value: str | None) -> None:
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


def pytest_report_header(config: pytest.Config) -> str | None:
    """Prints the seed if one was given."""
    seed = config.getoption("--mpsim-seed")
    return None if seed is None else f"mpsim: seed {seed}"


@pytest.fixture(scope="session")
def mpsim_seed(request: pytest.FixtureRequest) -> int:
    """The number of --mpsim-seed, by default 0."""
    return request.config.getoption("--mpsim-seed") or 0


def file_of(item: pytest.Item) -> Path:
    """Returns the file of a test's counterexample."""
    folder = item.config.rootpath / str(item.config.getoption("--mpsim-counterexamples"))
    readable = re.sub(r"[^\w.-]+", "_", item.nodeid)[-100:]
    return folder / f"{readable}-{hashlib.sha256(item.nodeid.encode()).hexdigest()[:8]}.npz"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Names the test's counterexample to mpsim.testing while it runs."""
    path = file_of(item)
    if not path.exists():
        return (yield)
    before = os.environ.get(FILE)
    os.environ[FILE] = str(path)
    try:
        return (yield)
    finally:
        _restore(FILE, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Writes the counterexample of a failed assertion of mpsim.testing, and names its file in the report."""
    report = yield
    if call.when == "call" and call.excinfo is not None and report.failed:  # type: ignore[attr-defined]
        for error in _errors(call.excinfo.value):
            save = getattr(error, "save_counterexample", None)
            if save is not None and (text := _saved(save, file_of(item))):
                report.sections.append(("mpsim counterexample", text))  # type: ignore[attr-defined]
                break
    return report


def _saved(save: object, path: Path) -> str:
    try:
        written = save(path)  # type: ignore[operator]
    except OSError as error:
        return f"{path} cannot be written: {error}"
    return f"{path}\nThe test tries these inputs first the next time." if written else ""


def _errors(error: BaseException) -> Iterator[BaseException]:
    """Yields an exception, and those of a group."""
    yield error
    for inner in getattr(error, "exceptions", ()):
        yield from _errors(inner)
