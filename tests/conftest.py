"""Hypothesis profiles, and the backends and instruction sets that tests of kernels run over."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from backends import ON_HOST, that_run
from hypothesis import HealthCheck, settings

from mpsim.cli import main
from mpsim.kernels import HAS_EXTENSION, BackendUnavailable, load
from mpsim.validate import SubjectError

# Test processes share the cores: a thread that waits for another must not keep the core that it waits for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("dev", max_examples=50, **common)
settings.register_profile("ci", max_examples=100, derandomize=True, database=None, print_blob=True, **common)
settings.register_profile("intense", max_examples=5000, **common)
settings.load_profile("dev")  # another: pytest --hypothesis-profile=intense


#: Set for processes that tests start, too.
SLOW = "MPSIM_TEST_SLOW"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that are marked slow")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: more of what another test checks in part; runs with --slow")
    if config.getoption("--slow"):
        os.environ[SLOW] = "1"
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked slow unless --slow is given."""
    if SLOW not in os.environ:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_collection_finish() -> None:
    """Collects garbage less often: with all modules and tests alive, a collection costs more than it frees."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if not HAS_EXTENSION:

    def needs_extension(error: Exception) -> bool:
        """Whether the cause is a request for "compiled", perhaps as a subject reports it."""
        return isinstance(error, BackendUnavailable | SubjectError) and "'compiled': mpsim in " in str(error)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call() -> Iterator[None]:
        """Skips a test that names the backend "compiled" where it is not built."""
        try:
            return (yield)
        except (BackendUnavailable, SubjectError) as error:
            if needs_extension(error):
                pytest.skip(str(error))
            raise

    pytest_runtest_setup = pytest_runtest_call  # for fixtures


def available(name: str) -> str:
    """The name of a backend; the test is skipped, with the cause in sight, where it cannot run."""
    try:
        load(name)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    return name


@pytest.fixture(scope="session", params=ON_HOST)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return available(request.param)


@pytest.fixture(scope="session")
def backends() -> list[str]:
    """All backends that run here, for a test whose expected results take longer than theirs."""
    return list(that_run())


@pytest.fixture(scope="session", params=[name for name in ON_HOST if name != "reference"])
def fast_backend(request: pytest.FixtureRequest) -> str:
    """Each backend but the reference, which the others are compared with."""
    return available(request.param)


@pytest.fixture(params=["portable", "avx2", "avx512"])
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of the compiled backend in turn."""
    kernels = pytest.importorskip("mpsim._kernels")
    if request.param not in kernels.variants():
        pytest.skip(f"the processor or the build is without {request.param}: {kernels.variants()}")
    kernels.force_variant(request.param)
    yield request.param
    kernels.force_variant(None)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """call(arguments of mpsim) -> (exit code, standard output, standard error)."""

    def run_main(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        if not HAS_EXTENSION and stopped.value.code and "'compiled': mpsim in " in output.err:
            pytest.skip(output.err.strip())
        return stopped.value.code, output.out, output.err

    return run_main


@pytest.fixture
def call_json(call: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """The same with ``--json``: what was printed, decoded."""

    def run_json(*arguments: Any) -> Any:
        code, output, errors = call(*arguments, "--json")
        assert code == 0, errors
        return json.loads(output)

    return run_json
