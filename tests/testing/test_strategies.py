"""The strategies reach what they promise, find a planted bug, and shrink to the smallest magnitude."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import reference_models
from mpsim import FORMATS, Plan, decode, round_to, testing, trace
from mpsim.assignment import PAPER_LEVELS
from mpsim.validate.grid import places
from mpsim.validate.sources import SOURCES

#: The number of draws within which everything below is reached.
DRAWS = 250


def draws(strategy: st.SearchStrategy[Any], count: int = DRAWS) -> list[Any]:
    seen: list[Any] = []

    @settings(max_examples=count, database=None, derandomize=True, phases=[Phase.generate])
    @given(strategy)
    def collect(value: Any) -> None:
        seen.append(value)

    collect()
    return seen


def smallest(strategy: st.SearchStrategy[Any], fails: Callable[[Any], bool]) -> Any:
    found = settings(max_examples=3000, database=None, derandomize=True)
    return find(strategy, lambda value: bool(fails(value)), settings=found)


@pytest.mark.parametrize(
    "name,source",
    [("float8_e4m3fn", "float32"), ("float8_e5m2fnuz", "float64"), ("float4_e2m1fn", "float16"),
     ("float16", "float32"), ("bfloat16", "float64")],
)  # fmt: skip
def test_turning_points_reach_ties_subnormals_the_binade_above_and_specials(name: str, source: str) -> None:
    format, origin = FORMATS[name], SOURCES[source]
    x = np.array(draws(testing.turning_points(format, source), 2 * DRAWS), origin.wide)
    finite = x[np.isfinite(x)]
    place = places(finite, format, origin)
    subnormal = place.below_normal & (finite != 0)
    reached = {
        "ties": place.tie & (finite != 0),
        "one unit from a tie": place.near,
        "ties of subnormals": place.tie & subnormal,
        "numbers": round_to(finite, format, backend="reference") == finite,
        "above the largest": (np.abs(finite) > format.largest) & (np.abs(finite) < 2.0 ** (format.max_exponent + 2)),
        "beside the overflow threshold": np.abs(np.abs(finite) / format.overflow_threshold[0] - 1) < 2.0**-6,
        "both signs": (finite < 0) & (np.sum(finite > 0) > 20),
        "infinity or NaN": ~np.isfinite(x),
    }
    missing = [what for what, there in reached.items() if not there.any()]
    assert not missing
    assert np.array_equal(origin.values(origin.patterns(finite)), finite), "every draw is a number of the source"


def test_near_ties_are_midpoints_or_one_unit_beside() -> None:
    format, source = FORMATS["float8_e4m3fn"], SOURCES["float32"]
    x = np.array(draws(testing.near_ties(format)), np.float32)
    place = places(x, format, source)
    assert np.isfinite(x).all() and (place.tie | place.near).all()


def test_codes_and_values_reach_both_ends() -> None:
    assert len(set(draws(testing.codes("float8_e4m3fn")))) > 60
    codes = np.array(draws(testing.codes("bfloat16")))
    format = FORMATS["bfloat16"]
    magnitude = codes & format.magnitude_mask
    assert (magnitude > format.largest_code).any() and (magnitude == format.largest_code).any()
    assert ((magnitude > 0) & (magnitude < 128)).any() and (codes >= format.sign_mask).any()
    finite = draws(testing.codes("float8_e4m3fnuz", finite=True))
    assert np.isfinite(decode(np.array(finite), "float8_e4m3fnuz")).all()
    values = np.array(draws(testing.values("float8_e3m4", finite=False)))
    assert values.dtype == np.float32 and np.isnan(values).any() and np.isfinite(values).any()


def test_bit_patterns_reach_subnormals_infinities_and_nans() -> None:
    patterns = np.array(draws(testing.bit_patterns("float32")))
    assert patterns.dtype == np.uint32
    values = patterns.view(np.float32)
    tiny = (np.abs(values) < np.finfo(np.float32).smallest_normal) & (values != 0)
    assert all(there.any() for there in (np.isnan(values), np.isinf(values), tiny, values == 0, values < -1))
    assert draws(testing.bit_patterns(np.float64), 3)[0].dtype == np.uint64
    assert draws(testing.bit_patterns("bfloat16"), 3)[0].dtype == np.uint16


def test_formats_differ_in_every_respect_and_fit_the_source() -> None:
    found = set(draws(testing.formats(named=False)))
    assert all(format.fits_float32 and format.bits <= 19 for format in found)
    assert {format.specials for format in found} >= {"none", "ieee", "fn", "fnuz", "p3109", "e8m0"}
    assert {format.subnormals for format in found} == {True, False}
    assert {format.exponent_bits for format in found} == set(range(1, 9))
    assert {format.name for format in draws(testing.formats(named=True, max_bits=8))} <= set(FORMATS)
    with pytest.raises(ValueError, match="no named format of at most 2 bits"):
        testing.formats(named=True, max_bits=2)


def test_random_bits_reach_their_ends() -> None:
    words = np.concatenate(draws(testing.random_bits((2, 3)), 60))
    assert words.dtype == np.uint32 and words.shape[1] == 3
    assert (words == 0).any() and (words == 2**32 - 1).any() and np.unique(words).size > 15


def test_plans_are_of_the_trace_and_shrink_to_all_high() -> None:
    traced = trace(reference_models.build("small_cnn"), batch=2)
    plans = draws(testing.plans(traced), 30)
    for plan in plans:
        plan.check(traced)
        assert Plan.from_json(plan.to_json()).formats == plan.formats
    assert len({plan.low_share for plan in plans}) > 10
    assert smallest(testing.plans(traced), lambda plan: True).low_share == 0
    first = smallest(testing.plans(traced), lambda plan: any(plan.is_low(id) for id in plan.formats))
    assert sum(format != PAPER_LEVELS.high[id.role] for id, format in first.formats.items()) == 1


# -- a planted bug ------------------------------------------------------------------------------------------


def by_float32(x: Any) -> Any:
    """A cast of float64 that rounds twice."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = np.float64(x).astype(np.float32)
    return round_to(narrow, "float8_e4m3fn", overflow="saturate", backend="reference")


