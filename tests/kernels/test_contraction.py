"""Contractions in the default order: the reference against the definition on the contract's own index formulas,
every backend, and every variant of the compiled one, against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from contractions import CONVOLUTIONS, KINDS, Convolution, all_of, assert_same, define, defined, draw, some_places

from mpsim.kernels import load
from mpsim.kernels import reference as reference_backend
from mpsim.products.accumulators import Accumulator

LENGTHS = (0, 1, 255, 256, 257, 513)
DEFAULT = Accumulator()


@pytest.fixture
def variants(backend: str) -> Iterator[list[Callable[[], None]]]:
    """Functions that switch to each variant of the backend: one that does nothing for all but the compiled one."""
    if backend != "compiled":
        yield [lambda: None]
        return
    from mpsim import _kernels

    yield [lambda name=name: _kernels.force_variant(name) for name in _kernels.variants()]  # type: ignore[misc]
    _kernels.force_variant(None)


@pytest.mark.parametrize("kind", KINDS)
def test_reference_matmul_is_the_definition(kind: str) -> None:
    for length in (0, 1, 300, 513):
        a, b = draw(kind, (2, length), 1), draw(kind, (length, 3), 2)
        expected = np.array([[define(zip(row, column, strict=True), DEFAULT) for column in b.T] for row in a])
        assert_same(reference_backend.matmul(a, b), expected, (kind, length))


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_reference_convolution_is_the_definition(case: Convolution) -> None:
    for kind in ("normal", "specials", "subnormal"):
        arrays = case.draw(kind)
        for which, actual in enumerate(all_of(reference_backend, case, arrays)):
            for at in some_places(actual.shape, 8):
                assert_same(actual[at][None], defined(case, arrays, which, at, DEFAULT)[None], (kind, which, at))


@pytest.mark.parametrize("kind", KINDS)
def test_matmul(backend: str, variants: list[Callable[[], None]], kind: str) -> None:
    for rows, columns in ((1, 1), (3, 37), (29, 5)):
        for length in LENGTHS:
            a, b, bias = draw(kind, (rows, length), 1), draw(kind, (length, columns), 2), draw(kind, (columns,), 3)
            expected = reference_backend.matmul(a, b, bias=bias)
            for force in variants:
                force()
                for threads in (1, 2):
                    actual = load(backend).matmul(a, b, bias=bias, threads=threads)
                    assert_same(actual, expected, (rows, length, columns, threads))


@pytest.mark.parametrize("transpose_a, transpose_b", ((True, False), (False, True), (True, True)))
def test_matmul_of_transposes(
    backend: str, variants: list[Callable[[], None]], transpose_a: bool, transpose_b: bool
) -> None:
    for rows, length, columns in ((1, 5, 1), (3, 257, 70), (29, 513, 5)):
        a, b = draw("normal", (rows, length), 1), draw("normal", (length, columns), 2)
        expected = reference_backend.matmul(a, b)
        a = np.ascontiguousarray(a.T) if transpose_a else a
        b = np.ascontiguousarray(b.T) if transpose_b else b
        for force in variants:
            force()
            assert_same(load(backend).matmul(a, b, transpose_a, transpose_b), expected, (rows, length, columns))


def test_matmul_of_every_number_of_rows(backend: str, variants: list[Callable[[], None]]) -> None:
    """Tiles of every height, in chunks and in one, fused or not."""
    for rows in range(1, 31):
        a, b = draw("normal", (rows, 9), 1), draw("normal", (9, 33), 2)
        for accumulator in (DEFAULT, Accumulator(chunk=4), Accumulator(chunk=4, fma=False)):
            expected = reference_backend.matmul(a, b, accumulator=accumulator)
            for force in variants:
                force()
                assert_same(load(backend).matmul(a, b, accumulator=accumulator), expected, (rows, accumulator))


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(backend: str, variants: list[Callable[[], None]], case: Convolution) -> None:
    for kind in ("normal", "bits", "specials", "subnormal"):
        arrays, bias = case.draw(kind), draw(kind, (case.outputs,), 4)
        expected = all_of(reference_backend, case, arrays, bias)
        for force in variants:
            force()
            for threads in (1, 2):
                found = all_of(load(backend), case, arrays, bias, threads=threads)
                for which in range(3):
                    assert_same(found[which], expected[which], (kind, which, threads))


def test_bias_is_added_after_the_total(backend: str) -> None:
    a, b, bias = np.float32([[2**24]]), np.float32([[1]]), np.float32([1])
    assert load(backend).matmul(a, b, bias=bias)[0, 0] == 2**24  # the even neighbour; +0 + 1 + 2**24 = 2**24 too
    y = load(backend).conv2d(a[None, None] - 1, b[None, None], np.float32([-(2.0**24)]), (1, 1), (0, 0), 1)
    assert y.item() == -1
    assert load(backend).matmul(a[:, :0], b[:0], bias=np.float32([-0.0]))[0, 0] == 0


def test_negative_zero_meets_the_zeros_of_dilation(backend: str, variants: list[Callable[[], None]]) -> None:
    """A product that underflows to -0 becomes +0 when a later zero of the dilation takes part."""
    gy, w = np.full((1, 1, 2, 2), -1e-30, np.float32), np.full((1, 1, 3, 3), 1e-30, np.float32)
    arguments = (gy, w, (1, 1, 5, 5), (2, 2), (0, 0), 1)
    expected = reference_backend.conv2d_input_gradient(*arguments)
    assert not expected.any() and 0 < np.signbit(expected).sum() < expected.size
    for force in variants:
        force()
        assert_same(load(backend).conv2d_input_gradient(*arguments), expected)


def test_float64_arrays_have_no_order_but_float64_precision() -> None:
    """On the reference backend, for gradient checks."""
    case = CONVOLUTIONS[1]
    arrays = case.draw("normal")
    found = all_of(reference_backend, case, [array.astype(np.float64) for array in arrays])
    near = all_of(reference_backend, case, arrays, accumulator=Accumulator(kind="exact"))
    for array, single in zip(found, near, strict=True):
        assert array.dtype == np.float64
        assert_same(array.astype(np.float32), single)
