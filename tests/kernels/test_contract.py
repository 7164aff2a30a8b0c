"""Every backend defines every kernel of the contract, and equals the reference in every bit, on 1 and 2 threads."""

from __future__ import annotations

import copy
import functools
import inspect
import re
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from kernel_cases import ACCUMULATORS, CASES, numbers

import reference_models
from mpsim import assignment
from mpsim.kernels import BACKENDS, HAS_EXTENSION, BackendUnavailable, check_signatures, load
from mpsim.kernels.contract import CONTRACT
from mpsim.trace import trace
from mpsim.training.trainer import Trainer


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
    if HAS_EXTENSION:
        monkeypatch.setattr("mpsim.kernels.compiled.contraction.WORTH_THREADS", 0)


def check(name: str, backend: str, expected: dict[str, list[Any]]) -> None:
    if name not in expected:
        expected[name] = [run(name, "reference", 1, case) for case in CASES[name]]
    for number, (case, wanted) in enumerate(zip(CASES[name], expected[name], strict=True)):
        for threads in (1, 2):
            same = run(name, backend, threads, case) == wanted  # a diff of that many bits would show nothing
            assert same, f"case {number}, {threads} threads: {shapes(case)}"
    assert np.longdouble(1) + np.longdouble(1) == 2, "an instruction left the registers of long double in use"


def test_every_backend_has_the_signatures_of_the_contract(backend: str) -> None:
    check_signatures(load(backend))
    assert len(CONTRACT) == 49 and all(row.order for row in CONTRACT.values())


def foreign(**functions: Any) -> ModuleType:
    """A backend of somebody else's: functions of exactly the contract's arguments."""
    module = ModuleType("foreign")
    for name, row in CONTRACT.items():
        wanted = list(row.signature.parameters.values())
        further = ["threads", *(["accumulator"] if row.contraction else [])]
        wanted += [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in further]
        function = functools.partial(getattr(load("reference"), name))
        function.__signature__ = inspect.Signature(wanted)  # type: ignore[attr-defined]
        setattr(module, name, functions.get(name, function))
    return module


def test_a_foreign_backend_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foreign", foreign())
    monkeypatch.setitem(BACKENDS, "foreign", ("foreign", "a test's"))
    images, labels = numbers(3, 4, 1, 8, 8), np.array([1, 0, 3, 2])
    digests = []
    for backend in ("reference", "foreign"):
        model = reference_models.build("small_cnn", width=0.25)
        plan = assignment.assign(trace(model, 4, "standard", (1, 8, 8)), "uniform_low")
        trainer = Trainer(model, plan, backend=backend, threads=1)
        trainer.step(images, labels)
        digests.append(trainer.digest())
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("relu", None, "there is no function relu"),
        ("add", lambda a, b, *, out=None: a, "add has no argument threads"),
        ("matmul", lambda a, b, transpose_a=False, transpose_b=False, bias=None, *, threads: a, "no argument acc"),
        ("scale", lambda x, by, *, out=None, threads: x, "scale takes (x, by, out) instead of (x, factor, out)"),
        ("random_bits", lambda stream, size, first=1, *, threads: size, "a default of first other than 0"),
        ("channel_sum", lambda *, x, threads: x, "channel_sum has x as a different kind of argument (keyword-only)"),
        ("positive", lambda x, *, out=None, threads: x, "positive takes (x, out) instead of (x)"),
    ],
)
def test_a_backend_that_is_none(name: str, function: Any, words: str) -> None:
    with pytest.raises(BackendUnavailable, match=re.escape(words)):
        check_signatures(foreign(**{name: function}))


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
