"""Numbers drawn from where rounding turns, shared by the tests of every backend."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.kernels import spec
from mpsim.policies import Mode, Overflow, Policy

Array = np.ndarray[Any, Any]
UNSIGNED = {"float32": np.uint32, "float64": np.uint64}

#: Every named format, and of the parsed ones those with something of their own.
TEST_FORMATS = {
    **FORMATS,
    **{
        name: FORMATS[name]
        for name in (
            "fp_4_3_4", "fp_5_2_0", "fp_6_9_0", "fp_4_3_n2", "fp_8_3_2", "fp_2_0_0", "fp_1_3_0",
            "p3109_k8p3", "p3109_k8p1", "p3109_k6p3_finite", "p3109_k16p11",
        )
    },
    "ieee_2_0": Format("ieee_2_0", 2, 0),  # infinity, no NaN
    "ieee_1_2": Format("ieee_1_2", 1, 2),  # the largest number is subnormal
    "far_low": Format("far_low", 4, 3, bias=1000),  # values near float64's subnormals
    "far_high": Format("far_high", 4, 3, bias=-900, specials="none"),
    "flushing": Format("flushing", 4, 2, specials="fnuz", subnormals=False),
}  # fmt: skip


def policies(format: Format, dtype: str) -> list[Policy]:
    """Every mode and overflow policy that the format and the source allow; stochastic with 1, 8 and 32 bits."""
    found = []
    for mode, overflow in product(Mode, Overflow):
        if mode.is_legacy:
            applies = dtype == "float32" and spec.legacy_applies(format)
            if applies and overflow in (Overflow.SATURATE, Overflow.MARK):
                found.append(Policy(mode, overflow))
        else:
            bit_counts = (1, 8, 32) if mode is Mode.STOCHASTIC else (None,)
            found += [Policy(mode, overflow, count) for count in bit_counts]
    return found


def cases() -> list[tuple[str, str]]:
    """(format, source) for every format and each source that holds it."""
    return [
        (name, dtype)
        for name, format in TEST_FORMATS.items()
        for dtype in ("float32", "float64")
        if dtype == "float64" or format.fits_float32
    ]


def specials(dtype: str) -> Array:
    """Zeros, infinities, NaNs quiet and signaling of either sign, the ends of the source's range."""
    unsigned = UNSIGNED[dtype]
    info = np.finfo(dtype)
    infinity = np.array([np.inf], dtype).view(unsigned)[0]
    patterns = [unsigned(0), infinity, infinity + 1, infinity + 5, infinity | (infinity >> 1), unsigned(1), unsigned(2)]
    ends = np.array([info.max, info.smallest_normal, np.nextafter(info.smallest_normal, 0, dtype=dtype)], dtype)
    positive = np.concatenate([np.array(patterns, unsigned), ends.view(unsigned)])
    return np.concatenate([positive, positive | ~(~unsigned(0) >> 1)]).view(dtype)


def random_patterns(dtype: str, count: int, seed: int = 0) -> Array:
    """Any bit patterns at all."""
    unsigned = UNSIGNED[dtype]
    drawn = np.random.default_rng(seed).integers(0, np.iinfo(unsigned).max, count, unsigned, endpoint=True)
    return drawn.view(dtype)


