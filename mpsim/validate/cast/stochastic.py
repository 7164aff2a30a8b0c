"""Stochastic rounding under test: with given random bits by equality, without them by neighbours and frequencies.

Definition: docs/semantics.md §2, mode ``stochastic``. What no random bit decides (numbers of the format, zeros,
infinity, NaN, numbers far beyond the largest) is compared as in any other mode. The test of frequencies is the exact
two-sided binomial test at each point, and Hoeffding's inequality for the numbers of each binade and of each sign
together. Either has half of false_alarm_rate, over the number of its tests, so that a right subject fails with at most
that probability (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.formats import Format
from mpsim.policies import Mode, Overflow, Policy
from mpsim.rounding import decode
from mpsim.validate.answers import NO_CODE, Outcome, Verdict
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import LENGTHS, Answers, ask
from mpsim.validate.cast.compare import Comparison, Counterexample, Number, compare
from mpsim.validate.cast.nans import NanCodes
from mpsim.validate.cast.rules import Rule, codes_of, is_value
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.grid import places
from mpsim.validate.sources import Source, widened
from mpsim.validate.subjects.casts import Subject
from mpsim.validate.subjects.environment import default_float_environment

Array = np.ndarray[Any, Any]
FALSE_ALARM_RATE = 1e-9
DRAWS = 20_000
#: Numbers of every binade and sign, each rounded once; and of all of them together, at most.
OF_A_BINADE, SPREAD = 4096, 1 << 22
ALL_BITS = 32


@dataclass(frozen=True)
class Frequency:
    """A point whose frequency of going up is not the expected one."""

    input: float
    expected_share: float
    share: float
    draws: int
    probability: float

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Binade:
    """Numbers of a binade and sign, of those below the smallest normal number, or of all of a sign, that do not go up
    as often as they should. ends: those of the smallest and the largest magnitude."""

    ends: tuple[float, float]
    expected_share: float
    share: float
    draws: int

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class StochasticReport:
    """Given bits: trials compared exactly. Without: results that are neither neighbour, and wrong frequencies.

    policy: what was taken for declared. certain: the inputs that no random bit decides. smallest: the smallest input
    whose result is wrong, with the random word where bits were given. binades: those with wrong frequencies, of
    ``spread`` numbers of all binades, each rounded once. state: what is unusual about the subject's floating-point
    arithmetic.
    """

    subject: str
    source: str
    format: str
    policy: Policy
    bits_given: bool
    random_bit_count: int | None
    trials: int
    mismatches: int
    smallest: Counterexample | None
    word: int | None
    points: int
    frequencies: tuple[Frequency, ...]
    false_alarm_rate: float | None
    certain: Comparison | None = None
    state: tuple[str, ...] = ()
    spread: int = 0
    binades: tuple[Binade, ...] = ()

    @property
    def verdict(self) -> Verdict:
        certain = self.certain is None or self.certain.equal
        return Verdict.of(self.mismatches == 0 and not self.frequencies and not self.binades and certain)

    @property
    def equal(self) -> bool:
        return self.verdict is Verdict.EQUAL

    def to_dict(self) -> dict[str, Any]:
        fields = dict(vars(self)) | {"equal": self.equal, "verdict": self.verdict.name.lower()}
        fields["policy"] = {"mode": self.policy.mode.value, "overflow": self.policy.overflow.value}
        fields["smallest"] = None if self.smallest is None else self.smallest.to_dict()
        fields["frequencies"] = [frequency.to_dict() for frequency in self.frequencies]
        fields["binades"] = [binade.to_dict() for binade in self.binades]
        fields["certain"] = None if self.certain is None else self.certain.to_dict()
        return fields


def validate_given_bits(
    subject: Subject, format: Format, source: Source, random_bit_count: int, *, overflow: Overflow = Overflow.INFINITY,
    nan_codes: NanCodes = nans.ANY, seed: int = 0, backend: str = "compiled",
) -> StochasticReport:  # fmt: skip
    """Every number of the corpus with four words: two random ones, the first that goes up, and the last that does not;
    and some of them in arrays of other lengths.

    The subject is called with (numbers, uint32 words). Raises SubjectError where it fails.
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
                    worst = _example(asked[at], numbers[at : at + 1], *sides, format, source), int(bits[at])
    return StochasticReport(
        subject.name, source.name, format.name, policy, True, random_bit_count, trials, mismatches,
        worst[0] if worst else None, worst[1] if worst else None, patterns.size, (), None, None, tuple(subject.state),
    )  # fmt: skip


