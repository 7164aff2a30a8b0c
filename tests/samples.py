"""Numbers drawn from where rounding turns, shared by the tests of every backend."""

from __future__ import annotations

import os
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.kernels import spec
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.corpora import UNSIGNED, powers_of_two, random_patterns, specials, turning_points

Array = np.ndarray[Any, Any]

#: Whether tests run with --slow, in this process or in the one that started it.
SLOW = "MPSIM_TEST_SLOW" in os.environ

#: Every named format, and of the parsed ones those with something of their own.
TEST_FORMATS = {
    **FORMATS,
    **{
        name: FORMATS[name]
        for name in (
            "fp_4_3_4", "fp_5_2_0", "fp_6_9_0", "fp_4_3_n2", "fp_8_3_2", "fp_2_0_0", "fp_1_3_0",
            "p3109_k8p3", "p3109_k8p1", "p3109_k6p3_finite", "p3109_k16p11", "p3109_k6p1u", "p3109_k5p1_finite",
        )
    },
    "ieee_2_0": Format("ieee_2_0", 2, 0),  # infinity, no NaN
    "ieee_1_2": Format("ieee_1_2", 1, 2),  # the largest number is subnormal
    "far_low": Format("far_low", 4, 3, bias=1000),  # values near float64's subnormals
    "far_high": Format("far_high", 4, 3, bias=-900, specials="none"),
    "unsigned": Format("unsigned", 4, 2, 8, specials="p3109", signed=False),
    "unsigned_finite": Format("unsigned_finite", 5, 3, 16, specials="p3109_finite", signed=False),
    "flushing": Format("flushing", 4, 2, specials="fnuz", subnormals=False),
}  # fmt: skip


def policies(format: Format, dtype: str) -> list[Policy]:
    """Every mode and overflow policy that the format and the source allow; stochastic with 1, 8 and 32 bits, and its
    variants with 8."""
    found = []
    for mode, overflow in product(Mode, Overflow):
        if mode.is_legacy:
            applies = dtype == "float32" and spec.legacy_applies(format)
            if applies and overflow in (Overflow.SATURATE, Overflow.MARK):
                found.append(Policy(mode, overflow))
        else:
            bit_counts = {Mode.STOCHASTIC: (1, 8, 32)}.get(mode, (8,) if mode.takes_bit_count else (None,))
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
