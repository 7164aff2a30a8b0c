"""Defines Hypothesis strategies that draw the turning points of rounding.

A failure shrinks to the smallest **magnitude**, and to the positive one of two numbers, not to the number with the
fewest digits. A strategy draws a rank in the list of its numbers, ordered by magnitude, and a sign. Hypothesis lowers a
rank r to r - 1, r - 2 or any smaller rank that also fails. A test that fails above some magnitude therefore ends at
that magnitude.

Failures may also be scattered, e.g. at every tie, at every second tie or at every power of two. Each rank therefore
comes with spare numbers, one for each such stride s, and the rank used is r - (s - 1) * spare. One pass of Hypothesis's
shrinker, for sums with a bound, lowers one drawn number by as much as it raises a later one. That lowers the rank used
by s. Because the rank used is never above r, the smallest failing r has the smallest failing rank.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mpsim import checks
from mpsim.assignment.levels import LEVELS, PAPER_LEVELS, Levels, parse_levels
from mpsim.assignment.plan import Plan
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, SPECIALS, Format, as_format
from mpsim.kernels import spec_codes
from mpsim.kernels.contract import Array
from mpsim.plugins import check_extra
from mpsim.testing.large import Shape, as_shapes
from mpsim.testing.showing import in_codes
from mpsim.trace import Trace
from mpsim.validate.sources import Source, as_float_source
from mpsim.validate.turning_points import point

check_extra("hypothesis", "mpsim.testing.strategies")
from hypothesis import note, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402  (after the check, whose message has the command that installs it)

#: The profile of Hypothesis with which strategies print codes (``mpsim_pytest.profile``).
PROFILE = "mpsim"
#: The distances, in units of the source's last place, by which near_ties and turning_points move, in rising order.
DISTANCES = (-1, 0, 1)


def _ranked(count: int, strides: tuple[int, ...], windows: list[tuple[int, int]]) -> st.SearchStrategy[int]:
    """Draws a rank from 0 to count - 1, as described in the module's docstring.

    It draws equally often from the entire range, from seven parts of it, and from each of the windows (first, last).
    The parts are there because Hypothesis prefers small numbers in a large range. A rank drawn from a window is also
    valid in the entire range, so Hypothesis moves there before it shrinks further. The spare numbers count only if the
    last drawn number, the guard, is 0, as it is after shrinking, and if they are not far too large.
    """
    spares = _spares(strides)
    return st.tuples(_plain(count, windows), spares).map(lambda drawn: _lowered(drawn[0], drawn[1], strides))


def _plain(count: int, windows: list[tuple[int, int]]) -> st.SearchStrategy[int]:
    parts = [(count * i // 8, max(count * (i + 1) // 8 - 1, 0)) for i in range(1, 8)]
    inside = [(max(0, first), min(last, count - 1)) for first, last in parts + windows]
    ranges = [(first, last) for first, last in inside if first <= last]
    return st.one_of([st.integers(first, last) for first, last in [(0, count - 1), *ranges]])


def _spares(strides: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    """Draws a spare number for each stride, then the guard."""
    return st.tuples(*[st.integers(0, 1 << 32)] * len(strides), st.integers(0, 100))


def _lowered(rank: int, spares: tuple[int, ...], strides: tuple[int, ...]) -> int:
    less = sum((stride - 1) * extra for stride, extra in zip(strides, spares[:-1], strict=True))
    counts = spares[-1] == 0 and less <= 2 * rank
    return max(rank - less, 0) if counts else rank


def noted(value: object, format: str | Format, source: str | None = None) -> Any:
    """Returns a drawn value. With the profile "mpsim", the smallest failing example is also printed in codes."""
    name_of_profile = getattr(settings, "get_current_profile_name", None)  # older versions have the attribute alone
    if (name_of_profile() if name_of_profile else getattr(settings, "_current_profile", None)) == PROFILE:
        note(in_codes(value, as_format(format), source))
    return value


# -- formats ------------------------------------------------------------------------------------------------


def formats(*, named: bool | None = None, source: str = "float32", max_bits: int = 19) -> st.SearchStrategy[Format]:
    """Draws formats. Shrinks toward few exponent bits, then few mantissa bits, then the usual bias.

    Args:
        named: With True, entries of ``FORMATS``. With False, formats of 1 to 8 exponent bits and up to 10 mantissa
            bits, with a bias shifted by up to 8, every kind of specials, with and without subnormals. With None, both.
        source: The type that must hold all numbers of the format, "float32" or "float64".
        max_bits: The largest width of the format.

    Raises:
        ValueError: No named format fits.

    >>> formats(named=True, max_bits=4).example()  # doctest: +SKIP
    Format(name='float4_e2m1fn', exponent_bits=2, mantissa_bits=1, bias=1, specials='none', ...)
    """
    checks.whole("max_bits", max_bits, least=1)
    rows = sorted((row for row in FORMATS.values() if _usable(row, source, max_bits)), key=lambda row: row.bits)
    if not rows and named:
        raise UsageError(f"no named format of at most {max_bits} bits fits {source}")
    drawn = (
        st.tuples(
            st.integers(1, 8),
            st.integers(0, max(0, min(10, max_bits - 2))),
            st.integers(-8, 8),
            st.sampled_from(("none", *(kind for kind in SPECIALS if kind != "none"))),
            st.sampled_from((True, True, True, False)),
        )
        .map(lambda numbers: _made(*numbers))
        .filter(lambda format: format is not None and _usable(format, source, max_bits))
    )
    chosen = st.sampled_from(rows)
    if named is None:
        return st.one_of(chosen, drawn) if rows else drawn  # type: ignore[return-value]
    return chosen if named else drawn  # type: ignore[return-value]


def _usable(format: Format, source: str, max_bits: int) -> bool:
    holds = format.fits_float32 if as_float_source(source).wide == "float32" else True
    return holds and format.bits <= max_bits


def _made(exponent_bits: int, mantissa_bits: int, shift: int, specials: str, subnormals: bool) -> Format | None:
    """Returns the format with these properties, or None if there is none."""
    bias = 2 ** (exponent_bits - 1) - 1 + shift
    signed = specials != "e8m0"
    if not signed:
        mantissa_bits, subnormals = 0, True
    name = f"drawn_e{exponent_bits}m{mantissa_bits}b{bias}_{specials}{'' if subnormals else '_flushing'}"
    try:
        return Format(name, exponent_bits, mantissa_bits, bias, specials, subnormals, signed)
    except ValueError:
        return None


# -- codes and numbers of a format --------------------------------------------------------------------------


def codes(format: str | Format, *, finite: bool = False) -> st.SearchStrategy[int]:
    """Draws codes of a format, with ``finite`` only those of finite numbers. Shrinks toward the smallest magnitude.

    About one draw in five is near zero, one near the smallest normal number, and one near the last code.
    """
    format = as_format(format)
    last = format.largest_code if finite else format.magnitude_mask
    binade = 1 << format.mantissa_bits
    windows = [(0, min(binade, 8)), (binade - 2, binade + 2), (format.largest_code - 2, format.largest_code + 2)]
    windows += [(format.largest_code + 1, last)]

    def signed(drawn: tuple[int, bool]) -> int:
        code = drawn[0] | (format.sign_mask if drawn[1] else 0)
        return 0 if finite and code == format.nan_code else code

    return st.tuples(_ranked(last + 1, (2, binade), windows), st.booleans()).map(signed)


def values(format: str | Format, *, finite: bool = True) -> st.SearchStrategy[np.floating]:
    """Draws numbers of a format, as np.float32, or as np.float64 if float32 cannot hold the format.

    ``finite=False`` includes infinities and NaN. Shrinks toward the smallest magnitude.
    """
    format = as_format(format)
    dtype = np.float32 if format.fits_float32 else np.float64
    return codes(format, finite=finite).map(lambda code: noted(dtype(spec_codes.decode(code, format)), format))


# -- inputs of a cast ---------------------------------------------------------------------------------------


def near_ties(
    format: str | Format, source: str = "float32", *, distances: tuple[int, ...] = DISTANCES
) -> st.SearchStrategy[np.floating]:
    """Draws finite numbers at or near the midpoints of neighbouring numbers. Shrinks toward the smallest magnitude.

    Args:
        format: The format of the neighbours. Its grid continues two binades beyond its largest number, so the midpoint
            from which numbers overflow is included.
        source: The type of the numbers. Sources float16, bfloat16 and float32 give np.float32, float64 np.float64. A
            midpoint that the source does not represent is rounded to it.
        distances: How far from the midpoint, in units of the source's last place, in rising order.
    """
    return _Points(as_format(format), as_float_source(source), (1,), distances, specials=False).strategy()


def turning_points(
    format: str | Format,
    source: str = "float32",
    *,
    specials: bool = True,
    distances: tuple[int, ...] = DISTANCES,
) -> st.SearchStrategy[np.floating]:
    """Draws numbers as near_ties does, and also at or near the numbers of the format, where directed modes turn.

    With ``specials`` it includes the source's largest number, infinity and NaN. Shrinks toward the smallest magnitude;
    infinity and NaN are larger than all numbers.
    """
    return _Points(as_format(format), as_float_source(source), (0, 1), distances, specials).strategy()


class _Points:
    """Inputs of a cast by rank: cells of points between neighbours of the format's grid, followed by the specials."""

    def __init__(
        self, format: Format, source: Source, halves: tuple[int, ...], distances: tuple[int, ...], specials: bool
    ) -> None:
        self.format, self.source = format, source
        self.places = [(half, distance) for half in halves for distance in distances]
        self.cell = len(self.places)
        self.ties = len(distances)  # they are the last points of a cell
        self.binade = self.cell << format.mantissa_bits
        self.end = ((format.largest_code >> format.mantissa_bits) + 3) * self.binade
        self.count = self.end + 3 * specials
        self.largest = int(source.patterns(np.array([np.inf]))[0]) - 1

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The ranks at which rounding changes: zero, the smallest normal number, some powers of two, the midpoint from
        which numbers overflow, and both ends."""
        cell, binade, end = self.cell, self.binade, self.end
        top = self.format.largest_code >> self.format.mantissa_bits
        above = (self.format.largest_code + 1) * cell
        found = [(0, cell), (0, binade), (binade - cell, binade + cell), (above, end - 1)]
        found += [(above - 2 * cell, above + cell), (above - self.ties, above - 1), (end, self.count - 1)] * 2
        return found + [(b * binade - 2, b * binade + 2) for b in range(1 + top // 4, top, 1 + top // 4)]

    def strategy(self) -> st.SearchStrategy[np.floating]:
        """Draws one number."""
        ranks = _ranked(self.count, (self.cell, 2 * self.cell, self.binade), self.windows)
        drawn = st.tuples(ranks, st.booleans())
        return drawn.map(lambda each: noted(self.number(*each), self.format, self.source.name))

    def lists(self, min_size: int, max_size: int) -> st.SearchStrategy[list[np.floating]]:
        """Draws several numbers. The last one, which alone remains after shrinking, has spare numbers."""
        strides = (self.cell, 2 * self.cell)

        def numbers(drawn: tuple[list[tuple[int, bool]], tuple[int, ...]]) -> list[np.floating]:
            ranks, spares = drawn
            found = [self.number(*each) for each in ranks[:-1]]
            return found + [self.number(_lowered(rank, spares, strides), sign) for rank, sign in ranks[-1:]]

        one = st.tuples(_plain(self.count, self.windows), st.booleans())
        return st.tuples(st.lists(one, min_size=min_size, max_size=max_size), _spares(strides)).map(numbers)

    def number(self, rank: int, negative: bool) -> np.floating:
        """Returns the point of the given rank as a scalar of the source's wide type."""
        if rank >= self.end:  # the source's largest number, infinity, NaN
            pattern = self.largest + (0, 1, 1 + (1 << (self.source.format.mantissa_bits - 1)))[rank - self.end]
        else:
            code, place = divmod(rank, self.cell)
            half, distance = self.places[place]
            pattern = int(self.source.patterns(np.array([point(self.format, code, half)]))[0])
            pattern = min(max(min(pattern, self.largest) + distance, 0), self.largest)
        word = np.array([pattern | (self.source.sign_mask if negative else 0)], self.source.unsigned)
        return self.source.values(word)[0]


