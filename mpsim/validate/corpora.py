"""Lists the inputs of a cast at which rounding changes: codes, midpoints, powers of two, range ends, specials, etc.

For 16-bit sources the list is exhaustive. Functions with a parameter ``dtype`` return float32 or float64 arrays.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mpsim.formats import Format
from mpsim.integers import Integer
from mpsim.kernels import spec_codes
from mpsim.kernels.contract import Array
from mpsim.validate.sources import Source, as_source
from mpsim.validate.turning_points import beside, both_signs, midpoints, numbers

UNSIGNED: dict[str, type[np.unsignedinteger]] = {"float32": np.uint32, "float64": np.uint64}


def specials(dtype: str) -> Array:
    """Returns zeros, infinities, quiet and signaling NaNs of both signs, and the ends of the source's range."""
    unsigned = UNSIGNED[dtype]
    info = np.finfo(dtype)
    infinity = np.array([np.inf], dtype).view(unsigned)[0]
    patterns = [unsigned(0), infinity, infinity + 1, infinity + 5, infinity | (infinity >> 1), unsigned(1), unsigned(2)]
    ends = np.array([info.max, info.smallest_normal, np.nextafter(info.smallest_normal, 0, dtype=dtype)], dtype)
    positive = np.concatenate([np.array(patterns, unsigned), ends.view(unsigned)])
    return np.concatenate([positive, positive | ~(~unsigned(0) >> 1)]).view(dtype)


def random_patterns(dtype: str, count: int, seed: int = 0) -> Array:
    """Returns random bit patterns."""
    unsigned = UNSIGNED[dtype]
    drawn = np.random.default_rng(seed).integers(0, np.iinfo(unsigned).max, count, unsigned, endpoint=True)
    return drawn.view(dtype)


