"""Presets of sums on processors, each against the library that sums so, in every bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpsim import matmul
from mpsim.kernels import bind, load
from mpsim.products.accumulators import Summation
from mpsim.products.passes import accumulators_of
from mpsim.products.presets import PRESETS
from mpsim.products.text import product_of

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

Array = np.ndarray[Any, Any]
#: Fewer than a vector, one block of NumPy's sums and more, and one of mpsim's.
LENGTHS = (*range(1, 20), 31, 32, 33, 127, 128, 129, 136, 200, 255, 256, 257, 1000)


def rows(length: int, format: str = "float32", count: int = 40) -> Array:
    """Numbers of many magnitudes, ordinary ones, ones that cancel, and zeros of both signs."""
    random = np.random.default_rng(length)
    x = random.standard_normal((count, length)).astype(np.float32)
    x[::4] *= np.float32(2.0) ** random.integers(-10, 11, (len(x[::4]), length)).astype(np.float32)
    x[1::4, length // 2 :] = -x[1::4, : length - length // 2]
    x[2 % count] *= np.float32(-0.0)
    return x.astype(format).astype(np.float32)


def sums(x: Array, summation: Summation) -> Array:
    ones = np.ones((x.shape[1], 1), np.float32)
    return matmul(x, ones, summation, threads=1)[:, 0]


def same(found: Array, expected: Array) -> bool:
    return found.astype(np.float32).tobytes() == expected.astype(np.float32).tobytes()


def torch_cumsum(x: Array) -> Array:
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    return np.asarray(torch.from_numpy(x).cumsum(1)[:, -1].numpy())


def numpy_matmul(x: Array) -> Array:
    return np.asarray(x.astype(np.float16) @ np.ones((x.shape[1], 1), np.float16))[:, 0]


SUMS: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "numpy_sum_float32": ("float32", lambda x: np.asarray([row.sum() for row in x])),
    "numpy_sum_float16": ("float16", lambda x: np.asarray([row.astype(np.float16).sum() for row in x])),
    "numpy_matmul_float16": ("float16", numpy_matmul),
    "torch_cumsum_float32": ("float32", torch_cumsum),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_library_sums_as_its_preset(name: str) -> None:
    format, library = SUMS[name]
    for length in LENGTHS:
        x = rows(length, format)
        with np.errstate(over="ignore", invalid="ignore"):
            found = library(x)
        assert same(found, sums(x, PRESETS[name].summation)), length


def test_numpy_multiplies_float16_as_its_preset() -> None:
    """Of two matrices, and of two vectors; products of float16 numbers are exact in float32."""
    for length in (1, 5, 16, 100):
        a, b = rows(length, "float16"), rows(length, "float16", 24)
        expected = matmul(a, np.ascontiguousarray(b.T), PRESETS["numpy_matmul_float16"].summation, threads=1)
        x, y = a.astype(np.float16), b.astype(np.float16)
        with np.errstate(over="ignore"):
            assert same(x @ y.T, expected)
            assert same(np.array([np.dot(x[i], y[i]) for i in range(24)]), expected.diagonal())


@pytest.mark.parametrize("backend", ("reference", "compiled"))
def test_mpsim_reduces_as_its_preset(backend: str) -> None:
    for length in (*LENGTHS, 4095, 4096, 4097, 4101, 9000):
        x = rows(length, count=8 if length < 2000 else 2)
        found = [load(backend).total_sum(row, threads=1) for row in x]
        assert same(np.asarray(found), sums(x, PRESETS["mpsim_total_sum"].summation)), length


@pytest.mark.parametrize(
    "name,other",
    [
        (
            "numpy_sum_float32",
            "halving(128, 8, tail(8, groups(lanes(8), rising(float32, first), folding()), rising()))",
        ),
        (
            "numpy_sum_float32",
            "halving(256, 8, tail(8, groups(lanes(8), rising(), pairwise()), rising(float32, first)))",
        ),
        ("numpy_sum_float16", "product(order=rising(), output=float16)"),
        ("numpy_matmul_float16", "product(order=rising(float16), output=float16)"),
        ("torch_cumsum_float32", "rising()"),
    ],
)
def test_the_rows_tell_another_order_apart(name: str, other: str) -> None:
    format, library = SUMS[name]
    assert not all(same(library(rows(n, format)), sums(rows(n, format), product_of(other))) for n in LENGTHS)


def test_folding_fewer_than_32_lanes_is_another_order() -> None:
    """Lane 4 is added to lane 0, and not lane 3."""
    x = np.float32([[2.0**24, 0, 0, 1, -(2.0**24)]])
    folded = product_of("groups(lanes(32), rising(), folding())")
    assert sums(x, PRESETS["mpsim_total_sum"].summation) == load("reference").total_sum(x[0]) == 1
    assert sums(x, folded) == 0


@pytest.mark.parametrize("count", [1, 2, 7, 16, 17, 33, 40, 128, 256])
def test_the_order_of_pytorchs_cross_entropy_over_a_batch(count: int) -> None:
    """The first row's loss is added last; the others in chains of 16, and the sums of the chains in rising order."""
    torch = pytest.importorskip("torch", reason="the peers extra is not installed")
    chains = tuple(((), *range(start, min(start + 16, count))) for start in range(1, count, 16))
    order = f"criterion.nllloss:sums=tree({(((), 0), chains) if chains else ((), 0)})"
    kernels = [bind(backend, 1, accumulators_of(order)) for backend in ("reference", "compiled")]
    described = [each.of_layer("criterion.nllloss")[0].sums for each in kernels]
    random, own, equal = np.random.default_rng(count), bind("compiled", 1), 0
    for _ in range(60):
        x = np.log(random.dirichlet(np.ones(10), count)).astype(np.float32)
        labels = random.integers(0, 10, count)
        expected = torch.nn.functional.nll_loss(torch.from_numpy(x), torch.from_numpy(labels)).numpy().reshape(1)
        assert all(same(each.nll_loss(x, labels), expected) for each in described)
        equal += same(own.nll_loss(x, labels), expected)
    assert equal == 60 if count <= 2 else equal < 60
