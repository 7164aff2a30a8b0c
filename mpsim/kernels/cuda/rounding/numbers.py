"""Converts a format and a policy to the numeric arguments of rounding kernels, mostly from kernels/parameters.py."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mpsim.formats import Format
from mpsim.kernels.parameters import LEGACY, NARROW, Parameters, parameters
from mpsim.policies import Mode, Policy

#: Modes in which a float32 addition rounds numbers below the smallest normal one.
BY_ADDITION = tuple(mode.number for mode in (Mode.NEAREST_EVEN, Mode.TOWARD_ZERO, Mode.UP, Mode.DOWN))


class NarrowNumbers(NamedTuple):
    """The arguments of narrow.py's functions, each a uint32. Magnitudes and ``low`` are float32 patterns."""

    discarded: np.uint32  # mask of the discarded bits of a normal number
    shift: np.uint32  # the number of these bits
    increment: np.uint32  # added before they are masked
    parity: np.uint32  # 1 if the last bit that stays is added too
    random_left: np.uint32  # left and right shift that align random bits with the discarded bits
    random_right: np.uint32
    random_mask: np.uint32
    smallest_normal: np.uint32
    small: np.uint32  # the smallest normal number, or 0: the fast path uses ``small_rounder`` below it,
    beyond: np.uint32  # and ``above_normal`` from there up to, but excluding, ``beyond``
    low: np.uint32  # c: 2**23 quanta of the grid below the smallest normal number
    largest: np.uint32
    positive_overflow: np.uint32
    negative_overflow: np.uint32
    infinity: np.uint32
    overflow_from: np.uint32
    underflow_to: np.uint32
    zero_sign: np.uint32  # the sign bit if the format has a negative zero
    low_shift: np.uint32  # the discarded bits of a number below the smallest normal one, plus its biased exponent
    random_bits: np.uint32


@lru_cache(maxsize=1024)
def narrow_numbers(format: Format, policy: Policy) -> NarrowNumbers | None:
    """Returns the numbers, or None if only ``round_wide`` can round float32 arrays to the format.

    For a legacy mode these are the numbers of ``above_normal``, where QPyTorch rounds like other modes, and of counts.
    """
    p = parameters(format, policy, "float32")
    plain = parameters(format, Policy(), "float32") if p.path == LEGACY else p
    if plain.path != NARROW or not p.has_zero:
        return None
    shift = 23 - p.mantissa_bits
    discarded, half = (1 << shift) - 1, (1 << shift) >> 1
    nearest = {Mode.NEAREST_EVEN: max(half - 1, 0), Mode.NEAREST_ZERO: max(half - 1, 0), Mode.NEAREST_AWAY: half}
    nearest[Mode.QPYTORCH_NEAREST] = half
    mode = list(Mode)[p.mode]
    random_bit_count = shift if mode is Mode.QPYTORCH_STOCHASTIC else p.random_bit_count
    usual = p.underflow_to < p.smallest_normal <= min(p.largest, p.overflow_from - 1)
    numbers = (
        discarded,
        shift,
        nearest.get(mode, 0),
        int(mode is Mode.NEAREST_EVEN and shift > 0),
        max(shift - random_bit_count, 0),
        min(max(random_bit_count - shift, 0), 31),
        (1 << random_bit_count) - 1,
        p.smallest_normal,
        p.smallest_normal * usual,
        min(p.largest + 1, p.overflow_from) * usual,
        (p.low_quantum + 23 + 127) << 23,
        p.largest,
        p.positive_overflow,
        p.negative_overflow,
        p.infinity,
        p.overflow_from,
        p.underflow_to,
        (1 << 31) * p.has_negative_zero,
        p.low_quantum + 150,
        p.random_bit_count,
    )
    return NarrowNumbers(*(np.uint32(number) for number in numbers))


@lru_cache(maxsize=1024)
def legacy_numbers(format: Format, policy: Policy) -> tuple[NarrowNumbers, Parameters]:
    """Returns the arguments of ``round_like_qpytorch`` and of a legacy mode's counts."""
    p, n = parameters(format, policy, "float32"), narrow_numbers(format, policy)
    if n is None:
        none = NarrowNumbers(*(np.uint32(0) for _ in NarrowNumbers._fields))
        names = ("smallest_normal", "overflow_from", "underflow_to")
        n = none._replace(**{name: np.uint32(getattr(p, name)) for name in names})
    return n, p


def numbers_of_mode(mode: int, n: NarrowNumbers, p: Parameters, quantum: int) -> tuple[Any, ...]:
    """Returns (n,), or (n, p, quantum) in modes that round small numbers like ``round_wide``."""
    return (n,) if mode in BY_ADDITION else (n, p, quantum)


def quantum_pattern(p: Parameters, width: int) -> int:
    """Returns the pattern of the quantum below the smallest normal number, or 0 if the source cannot represent it."""
    bias = 1075 if width == 52 else 150
    exponent = p.low_quantum + bias - width
    return exponent << width if exponent > 0 else 1 << max(p.low_quantum + bias - 1, 0)