@cache
def _magnitudes(format: Format, whole_to_bits: int) -> Array:
    """Returns non-negative numbers of the format and the next number of its grid, as float64.

    For formats of at most ``whole_to_bits`` bits it returns all numbers. Otherwise it returns those of the first and
    last codes, of the codes around each power of two, and of 200 random codes.
    """
    last = format.largest_code
    if format.bits <= whole_to_bits:
        chosen = set(range(last + 1))
    else:
        chosen = {0, 1, 2, 3, last - 2, last - 1, last}
        step = 1 << format.mantissa_bits
        stride = max(1, last // step // 64)
        for binade in range(0, last // step + 1, stride):
            chosen |= {binade * step + offset for offset in (-1, 0, 1, 2)}
        chosen |= {int(code) for code in np.random.default_rng(5).integers(0, last + 1, 200)}
    values = numbers(format, (code for code in chosen if 0 <= code <= last))
    with np.errstate(over="ignore"):
        beyond = 2 * values[-1] - spec_codes.decode(last - 1, format) if last > 1 else np.inf
    return np.append(values, beyond) if np.isfinite(beyond) else values


def turning_points(format: Format, dtype: str, whole_to_bits: int = 10) -> Array:
    """Returns numbers, midpoints, quarter points, the binades around the largest number, and thresholds.

    Each comes with its predecessor and successor in the source, and with both signs.
    """
    values = _magnitudes(format, whole_to_bits)
    quarters = values[:-1] + np.diff(values) / 4
    with np.errstate(over="ignore", under="ignore"):
        above = format.largest * np.linspace(1, 4, 49)
        low = format.smallest * np.array([0.25, 0.5, 0.75, 1, 1.5])
        near_normal = format.smallest_normal * np.array([0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2])
        edges = np.array([format.overflow_threshold[0], format.largest * 2.0, 2.0**format.min_exponent])
        points = np.concatenate([values, midpoints(values), quarters, above, low, near_normal, edges]).astype(dtype)
    return both_signs(beside(points[np.isfinite(points)], dtype))


def near_ties(format: Format, dtype: str, whole_to_bits: int = 8) -> Array:
    """Returns midpoints and numbers moved by 2**-k of their value, for k = 4, 6 ... 50.

    A tolerance, or a type between the source and the format, treats some of these as ties.
    """
    values = _magnitudes(format, whole_to_bits)
    points = np.concatenate([midpoints(values), values])
    bits = {"float32": 24, "float64": 52}[dtype]
    moved = [points * (1 + sign * 2.0**-k) for k in range(4, bits, 2) for sign in (-1, 1)]
    with np.errstate(over="ignore", under="ignore"):
        found = np.concatenate(moved).astype(dtype)
    return both_signs(found[np.isfinite(found)])


def beyond_largest(format: Format, dtype: str) -> Array:
    """Returns the numbers and midpoints of the format's grid continued two binades above its largest number.

    Each comes with its predecessor and successor, and with both signs.
    """
    steps = min(1 << (format.mantissa_bits + 1), 512)
    with np.errstate(over="ignore"):
        top = 2.0 ** min(format.max_exponent, 1020)
        points = np.concatenate([top * np.linspace(1, 2, steps + 1), top * np.linspace(2, 8, steps + 1)]).astype(dtype)
    return both_signs(beside(points[np.isfinite(points)], dtype))


def powers_of_two(dtype: str) -> Array:
    """Returns every power of two of the source with its predecessor and successor, with both signs."""
    lowest, highest = {"float32": (-149, 127), "float64": (-1074, 1023)}[dtype]
    around = beside(np.ldexp(1.0, np.arange(lowest, highest + 1)), dtype)
    return np.concatenate([around, -around])


def subnormals(dtype: str, count: int = 200) -> Array:
    """Returns random subnormal numbers of the source, with both signs."""
    bits = {"float32": 23, "float64": 52}[dtype]
    drawn = np.random.default_rng(3).integers(1, 1 << bits, count, UNSIGNED[dtype]).view(dtype)
    return np.concatenate([drawn, -drawn])


def integer_patterns(type: Integer, format: Format, random_count: int = 1 << 16, seed: int = 0) -> Array:
    """Returns codes of a wide integer type: numbers and midpoints of a format of every length, their neighbours and
    others near them, powers of two, both ends of the range, and random integers of every length.

    Returns:
        Different unsigned patterns in rising order.
    """
    generator = np.random.default_rng(seed)
    upper = np.concatenate([np.arange(8), generator.integers(0, 1 << format.precision, 24, np.int64)])
    points = {0, 1, type.least, type.most}
    for length in range(1, type.bits + 1):
        unit = max(length - format.precision - 1, 0)  # half a quantum
        steps = {0, 1, -1, 2, -2, 1 << max(unit - 2, 0), -(1 << max(unit - 2, 0))}
        tops = {1 << length - 1} | {(1 << length - 1) + (int(top) << unit) for top in upper}
        points |= {top + step for top in tops for step in steps}
        points |= {int(each) for each in generator.integers(0, 1 << length - 1, random_count // 512, np.uint64)}
    points |= {-each for each in points}
    return np.unique(
        np.array([type.code(each) for each in points if type.least <= each <= type.most], np.uint64)
    ).astype(f"uint{type.code_bits}")


@cache
def cast_corpus(format: Format, source: str | Source, random_count: int = 1 << 16, seed: int = 0) -> Array:
    """Returns the bit patterns of the source on which a cast to ``format`` is tested.

    Sources of at most 16 bits have all patterns, wider integers those of ``integer_patterns``. For float32 and float64
    there are the numbers of every code
    (for formats of at most 16 bits), midpoints and quarter points with their neighbours in the source, near-ties,
    powers of two, the binades above the largest number, specials, subnormal numbers and random patterns.

    Args:
        format: The target format.
        source: The type of the inputs.
        random_count: The number of random patterns.
        seed: The seed of the random patterns.

    Returns:
        Different unsigned patterns in rising order, read-only.

    >>> from mpsim.formats import FORMATS
    >>> cast_corpus(FORMATS["float8_e5m2"], "bfloat16").size
    65536
    """
    source = as_source(source)
    if source.bits <= 16:
        found = np.arange(1 << source.bits, dtype=source.unsigned)
    elif source.integer is not None:
        found = integer_patterns(source.integer, format, random_count, seed)
    else:
        dtype = source.name
        parts = [
            specials(dtype), _nan_of_all_ones(dtype), turning_points(format, dtype, 16), near_ties(format, dtype),
            beyond_largest(format, dtype), powers_of_two(dtype), subnormals(dtype),
            random_patterns(dtype, random_count, seed), _random_in_range(format, dtype, random_count // 2, seed),
        ]  # fmt: skip
        found = np.unique(np.concatenate([part.view(source.unsigned) for part in parts]))
    found.setflags(write=False)
    return found


def _nan_of_all_ones(dtype: str) -> Array:
    """Returns the NaNs with the largest payload. Adding half a quantum to such a pattern carries into the sign."""
    ones = ~UNSIGNED[dtype](0)
    return np.array([ones, ones >> 1], UNSIGNED[dtype]).view(dtype)


def _random_in_range(format: Format, dtype: str, count: int, seed: int) -> Array:
    """Returns random numbers of both signs whose exponents are in the format's range or slightly beyond it."""
    generator = np.random.default_rng(seed + 1)
    info = np.finfo(dtype)
    lowest = max(format.min_exponent - format.mantissa_bits - 2, int(info.minexp) - 20)
    highest = min(format.max_exponent + 2, int(info.maxexp) - 1)
    exponents = generator.integers(lowest, highest + 1, count)
    with np.errstate(over="ignore", under="ignore"):
        magnitudes = np.ldexp(1 + generator.random(count), exponents)
    return np.asarray(np.where(generator.random(count) < 0.5, -magnitudes, magnitudes).astype(dtype))
