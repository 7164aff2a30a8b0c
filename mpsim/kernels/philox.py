"""Draws random numbers by counter: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

Element i of a stream depends only on the stream's four fields and i, not on batch splits, thread counts, backends or
earlier draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.kernels.elementary import log64

#: The purposes of streams, with their highest word of the counter.
PURPOSES = {
    "initial_weights": 1,
    "data_order": 2,
    "augmentation": 3,
    "rounding": 4,
    "dropout": 5,
    "group_order": 6,
    "data_split": 7,
    "synthetic_data": 8,
    "sums": 9,
    "storage": 10,
}

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF
#: How many normal numbers are computed together.
BLOCK = 1 << 18


@dataclass(frozen=True)
class Stream:
    """A sequence of 2**34 random words, with key = seed and counter = (element // 4, step, tensor, purpose).

    ``seed`` has 64 bits, ``tensor`` and ``step`` have 32 each, and ``purpose`` is a name of PURPOSES. Raises ValueError
    for anything else.

    >>> Stream(seed=7, purpose="rounding", tensor=3, step=1).words
    (1, 3, 4)
    """

    seed: int
    purpose: str
    tensor: int = 0
    step: int = 0

    def __post_init__(self) -> None:
        checks.named("purpose of a random stream", self.purpose, PURPOSES)
        for name, bits in (("seed", 64), ("tensor", 32), ("step", 32)):
            given = getattr(self, name)
            checked = checks.whole(name, given, most=(1 << bits) - 1)
            if checked is not given:
                object.__setattr__(self, name, checked)

    @property
    def key(self) -> tuple[int, int]:
        """The seed's low and high 32 bits."""
        return self.seed & WORD, self.seed >> 32

    @property
    def words(self) -> tuple[int, int, int]:
        """The counter's words above the element's: (step, tensor, purpose)."""
        return self.step, self.tensor, PURPOSES[self.purpose]


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Applies ten rounds to each row of ``counter``, uint32 (n, 4) -> uint32 (n, 4).

    >>> [f"{word:08x}" for word in philox4x32(np.zeros((1, 4), np.uint32), (0, 0))[0]]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = (counter[:, word].astype(np.uint64) for word in range(4))
    low = np.uint64(WORD)
    half = np.uint64(32)
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        high0, low0, high1, low1 = p0 >> half, p0 & low, p1 >> half, p1 & low
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0, k1 = (k0 + KEY_STEPS[0]) & WORD, (k1 + KEY_STEPS[1]) & WORD
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def within_a_stream(size: int, first: int) -> tuple[int, int]:
    """Returns the number of elements and the first one, or raises UsageError if they are not of a stream.

    >>> within_a_stream(4, 2**40)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: a random stream has 2**34 elements, got a request for 1099511627776 to 1099511627780
    """
    size, first = checks.whole("size", size), checks.whole("first", first)
    if first + size > 1 << 34:
        raise UsageError(f"a random stream has 2**34 elements, got a request for {first} to {first + size}")
    return size, first


def random_bits(stream: Stream, size: int, first: int = 0) -> np.ndarray:
    """Returns elements first .. first + size - 1 of the stream, uint32 (size,).

    Raises ValueError beyond the stream's 2**34 elements.
    """
    size, first = within_a_stream(size, first)
    blocks = np.arange(first // 4, (first + size + 3) // 4, dtype=np.uint64)
    counter = np.empty((blocks.size, 4), np.uint32)
    counter[:, 0] = blocks
    counter[:, 1:] = stream.words
    offset = first % 4
    return philox4x32(counter, stream.key).reshape(-1)[offset : offset + size]


def random_rows(stream: Stream, rows: np.ndarray, per_row: int) -> np.ndarray:
    """Returns elements per_row * r .. per_row * (r + 1) - 1 of the stream for each r of ``rows``: uint32 (R, per_row).

    Raises ValueError if ``per_row`` is not a multiple of 4, and beyond the stream's 2**34 elements.

    >>> stream = Stream(0, "augmentation")
    >>> bool((random_rows(stream, np.array([5, 2]), 8)[1] == random_bits(stream, 8, first=16)).all())
    True
    """
    if per_row < 4 or per_row % 4:
        raise UsageError(f"the number of random words in a row must be a multiple of 4, got {per_row}")
    rows = np.asarray(rows, np.int64)
    if rows.size and not (rows.min() >= 0 and (int(rows.max()) + 1) * per_row <= 1 << 34):
        raise UsageError(
            f"a random stream has 2**34 elements, got a request for rows {rows.min()} .. {rows.max()} of {per_row}"
        )
    blocks = rows[:, None] * (per_row // 4) + np.arange(per_row // 4)  # (R, per_row / 4)
    counter = np.empty((blocks.size, 4), np.uint32)
    counter[:, 0] = blocks.reshape(-1)
    counter[:, 1:] = stream.words
    return philox4x32(counter, stream.key).reshape(len(rows), per_row)


def uniform(stream: Stream, size: int, low: float = 0.0, high: float = 1.0, first: int = 0) -> np.ndarray:
    """Returns uniform float32 (size,): low + u * (high - low) in float32, u = the word's top 24 bits / 2**24."""
    unit = (random_bits(stream, size, first) >> 8).astype(np.float32) * np.float32(2.0**-24)
    return np.float32(low) + unit * (np.float32(high) - np.float32(low))


def normal(stream: Stream, size: int, deviation: float = 1.0, first: int = 0) -> np.ndarray:
    """Returns normal float32 (size,) with mean 0: the inverse distribution function at (word + 1/2) / 2**32 in float64,
    times ``deviation`` in float64, rounded once to float32."""
    values = np.empty(size, np.float32)
    for start in range(0, size, BLOCK):  # blocks stay in the cache
        words = random_bits(stream, min(BLOCK, size - start), first + start)
        probability = (words.astype(np.float64) + 0.5) * 2.0**-32
        values[start : start + BLOCK] = inverse_normal(probability) * deviation
    return values


#: Wichura 1988, algorithm AS 241, PPND16: numerator and denominator coefficients, constant term first, of the
#: central region (|p - 1/2| <= 0.425), the tail with r <= 5, and the far tail.
CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
TAIL = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
FAR_TAIL = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: np.ndarray) -> np.ndarray:
    """Returns numerator / denominator, each by Horner's rule from the highest term."""
    parts = []
    for row in coefficients:
        value = np.full_like(x, row[-1])
        for term in reversed(row[:-1]):
            value = value * x + term
        parts.append(value)
    return parts[0] / parts[1]


def inverse_normal(probability: np.ndarray) -> np.ndarray:
    """Returns the x at which the normal distribution function is ``probability``, in (0, 1), as float64.

    The relative error is about 1e-16. It uses only + - * /, square root and log64, so it has the same bits everywhere.

    >>> float(inverse_normal(np.array([0.5]))[0])
    0.0
    """
    centred = probability - 0.5
    near = np.minimum(np.abs(centred), 0.425)
    middle = centred * _ratio(CENTRE, 0.180625 - near * near)
    root = np.sqrt(-log64(np.where(centred < 0, probability, 1.0 - probability)))
    outer = np.where(root <= 5.0, _ratio(TAIL, root - 1.6), _ratio(FAR_TAIL, root - 5.0))
    return np.where(np.abs(centred) <= 0.425, middle, np.where(centred < 0, -outer, outer))


def permutation(stream: Stream, size: int) -> np.ndarray:
    """Returns a random order of 0 .. size - 1 as int64 (size,), sorted by 64-bit keys. Equal keys are sorted by number.

    The low 32 bits of the key of i are the stream's element 2i, and the high 32 bits are element 2i + 1.

    >>> permutation(Stream(0, "data_order"), 5).tolist()
    [4, 2, 0, 1, 3]
    """
    words = random_bits(stream, 2 * size).astype(np.uint64).reshape(size, 2)
    return np.argsort(words[:, 1] << np.uint64(32) | words[:, 0], kind="stable")