def bit_patterns(dtype: DTypeLike) -> st.SearchStrategy[np.unsignedinteger]:
    """Any bit pattern of a float type, as a NumPy unsigned integer of its width; ``.view(dtype)`` is the number.

    dtype: "float16", "bfloat16", "float32", "float64" or what NumPy calls so. NaNs have any payload. Zero and
    the smallest subnormal numbers, numbers around the smallest normal one, the largest ones with infinity, and NaNs
    come in about one draw of six each. Shrinks toward the smallest magnitude.
    """
    source = as_float_source(dtype if isinstance(dtype, str) else np.dtype(dtype).name)
    format = source.format
    binade, infinity = 1 << format.mantissa_bits, format.largest_code + 1
    windows = [(0, 8), (1, binade - 1), (binade - 2, binade + 2), (infinity - 2, infinity), (infinity + 1, 1 << 64)]
    ranks = _ranked(format.magnitude_mask + 1, (2, binade), windows)
    return st.tuples(ranks, st.booleans()).map(
        lambda drawn: source.unsigned.type(drawn[0] | (format.sign_mask if drawn[1] else 0))
    )


def arrays_near_ties(
    format: str | Format,
    source: str = "float32",
    *,
    shape: Shape | st.SearchStrategy[object] | None = None,
    max_size: int = 24,
    specials: bool = False,
) -> st.SearchStrategy[Array]:
    """Draws arrays of turning points, float32, or float64 for source float64.

    Shrinks toward fewer elements, then each toward the smallest magnitude. Only the last element has spare numbers, so
    that Hypothesis has less to try.

    Args:
        format, source: As for ``turning_points``.
        shape: The shape, or a strategy for it, such as ``shapes()``. The default is one axis of 0 to ``max_size``
            elements.
        max_size: The largest size of that axis.
        specials: As for ``turning_points``.
    """
    dtype = as_float_source(source).wide
    checks.whole("max_size", max_size)
    points = _Points(as_format(format), as_float_source(source), (0, 1), DISTANCES, specials)
    if shape is None:
        return points.lists(0, max_size).map(lambda drawn: noted(np.array(drawn, dtype), format, source))

    def of_shape(sides: tuple[int, ...]) -> st.SearchStrategy[Array]:
        lists = points.lists(math.prod(sides), math.prod(sides))
        return lists.map(lambda drawn: noted(np.array(drawn, dtype).reshape(sides), format, source))

    return as_shapes(shape).flatmap(of_shape) if isinstance(shape, st.SearchStrategy) else of_shape(_sides(shape))


