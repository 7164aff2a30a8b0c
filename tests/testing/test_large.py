"""Strategies for shapes and large arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from mpsim import FORMATS
from mpsim.testing import arrays_near_ties, large_arrays, shapes
from mpsim.testing.large import SEED, large_array
from mpsim.validate.grid import places
from mpsim.validate.sources import SOURCES

E4M3, FLOAT32 = FORMATS["float8_e4m3fn"], SOURCES["float32"]
QUIET = settings(max_examples=300, database=None, derandomize=True)


def test_shapes_are_of_every_kind() -> None:
    seen = []

    @settings(QUIET, max_examples=200)
    @given(shapes(max_dims=3, max_side=5))
    def collect(shape: tuple[int, ...]) -> None:
        seen.append(shape)

    collect()
    assert {len(shape) for shape in seen} == {0, 1, 2, 3}
    assert any(0 in shape for shape in seen) and all(side <= 5 for shape in seen for side in shape)
    assert find(shapes(min_dims=1), lambda shape: math.prod(shape) > 5, settings=QUIET) == (6,)


@pytest.mark.parametrize("shape", [(), 3, (2, 0, 3), shapes(max_dims=2, max_side=3), st.integers(1, 4)], ids=str)
def test_arrays_of_any_shape(shape: object) -> None:
    @settings(QUIET, max_examples=5)
    @given(arrays_near_ties("float8_e5m2", shape=shape), large_arrays("float8_e5m2", shape=shape))
    def check(small: np.ndarray, large: np.ndarray) -> None:
        assert small.dtype == large.dtype == np.float32
        if not isinstance(shape, st.SearchStrategy):
            assert small.shape == large.shape == (shape if isinstance(shape, tuple) else (shape,))

    check()


def test_a_million_elements_have_every_turning_point() -> None:
    x = large_array(E4M3, FLOAT32, 1 << 20, 1)
    assert np.isnan(x).any() and np.isposinf(x).any() and np.isneginf(x).any() and (x == 0).any()
    finite = x[np.isfinite(x)]
    place = places(finite, E4M3, FLOAT32)
    ties = np.abs(finite[place.tie])
    assert np.unique(ties[ties <= 464]).size == 127  # every midpoint of two of its 127 magnitudes, and that to overflow
    assert (np.nextafter(np.float32(464), np.float32(0)) == finite).any()
    assert (np.nextafter(np.float32(464), np.float32(999)) == finite).any()
    assert np.signbit(x).mean() == pytest.approx(0.5, abs=0.01)
    assert np.isfinite(large_array(E4M3, FLOAT32, 1 << 16, 1, specials=False)).all()


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float64"])
def test_other_sources(source: str) -> None:
    x = large_array(E4M3, SOURCES[source], 4096, 3)
    assert x.dtype == (np.float64 if source == "float64" else np.float32)
    again = SOURCES[source].values(SOURCES[source].patterns(x))
    assert np.array_equal(again, x, equal_nan=True)


def test_a_failure_shrinks_to_the_first_failing_element() -> None:
    """The shape ends where the element that fails is the last, because elements do not depend on the shape."""

    def fails(x: np.ndarray) -> bool:
        return bool((np.abs(x) == 464).any())

    found = find(large_arrays(E4M3, shape=st.integers(0, 1 << 20)), fails, settings=QUIET)
    assert abs(found[-1]) == 464 and not fails(found[:-1])


def test_the_seed_gives_other_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    first = large_array(E4M3, FLOAT32, 100, 7)
    monkeypatch.setenv(SEED, "1")
    second = large_array(E4M3, FLOAT32, 100, 7)
    assert not np.array_equal(first, second, equal_nan=True)


def test_too_large_a_shape() -> None:
    with pytest.raises(ValueError, match="at most 268435456 elements"):
        large_arrays(E4M3, shape=(1 << 20, 1 << 10))
