"""Every backend defines every kernel of the contract, and equals the reference in every bit, on 1 and 2 threads."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import pytest
from kernel_cases import ACCUMULATORS, CASES

from mpsim.kernels import load
from mpsim.kernels.contract import CONTRACT


def bits(value: Any) -> Any:
    """What must be equal: dtype, shape and bit patterns, every NaN alike, as the payload and sign are free."""
    if isinstance(value, tuple | list):
        return [bits(part) for part in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        plain = np.where(np.isnan(value), value.dtype.type(np.nan), value)
        return str(value.dtype), value.shape, plain.tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    return bits(np.array(value)) if isinstance(value, float) else repr(value)


def run(name: str, backend: str, threads: int, case: tuple[Any, ...], **options: Any) -> Any:
    """The result and what became of the arguments."""
    arguments = copy.deepcopy(case)
    result = getattr(load(backend), name)(*arguments, threads=threads, **options)
    return bits(result), bits(list(arguments))


def shapes(case: tuple[Any, ...]) -> list[Any]:
    return [argument.shape if isinstance(argument, np.ndarray) else argument for argument in case]


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Any]]:
    """The reference's result for every case, computed once when first asked for."""
    return {}


@pytest.fixture(autouse=True)
def threads_for_small_contractions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing here would be large enough for a second thread."""
    module = pytest.importorskip("mpsim.kernels.compiled.contraction")
    monkeypatch.setattr(module, "WORTH_THREADS", 0)


def check(name: str, backend: str, expected: dict[str, list[Any]]) -> None:
    if name not in expected:
        expected[name] = [run(name, "reference", 1, case) for case in CASES[name]]
    for number, (case, wanted) in enumerate(zip(CASES[name], expected[name], strict=True)):
        for threads in (1, 2):
            same = run(name, backend, threads, case) == wanted  # a diff of so many bits would tell nothing
            assert same, f"case {number}, {threads} threads: {shapes(case)}"


def test_every_backend_defines_every_kernel(backend: str) -> None:
    module = load(backend)
    assert [name for name in CONTRACT if not callable(getattr(module, name, None))] == []


def test_every_kernel_takes_threads(backend: str) -> None:
    module = load(backend)
    for name, row in CONTRACT.items():
        parameters = inspect.signature(getattr(module, name)).parameters
        assert "threads" in parameters, name
        assert ("accumulator" in parameters) == row.contraction, name


def test_every_kernel_has_a_case() -> None:
    assert [name for name in CONTRACT if not CASES.get(name)] == []
    assert [name for name in CASES if name not in CONTRACT] == []


@pytest.mark.parametrize("name", CONTRACT)
def test_backend_equals_the_reference(name: str, backend: str, expected: dict[str, list[Any]]) -> None:
    check(name, backend, expected)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_instruction_set_equals_the_reference(name: str, variant: str, expected: dict[str, list[Any]]) -> None:
    check(name, "compiled", expected)


@pytest.mark.parametrize("name", [name for name, row in CONTRACT.items() if row.contraction])
@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=str)
def test_contractions_with_other_accumulators(name: str, accumulator: Any, backend: str) -> None:
    for case in CASES[name]:
        wanted = run(name, "reference", 1, case, accumulator=accumulator)
        same = run(name, backend, 2, case, accumulator=accumulator) == wanted
        assert same, shapes(case)