def _sides(shape: Shape) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def random_bits(shape: int | tuple[int, ...] = ()) -> st.SearchStrategy[Array]:
    """Draws uint32 arrays for the stochastic modes. About a third of the words are near 0, and a third near 2**32 - 1.

    Shrinks to 0.
    """
    shape = (shape,) if isinstance(shape, int) else shape
    size = math.prod(shape)
    last = (1 << 32) - 1
    word = st.one_of(st.integers(0, last), st.integers(0, 1), st.integers(last - 1, last))
    words = st.lists(word, min_size=size, max_size=size)
    return words.map(lambda drawn: np.array(drawn, np.uint32).reshape(shape))


# -- plans --------------------------------------------------------------------------------------------------


def plans(trace: Trace, levels: Levels | str | None = PAPER_LEVELS) -> st.SearchStrategy[Plan]:
    """Draws plans for a trace, in which each tensor is independently high or low. Shrinks toward all tensors high.

    Args:
        trace: The trace.
        levels: The formats. None draws one of the named pairs.
    """
    pairs = st.sampled_from(list(LEVELS.values())) if levels is None else st.just(parse_levels(levels))
    tensors = [tensor.id for tensor in trace.tensors]
    low = st.lists(st.booleans(), min_size=len(tensors), max_size=len(tensors))

    def plan(drawn: tuple[Levels, list[bool]]) -> Plan:
        pair, chosen = drawn
        formats = {id: (pair.low if is_low else pair.high)[id.role] for id, is_low in zip(tensors, chosen, strict=True)}
        return Plan.of(trace, formats, "drawn", pair)

    return st.tuples(pairs, low).map(plan)