def differs(x: Any) -> bool:
    right = round_to(np.float64(x), "float8_e4m3fn", overflow="saturate", backend="reference")
    return not np.isnan(x) and bool(right != by_float32(x))


def test_near_ties_find_a_double_rounding_that_floats_miss() -> None:
    assert any(map(differs, draws(testing.near_ties("float8_e4m3fn", "float64"), 50)))
    assert not any(map(differs, draws(st.floats(), 1500)))


def test_a_double_rounding_shrinks_to_the_smallest_number_that_has_it() -> None:
    x = smallest(testing.near_ties("float8_e4m3fn", "float64"), differs)
    assert x == np.nextafter(2.0**-10, 1)  # just above half the smallest number


# -- where shrinking ends -----------------------------------------------------------------------------------


def mode_differs(format: str, mode: str, at_least: float = 0.0) -> Callable[[Any], bool]:
    def fails(x: Any) -> bool:
        nearest, other = (round_to(x, format, m, "saturate", backend="reference") for m in ("nearest_even", mode))
        return bool(abs(x) >= at_least and nearest != other)

    return fails


@pytest.mark.parametrize(
    "strategy,fails,expected",
    [
        (testing.turning_points("float8_e4m3fn"), lambda x: abs(x) > 464, np.nextafter(np.float32(464), np.inf)),
        (testing.near_ties("float8_e4m3fn"), mode_differs("float8_e4m3fn", "nearest_away"), 2.0**-10),
        (testing.near_ties("float8_e4m3fn"), mode_differs("float8_e4m3fn", "nearest_zero"), 3 * 2.0**-10),
        (testing.turning_points("float16", "float64"), mode_differs("float16", "nearest_zero", 1.0), 1 + 3 * 2.0**-11),
        (testing.turning_points("bfloat16"), lambda x: abs(x) >= 0.1 and np.frexp(x)[0] == 0.5, 0.125),
        (testing.values("float16"), lambda x: x <= -0.1, -round_to(0.1, "float16", "up")),
        (testing.bit_patterns("float32"), lambda x: x.view(np.float32) > 1, np.float32(1).view(np.uint32) + 1),
        (testing.codes("float8_e5m2"), lambda code: code & 3 == 3 and code > 9, 11),
    ],
    ids=["threshold", "every_other_tie", "odd_ties", "ties_from_one", "powers_of_two", "negative", "pattern", "code"],
)  # fmt: skip
def test_shrinking_ends_at_the_smallest_magnitude(strategy: Any, fails: Callable[[Any], bool], expected: float) -> None:
    found = smallest(strategy, fails)
    assert found == expected


def test_an_array_shrinks_to_one_element() -> None:
    fails = mode_differs("float8_e4m3fn", "nearest_away")
    found = smallest(testing.arrays_near_ties("float8_e4m3fn"), lambda x: any(map(fails, x)))
    assert found.tolist() == [2.0**-10]


def test_shapes_of_arrays() -> None:
    arrays = draws(testing.arrays_near_ties("float8_e5m2", "float64", shape=(2, 3)), 5)
    assert all(array.shape == (2, 3) and array.dtype == np.float64 for array in arrays)
