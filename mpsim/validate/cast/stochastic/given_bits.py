"""Tests stochastic rounding with given random bits. Every result must be equal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpsim import checks
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import LENGTHS
from mpsim.validate.cast.nans import NanCodes
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.stochastic.result import ALL_BITS, StochasticReport, example_of
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.grid import places
from mpsim.validate.sources import Source
from mpsim.validate.subjects.casts import Subject
from mpsim.validate.subjects.environment import default_float_environment


def validate_given_bits(
    subject: Subject, format: Format, source: Source, random_bit_count: int, *, overflow: Overflow = Overflow.INFINITY,
    nan_codes: NanCodes = nans.ANY, seed: int = 0, backend: str = "compiled",
) -> StochasticReport:  # fmt: skip
    """Tests every number of the corpus with four words, and some of them in arrays of other lengths.

    Two words are random. The others are the smallest word that rounds up and the word before it. The subject is called
    with (numbers, uint32 words).

    Raises:
        SubjectError: The subject fails.
    """
    checks.seed("seed", seed)
    checks.whole("random_bit_count", random_bit_count, least=1, most=ALL_BITS)
    policy = Policy(Mode.STOCHASTIC, overflow, random_bit_count)
    rule = Rule(format, policy, nan_codes=nan_codes)
    patterns = cast_corpus(format, source)
    x = source.values(patterns)
    mismatches, trials, worst = 0, 0, None
    with default_float_environment():
        for chosen, bits in _trials(x, format, source, random_bit_count, seed):
            asked, numbers = np.ascontiguousarray(patterns[chosen]), x[chosen]
            results = subject.run(asked, source, format, bits)
            expected, got = rule.outcome(numbers, source, results.space, bits, backend), results.outcome
            fine = nans.as_good(expected, got, format) & (nan_codes == nans.ANY)
            wrong = np.flatnonzero((expected.keys != got.keys) & ~fine)
            mismatches, trials = mismatches + wrong.size, trials + asked.size
            if wrong.size:
                at = int(wrong[np.argmin(np.where(np.isnan(numbers[wrong]), np.inf, np.abs(numbers[wrong])))])
                if worst is None or abs(float(numbers[at])) < abs(worst[0].input.value):
                    sides = float(expected.values[at]), float(got.values[at])
                    worst = example_of(asked[at], numbers[at : at + 1], *sides, format, source), int(bits[at])
    return StochasticReport(
        subject.name, source.name, format.name, policy, True, random_bit_count, trials, mismatches,
        worst[0] if worst else None, worst[1] if worst else None, patterns.size, (), None, None, tuple(subject.state),
    )  # fmt: skip


def _trials(x: Array, format: Format, source: Source, count: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Yields the indices of numbers and their words."""
    words = _deciding_words(x, format, source, count, seed)
    every = np.arange(x.size)
    for bits in words:
        yield every, bits
    generator = np.random.default_rng(seed + 1)
    for length in LENGTHS:
        chosen = generator.integers(0, x.size, length)
        yield chosen, np.choose(generator.integers(0, len(words), length), [bits[chosen] for bits in words])


def _deciding_words(x: Array, format: Format, source: Source, count: int, seed: int) -> list[Array]:
    """Returns words for each x: two random ones, the smallest whose low bits carry, and the one before it."""
    generator = np.random.default_rng(seed)
    random = [generator.integers(0, 1 << 32, x.size, np.uint32) for _ in range(2)]
    finite = np.where(np.isfinite(x), x, 0)
    place = places(finite, format, source)
    discarded = np.floor(np.ldexp((place.magnitude - place.lower) / place.quantum, count)).astype(np.uint64)
    mask = np.uint64((1 << count) - 1)
    carry = ((np.uint64(1 << count) - discarded) & mask).astype(np.uint64)
    above = random[0].astype(np.uint64) & ~mask & np.uint64(0xFFFFFFFF)
    return [*random, (above | carry).astype(np.uint32), (above | ((carry - np.uint64(1)) & mask)).astype(np.uint32)]
