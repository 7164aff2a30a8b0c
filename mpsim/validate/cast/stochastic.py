"""Stochastic rounding under test: with given random bits by equality, without them by neighbours and frequencies.

Definition: docs/semantics.md §2, mode ``stochastic``. The test of frequencies is the exact two-sided binomial test
at each point, at false_alarm_rate / points, so that a right subject fails with at most that probability (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpsim.formats import Format
from mpsim.policies import Mode, Overflow, Policy
from mpsim.rounding import decode
from mpsim.validate.cast.compare import Counterexample, Number
from mpsim.validate.cast.rules import NO_CODE, Rule, codes_of, is_value
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.grid import places
from mpsim.validate.sources import Source
from mpsim.validate.subjects.adapters import Subject

Array = np.ndarray[Any, Any]
FALSE_ALARM_RATE = 1e-9
DRAWS = 20_000


@dataclass(frozen=True)
class Frequency:
    """A point whose frequency of going up is not the expected one."""

    input: float
    expected_share: float
    share: float
    draws: int
    probability: float

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class StochasticReport:
    """Given bits: trials compared exactly. Without: results that are no neighbour, and wrong frequencies.

    smallest: the smallest input whose result is wrong, with the random word where bits were given.
    """

    subject: str
    source: str
    format: str
    bits_given: bool
    random_bit_count: int | None
    trials: int
    mismatches: int
    smallest: Counterexample | None
    word: int | None
    points: int
    frequencies: tuple[Frequency, ...]
    false_alarm_rate: float | None

    @property
    def equal(self) -> bool:
        return self.mismatches == 0 and not self.frequencies

    def as_json(self) -> dict[str, Any]:
        fields = dict(vars(self)) | {"equal": self.equal}
        fields["smallest"] = None if self.smallest is None else self.smallest.as_json()
        fields["frequencies"] = [frequency.as_json() for frequency in self.frequencies]
        return fields

    def text(self) -> str:
        """The report for people."""
        head = f"{self.subject}: {self.source} to {self.format}, stochastic, {self.trials:,} trials"
        if self.bits_given:
            lines = [head + f", given words of which {self.random_bit_count} bits count"]
            verdict = "equal in every trial" if self.equal else f"{self.mismatches:,} trials differ"
        else:
            lines = [head + f" of {self.points} numbers, its own random bits"]
            lines.append(f"a right subject fails with probability at most {self.false_alarm_rate:g}")
            verdict = "neighbours and frequencies are as they should be" if self.equal else "not as it should be"
            if self.mismatches:
                verdict += f": {self.mismatches:,} results are neither of the two neighbours"
        lines.append(verdict)
        if self.smallest is not None:
            found = self.smallest
            word = "" if self.word is None else f", random word {self.word:#010x}"
            lines.append(f"  smallest input {found.input}{word}: expected {found.expected}, got {found.got}")
        lines += [
            f"  {f.input!r}: up in {f.share:.2%}, expected {f.expected_share:.2%} (p = {f.probability:.1e})"
            for f in self.frequencies[:8]
        ]
        return "\n".join(lines)


def validate_given_bits(
    subject: Subject, format: Format, source: Source, random_bit_count: int, *, overflow: Overflow = Overflow.INFINITY,
    seed: int = 0, backend: str = "compiled",
) -> StochasticReport:  # fmt: skip
    """Every number of the corpus with four words: two random ones, the first that goes up, and the last that does not.

    The subject is called with (numbers, uint32 words). Raises SubjectError where it fails.
    """
    rule = Rule(format, Policy(Mode.STOCHASTIC, overflow, random_bit_count))
    patterns = cast_corpus(format, source)
    x = source.values(patterns)
    mismatches, worst = 0, None
    words = _deciding_words(x, format, source, random_bit_count, seed)
    for bits in words:
        results = subject.run(patterns, source, format, bits)
        expected = rule.outcome(x, source, results.space, bits, backend)
        wrong = np.flatnonzero(expected.keys != results.outcome.keys)
        mismatches += wrong.size
        if wrong.size:
            at = int(wrong[np.argmin(np.where(np.isnan(x[wrong]), np.inf, np.abs(x[wrong])))])
            if worst is None or abs(float(x[at])) < abs(worst[0].input.value):
                sides = float(expected.values[at]), float(results.outcome.values[at])
                worst = _example(patterns[at], x[at : at + 1], *sides, format, source), int(bits[at])
    return StochasticReport(
        subject.name, source.name, format.name, True, random_bit_count, patterns.size * len(words), mismatches,
        worst[0] if worst else None, worst[1] if worst else None, patterns.size, (), None,
    )  # fmt: skip


def _deciding_words(x: Array, format: Format, source: Source, count: int, seed: int) -> list[Array]:
    """Words for each x: two random, the least whose low bits carry, and the one before; above them random bits."""
    generator = np.random.default_rng(seed)
    random = [generator.integers(0, 1 << 32, x.size, np.uint32) for _ in range(2)]
    finite = np.where(np.isfinite(x), x, 0)
    place = places(finite, format, source)
    discarded = np.floor(np.ldexp((place.magnitude - place.lower) / place.quantum, count)).astype(np.uint64)
    mask = np.uint64((1 << count) - 1)
    carry = ((np.uint64(1 << count) - discarded) & mask).astype(np.uint64)
    above = random[0].astype(np.uint64) & ~mask & np.uint64(0xFFFFFFFF)
    return [*random, (above | carry).astype(np.uint32), (above | ((carry - np.uint64(1)) & mask)).astype(np.uint32)]


def validate_own_bits(
    subject: Subject, format: Format, source: Source, *, random_bit_count: int | None = None,
    false_alarm_rate: float = FALSE_ALARM_RATE, draws: int = DRAWS, seed: int = 0,
) -> StochasticReport:  # fmt: skip
    """Each of some 150 numbers ``draws`` times: every result one of the two neighbours, the share of the upper one
    |x|'s place between them (with ``random_bit_count`` k: that place cut to k bits).

    Raises SubjectError where the subject fails.
    """
    from scipy.stats import binomtest

    patterns = _points(format, source, seed)
    x = source.values(patterns)
    place = places(x, format, source)
    share = (place.magnitude - place.lower) / place.quantum
    if random_bit_count is not None:
        share = np.ldexp(np.floor(np.ldexp(share, random_bit_count)), -random_bit_count)
    results = subject.run(np.repeat(patterns, draws), source, format)
    got = np.abs(results.outcome.values).reshape(x.size, draws)
    sign = (np.signbit(results.outcome.values).reshape(x.size, draws) == np.signbit(x)[:, None]) | (got == 0)
    upper = got == (place.lower + place.quantum)[:, None]
    legal = (upper & (share > 0)[:, None]) | (got == place.lower[:, None])
    strange = ~(legal & sign)
    smallest = None
    if strange.any():
        row = int(np.argmin(np.where(strange.any(axis=1), np.abs(x), np.inf)))
        value = float(results.outcome.values.reshape(strange.shape)[row, int(np.argmax(strange[row]))])
        lower = float(np.copysign(place.lower[row], x[row]))
        smallest = _example(patterns[row], x[row : row + 1], lower, value, format, source)
    wrong = []
    for row in range(x.size):
        ups = int(upper[row].sum())
        probability = float(binomtest(ups, draws, float(share[row])).pvalue)
        if probability < false_alarm_rate / x.size:
            wrong.append(Frequency(float(x[row]), float(share[row]), ups / draws, draws, probability))
    return StochasticReport(
        subject.name, source.name, format.name, False, random_bit_count, x.size * draws, int(strange.sum()), smallest,
        None, x.size, tuple(wrong), false_alarm_rate,
    )  # fmt: skip


def _points(format: Format, source: Source, seed: int) -> Array:
    """Numbers of the range, normal and subnormal, of both signs, with places of every kind between their neighbours;
    some that are numbers of the format."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, format.largest_code, 60)
    low = decode(codes, format, np.float64)
    high = decode(codes + 1, format, np.float64)
    shares = np.concatenate(
        [np.array([0, 1 / 1024, 1 / 16, 1 / 4, 1 / 2, 3 / 4, 15 / 16, 1023 / 1024]), generator.random(52)]
    )
    middle = low + (high - low) * shares
    below = format.smallest * np.array([1 / 64, 1 / 4, 1 / 2, 3 / 4])
    values = np.concatenate([middle, below, [format.smallest_normal]])
    patterns = np.unique(source.patterns(np.concatenate([values, -values]) if format.signed else values))
    x = source.values(patterns)
    return np.ascontiguousarray(patterns[(np.abs(x) <= format.largest) & (x != 0)])


def _example(pattern: Any, x: Array, expected: float, got: float, format: Format, source: Source) -> Counterexample:
    given = Number(float(x[0]), int(pattern), source.format.bits // 4)
    return Counterexample(given, _shown(expected, x, format), _shown(got, x, format), None)


def _shown(value: float, x: Array, format: Format) -> Number:
    digits = -(-format.bits // 4)
    if np.isfinite(value) and not is_value(np.array([value]), format)[0]:
        return Number(value, None, digits)
    code = int(codes_of(np.array([value]), x, format, None)[0])
    return Number(value, None if code == NO_CODE else code, digits)
