"""Stochastic rounding with random bits of the subject's own: neighbours, and how often each is the result."""

from __future__ import annotations

import numpy as np

from mpsim import checks
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate.answers import Outcome
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import Answers, ask
from mpsim.validate.cast.compare import Counterexample, compare
from mpsim.validate.cast.nans import NanCodes
from mpsim.validate.cast.rules import Rule, is_value
from mpsim.validate.cast.stochastic.frequencies import groups_of, wrong_binades, wrong_points
from mpsim.validate.cast.stochastic.inputs import points_between, pools_of_binades
from mpsim.validate.cast.stochastic.result import ALL_BITS, StochasticReport, example_of
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.grid import places
from mpsim.validate.sources import Source, widened
from mpsim.validate.subjects.casts import Subject
from mpsim.validate.subjects.environment import default_float_environment

FALSE_ALARM_RATE = 1e-9
DRAWS = 20_000


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
        patterns = points_between(format, source, seed)
        share, ups, decided, strange, example = _asked(subject, patterns, draws, rule, source, random_bit_count)
        x = source.values(patterns)
        wrong = wrong_points(x, share, ups, decided, draws, false_alarm_rate / 2)
        pools = pools_of_binades(format, source, seed)
        each = np.concatenate(pools)
        spread = _asked(subject, each, 1, rule, source, random_bit_count)
        numbers = source.values(each)
        binades = wrong_binades(numbers, groups_of(pools, numbers), *spread[:3], false_alarm_rate / 2)
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
        example = example_of(patterns[row], x[row : row + 1], float(lower.values[row]), value, format, source)
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
