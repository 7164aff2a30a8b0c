"""Computes the expected results of a cast as runs, i.e. intervals of input patterns with the same result.

Rounding is monotone, so the result does not change between two adjacent boundaries (numbers of the format and
midpoints). A range of inputs is compared by comparing each run with one code, without rounding the inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.errors import UsageError
from mpsim.formats import Format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.validate.cast.rules import Rule
from mpsim.validate.sources import Source
from mpsim.validate.turning_points import midpoints, numbers


class Runs(NamedTuple):
    """Runs: rising first patterns (uint64), starting with 0, and the result of each run (uint64)."""

    starts: Array
    keys: Array


def runs_of(rule: Rule, source: Source, space: str, backend: str = DEFAULT_BACKEND) -> Runs:
    """Returns the runs of all patterns of a source (float16, bfloat16 or float32), including NaNs and both signs.

    It computes the results at both ends of every piece between two candidate boundaries. A piece whose ends differ is
    halved until they agree. This requires a rule that is monotone between its boundaries.

    Raises:
        ValueError: The source is float64, or the rule is stochastic.
    """
    if source.name == "float64" or rule.policy.mode.needs_random_bits:
        raise UsageError(f"runs need float16, bfloat16 or float32 and a mode without random bits, got {source.name}")
    points = _candidates(rule.format, source)
    keys = _keys(points, rule, source, space, backend)
    while (middles := _unsettled(points, keys)).size:
        points = np.concatenate([points, middles])
        keys = np.concatenate([keys, _keys(middles, rule, source, space, backend)])
        order = np.argsort(points)
        points, keys = points[order], keys[order]
    first = np.concatenate([[True], keys[1:] != keys[:-1]])
    return Runs(points[first], keys[first])


def _unsettled(points: Array, keys: Array) -> Array:
    """Returns the midpoints of pieces whose ends have different results and are not adjacent."""
    gaps = (keys[1:] != keys[:-1]) & (points[1:] - points[:-1] > 1)
    return np.asarray(points[:-1][gaps] + (points[1:][gaps] - points[:-1][gaps]) // np.uint64(2))


def _keys(points: Array, rule: Rule, source: Source, space: str, backend: str) -> Array:
    x = source.values(points.astype(source.unsigned))
    return rule.outcome(x, source, space, backend=backend).keys


def _candidates(format: Format, source: Source) -> Array:
    """Returns the patterns of both signs at which the result may change, with their neighbours.

    They are the numbers of the format, midpoints, powers of two from the largest number, and the ends of the range and
    of the NaNs.
    """
    codes = range(format.largest_code + 1) if format.bits <= 16 else range(2)
    values = numbers(format, codes)
    with np.errstate(over="ignore"):
        top = 2.0 ** np.arange(format.max_exponent, format.max_exponent + 4)
        edges = np.concatenate([top, [format.largest, format.overflow_threshold[0], format.smallest_normal, 0.0]])
        values = np.concatenate([values, midpoints(values), edges])
        patterns = source.patterns(values).astype(np.int64)
    sign, infinity = source.sign_mask, int(source.patterns(np.array([np.inf]))[0])
    ends = [0, infinity, infinity + 1, sign - 1]
    if format.bits > 16:  # wide formats: every half quantum of a normal number
        halves = np.arange(0, infinity, max(1, 1 << (source.mantissa_bits - format.mantissa_bits - 1)))
        patterns = np.concatenate([patterns, halves])
    around = np.concatenate([patterns + step for step in (-1, 0, 1)] + [np.array(ends)])
    positive = np.unique(around[(around >= 0) & (around < sign)])
    return np.concatenate([positive, positive + sign]).astype(np.uint64)
