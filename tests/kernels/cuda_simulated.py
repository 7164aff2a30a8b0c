"""The cuda backend in the CUDA simulator, bit for bit the reference; test_cuda.py runs this file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kernel_cases import CASES
from test_contract import bits, shapes

from mpsim.formats import FORMATS, Format
from mpsim.kernels import cuda as backend
from mpsim.kernels import load, spec
from mpsim.kernels.contract import CONTRACT
from mpsim.kernels.cuda.arrays import is_on_device
from mpsim.kernels.cuda.intrinsics import SIMULATED
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy

#: Elements of a case's arrays, at most: the simulator takes some ten microseconds for one.
LARGEST = {"channel_sum": 9000, "total_sum": 5000}


def moved(value: Any, move: Any) -> Any:
    """The value with ``move`` applied to every array inside."""
    if isinstance(value, np.ndarray) or is_on_device(value):
        return move(value)
    return type(value)(moved(part, move) for part in value) if type(value) in (tuple, list) else value


def size(case: tuple[Any, ...]) -> int:
    return sum(part.size if isinstance(part, np.ndarray) else size(part) for part in case
               if isinstance(part, np.ndarray | list | tuple))  # fmt: skip


def small(name: str) -> Iterator[tuple[Any, ...]]:
    chosen = [case for case in CASES[name] if size(case) <= LARGEST.get(name, 1500)]
    assert chosen, f"no case of {name} is small"
    return iter(chosen)


def test_this_is_the_simulator() -> None:
    assert SIMULATED


def test_every_kernel_is_defined() -> None:
    assert [name for name in CONTRACT if not callable(getattr(backend, name, None))] == []


@pytest.mark.parametrize("name", CONTRACT)
def test_kernel_equals_the_reference(name: str) -> None:
    for case in small(name):
        given = moved(case, np.copy)
        wanted = getattr(load("reference"), name)(*given)
        on_device = moved(case, backend.from_numpy)
        result = moved(getattr(backend, name)(*on_device), backend.to_numpy)
        same = bits(result) == bits(wanted) and bits(moved(on_device, backend.to_numpy)) == bits(given)
        assert same, shapes(case)