@cache
def _magnitudes(format: Format) -> Array:
    """The format's non-negative numbers and the next of its grid, float64: all up to 10 bits, else those of
    the first and last codes, of the codes around each power of two, and 200 more."""
    last = format.largest_code
    chosen = set(range(last + 1)) if format.bits <= 10 else {0, 1, 2, 3, last - 2, last - 1, last}
    if format.bits > 10:
        step = 1 << format.mantissa_bits
        stride = max(1, last // step // 64)
        for binade in range(0, last // step + 1, stride):
            chosen |= {binade * step + offset for offset in (-1, 0, 1, 2)}
        chosen |= {int(code) for code in np.random.default_rng(5).integers(0, last + 1, 200)}
    values = sorted({spec.decode(code, format) for code in chosen if 0 <= code <= last})
    with np.errstate(over="ignore"):
        beyond = [2 * values[-1] - spec.decode(last - 1, format)] if last > 1 else []
    return np.array(values + [value for value in beyond if np.isfinite(value)])


def turning_points(format: Format, dtype: str) -> Array:
    """Numbers, midpoints of neighbours, quarter points, the binades around the largest number, thresholds; each
    with its predecessor and successor in the source; of both signs."""
    values = _magnitudes(format)
    middles = values[:-1] + np.diff(values) / 2
    quarters = values[:-1] + np.diff(values) / 4
    with np.errstate(over="ignore", under="ignore"):
        above = format.largest * np.linspace(1, 4, 49)
        low = format.smallest * np.array([0.25, 0.5, 0.75, 1, 1.5])
        near_normal = format.smallest_normal * np.array([0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2])
        edges = np.array([format.overflow_threshold[0], format.largest * 2.0, 2.0**format.min_exponent])
        points = np.concatenate([values, middles, quarters, above, low, near_normal, edges]).astype(dtype)
        points = points[np.isfinite(points)]
        below, after = (np.nextafter(points, dtype_(dtype, end)) for end in (-np.inf, np.inf))
    unique = np.unique(np.concatenate([below, points, after]))
    return np.concatenate([unique, -unique])


def dtype_(dtype: str, value: float) -> Any:
    return np.dtype(dtype).type(value)


def powers_of_two(dtype: str) -> Array:
    """Every power of two of the source with its predecessor and successor; of both signs."""
    lowest, highest = {"float32": (-149, 127), "float64": (-1074, 1023)}[dtype]
    powers = np.ldexp(1.0, np.arange(lowest, highest + 1)).astype(dtype)
    zero, infinity = dtype_(dtype, 0), dtype_(dtype, np.inf)
    with np.errstate(over="ignore"):
        around = np.concatenate([np.nextafter(powers, zero), powers, np.nextafter(powers, infinity)])
    return np.concatenate([around, -around])


@cache
def corpus(name: str, dtype: str, random_count: int = 300) -> Array:
    """Everything above for one format; read-only."""
    parts = [specials(dtype), turning_points(TEST_FORMATS[name], dtype), random_patterns(dtype, random_count)]
    if dtype == "float32":
        subnormals = np.random.default_rng(3).integers(1, 1 << 23, 40, np.uint32).view(np.float32)
        parts += [powers_of_two(dtype), subnormals, -subnormals]
    else:
        parts.append(powers_of_two(dtype)[::7])
    found = np.concatenate(parts)
    found.setflags(write=False)
    return found


@cache
def all_16_bit_sources() -> Array:
    """Every float16 and every bfloat16 number as float32; read-only."""
    patterns = np.arange(1 << 16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        half = patterns.view(np.float16).astype(np.float32)
    found = np.concatenate([half, (patterns.astype(np.uint32) << 16).view(np.float32)])
    found.setflags(write=False)
    return found


def random_words(size: int, seed: int = 1) -> Array:
    """uint32 words, the extreme ones among them."""
    words = np.random.default_rng(seed).integers(0, 1 << 32, size, np.uint32)
    words[::7], words[3::7] = 0, 0xFFFFFFFF
    return words


def bits(array: Any) -> Array:
    """The patterns of a float array, for comparing what == cannot see."""
    array = np.asarray(array)
    return array.view(UNSIGNED[array.dtype.name])


def assert_same_bits(actual: Any, expected: Any, x: Any = None, what: object = "") -> None:
    """Fails with the first differing elements, and what they came from."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, what
    left, right = (bits(actual), bits(expected)) if actual.dtype.kind == "f" else (actual, expected)
    if not np.array_equal(left, right):
        at = np.flatnonzero((left != right).reshape(-1))
        source = actual if x is None else np.asarray(x)
        rows = [(source.reshape(-1)[i], actual.reshape(-1)[i], expected.reshape(-1)[i]) for i in at[:5]]
        raise AssertionError(f"{what}: {at.size} of {left.size} differ; (from, got, expected): {rows}")
