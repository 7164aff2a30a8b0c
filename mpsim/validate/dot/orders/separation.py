"""Accumulators that gave every answer so far, distinguished by inputs on which they differ.

"Equal" is said of two accumulators only if no input was found that separates them. Such inputs are looked for where
sums turn: rows made by rule (inputs/edges.py), then random ones beside the least exponent of alignment, one bit around
the width of an alignment, where terms cancel, near both ends of the range, and among infinities and NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mpsim.formats import Format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.products.accumulators import Summation
from mpsim.rounding import round_to
from mpsim.validate.dot.inputs.edges import edge_batches
from mpsim.validate.dot.inputs.probes import Prober
from mpsim.validate.dot.orders.candidates import sums_of
from mpsim.validate.dot.subjects import Model, same

#: Rows of each batch, batches, and how many of the rows that separate are asked of the subject.
ROWS, BATCHES, ASKED = 1024, 8, 96
#: How many terms of such a row are not 0: one of these.
TERMS = (2, 2, 3, 4, 6, 9, 17)


class Separated(NamedTuple):
    """kept: what the subject still agrees with, in the order given. inputs: rows that were tried on all of them."""

    kept: tuple[Summation, ...]
    inputs: int


def separate(
    prober: Prober,
    found: Sequence[Summation],
    output: str,
    lengths: Sequence[int] = (),
    seed: int = 0,
    backend: str = DEFAULT_BACKEND,
) -> Separated:
    """Drops accumulators by rows on which they differ, asking the subject those. lengths: other numbers of terms, in
    which those are asked that are one and the same in the prober's."""
    kept, tried = _separated(prober, found, output, seed, backend)
    for length in lengths:
        alike: dict[object, dict[object, list[Summation]]] = {}
        for each in kept if length != prober.length else ():
            groups = alike.setdefault(sums_of(each, prober.length), {})
            groups.setdefault(sums_of(each, length), []).append(each)
        for groups in alike.values():
            if len(groups) > 1:
                firsts = [group[0] for group in groups.values()]
                left, rows = _separated(prober.of_length(length), firsts, output, seed, backend, 1)
                tried += rows
                dropped = [each for group in groups.values() if group[0] not in left for each in group]
                kept = tuple(each for each in kept if each not in dropped)
    return Separated(kept, tried)


def _separated(
    prober: Prober, found: Sequence[Summation], output: str, seed: int, backend: str, batches: int = BATCHES
) -> Separated:
    """Drops accumulators by rows of one number of terms."""
    kept, tried = list(dict.fromkeys(found)), 0
    for a, b in _batches(prober, seed, batches):
        if len(kept) < 2:
            break
        tried += len(a)  # those that compute the same are not told apart
        firsts = list({sums_of(each, prober.length): each for each in reversed(kept)}.values())
        results = [Model(each, output).dots(a, b, backend=backend) for each in firsts]
        differ = np.flatnonzero(np.any([~same(results[0], other) for other in results[1:]], axis=0))
        if not differ.size:
            continue
        chosen = _covering(results, differ)
        answers = prober.ask_numbers(a[chosen], b[chosen])
        given = zip(firsts, results, strict=True)
        equal = {sums_of(each, prober.length) for each, rows in given if same(answers, rows[chosen]).all()}
        kept = [each for each in kept if sums_of(each, prober.length) in equal]
    return Separated(tuple(kept), tried)


def _batches(prober: Prober, seed: int, count: int) -> Iterator[tuple[Array, Array]]:
    yield from edge_batches(prober.inputs, prober.length)
    for batch in range(count):
        yield adversarial_rows(prober.inputs, prober.length, ROWS, 1000 * seed + batch, prober.least)


def _covering(results: list[Array], differ: Array) -> Array:
    """Some of the rows: first those on which the most groups of accumulators part."""
    keys = np.array([np.where(np.isnan(rows[differ]), np.inf, rows[differ]) for rows in results])
    groups = np.array([len(np.unique(column)) for column in keys.T])
    return differ[np.argsort(-groups, kind="stable")[:ASKED]]


def adversarial_rows(inputs: Format, length: int, rows: int, seed: int, quantum: int = -149) -> tuple[Array, Array]:
    """Operands (rows, length) in float32, numbers of the format, of dot products where sums turn. quantum: the exponent
    of the smallest sum."""
    random = np.random.default_rng(seed)
    lowest, highest = 2 * inputs.quantum_exponent, 2 * int(np.frexp(inputs.largest)[1]) - 2
    lowest, highest = max(lowest, -290), min(highest, 250)
    most = min(length, max(TERMS))
    places, count = _places(random, length, rows, most)
    used, each = np.arange(most) < count[:, None], np.arange(rows)
    anywhere = random.integers(lowest, highest + 1, rows)
    tops = (anywhere, random.integers(-20, 8, rows), quantum + random.integers(-3, 13, rows))
    top = np.choose(random.choice(3, rows, p=[0.5, 0.25, 0.25]), tops)
    depth = random.choice([1, 3, 10, 24, 28, 40], rows)
    below = random.integers(0, depth[:, None] + 1, (rows, most))
    below[:, 0] = 0
    exponents = np.clip(top[:, None] - below, lowest, highest)
    left = exponents // 2 + random.integers(-2, 3, exponents.shape)
    x, y = _numbers(random, left, inputs) * used, _numbers(random, exponents - left, inputs) * used
    cancelled = np.flatnonzero((count > 2) & (random.random(rows) < 0.5))  # the largest, at once or at the end
    last = count[cancelled] - 1
    x[cancelled, last], y[cancelled, last] = -x[cancelled, 0], y[cancelled, 0]
    special = np.flatnonzero(random.random(rows) < 0.03)
    x[special, 0] = random.choice([np.inf, -np.inf, np.nan] if inputs.has_nan else [0.0], special.size)
    a, b = np.zeros((2, rows, length), np.float32)
    a[each[:, None], places], b[each[:, None], places] = _in_format(x, inputs), _in_format(y, inputs)
    return a, b


def _places(random: np.random.Generator, length: int, rows: int, most: int) -> tuple[Array, Array]:
    """(different places (rows, most) along k, how many of them are used), most of the used ones near the start."""
    near = np.minimum(length, random.choice([4, 8, 16, 32, 64], rows))
    within = np.where(random.random(rows) < 0.8, near, length)
    count = np.minimum(random.choice(TERMS, rows), within)
    order = random.random((rows, length)) + (np.arange(length) >= within[:, None])  # those within come first
    return np.argsort(order, axis=1)[:, :most], count


def _numbers(random: np.random.Generator, exponents: Array, inputs: Format) -> Array:
    """Numbers of about those exponents: powers of two, ones beside them, or any significand; of both signs."""
    bits = min(inputs.mantissa_bits, 23)
    kind = random.integers(0, 3, exponents.shape)
    last = 2.0**-bits
    any_ = 1 + np.floor(random.random(exponents.shape) * 2.0**bits) * last
    significand = np.select([kind == 0, kind == 1], [1.0, 1.0 + last], any_)
    signs = random.choice([-1, 1], exponents.shape)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(significand * signs, exponents).astype(np.float32))


def _in_format(x: Array, inputs: Format) -> Array:
    rounded = round_to(x, inputs, "toward_zero", "saturate_propagate", threads=1)
    return np.asarray(rounded if inputs.has_nan else np.nan_to_num(rounded, nan=0.0))