def _trials(x: Array, format: Format, source: Source, count: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Indices of numbers, and their words."""
    words = _deciding_words(x, format, source, count, seed)
    every = np.arange(x.size)
    for bits in words:
        yield every, bits
    generator = np.random.default_rng(seed + 1)
    for length in LENGTHS:
        chosen = generator.integers(0, x.size, length)
        yield chosen, np.choose(generator.integers(0, len(words), length), [bits[chosen] for bits in words])


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
    overflow: Overflow = Overflow.INFINITY, nan_codes: NanCodes = nans.ANY,
    false_alarm_rate: float = FALSE_ALARM_RATE, draws: int = DRAWS, seed: int = 0,
) -> StochasticReport:  # fmt: skip
    """What is certain, once; and each of some 150 numbers ``draws`` times: every result one of the two neighbours, the
    share of the upper one |x|'s place between them (with ``random_bit_count`` k: that place cut to k bits). And numbers
    of every binade, once each: the same, their ups together as many as Hoeffding's inequality lets them be.

    Raises SubjectError where the subject fails.
    """
    checks.seed("seed", seed)
    if random_bit_count is not None:
        checks.whole("random_bit_count", random_bit_count, least=1, most=ALL_BITS)
    policy = Policy(Mode.STOCHASTIC, overflow, ALL_BITS)
    with default_float_environment():
        certain = compare(
            Rule(format, Policy(Mode.NEAREST_EVEN, overflow), nan_codes=nan_codes),
            _certain(subject, format, source),
            shrink=False,
        )
        rule = Rule(format, policy, nan_codes=nan_codes)
        patterns = _points(format, source, seed)
        share, ups, decided, strange, example = _asked(subject, patterns, draws, rule, source, random_bit_count)
        x = source.values(patterns)
        wrong = _frequencies(x, share, ups, decided, draws, false_alarm_rate / 2)
        pools = _pools(format, source, seed)
        each = np.concatenate(pools)
        spread = _asked(subject, each, 1, rule, source, random_bit_count)
        numbers = source.values(each)
        binades = _binades(numbers, _groups(pools, numbers), *spread[:3], false_alarm_rate / 2)
    return StochasticReport(
        subject.name, source.name, format.name, policy, False, random_bit_count, x.size * draws, strange + spread[3],
        example or spread[4], None, x.size, wrong, false_alarm_rate, certain, tuple(subject.state), each.size, binades,
    )  # fmt: skip


def _asked(
    subject: Subject, patterns: Array, draws: int, rule: Rule, source: Source, count: int | None
) -> tuple[Array, Array, Array, int, Counterexample | None]:
    """Each number ``draws`` times: (expected share of ups, ups, whether the two ends are two results, results that are
    neither end, the smallest number with one)."""
    x, format = source.values(patterns), rule.format
    results = subject.run(np.repeat(patterns, draws), source, format)
    lower, upper = (_end(rule, x, source, results.space, up) for up in (0, 1))
    got = Outcome(*(column.reshape(x.size, draws) for column in results.outcome))
    ups, strange = _counted(got, lower, upper, format, rule.nan_codes)
    example = None
    if strange.any():
        row = int(np.argmin(np.where(strange.any(axis=1), np.abs(x), np.inf)))
        value = float(got.values[row, int(np.argmax(strange[row]))])
        example = _example(patterns[row], x[row : row + 1], float(lower.values[row]), value, format, source)
    return _shares(x, format, source, count), ups, lower.keys != upper.keys, int(strange.sum()), example


def _certain(subject: Subject, format: Format, source: Source) -> Answers:
    """The answers to the inputs of the corpus that no random bit decides."""
    patterns = cast_corpus(format, source)
    wide = widened(source.values(patterns))
    magnitude = np.abs(wide)
    number = np.isfinite(wide) & (magnitude <= format.largest)
    number[number] = is_value(wide[number], format)
    threshold, largest = format.overflow_threshold[0], format.largest
    with np.errstate(over="ignore", invalid="ignore"):
        far = magnitude >= threshold + (threshold - largest)  # the next of the grid, and beyond
    if not format.signed:
        far &= wide > 0
    return ask(subject, source, format, np.ascontiguousarray(patterns[number | far | np.isnan(wide)]))


def _end(rule: Rule, x: Array, source: Source, space: str, up: int) -> Outcome:
    """What x becomes if the random bits never, or always, send it to the larger magnitude."""
    return rule.outcome(x, source, space, np.full(x.size, 0xFFFFFFFF * up, np.uint32))


def _counted(got: Outcome, lower: Outcome, upper: Outcome, format: Format, nan_codes: NanCodes) -> tuple[Array, Array]:
    """(how often each point went up, where a result is neither of the two)."""
    at_lower, at_upper = (got.keys == side.keys[:, None] for side in (lower, upper))
    if nan_codes == nans.ANY:
        both = np.isnan(upper.values)[:, None] & (np.isnan(got.values) | (not format.has_nan))
        at_upper = at_upper | both
    zero = (got.values == 0) & (lower.values == 0)[:, None]  # whatever its sign: zeros are certain elsewhere
    return np.where(at_upper & ~(at_lower | zero), 1, 0).sum(axis=1), ~(at_lower | at_upper | zero)


def _shares(x: Array, format: Format, source: Source, count: int | None) -> Array:
    place = places(x, format, source)
    share = (place.magnitude - place.lower) / place.quantum
    return share if count is None else np.ldexp(np.floor(np.ldexp(share, count)), -count)


def _frequencies(
    x: Array, share: Array, ups: Array, decided: Array, draws: int, false_alarm_rate: float
) -> tuple[Frequency, ...]:
    """The points whose count of ups is too unlikely; where both ends are one result there is nothing to count."""
    from scipy.stats import binomtest

    wrong = []
    for row in np.flatnonzero(decided):
        probability = float(binomtest(int(ups[row]), draws, float(share[row])).pvalue)
        if probability < false_alarm_rate / x.size:
            wrong.append(Frequency(float(x[row]), float(share[row]), int(ups[row]) / draws, draws, probability))
    return tuple(wrong)


def _binades(
    x: Array, groups: list[Array], share: Array, ups: Array, decided: Array, false_alarm_rate: float
) -> tuple[Binade, ...]:
    """The groups of numbers whose ups are further from what is expected than they are with probability false_alarm_rate
    / groups."""
    found = []
    for group in groups:
        at = group[decided[group]]
        expected, seen, draws = float(share[at].sum()), int(ups[at].sum()), at.size
        if draws and abs(seen - expected) > np.sqrt(draws / 2 * np.log(2 * len(groups) / false_alarm_rate)):
            smallest, largest = (float(x[at[place(np.abs(x[at]))]]) for place in (np.argmin, np.argmax))
            found.append(Binade((smallest, largest), expected / draws, seen / draws, draws))
    return tuple(found)


def _groups(pools: list[Array], x: Array) -> list[Array]:
    """Indices, in the pools one after the other, of each pool, and of all numbers of each sign."""
    starts = np.cumsum([0, *(pool.size for pool in pools)])
    each = [np.arange(start, start + pool.size) for start, pool in zip(starts, pools, strict=False)]
    return [*each, *(np.flatnonzero(np.signbit(x) == negative) for negative in (False, True))]


def _pools(format: Format, source: Source, seed: int) -> list[Array]:
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


def _points(format: Format, source: Source, seed: int) -> Array:
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


def _example(pattern: Any, x: Array, expected: float, got: float, format: Format, source: Source) -> Counterexample:
    given = Number(float(x[0]), int(pattern), source.format.bits // 4)
    return Counterexample(given, _shown(expected, x, format), _shown(got, x, format), None)


def _shown(value: float, x: Array, format: Format) -> Number:
    digits = -(-format.bits // 4)
    if np.isfinite(value) and not is_value(np.array([value]), format)[0]:
        return Number(value, None, digits)
    code = int(codes_of(np.array([value]), x, format, None)[0])
    return Number(value, None if code == NO_CODE else code, digits)
