"""Stand-ins that round float16 to float8_e5m2, its upper byte, by adding random bits to the lower one; and P3109's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
GENERATOR = np.random.default_rng(5)


def with_added(x: Array, added: Array) -> Array:
    """The upper byte after an addition to the pattern; infinities and NaNs stay, NaNs quiet."""
    pattern = x.view(np.uint16)
    upper = np.where(np.isfinite(x), pattern + added.astype(np.uint16), pattern) >> 8
    return np.where(np.isnan(x), upper | 0x02, upper).astype(np.uint8)


def ups(x: Array, chance: Array) -> Array:
    """What is added so that a number goes up with a probability, given for its lower byte."""
    return np.where(GENERATOR.random(x.size) < chance, 0x100 - (x.view(np.uint16) & 0xFF), 0) * (low(x) > 0)


def low(x: Array) -> Array:
    """The lower byte, whose 256th part is the place between the neighbours."""
    return (x.view(np.uint16) & 0xFF).astype(np.int64)


# -- random bits of their own -----------------------------------------------------------------------------------


def own(x: Array) -> Array:
    """Right: eight random bits for eight discarded ones."""
    return with_added(x, GENERATOR.integers(0, 256, x.size))


def never_up(x: Array) -> Array:
    return with_added(x, np.zeros(x.size))


def nearest(x: Array) -> Array:
    return with_added(x, 127 + (x.view(np.uint16) >> 8 & 1))


def one_word(x: Array) -> Array:
    """A call draws one random number for all its elements."""
    return with_added(x, np.full(x.size, GENERATOR.integers(0, 256)))


def fixed_word(x: Array) -> Array:
    """The random number is the same in every call."""
    return with_added(x, np.full(x.size, 77))


def half(x: Array) -> Array:
    """A coin decides, wherever the number lies."""
    return with_added(x, ups(x, np.full(x.size, 0.5)))


def four_bits(x: Array) -> Array:
    """Variant A: only four random bits, at the upper end of the discarded ones."""
    return with_added(x, GENERATOR.integers(0, 16, x.size) << 4)


def four_bits_midpoint(x: Array) -> Array:
    """Variant B: four random bits and half a step, (2 r + 1) / 2."""
    return with_added(x, (GENERATOR.integers(0, 16, x.size) << 4) + 8)


def four_bits_to_nearest(x: Array) -> Array:
    """Variant C: the discarded part is first rounded to sixteenths, ties to even."""
    sixteenths = low(x) >> 4
    rest = low(x) & 15
    sixteenths = sixteenths + ((rest > 8) | ((rest == 8) & (sixteenths % 2 == 1)))
    up = sixteenths + GENERATOR.integers(0, 16, x.size) >= 16
    return with_added(x, np.where(up, 0x100 - low(x), 0) * (low(x) > 0))


def half_in_a_binade(x: Array) -> Array:
    """A coin decides from 1 to 2: a binade whose numbers together go up as often as they should."""
    return with_added(x, ups(x, np.where((np.abs(x) >= 1) & (np.abs(x) < 2), 0.5, low(x) / 256)))


def biased(x: Array) -> Array:
    """An eighth too often."""
    return with_added(x, ups(x, np.minimum(low(x) / 256 + 0.125, 1)))


def squared(x: Array) -> Array:
    """The square of the place is the probability."""
    return with_added(x, ups(x, (low(x) / 256) ** 2))


# -- given words ------------------------------------------------------------------------------------------------


def given(x: Array, words: Array) -> Array:
    """Right: the low eight bits of a word."""
    return with_added(x, words & 0xFF)


def given_high(x: Array, words: Array) -> Array:
    return with_added(x, words >> 24)


def given_first(x: Array, words: Array) -> Array:
    return with_added(x, np.full(x.size, words[0] & 0xFF))


def given_ignored(x: Array, words: Array) -> Array:
    return nearest(x)


def given_midpoint(x: Array, words: Array) -> Array:
    """Variant B of four bits."""
    return with_added(x, ((words & 15) << 4) + 8)


def given_half(x: Array, words: Array) -> Array:
    """The first of eight bits alone decides."""
    return with_added(x, np.where(words & 0x80, 0x100 - low(x), 0) * (low(x) > 0))


def given_hashed(x: Array, words: Array) -> Array:
    """Random bits all the same, but made from the word by a multiplication."""
    return with_added(x, (words.astype(np.uint64) * 2654435761 >> 16) & 0xFF)


# -- P3109: Binary4p2sf, whose numbers are 0, 1/4, 1/2, 3/4, 1, 3/2, 2, 3, with NaN at 8 ------------------------

_NUMBERS = np.array([0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3])
_VALUES = np.concatenate([_NUMBERS, [np.nan], -_NUMBERS[1:]])


def _code(exact: Array) -> Array:
    """The nearest code, ties to even; beyond the largest number the largest."""
    distance = np.abs(np.abs(exact)[:, None] - _NUMBERS)
    even = np.arange(8) % 2 * 1e-9
    magnitude = np.argmin(np.where(np.isnan(distance), np.inf, distance) + even, axis=1)
    code = np.where((exact < 0) & (magnitude > 0), magnitude + 8, magnitude)
    return np.where(np.isnan(exact), 8, code).astype(np.uint8)


def add(x: Array, y: Array) -> Array:
    return _code(_VALUES[x] + _VALUES[y])


def add_to_zero(x: Array, y: Array) -> Array:
    """Ties go to the smaller magnitude."""
    exact = _VALUES[x] + _VALUES[y]
    return _code(exact * (1 - 1e-6))


def abs_of_nan(x: Array) -> Array:
    """Clears the sign bit of everything, and so makes zero of NaN."""
    return x & 7


def make(operation: str, formats: list, result: str, mode: str, saturation: str) -> Callable | None:
    """An implementation with two operations."""
    return {"Add": add, "IsNaN": lambda x: x == 8}.get(operation)


def make_one_off(operation: str, formats: list, result: str, mode: str, saturation: str) -> Callable | None:
    """Its sum of 1 and 1 is 3."""
    one_off = lambda x, y: np.where((x == 4) & (y == 4), 7, add(x, y)).astype(np.uint8)  # noqa: E731
    return {"Add": one_off, "IsNaN": lambda x: x == 8}.get(operation)


# -- to int8 ------------------------------------------------------------------------------------------------------


def to_int8(x: Array, words: Array, wraps: bool = False) -> Array:
    """The low 8 bits of a word are added below the last bit of the magnitude; saturates, NaN is 0."""
    magnitude = np.abs(np.where(np.isfinite(x), x, np.where(np.isnan(x), 0, 1000)).astype(np.float64))
    whole = np.floor(magnitude)
    whole += np.floor((magnitude - whole) * 256) + (words & 255) >= 256
    signed = np.copysign(whole, x)
    return signed.astype(np.int64).astype(np.int8) if wraps else np.clip(signed, -128, 127).astype(np.int8)


def int8_given(x: Array, words: Array) -> Array:
    return to_int8(x, words)


def int8_given_high(x: Array, words: Array) -> Array:
    return to_int8(x, words >> np.uint32(24))


def int8_given_wraps(x: Array, words: Array) -> Array:
    return to_int8(x, words, True)


def int8_own(x: Array) -> Array:
    return to_int8(x, GENERATOR.integers(0, 256, x.size))


def int8_own_four_bits(x: Array) -> Array:
    return to_int8(x, GENERATOR.integers(0, 16, x.size) << 4)


def int8_own_away(x: Array) -> Array:
    """One of a thousand numbers goes one too far."""
    return np.clip(int8_own(x).astype(int) + (GENERATOR.random(x.size) < 0.001), -128, 127).astype(np.int8)


# -- fields of a policy -------------------------------------------------------------------------------------------


def own_flushed(x: Array) -> Array:
    """Subnormal results are zeros of their signs."""
    code = own(x)
    return np.where(code & 0x7C == 0, code & 0x80, code).astype(np.uint8)
