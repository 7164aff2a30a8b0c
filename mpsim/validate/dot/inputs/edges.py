"""Dot products where sums turn, made by rule: the same rows for every subject with the same inputs and length.

A row of two to five terms is aimed at one property of an accumulator: the least exponent of alignment, the width of an
alignment, what a sum keeps, its rounding, the terms of an instruction, the length of a chunk, the range. Rows in which
every term counts are aimed at formats so narrow that few terms never need rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.rounding import round_to

#: k, and the product: 2**exponent times a factor, or times one factor for each operand.
Term = tuple[int, int, float | tuple[float, float]]

#: Exponents of the smallest sums: float32, float32 with 13 fraction bits, float16.
QUANTA = (-149, -139, -24)
#: Exponents of the smallest normal sums.
SMALLEST = (-126, -14)
#: How far below the smallest sum, or below a large term, small terms are put.
BELOW = 31
#: Mantissa bits of sums, at which roundings are looked for.
MANTISSAS = (10, 13, 22, 23)
#: Terms of an instruction: rows have their terms in different ones of these.
STEPS = (4, 8, 16, 32)
#: Rows in which every term counts, and rows of a batch at most.
DENSE, ROWS = 64, 1024
#: The last k, at most, of rows of few terms, and of rows that repeat the largest number.
REACH, LARGE_REACH = 2048, 1024


def operands(rows: Sequence[Sequence[Term]], length: int) -> tuple[Array, Array]:
    """Rows of terms as float32 matrices (rows, length): each product's exponent is split in halves."""
    a, b = np.zeros((2, len(rows), length), np.float32)
    terms = [(row, *term) for row, each in enumerate(rows) for term in each]
    if terms:
        row, k, exponents, factors = zip(*terms, strict=True)
        exponent = np.array(exponents)
        x, y = np.array([each if isinstance(each, tuple) else (1.0, each) for each in factors]).T
        a[row, k] = np.ldexp(x, exponent - exponent // 2)
        b[row, k] = np.ldexp(y, exponent // 2)
    return a, b


def edge_rows(inputs: Format, length: int) -> tuple[Array, Array]:
    """Operands (rows, length) in float32, numbers of the format, of all the rows that fit in it."""
    left, right = (np.concatenate(each) for each in zip(*edge_batches(inputs, length), strict=True))
    return left, right


@lru_cache(maxsize=8)
def edge_batches(inputs: Format, length: int) -> tuple[tuple[Array, Array], ...]:
    """The same in matrices of at most ROWS rows."""
    return tuple(_edge_batches(inputs, length))


def _edge_batches(inputs: Format, length: int) -> Iterator[tuple[Array, Array]]:
    lowest, highest = 2 * inputs.quantum_exponent, 2 * (int(np.frexp(inputs.largest)[1]) - 1)
    fitting = [
        terms
        for terms in dict.fromkeys(map(tuple, _sparse(lowest, highest, min(length, REACH))))
        if all(0 <= k < length and lowest <= exponent <= highest for k, exponent, _ in terms)
    ]
    for start in range(0, len(fitting), ROWS):
        a, b = operands(fitting[start : start + ROWS], length)
        kept = (_in_format(a, inputs) == a).all(axis=1) & (_in_format(b, inputs) == b).all(axis=1)
        yield a[kept], b[kept]
    for make in (_dense, _large_sums, _special):
        a, b = make(inputs, length)
        yield from ((a[start : start + ROWS], b[start : start + ROWS]) for start in range(0, len(a), ROWS))


def _sparse(lowest: int, highest: int, length: int) -> Iterator[Sequence[Term]]:
    yield from _least(lowest)
    for top in sorted({highest, min(highest, 15), 0}):
        for d in range(1, BELOW + 1):
            yield from _widths(top, d)
    for step in STEPS:
        for d in range(1, BELOW + 1):
            yield from _carried(min(highest, 15), d, step)
        yield from _rounded(max(0, lowest + 2), step)
        yield from _gathered(highest, lowest, step)
    big, small = min(highest, 40), max(lowest, -40)
    for j in [*range(1, min(34, length)), *range(35, length, 4)]:
        yield [(0, big, 1), (j, big, -1), (j + 1, small, 1)]
        yield [(0, big, 1), (j + 1, big, -1), (j, small, 1)]


def _least(lowest: int) -> Iterator[Sequence[Term]]:
    """The smallest sum, or half of one, which is a tie, beside a term that turns it, or is lost."""
    for quantum in QUANTA:
        for base in (quantum, quantum - 1):
            yield from ([(0, base, sign)] for sign in (1.0, -1.0))
            for e in range(base - 1, max(lowest, quantum - BELOW) - 1, -1):
                for signs in ((1.0, -1.0), (1.0, 1.0), (-1.0, -1.0)):
                    yield [(0, base, signs[0]), (1, e, signs[1])]
                yield [(0, base, 3.0), (1, e, -1.0)]
                yield [(0, base, 1.0), (1, e, -1.5)]
        yield [(0, quantum + 1, 1.0), (1, quantum - 1, -1.0)]
    for smallest in SMALLEST:  # sums that are subnormal on the way, or at the end
        yield [(0, smallest - 1, 1.0), (1, smallest - 1, 1.0)]
        yield [(0, smallest, 1.5), (1, smallest, -1.0)]
        yield [(0, smallest, 1.5), (1, smallest, -1.0), (2, smallest, 1.0)]


def _widths(top: int, d: int) -> Iterator[Sequence[Term]]:
    """A large term, small ones d bits below, and what takes the large one off again, all added at once."""
    small = top - d
    yield [(0, top, 1), (1, small, 1), (2, top, -1)]
    yield [(0, top, -1), (1, small, -1.5), (2, top, 1)]
    yield [(0, top, 1), (1, small, 1), (2, small, 1), (3, top, -1)]
    yield [(0, top, 1), (1, small, -1)]
    yield [(0, top, (1.5, 1.5)), (1, small, 1), (2, top, (1.5, -1.5))]  # 2.25 has the exponent of 1, as a product


def _carried(top: int, d: int, step: int) -> Iterator[Sequence[Term]]:
    """The same with the terms in different instructions: what a sum keeps, alone and after a carry."""
    yield [(0, top, 1), (step, top - d, 1), (2 * step, top, -1)]
    yield [(0, top, 1), (1, top - d, 1), (step, top, -1)]
    yield [(0, top, -1), (1, top - d, -1), (step, top, 1)]
    yield [(0, top, 1), (1, top, 1), (2, top, 1), (3, top - d, 1), *((step + i, top, -1) for i in range(3))]


def _gathered(highest: int, lowest: int, step: int) -> Iterator[Sequence[Term]]:
    """A sum larger than any product, taken off again beside a small term; and a tie beside it that the term turns."""
    half = step // 2
    exponent = highest + half.bit_length() - 1
    gathered = [(k, highest, 1.0) for k in range(half)]
    for e in range(lowest, min(highest, lowest + BELOW)):
        yield [*gathered, *((step + k, highest, -1.0) for k in range(half)), (step + half, e, 1.0)]
        for bits in MANTISSAS[:2]:
            if e < (tie := exponent - bits - 1):
                yield [*gathered, (step, tie, 1.0), (step + 1, e, 1.0)]


def _rounded(unit: int, step: int) -> Iterator[Sequence[Term]]:
    """2**m or 2**m + 1 units, and quarters of a unit more; what is left once 2**m is taken off."""
    for bits in MANTISSAS:
        for sign in (1.0, -1.0):
            for odd in ([], [(1, unit, sign)]):
                for quarters in (1, 2, 3):
                    fraction = (step, unit - 1, sign * quarters / 2)
                    yield [(0, unit + bits, sign), *odd, fraction, (2 * step, unit + bits, -sign)]
                    yield [(0, unit + bits, sign), *odd, (2, *fraction[1:]), (step, unit + bits, -sign)]


def _dense(inputs: Format, length: int) -> tuple[Array, Array]:
    """Rows with a term at every k: large numbers and a few of any size, of one sign, of both, or so that a part cancels
    the part before it; and the largest number everywhere, but some of the smallest products."""
    random = np.random.default_rng(0)
    large = min(float(inputs.largest), 2.0**20)  # so that sums stay finite
    shape = (2, DENSE, length)
    sizes = random.uniform(0.5, 1, shape) * np.exp2(-random.integers(0, 12, shape))
    share = random.choice([0.0, 0.0, 0.1, 0.5], (1, DENSE, 1))
    x = large * np.where(random.random(shape) < share, sizes, np.where(share == 0, 1.0, random.uniform(0.5, 1, shape)))
    a, b = (_in_format(each.astype(np.float32), inputs) for each in x)
    smallest = np.float32(2.0**inputs.quantum_exponent)
    for row in np.flatnonzero(share.ravel() == 0).tolist():
        at = random.integers(0, min(length, (16, 32, 64, length)[random.integers(4)]), 1 + row % 4)
        a[row, at], b[row, at] = smallest * random.integers(1, 4, at.size), smallest
    b[1::4] *= random.choice([-1.0, 1.0], b[1::4].shape)
    for row in range(2, DENSE, 4) if length > 1 else ():
        half = int(random.integers(1, length // 2 + 1))
        a[row, half : 2 * half], b[row, half : 2 * half] = a[row, :half], -b[row, :half]
    return a, b


def _large_sums(inputs: Format, length: int) -> tuple[Array, Array]:
    """The largest number at every k of some instructions, so that the sum is larger than any product; then a tie, or
    what is next to one, or small terms that only count together. Of narrow inputs."""
    lowest, highest = 2 * inputs.quantum_exponent, 2 * (int(np.frexp(inputs.largest)[1]) - 1)
    rows: list[tuple[int, list[Term]]] = []
    for count in range(32, min(length, LARGE_REACH), 32) if highest - lowest < BELOW else ():
        for e in range(lowest, highest):
            rows.append((count, [(count, e, 1), (count + STEPS[-1] // 2, e, 1)]))
            rows.append((count, [(count + k, e, 1) for k in range(STEPS[-1] // 4)]))
        for bits in MANTISSAS:
            tie = int(np.frexp(count * float(inputs.largest) ** 2)[1]) - 2 - bits
            below = range(lowest, tie) if tie <= highest else ()
            rows += [(count, [(count, tie, 1), (count + 1, e, 1)]) for e in below]
    rows = [(count, terms) for count, terms in rows if terms[-1][0] < length]
    a, b = operands([terms for _, terms in rows], length)
    for row, (count, _) in enumerate(rows):
        a[row, :count] = b[row, :count] = inputs.largest
    return a, b


def _special(inputs: Format, length: int) -> tuple[Array, Array]:
    """Infinities, NaN, zeros of both signs, and sums that overflow on the way, at once or in another instruction."""
    largest = float(inputs.largest)
    ends = [(largest, largest), (-largest, largest)]
    infinities = [(np.inf, 1.0), (-np.inf, 1.0), (np.inf, 0.0), (1.0, np.nan)] if inputs.has_infinity else []
    infinities = infinities or ([(1.0, np.nan), (np.nan, 0.0)] if inputs.has_nan else [])
    zeros = [(-0.0, 1.0), (0.0, -1.0)]
    places = [k for k in (1, 3, 4, 8, 16, 32, 64, 128) if k + 1 < length]
    rows = [[(0, *x), (k, *y)] for x in infinities for y in (*infinities, *ends) for k in places]
    rows += [[(0, *x), (k, *y)] for x in zeros for y in zeros for k in places]
    rows += [[(0, *x), (1, *x), (k, *y), (k + 1, *y)] for x in ends for y in ends for k in places if k > 1]
    rows += [[(k, *zeros[0]) for k in range(length)]]
    a, b = np.zeros((2, len(rows), length), np.float32)
    for row, terms in enumerate(rows):
        for k, x, y in terms:
            a[row, k], b[row, k] = x, y
    return a, b


def _in_format(x: Array, inputs: Format) -> Array:
    rounded = round_to(x, inputs, "toward_zero", "saturate_propagate", threads=1)
    return np.asarray(rounded)
