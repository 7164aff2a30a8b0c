"""Chooses the inputs of the test of frequencies."""

from __future__ import annotations

import numpy as np

from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.rounding import decode
from mpsim.validate.sources import Source, widened

#: Numbers of every binade and sign, each rounded once; and of all of them together, at most.
OF_A_BINADE, SPREAD = 4096, 1 << 22


def pools_of_binades(format: Format, source: Source, seed: int) -> list[Array]:
    """Patterns of random numbers, of magnitudes up to the format's largest: those of every binade and sign, and of each
    sign below the smallest normal number."""
    generator = np.random.default_rng(seed)
    ends = [(0.0, format.smallest_normal)] if format.subnormals else []
    ends += [(2.0**e, 2.0 ** (e + 1)) for e in range(format.min_exponent, format.max_exponent + 1)]
    signs = (1, -1) if format.signed else (1,)
    size = min(OF_A_BINADE, SPREAD // (len(ends) * len(signs)))
    pools = []
    for low, high in ends:
        for sign in signs:
            patterns = source.patterns(sign * generator.uniform(low, min(high, format.largest), size))
            x = np.abs(widened(source.values(patterns)))
            pools.append(np.ascontiguousarray(patterns[(x > 0) & (x <= format.largest)]))
    return pools


def points_between(format: Format, source: Source, seed: int) -> Array:
    """Numbers of the range, normal and subnormal, of both signs, with places of every kind between their neighbours;
    and between the largest number and the next of the grid."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, format.largest_code, 60)
    low = decode(codes, format, np.float64)
    high = decode(codes + 1, format, np.float64)
    shares = np.concatenate(
        [np.array([0, 1 / 1024, 1 / 16, 1 / 4, 1 / 2, 3 / 4, 15 / 16, 1023 / 1024]), generator.random(52)]
    )
    middle = low + (high - low) * shares
    below = format.smallest * np.array([1 / 64, 1 / 4, 1 / 2, 3 / 4])
    quantum = 2 * (format.overflow_threshold[0] - format.largest)
    with np.errstate(over="ignore"):
        beyond = format.largest + quantum * np.array([1 / 64, 1 / 4, 1 / 2, 3 / 4, 63 / 64])
    values = np.concatenate([middle, below, beyond[np.isfinite(beyond)], [format.smallest_normal]])
    patterns = np.unique(source.patterns(np.concatenate([values, -values]) if format.signed else values))
    x = source.values(patterns)
    return np.ascontiguousarray(patterns[np.isfinite(x) & (x != 0)])


def separating_points(format: Format, source: Source) -> Array:
    """Numbers whose places are halfway between multiples of 1/2, 1/4, ..., 1/256, where the variants of few random bits
    differ. Places that the source does not have are left out."""
    codes = np.array([format.largest_code // 2, format.largest_code // 2 + 1])
    low, high = (decode(codes + step, format, np.float64)[:, None] for step in (0, 1))
    shares = np.array([(2 * j + 1) / (2 << k) for k in range(1, 9) for j in range(min(1 << k, 4))])
    values = (low + (high - low) * shares).reshape(-1)
    patterns = np.unique(source.patterns(np.concatenate([values, -values]) if format.signed else values))
    return np.ascontiguousarray(patterns[np.isin(np.abs(widened(source.values(patterns))), values)])
