"""Defines strategies for shapes, and for arrays that are too large to draw element by element."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import Format, as_format
from mpsim.kernels.contract import Array
from mpsim.kernels.philox import Stream
from mpsim.kernels.philox import random_bits as philox_bits
from mpsim.plugins import check_extra
from mpsim.rounding import decode
from mpsim.validate.sources import Source, as_float_source

check_extra("hypothesis", "mpsim.testing.strategies")
from hypothesis import strategies as st  # noqa: E402  (after the check, whose message has the command that installs it)

Shape = int | tuple[int, ...]

#: The environment variable with the seed of --mpsim-seed.
SEED = "MPSIM_SEED"
#: The most elements of an array.
MOST_SIZE = 1 << 28


def shapes(
    *, min_dims: int = 0, max_dims: int = 4, min_side: int = 0, max_side: int = 8
) -> st.SearchStrategy[tuple[int, ...]]:
    """Draws shapes, with no axes and with empty axes too. Shrinks toward fewer and shorter axes.

    Args:
        min_dims, max_dims: The range of the number of axes.
        min_side, max_side: The range of the length of an axis.

    >>> shapes(max_dims=2).example()  # doctest: +SKIP
    (3, 0)
    """
    checks.whole("min_dims", min_dims, most=checks.whole("max_dims", max_dims, most=64))
    checks.whole("min_side", min_side, most=checks.whole("max_side", max_side))
    return st.lists(st.integers(min_side, max_side), min_size=min_dims, max_size=max_dims).map(tuple)


def as_shapes(shape: Shape | st.SearchStrategy[object]) -> st.SearchStrategy[tuple[int, ...]]:
    """Returns a strategy for a shape that is given as a number, a tuple or a strategy for these."""
    if isinstance(shape, st.SearchStrategy):
        return shape.map(_checked)
    return st.just(_checked(shape))


def _checked(shape: Any) -> tuple[int, ...]:
    sides = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    found = tuple(checks.whole("shape", side) for side in sides)
    if math.prod(found) > MOST_SIZE:
        raise UsageError(f"shape must have at most {MOST_SIZE} elements, got {found}", "shape")
    return found


def large_arrays(
    format: str | Format,
    source: str = "float32",
    *,
    shape: Shape | st.SearchStrategy[object] | None = None,
    specials: bool = True,
) -> st.SearchStrategy[Array]:
    """Draws large arrays: a shape and a seed are drawn, and the elements are computed from them by Philox.

    Half of the elements are turning points of the format, as ``turning_points`` draws them. A quarter are numbers in
    the range of the format. A quarter are any bit patterns of the source, its largest number and infinity. An element
    depends on the seed and its place in C order alone. A failure therefore shrinks to the smallest shape that still has
    the failing element, and the assertions name the smallest input in it. ``--mpsim-seed`` of the pytest plugin gives
    other elements.

    Args:
        format, source: As for ``turning_points``.
        shape: The shape, or a strategy for it. The default is one axis of up to 2**20 elements.
        specials: Whether infinities and NaNs are included.

    Returns:
        A strategy for float32 arrays, or float64 for source float64.

    >>> large_arrays("float8_e4m3fn", shape=(1000, 1000)).example().shape  # doctest: +SKIP
    (1000, 1000)
    """
    target, origin = as_format(format), as_float_source(source)
    target.require_float64()
    drawn = as_shapes(st.integers(0, 1 << 20) if shape is None else shape)
    return st.tuples(drawn, st.integers(0, (1 << 32) - 1)).map(lambda each: _array(target, origin, *each, specials))


def _array(format: Format, source: Source, shape: tuple[int, ...], seed: int, specials: bool) -> Array:
    return large_array(format, source, math.prod(shape), seed, specials).reshape(shape)


def large_array(format: Format, source: Source, count: int, seed: int, specials: bool = True) -> Array:
    """Returns the elements of ``large_arrays`` for a seed, as float32, or float64 for source float64.

    >>> from mpsim.formats import FORMATS
    >>> few, more = (large_array(FORMATS["float8_e5m2"], as_float_source("float32"), n, 7) for n in (10, 1000))
    >>> bool((few.view(np.uint32) == more[:10].view(np.uint32)).all())
    True
    """
    base = int(os.environ.get(SEED, "0"))
    streams = [Stream(base << 32 | seed, "synthetic_data", tensor=number) for number in range(3)]
    choice, first, second = (philox_bits(stream, count) for stream in streams)
    largest = np.uint64(source.patterns(np.array([np.inf]))[0]) - np.uint64(1)
    any_pattern = first.astype(np.uint64) << np.uint64(32) | second
    patterns = (any_pattern >> np.uint64(64 - source.format.bits)) & np.uint64(source.format.magnitude_mask)
    ends = largest + np.array([0, 1, 1 + (1 << source.format.mantissa_bits - 1)], np.uint64)  # also infinity, a NaN
    patterns = np.where(second & np.uint32(15) == 0, ends[first % 3], patterns)
    if not specials:
        patterns = np.minimum(patterns, largest)
    codes = (first.astype(np.uint64) * np.uint64(format.largest_code + 1)) >> np.uint64(32)
    above = np.minimum(codes + np.uint64(1), np.uint64(format.largest_code))
    numbers, upper = _numbers(codes, format), _numbers(above, format)
    near = _points(source, choice, numbers, np.where(above == codes, _last_step(format), upper - numbers))
    inside = source.patterns(numbers + (upper - numbers) * (second * 2.0**-32)).astype(np.uint64)
    share = choice >> np.uint32(30)  # 0, 1: turning points, 2: numbers in the range, 3: any pattern
    patterns = np.where(share < 2, np.minimum(near, largest), patterns)
    patterns = np.where(share == 2, inside, patterns)
    sign = np.uint64(source.sign_mask) * (choice & np.uint32(1)).astype(np.uint64)
    return source.values((patterns | sign).astype(source.unsigned))


def _points(source: Source, choice: Array, numbers: Array, steps: Array) -> Array:
    """Returns patterns of numbers and midpoints above them, and one unit of the source beside them."""
    half = (choice >> np.uint32(1) & np.uint32(1)) != 0
    with np.errstate(over="ignore"):
        points = source.patterns(numbers + np.where(half, steps / 2, 0)).astype(np.int64)
    distance = (choice >> np.uint32(2)).astype(np.int64) % 3 - 1
    return np.maximum(points + distance, 0).astype(np.uint64)


def _last_step(format: Format) -> float:
    """Returns the distance of the two largest numbers."""
    largest = np.array([format.largest_code], np.int64)
    ends = [_numbers(codes.astype(np.uint64), format) for codes in (largest, np.maximum(largest, 1) - 1)]
    return float((ends[0] - ends[1])[0])


def _numbers(codes: Array, format: Format) -> Array:
    return np.asarray(decode(codes, format, np.float64, backend="reference"))
