"""Tests stochastic rounding with given random bits. Every result must be equal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpsim import checks
from mpsim.formats import Format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.policies import Policy
from mpsim.process import default_float_environment
from mpsim.validate.answers import SubjectError
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import LENGTHS, of_vectors
from mpsim.validate.cast.compare import Counterexample
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.stochastic.chances import chance
from mpsim.validate.cast.stochastic.given_causes import Trial, explanations
from mpsim.validate.cast.stochastic.result import StochasticReport, example_of
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.grid import places
from mpsim.validate.sources import Source
from mpsim.validate.subjects.casts import Subject


def validate_given_bits(
    subject: Subject, rule: Rule, source: Source, *, seed: int = 0, backend: str = DEFAULT_BACKEND
) -> StochasticReport:
    """Tests every number of the corpus with four words, and some of them in arrays of other lengths.

    Two words are random. The others are the smallest word that rounds up and the word before it. The subject is called
    with (numbers, uint32 words). A file of vectors has its own numbers and words.

    Raises:
        SubjectError: The subject fails.
    """
    checks.seed("seed", seed)
    format, policy, file = rule.format, rule.policy, subject.vectors
    patterns = cast_corpus(format, source) if file is None else of_vectors(subject, source, format).patterns
    x = source.values(patterns)
    trials: list[Trial] = []
    worst: tuple[Counterexample, int] | None = None
    with default_float_environment():
        asks = _trials(x, format, source, policy, seed) if file is None else [(np.arange(x.size), words_of(subject))]
        for chosen, bits in asks:
            asked, numbers = np.ascontiguousarray(patterns[chosen]), x[chosen]
            if file is None:
                results = subject.run(asked, source, format, bits)
            else:
                results = of_vectors(subject, source, format).results
            expected, got = rule.outcome(numbers, source, results.space, bits, backend), results.outcome
            fine = nans.as_good(expected, got, format) & (rule.nan_codes == nans.ANY)
            different = (expected.keys != got.keys) & ~fine
            wrong = np.flatnonzero(different)
            trials.append(Trial(numbers, bits, results.space, got.keys.copy(), got.values.copy(), different))
            if wrong.size:
                at = int(wrong[np.argmin(np.where(np.isnan(numbers[wrong]), np.inf, np.abs(numbers[wrong])))])
                if worst is None or abs(float(numbers[at])) < abs(worst[0].input.value):
                    sides = float(expected.values[at]), float(got.values[at])
                    worst = example_of(asked[at], numbers[at : at + 1], *sides, format, source), int(bits[at])
        causes = explanations(trials, rule, source, backend) if worst is not None else ()
    return StochasticReport(
        subject.name, source.name, format.name, policy, True, policy.random_bit_count,
        sum(each.keys.size for each in trials), sum(int(each.wrong.sum()) for each in trials),
        worst[0] if worst else None, worst[1] if worst else None,
        patterns.size, (), None, None, causes=causes, state=tuple(subject.state),
    )  # fmt: skip


def words_of(subject: Subject) -> Array:
    """Returns the random words of a file of vectors. Raises SubjectError if it has none."""
    vectors = subject.vectors
    if vectors is None or vectors.words is None:
        raise SubjectError(f"{subject.name} has no random words; expected 'random_bits', or a third word on each line")
    return vectors.words


def _trials(x: Array, format: Format, source: Source, policy: Policy, seed: int) -> Iterator[tuple[Array, Array]]:
    """Yields the indices of numbers and their words."""
    count = policy.random_bit_count
    assert count is not None
    place = places(np.where(np.isfinite(x), x, 0), format, source)
    words = deciding_words(chance((place.magnitude - place.lower) / place.quantum, policy.mode, count), count, seed)
    every = np.arange(x.size)
    for bits in words:
        yield every, bits
    generator = np.random.default_rng(seed + 1)
    for length in LENGTHS:
        chosen = generator.integers(0, x.size, length)
        yield chosen, np.choose(generator.integers(0, len(words), length), [bits[chosen] for bits in words])


def deciding_words(up: Array, count: int, seed: int) -> list[Array]:
    """Returns words for numbers that go up with these probabilities: two random ones, the smallest whose ``count`` low
    bits send the number up, and the one before it."""
    generator = np.random.default_rng(seed)
    random = [generator.integers(0, 1 << 32, up.size, np.uint32) for _ in range(2)]
    mask = np.uint64((1 << count) - 1)
    carry = (np.uint64(1 << count) - np.ldexp(up, count).astype(np.uint64)) & mask
    above = random[0].astype(np.uint64) & ~mask & np.uint64(0xFFFFFFFF)
    return [*random, (above | carry).astype(np.uint32), (above | ((carry - np.uint64(1)) & mask)).astype(np.uint32)]
