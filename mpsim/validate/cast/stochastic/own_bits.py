"""Stochastic rounding with random bits of the subject's own: neighbours, and how often each is the result."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim import checks
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.policies import Mode, Policy
from mpsim.process import default_float_environment
from mpsim.validate.answers import Outcome
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import Answers, ask
from mpsim.validate.cast.compare import Counterexample, compare
from mpsim.validate.cast.nans import NanCodes
from mpsim.validate.cast.rules import Rule, is_value
from mpsim.validate.cast.stochastic.causes import Seen, explanations, one_word_for_all
from mpsim.validate.cast.stochastic.chances import chance
from mpsim.validate.cast.stochastic.frequencies import groups_of, wrong_binades, wrong_points
from mpsim.validate.cast.stochastic.inputs import points_between, pools_of_binades, separating_points
from mpsim.validate.cast.stochastic.result import ALL_BITS, StochasticReport, example_of
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.grid import places
from mpsim.validate.sources import Source, widened
from mpsim.validate.subjects.casts import Subject

FALSE_ALARM_RATE = 1e-9
DRAWS = 20_000
#: Calls that are compared where the elements of a call may share a random number.
CALLS = 24


def validate_own_bits(
    subject: Subject, rule: Rule, source: Source, random_bit_count: int | None = None, *,
    false_alarm_rate: float = FALSE_ALARM_RATE, draws: int = DRAWS, seed: int = 0,
) -> StochasticReport:  # fmt: skip
    """What is certain, once; and each of some 150 numbers ``draws`` times: every result one of the two neighbours, the
    share of the upper one |x|'s place between them (with ``random_bit_count``: as the rule's mode rounds that
    place to this many bits). And numbers of every binade, once each: the same, their ups together as many as
    Hoeffding's inequality lets them be.

    Raises SubjectError where the subject fails.
    """
    checks.seed("seed", seed)
    if random_bit_count is not None:
        checks.whole("random_bit_count", random_bit_count, least=1, most=ALL_BITS)
    format, mode, overflow = rule.format, rule.policy.mode, rule.policy.overflow
    policy = Policy(mode, overflow, ALL_BITS)
    rule = rule.with_(policy=Policy(Mode.STOCHASTIC, overflow, ALL_BITS))
    with default_float_environment():
        certain = compare(
            rule.with_(policy=Policy(Mode.NEAREST_EVEN, overflow)),
            _certain(subject, format, source),
            shrink=False,
        )
        patterns = points_between(format, source, seed)
        points = _asked(subject, patterns, draws, rule, source)
        expected = chance(points.seen.place, mode, random_bit_count)
        x = source.values(patterns)
        wrong = wrong_points(x, expected, points.seen.ups, points.decided, draws, false_alarm_rate / 2)
        pools = pools_of_binades(format, source, seed)
        each = np.concatenate(pools)
        spread = _asked(subject, each, 1, rule, source)
        numbers = source.values(each)
        groups, parts = groups_of(pools, numbers, spread.seen.place)
        expected = chance(spread.seen.place, mode, random_bit_count)
        binades = wrong_binades(numbers, groups, parts, expected, spread.seen.ups, spread.decided, false_alarm_rate / 2)
        causes: tuple[str, ...] = ()
        if (wrong or binades) and not points.strange and not spread.strange:
            causes = _causes(subject, patterns, points, spread, groups, rule, source, false_alarm_rate)
    return StochasticReport(
        subject.name, source.name, format.name, policy, False, random_bit_count, x.size * draws,
        points.strange + spread.strange, points.example or spread.example, None, x.size, wrong, false_alarm_rate,
        certain, each.size, binades, causes, state=tuple(subject.state),
    )  # fmt: skip


class _Asked(NamedTuple):
    """What numbers became: how often they went up, whether their two ends are two results, how many results are neither
    end, and the smallest number with one."""

    seen: Seen
    decided: Array
    strange: int
    example: Counterexample | None


def _causes(
    subject: Subject, patterns: Array, points: _Asked, spread: _Asked, groups: list[Array], rule: Rule, source: Source,
    rate: float,
) -> tuple[str, ...]:  # fmt: skip
    """What gives every frequency. Numbers whose two ends are one result show nothing."""
    between = _asked(subject, separating_points(rule.format, source), points.seen.draws, rule, source)
    kept = points.seen.at(points.decided).beside(between.seen.at(between.decided))
    places_of = np.cumsum(spread.decided) - 1
    within = tuple(places_of[group[spread.decided[group]]] for group in groups)
    rest = spread.seen.at(spread.decided)._replace(groups=within)
    found = explanations(kept, rest, rate)
    if found:
        return found
    calls = []
    for _ in range(CALLS):
        once = _asked(subject, patterns, 1, rule, source)
        calls.append((once.seen.place[once.decided], once.seen.ups[once.decided] > 0))
    return ("one word for all: the elements of a call share one random number",) if one_word_for_all(calls) else ()


def _asked(subject: Subject, patterns: Array, draws: int, rule: Rule, source: Source) -> _Asked:
    """Each number ``draws`` times."""
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
    place = places(x, format, source)
    odd = np.floor(place.lower / place.quantum) % 2 == 1
    seen = Seen((place.magnitude - place.lower) / place.quantum, np.signbit(x), odd, ups, draws)
    return _Asked(seen, lower.keys != upper.keys, int(strange.sum()), example)


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
