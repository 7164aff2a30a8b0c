"""The floating-point state that other code leaves in a thread changes no bit, and is there again after each call."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from public_names import public

import mpsim
from mpsim.kernels import load
from mpsim.process import default_float_environment, environment, in_default_environment
from mpsim.process.registers import ARM, DEFAULT, X86

TESTS = Path(__file__).parent
FLUSHING = DEFAULT | (0x8040 if X86 else 1 << 24)
knows_the_register = pytest.mark.skipif(not (X86 or ARM), reason="the control register of this processor is not known")


@knows_the_register
def test_public_functions_have_the_same_bits(backend: str) -> None:
    """With flush-to-zero, denormals-are-zero, both, and rounding down, up and toward zero; with one and two threads."""
    folders = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "kernels")))
    command = [sys.executable, "-W", "ignore", str(TESTS / "environments.py"), backend]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": folders}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls, *wrong = done.stdout.splitlines()
    assert int(calls.split()[0]) > 500 and not wrong, "\n".join(wrong[:20])


@pytest.mark.slow
@knows_the_register
def test_examples_of_public_names_have_the_same_bits() -> None:
    """Every public function and method, where an example calls it, in the six states."""
    folders = os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "kernels")))
    command = [sys.executable, "-W", "ignore", str(TESTS / "environment_examples.py")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": folders}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls, *wrong = done.stdout.splitlines()
    assert int(calls.split()[0]) > 5000 and not wrong, "\n".join(wrong[:20])


#: Public functions that are not wrapped. Ops run inside ``trace``, ``nn.apply`` and a training step. Laws and the
#: assertions call a subject in the caller's environment. Strategies of Hypothesis draw later. The others store,
#: describe or hand on what they are given.
OPS = "mpsim.ops."
BARE = {
    "extend": ("backend", "dataset", "kernel", "network", "op", "preset", "scheme"),
    "data": ("located",),
    "products.passes": ("accumulators_of", "entries_of"),
    "integers": ("as_integer", "is_integer_name"),
    "testing": (
        "arrays_near_ties", "assert_quantizes_like", "assert_rounds_like", "assert_same_bits", "bit_patterns", "codes",
        "formats", "large_arrays", "near_ties", "plans", "random_bits", "shapes", "turning_points", "values",
    ),
    "testing.laws": (
        "closed", "decodes_back", "idempotent", "monotone", "odd_symmetric", "rounds_like", "scalar_is_array",
        "split_invariant", "to_odd_then_narrower", "up_down_dual",
    ),
}  # fmt: skip


def test_public_functions_run_in_the_default_environment() -> None:
    """A new public function is wrapped, or named above with the reason."""
    guarded = in_default_environment(abs).__code__
    functions = {name: value for name, value in public().values() if inspect.isfunction(value)}
    bare = {name for name, value in functions.items() if value.__code__ is not guarded and not name.startswith(OPS)}
    assert bare == {f"mpsim.{module}.{name}" for module, names in BARE.items() for name in names}


@knows_the_register
def test_the_state_is_changed_and_restored() -> None:
    """In a thread that flushes, half of the smallest normal number is 0, and inside it is subnormal."""
    halved = lambda: np.float32(2.0**-126) * np.float32(0.5)  # noqa: E731
    environment.leave_float_environment(FLUSHING)
    try:
        outside = halved()
        inside = in_default_environment(halved)()
        with default_float_environment():
            within = halved()
        after = halved()
    finally:
        environment.leave_float_environment(DEFAULT)
    assert (outside, after) == (0, 0) and inside == within == np.float32(2.0**-127)


@knows_the_register
def test_constants_of_modules_do_not_depend_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding up, Python computes and stores 2**-52 as the number after it. A module of mpsim has 2**-52."""
    for name in ("of_mpsim", "of_others"):
        (tmp_path / f"constant_{name}.py").write_text("x = 2.0**-52\n")
    monkeypatch.setattr(mpsim, "__path__", [*mpsim.__path__, str(tmp_path)])
    monkeypatch.syspath_prepend(tmp_path)
    up = DEFAULT | (0x4000 if X86 else 1 << 22)
    environment.leave_float_environment(up)
    try:
        found = [importlib.import_module(name).x for name in ("mpsim.constant_of_mpsim", "constant_of_others")]
        after = environment.enter_float_environment()
    finally:
        environment.leave_float_environment(DEFAULT)
        vars(mpsim).pop("constant_of_mpsim", None)
        for name in ("mpsim.constant_of_mpsim", "constant_of_others"):
            sys.modules.pop(name, None)
    assert list(map(float.hex, found)) == ["0x1.0000000000000p-52", "0x1.0000000000001p-52"]
    assert after & ~environment.FLAGS == up & ~environment.FLAGS


def numbers_of_a_child(backend: str, fork_again: bool) -> None:
    """Ends the process with 0 if parallel kernels give the bits of NumPy's sum and of the reference's product."""
    x = np.linspace(-1, 1, 100_000, dtype=np.float32)
    found = load(backend).add(x, x, threads=2)
    same = found.tobytes() == (x + x).tobytes()
    operands = x[:9000].reshape(90, 100), x[:9000].reshape(100, 90)
    products = [mpsim.matmul(*operands, backend=each, threads=2).tobytes() for each in (backend, "reference")]
    same &= products[0] == products[1]
    if fork_again:
        same &= status_of_a_child(backend, False) == 0
    os._exit(not same)


def status_of_a_child(backend: str, fork_again: bool, method: str = "fork") -> int | None:
    child = multiprocessing.get_context(method).Process(target=numbers_of_a_child, args=(backend, fork_again))
    child.start()
    child.join(60)
    status = child.exitcode
    child.kill()
    child.join()
    return status


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_computes(backend: str) -> None:
    """Also one that a forked process forks. The threads of the parent have run, and run afterwards."""
    x = np.linspace(-1, 1, 100_000, dtype=np.float32)
    load(backend).add(x, x, threads=2)
    assert status_of_a_child(backend, True) == 0
    assert load(backend).add(x, x, threads=2).tobytes() == (x + x).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted({"spawn", "forkserver"} & set(multiprocessing.get_all_start_methods())))
def test_a_new_process_computes(backend: str, method: str) -> None:
    """Started by Python's other methods, after the threads of this one have run."""
    x = np.linspace(-1, 1, 100_000, dtype=np.float32)
    load(backend).add(x, x, threads=2)
    assert status_of_a_child(backend, False, method) == 0
